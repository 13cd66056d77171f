/** The controls: what they offer, what they say of it, and their values in a link. */

const el = (id) => document.getElementById(id);
const PLAIN = ["temperature", "max_tokens", "seed", "scope", "system"];
const OPTIONAL = ["seed", "system"];
const DOSE = { name: "Dose", most: 0.6, step: 0.01, start: 0.2 };
const MULTIPLIER = { name: "Multiplier", most: 4, step: 0.05, start: 1 };

/** A number as people write it, with a real minus. */
export function shown(number, digits = 3) {
  return String(Number(number.toFixed(digits))).replace("-", "\u2212");
}

/** "Refusal −0.2 · layer 14", or "Unsteered". */
export function heading(settings, sign) {
  if (sign === 0) return "Unsteered";
  const strength = shown(sign * settings.strength);
  const times = settings.unit === "dose" ? "" : "\u00d7";
  const plus = sign > 0 && settings.strength > 0 ? "+" : "";
  return `${settings.name} ${times}${plus}${strength} \u00b7 layer ${settings.layer}`;
}

/** The body of one pane's request. */
export function request(settings, sign, messages) {
  const where = { [settings.kind]: settings.id, layer: settings.layer };
  const body = {
    model: settings.model,
    messages,
    temperature: settings.temperature,
    max_tokens: settings.max_tokens,
    seed: settings.seed,
    stream: true,
    stream_options: { include_usage: true },
    token_scores: where,
  };
  if (sign === 0) return body;
  const strength = { [settings.unit]: sign * settings.strength, scope: settings.scope };
  return { ...body, steering: { ...where, ...strength } };
}

export class Settings {
  /** @param info the body of GET /info */
  constructor(info) {
    this.info = info;
    this.targets = targetsOf(info);
    fillTargets(this.targets);
    for (const id of ["target", "layer", "strength"]) el(id).disabled = this.targets.length === 0;
    if (info.defaults.max_tokens) el("max_tokens").value = info.defaults.max_tokens;
    el("settings").addEventListener("submit", (event) => event.preventDefault());
    el("target").addEventListener("input", () => this.retarget());
    el("settings").addEventListener("input", () => this.describe());
    this.retarget();
  }

  get target() {
    return this.targets[el("target").selectedIndex] ?? null;
  }

  get layer() {
    return this.target?.layers[Number(el("layer").value)] ?? null;
  }

  get unit() {
    return this.layer?.dose_per_multiplier ? DOSE : MULTIPLIER;
  }

  /** The layer and strength that suit another vector: the tuned ones if there are. */
  retarget() {
    if (!this.target) return this.describe();
    const { layers, tuned } = this.target;
    const known = layers.findIndex((each) => each.layer === tuned?.layer);
    el("layer").max = layers.length - 1;
    el("layer").value = known >= 0 ? known : Math.floor(layers.length / 2);
    this.rescale();
    el("strength").value = this.safe() ?? this.unit.start;
    this.describe();
  }

  /** The strength that tune.py chose, at this layer and in this unit; null if none. */
  safe() {
    const tuned = this.target?.tuned;
    if (!tuned || tuned.layer !== this.layer.layer) return null;
    const value = this.unit === DOSE ? tuned.dose : tuned.multiplier;
    return value === null ? null : Math.abs(value);
  }

  rescale() {
    const slider = el("strength");
    const most = Math.max(this.unit.most, 2 * (this.safe() ?? 0));
    if (el("unit").textContent === this.unit.name && slider.max === String(most)) return;
    slider.max = most;
    slider.step = this.unit.step;
    if (el("unit").textContent !== this.unit.name) slider.value = this.unit.start;
    el("unit").textContent = this.unit.name;
  }

  /** Everything that is said of the values beside them. */
  describe() {
    el("added").textContent = this.summary();
    el("more_shown").textContent = this.others();
    if (!this.target) return;
    this.rescale();
    const strength = Number(el("strength").value);
    const per = this.layer.dose_per_multiplier;
    el("layer_shown").textContent = this.layer.layer;
    el("layer").setAttribute("aria-valuetext", String(this.layer.layer));
    const amount =
      this.unit === DOSE ? `${strength.toFixed(2)} = \u00d7${shown(strength / per, 1)}` : `\u00d7${shown(strength)}`;
    el("strength_shown").textContent = amount;
    el("strength").setAttribute("aria-valuetext", amount);
    const safe = this.safe();
    el("safe").hidden = safe === null;
    if (safe !== null) el("safe").style.setProperty("--at", safe / Number(el("strength").max));
    const [advice, warns] = this.advice(strength, safe);
    el("advice").textContent = advice;
    el("advice").classList.toggle("warns", warns);
  }

