/** The number of a token, beside it: under the pointer, or walked to with the arrow keys. */

const bubble = document.getElementById("number");
const spoken = document.getElementById("spoken");
// how far each answer has been walked through
const places = new WeakMap();
let at = null;

/** Show numbers in answers inside an element while token colours are on. */
export function showNumbers(element, on) {
  element.addEventListener("pointerover", (event) => on() && point(event.target.closest(".tok")));
  element.addEventListener("pointerleave", () => point(null));
  element.addEventListener("focusin", (event) => {
    if (on() && event.target.matches(".text")) walk(event.target, 0);
  });
  element.addEventListener("focusout", () => point(null));
  element.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!step || !on() || !event.target.matches(".text")) return;
    event.preventDefault();
    walk(event.target, step);
  });
}

function walk(words, step) {
  const tokens = [...words.querySelectorAll(".tok")];
  if (tokens.length === 0) return;
  const place = Math.min(Math.max((places.get(words) ?? 0) + step, 0), tokens.length - 1);
  places.set(words, place);
  const next = tokens[place];
  next.scrollIntoView({ block: "nearest" });
  point(next);
  spoken.textContent = `${next.textContent.trim()} ${next.dataset.number}`;
}

function point(token) {
  at?.classList.remove("at");
  at = token;
  bubble.hidden = token === null;
  if (token === null) return;
  token.classList.add("at");
  bubble.textContent = token.dataset.number;
  // a word at the beginning of a line leaves its blank on the line before
  const place = [...token.getClientRects()].at(-1);
  const left = Math.min(Math.max(place.left, 4), document.documentElement.clientWidth - bubble.offsetWidth - 4);
  bubble.style.left = `${left}px`;
  bubble.style.top = `${Math.max(place.top - bubble.offsetHeight - 3, 0)}px`;
}
