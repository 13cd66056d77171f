/** Turns: a message and its three answers, each pane with a history of its own. */

import { Answer, make, scaleOf, SIGNS } from "./answers.js";

export class Conversation {
  /**
   * @param element where turns go
   * @param hooks `key()`; `act(name, turn)` for the buttons of a turn; `grown()` when words came,
   *   `finished(answer)`, `failed(failure)`; `changed()` when other things can be done
   */
  constructor(element, hooks) {
    this.element = element;
    this.hooks = hooks;
    this.turns = [];
    this.running = null;
    this.underWay = 0;
  }

  get last() {
    return this.turns.at(-1) ?? null;
  }

  /** Send a message to all panes; in place of the last turn if asked. */
  ask(text, settings, { again = false } = {}) {
    if (again) this.turns.pop().element.remove();
    const earlier = this.turns;
    const answers = SIGNS.map((sign, pane) => new Answer(settings, sign, messages(earlier, pane, settings.system, text)));
    const turn = { text, answers, element: null };
    this.show(turn);
    this.turns = [...earlier, turn];
    return this.run(turn, answers);
  }

  /** Stream some answers, perhaps beside others that are still under way. */
  async run(turn, answers) {
    this.running ??= new AbortController();
    const { signal } = this.running;
    this.underWay += answers.length;
    this.hooks.changed();
    await Promise.all(
      answers.map(async (answer) => {
        await this.finish(turn, answer, signal);
        this.underWay -= 1;
      }),
    );
    if (this.underWay === 0) this.running = null;
    this.hooks.changed();
  }

  async finish(turn, answer, signal) {
    const grown = () => {
      rescale(turn);
      this.hooks.grown();
    };
    const failure = await answer.run(this.hooks.key(), signal, grown);
    if (failure === null) {
      if (!signal.aborted) this.hooks.finished(answer);
      return;
    }
    const retry = make("button", "plain", "Try again");
    retry.addEventListener("click", () => this.run(turn, [answer]));
    answer.foot.append(" ", retry);
    this.hooks.failed(failure);
  }

  stop() {
    this.running?.abort();
  }

  /** Take all turns away; returns what puts them back. */
  clear() {
    const taken = this.turns;
    this.turns = [];
    this.element.replaceChildren();
    this.hooks.changed();
    return () => {
      this.element.prepend(...taken.map((turn) => turn.element));
      this.turns = [...taken, ...this.turns];
      this.hooks.changed();
    };
  }

  show(turn) {
    turn.element = make("section", "turn");
    const head = make("div", "head");
    const acts = make("p", "acts");
    for (const [name, text] of [["again", "Regenerate"], ["edit", "Edit"], ["curl", "Copy curl"], ["python", "Copy Python"]]) {
      const button = make("button", `plain ${name}`, text);
      button.type = "button";
      button.addEventListener("click", () => this.hooks.act(name, turn));
      acts.append(button);
    }
    head.append(make("h2", "", turn.text), acts);
    const panes = make("div", "panes");
    panes.append(...turn.answers.map((answer) => answer.element));
    turn.element.append(head, panes, legend(turn.answers[0].vector));
    this.element.append(turn.element);
  }
}

/** What a pane has been told and has said, and the new message. Unanswered turns are left out. */
function messages(turns, pane, system, text) {
  const found = system === "" ? [] : [{ role: "system", content: system }];
  for (const turn of turns) {
    const said = turn.answers[pane].text;
    if (said === "") continue;
    found.push({ role: "user", content: turn.text }, { role: "assistant", content: said });
  }
  return [...found, { role: "user", content: text }];
}

function legend(vector) {
  const found = make("p", "legend");
  found.append(make("span", "low"), make("span", "bar"), make("span", "high"), make("span", "", `cosine with ${vector}`));
  return found;
}

/** One scale of colours for the three answers of a turn. */
function rescale(turn) {
  const scale = scaleOf(turn.answers);
  if (turn.scale === scale) return;
  turn.scale = scale;
  turn.element.style.setProperty("--scale", scale);
  turn.element.querySelector(".low").textContent = `\u2212${scale}`;
  turn.element.querySelector(".high").textContent = `+${scale}`;
}
