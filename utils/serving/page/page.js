/** The page: what its buttons and keys do. */

import { Conversation } from "./conversation.js";
import { curl, python } from "./copies.js";
import { showNumbers } from "./numbers.js";
import { Settings } from "./settings.js";
import { read } from "./stream.js";

const el = (id) => document.getElementById(id);
const message = el("message");
// known to this page only, until it is closed
let key = "";
let settings = null;
let editing = null;
let restored = null;

const conversation = new Conversation(el("turns"), {
  key: () => key,
  act: (name, turn) => ACTS[name](turn),
  grown: () => follow(),
  finished: (answer) => announce(answer),
  failed: (failure) => {
    if (failure.status === 401) askForKey();
  },
  changed: () => refresh(),
});

const ACTS = {
  again: (turn) => conversation.running || send(turn.text, true),
  edit: (turn) => conversation.running || edit(turn),
  curl: (turn) => copy(curl(turn.answers, key !== ""), "curl commands"),
  python: (turn) => copy(python(turn.answers, key !== ""), "a Python script"),
};

async function start() {
  try {
    const info = await read("/info", key);
    settings = new Settings(info);
    document.title = `${info.model} \u2013 steered chat`;
    el("key_form").hidden = true;
    el("notice").hidden = true;
    restore();
  } catch (failure) {
    if (failure.status === 401) askForKey();
    else notice(failure.message, start);
  }
  refresh();
}

function restore() {
  if (location.hash.length < 2) return;
  const missing = settings.restore(location.hash);
  const first = new URLSearchParams(location.hash.slice(1)).get("message");
  if (first && message.value === "") message.value = first;
  colour();
  if (missing.length > 0) notice(`The link asks for what there is not here: ${missing.join(", ")}.`);
}

function send(text, again) {
  if (!settings || conversation.running || text.trim() === "" || !settings.valid()) return false;
  el("notice").hidden = true;
  conversation.ask(text, settings.snapshot(), { again });
  follow(true);
  return true;
}

function submit() {
  if (!send(message.value, editing !== null)) return;
  message.value = "";
  endEdit();
}

function edit(turn) {
  editing ??= { draft: message.value };
  message.value = turn.text;
  el("editing").hidden = false;
  message.focus();
}

function endEdit() {
  if (!editing) return;
  message.value = editing.draft;
  editing = null;
  el("editing").hidden = true;
}

function clear() {
  endEdit();
  const back = conversation.clear();
  el("undo").hidden = false;
  el("undo").onclick = () => {
    back();
    el("undo").hidden = true;
    message.focus();
  };
  message.focus();
}

/** What can be done now. */
function refresh() {
  const running = conversation.running !== null;
  const stopHadFocus = document.activeElement === el("stop");
  el("stop").hidden = !running;
  el("send").hidden = running;
  el("send").disabled = !settings;
  if (stopHadFocus && !running) message.focus();
  el("clear").hidden = running || !conversation.last;
  el("empty").hidden = Boolean(conversation.last);
  el("added").classList.toggle("known", settings !== null);
  if (conversation.last) el("undo").hidden = el("undo").hidden || running;
  for (const turn of conversation.turns) {
    turn.element.classList.toggle("last", turn === conversation.last);
    turn.element.classList.toggle("running", running);
  }
  colour();
}

function colour() {
  const on = el("colours").checked;
  document.body.classList.toggle("coloured", on);
  for (const words of document.querySelectorAll(".text")) {
    if (on) words.tabIndex = 0;
    else words.removeAttribute("tabindex");
  }
}

/** Keep the newest words in sight, for whoever looks at the end of the page. */
function follow(always = false) {
  const page = document.documentElement;
  const left = page.scrollHeight - page.clientHeight - page.scrollTop;
  if (always || left < 120) page.scrollTop = page.scrollHeight;
}

function announce(answer) {
  const said = el("said");
  const line = document.createElement("p");
  line.textContent = `${answer.heading}: ${answer.text}`;
  said.append(line);
  while (said.children.length > 6) said.firstChild.remove();
}

function askForKey() {
  el("key_form").hidden = false;
  if (key) status("The key was not taken.");
  el("key").focus();
}

function notice(text, again = null) {
  el("notice").replaceChildren(text);
  if (again) {
    const button = document.createElement("button");
    button.className = "plain";
    button.textContent = "Try again";
    button.addEventListener("click", again);
    el("notice").append(" ", button);
  }
  el("notice").hidden = false;
}

let fading = 0;
function status(text) {
  el("status").textContent = text;
  clearTimeout(fading);
  fading = setTimeout(() => (el("status").textContent = ""), 3000);
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    status(`Copied ${what}.`);
  } catch {
    el("copied").value = text;
    el("by_hand").showModal();
    el("copied").select();
  }
}

el("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && conversation.running) conversation.stop();
  else if (event.key === "Escape" && editing) endEdit();
});
el("stop").addEventListener("click", () => conversation.stop());
el("keep").addEventListener("click", () => {
  endEdit();
  message.focus();
});
el("clear").addEventListener("click", clear);
el("link").addEventListener("click", () => {
  if (!settings) return;
  history.replaceState(null, "", settings.link(conversation.turns[0]?.text ?? message.value));
  copy(location.href, "a link to these settings and the first message");
});
el("colours").addEventListener("input", colour);
el("key_form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = el("key").value.trim();
  el("key").value = "";
  el("key_form").hidden = true;
  if (settings) message.focus();
  else start();
});
addEventListener("hashchange", () => settings && restore());
showNumbers(el("turns"), () => el("colours").checked);
start();