  advice(strength, safe) {
    const { tuned, unsteerable, name } = this.target;
    if (unsteerable) return [`tune.py found no layer and strength that moves ${name} and leaves the rest whole.`, true];
    if (safe !== null && strength > safe + 1e-9) {
      return [`Above ${shown(safe)}, which tune.py chose here: answers may break.`, true];
    }
    if (safe !== null && !tuned.signs.includes(-1)) return [`tune.py chose the direction + only, up to ${shown(safe)}.`, false];
    if (safe !== null && !tuned.signs.includes(1)) return [`tune.py chose the direction \u2212 only, up to ${shown(safe)}.`, false];
    if (safe !== null) return [`tune.py chose up to ${shown(safe)} at this layer.`, false];
    if (tuned) return [`tune.py chose layer ${tuned.layer}.`, false];
    return ["", false];
  }

  summary() {
    const model = this.info.model;
    if (!this.target) return `${model}: no vectors to add (serve.py --behaviors \u2026)`;
    const { strength, layer, scope, name } = this.snapshot();
    const times = this.unit === DOSE ? "" : "\u00d7";
    const place = scope === "all" ? "at all tokens" : "from the end of the latest message on";
    return `${model} \u00b1 ${times}${shown(strength)} ${name} after block ${layer}, ${place}`;
  }

  others() {
    const seed = el("seed").value === "" ? "" : `, seed ${el("seed").value}`;
    const system = el("system").value === "" ? "no system prompt" : "a system prompt";
    return `Temperature ${el("temperature").value}, at most ${el("max_tokens").value} tokens${seed}, ${system}`;
  }

  /** Whether every value can be used; shows the first that cannot. */
  valid() {
    if (el("settings").checkValidity()) return true;
    el("more").open = true;
    return el("settings").reportValidity();
  }

  /** The values as they are now; a seed is drawn where none is given. */
  snapshot() {
    const number = (id) => Number(el(id).value);
    return {
      model: this.info.model,
      kind: this.target?.kind,
      id: this.target?.id,
      name: this.target?.name,
      layer: this.layer?.layer,
      unit: this.unit === DOSE ? "dose" : "multiplier",
      strength: number("strength"),
      temperature: number("temperature"),
      max_tokens: number("max_tokens"),
      seed: el("seed").value === "" ? Math.floor(Math.random() * 2 ** 31) : number("seed"),
      scope: el("scope").value,
      system: el("system").value,
    };
  }

  /** All values and a message, for location.hash. */
  link(message) {
    const { kind, id, layer, unit, strength } = this.snapshot();
    const found = new URLSearchParams(this.target ? { [kind]: id, layer, [unit]: strength } : {});
    for (const each of PLAIN) if (el(each).value !== "") found.set(each, el(each).value);
    if (el("colours").checked) found.set("colours", "1");
    if (message) found.set("message", message);
    return `#${found}`;
  }

  /** Take the values of a link; returns what of it there is not here. */
  restore(hash) {
    const given = new URLSearchParams(hash.replace(/^#/, ""));
    const missing = [];
    for (const kind of ["behavior", "vector"]) {
      if (!given.has(kind)) continue;
      const at = this.targets.findIndex((each) => each.kind === kind && each.id === given.get(kind));
      if (at < 0) return [`${kind === "vector" ? "the vector" : "the behaviour"} ${given.get(kind)}`];
      el("target").selectedIndex = at;
      this.retarget();
    }
    if (given.has("layer") && this.target) {
      const at = this.target.layers.findIndex((each) => String(each.layer) === given.get("layer"));
      if (at < 0) missing.push(`a vector at layer ${given.get("layer")}`);
      else el("layer").value = at;
      this.rescale();
    }
    const own = this.unit === DOSE ? "dose" : "multiplier";
    for (const unit of ["dose", "multiplier"]) {
      if (!given.has(unit)) continue;
      if (unit === own) el("strength").value = given.get(unit);
      else missing.push(`a ${unit} at this layer`);
    }
    for (const each of PLAIN) {
      if (given.has(each) && !takes(el(each), given.get(each))) missing.push(`${each} ${given.get(each)}`);
      if (!given.has(each) && OPTIONAL.includes(each)) el(each).value = "";
    }
    el("colours").checked = given.get("colours") === "1";
    this.describe();
    return missing;
  }
}

/** Give a field a value; false, and the old one is back, if it cannot have it. */
function takes(field, value) {
  if (field.type === "number" && !Number.isFinite(Number(value))) return false;
  const before = field.value;
  field.value = value;
  if (field.value !== "" && field.checkValidity()) return true;
  field.value = before;
  return false;
}

function targetsOf(info) {
  const behaviors = info.behaviors.map((each) => ({
    kind: "behavior",
    id: each.id,
    name: each.name,
    layers: each.layers,
    tuned: each.tuned,
    unsteerable: each.do_not_steer,
  }));
  const everywhere = Array.from({ length: info.layers }, (_, layer) => ({ layer, dose_per_multiplier: null }));
  const named = info.vectors.map(({ name }) => ({ kind: "vector", id: name, name, layers: everywhere, tuned: null }));
  return [...behaviors, ...named].filter((each) => each.layers.length > 0);
}

function fillTargets(targets) {
  el("target").replaceChildren(
    ...targets.map((each) => {
      const option = document.createElement("option");
      option.textContent = each.name;
      return option;
    }),
  );
}
