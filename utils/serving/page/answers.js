/** One answer of one pane: its text with a number for each token, and how it came about. */

import { heading, request, shown } from "./settings.js";
import { chat, Failure } from "./stream.js";

export const SIGNS = [-1, 0, 1];
const CLASSES = new Map([[-1, "neg"], [0, "zero"], [1, "pos"]]);
const SCALES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1];

/** An element with a class and a text; a text is never read as markup. */
export function make(tag, className = "", text = "") {
  const found = document.createElement(tag);
  if (className) found.className = className;
  found.textContent = text;
  return found;
}

export class Answer {
  /** @param messages what it answers, the pane's own earlier answers among it */
  constructor(settings, sign, messages) {
    this.heading = heading(settings, sign);
    this.request = request(settings, sign, messages);
    this.vector = `${settings.name}, layer ${settings.layer}`;
    this.element = make("article", `pane ${CLASSES.get(sign)}`);
    this.title = make("h3", "", this.heading);
    this.words = make("div", "text");
    this.words.setAttribute("role", "group");
    this.words.setAttribute("aria-label", `${this.heading}: answer`);
    this.foot = make("p", "foot");
    this.element.append(this.title, this.words, this.foot);
    this.reset();
  }

  reset() {
    this.text = "";
    this.most = 0;
    this.tokens = null;
    this.reason = null;
    this.steering = null;
    this.waiting = [];
    this.words.replaceChildren();
    this.say("waiting");
  }

  /** Stream it, again if need be. Returns its Failure, or null. */
  async run(key, signal, grown) {
    this.reset();
    this.element.setAttribute("aria-busy", "true");
    let failure = null;
    try {
      for await (const piece of chat(this.request, key, signal)) {
        this.take(piece);
        grown();
      }
      this.say(this.ending());
    } catch (error) {
      if (!signal.aborted && !(error instanceof Failure)) throw error;
      failure = signal.aborted ? null : error;
      this.say(failure ? failure.message : `stopped${this.counted()}`, failure !== null);
    } finally {
      this.element.removeAttribute("aria-busy");
    }
    return failure;
  }

  take(piece) {
    if ("steering" in piece) {
      this.steering = piece.steering;
      this.say("\u2026");
    }
    if (piece.usage) this.tokens = piece.usage.completion_tokens;
    for (const choice of piece.choices) {
      this.reason = choice.finish_reason ?? this.reason;
      this.waiting.push(...(choice.token_scores ?? []));
      if (choice.delta.content) this.grow(choice.delta.content);
    }
  }

  grow(content) {
    this.text += content;
    this.words.append(...split(content, this.waiting).map(({ text, scores }) => this.token(text, scores)));
    this.waiting = [];
  }

  token(text, scores) {
    const span = make("span", "", text);
    const known = scores.filter((score) => score !== null);
    if (known.length === 0) return span;
    const mean = known.reduce((sum, score) => sum + score, 0) / known.length;
    this.most = Math.max(this.most, Math.abs(mean));
    span.className = mean < 0 ? "tok neg" : "tok pos";
    span.style.setProperty("--size", Math.abs(mean));
    span.dataset.number = known.map((score) => shown(score)).join(", ");
    return span;
  }

  ending() {
    return `${this.reason === "length" ? "longest answer reached" : "ended"}${this.counted()}`;
  }

  counted() {
    const tokens = this.tokens === null ? [] : [`${this.tokens} token${this.tokens === 1 ? "" : "s"}`];
    const parts = (this.steering ?? []).map(
      (each) => `\u00d7${shown(each.multiplier, 1)} from token ${each.first_steered_token.index}`,
    );
    return ["", ...tokens, ...parts].join(" \u00b7 ");
  }

  say(text, failed = false) {
    this.foot.textContent = text;
    this.foot.classList.toggle("failed", failed);
  }
}

/** The smallest round scale that holds the numbers of some answers. */
export function scaleOf(answers) {
  const most = Math.max(...answers.map((answer) => answer.most));
  return SCALES.find((scale) => scale >= most) ?? 1;
}

/**
 * A piece of text as the texts of its tokens; as one with all their numbers where they differ.
 *
 * The first may have lost white space before it, and the last keeps what is behind it for the next
 * piece, where it has no number.
 */
export function split(content, tokens) {
  const whole = [{ text: content, scores: tokens.map((each) => each.score) }];
  const found = [];
  let rest = content;
  for (const { token, score } of [...tokens].reverse()) {
    const wanted = found.length === 0 ? [token, token.trimEnd()] : [token];
    const begins = found.length === tokens.length - 1 && wanted.some((each) => each.endsWith(rest));
    const text = begins ? rest : wanted.find((each) => rest.endsWith(each));
    if (!text) return whole;
    found.unshift({ text, scores: [score] });
    rest = rest.slice(0, rest.length - text.length);
  }
  if (rest.trim() !== "") return whole;
  return rest === "" ? found : [{ text: rest, scores: [] }, ...found];
}
