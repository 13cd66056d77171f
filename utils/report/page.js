"use strict";
/* Moves what stands on the page: the page is whole without it. State lives in the address:
   #/<sweep>=<layer>,<strength>&find=<text>, the sweep that was touched last standing last. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const figures = new Map();
  let state = new Map();
  document.documentElement.classList.add("js");

  const shown = (value, digits) => {
    const text = Math.abs(value).toFixed(digits);
    return Number(text) ? (value < 0 ? "\u2212" : "+") + text : text;
  };
  const at = (value) => value.toFixed(1).replace(/\.0$/, "");
  const strengthText = (s) => (s ? (s < 0 ? "\u2212" : "+") + Math.abs(s) : "0");

  /* ---- the address ---- */
  const read = () => {
    const found = new Map();
    if (!location.hash.startsWith("#/")) return null;
    for (const [key, value] of new URLSearchParams(location.hash.slice(2))) {
      if (key === "find") { found.set(key, value); continue; }
      const sweep = data.sweeps[key];
      const [layer, strength] = value.split(",").map(Number);
      if (!sweep || !sweep.layers.includes(layer)) continue;
      found.set(key, { layer, strength: sweep.strengths.includes(strength) ? strength : null });
    }
    return found;
  };
  const write = (push) => {
    const parameters = new URLSearchParams();
    for (const [key, value] of state) {
      if (key === "find") parameters.set(key, value);
      else parameters.set(key, value.strength === null ? `${value.layer}` : `${value.layer},${value.strength}`);
    }
    const address = state.size ? `#/${parameters}` : location.pathname;
    if (push) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
  };
  const choose = (key, layer, strength, push) => {
    state.delete(key);
    state.set(key, { layer, strength });
    write(push);
    draw(key);
  };

  /* ---- pictures ---- */
  const moveChart = (svg, sweep, panel, layer, strength) => {
    const [top, bottom] = svg.dataset.box.split(" ").map(Number);
    const [low, high] = svg.dataset.range.split(" ").map(Number);
    const y = (value) => top + ((bottom - top) * (high - value)) / (high - low);
    const cells = panel.cells[layer];
    const line = [], upper = [], lower = [], texts = [];
    for (const point of svg.querySelectorAll(".pt")) {
      const i = Number(point.dataset.i), x = Number(point.dataset.x), cell = cells[i];
      point.setAttribute("visibility", cell ? "visible" : "hidden");
      point.classList.toggle("at", strength === sweep.strengths[i]);
      if (!cell) continue;
      const [mean, from, to] = cell, middle = y(mean);
      const ends = from === null ? [middle, middle] : [y(to), y(from)];
      line.push(`${x},${at(middle)}`);
      point.querySelector("circle").setAttribute("cy", at(middle));
      const bar = point.querySelector("line");
      bar.setAttribute("y1", at(ends[0]));
      bar.setAttribute("y2", at(ends[1]));
      const text = point.querySelector("text");
      if (text) {
        text.textContent = shown(mean, panel.digits);
        text.setAttribute("y", at(ends[0] - 5));
      }
      texts.push(`${sweep.unit} ${strengthText(sweep.strengths[i])}: ${shown(mean, panel.digits)}`);
      const grey = panel.band && panel.band[layer][i];
      if (grey && grey[1] !== null) {
        upper.push(`${x},${at(y(grey[2]))}`);
        lower.unshift(`${x},${at(y(grey[1]))}`);
      }
    }
    svg.querySelector(".curve").setAttribute("d", line.length ? `M${line.join(" L")}` : "");
    const band = svg.querySelector(".band");
    if (band) band.setAttribute("d", upper.length ? `M${upper.concat(lower).join(" L")} Z` : "");
    svg.setAttribute("aria-label", `${panel.title} at layer ${layer}. ${texts.join("; ")}`);
  };
  const interval = (cell, digits) =>
    cell[1] === null ? "" : ` [${shown(cell[1], digits)}, ${shown(cell[2], digits)}]`;
  const readout = (sweep, layer, strength) => {
    if (strength === null) return "";
    const i = sweep.strengths.indexOf(strength);
    const other = sweep.factors[layer];
    const converted = other && strength
      ? ` (${sweep.other} ${Number((strength * other).toPrecision(3))})` : "";
    const parts = sweep.panels.flatMap((panel) => {
      const cell = panel.cells[layer][i];
      return cell ? [`${panel.title} ${shown(cell[0], panel.digits)}${interval(cell, panel.digits)}`] : [];
    });
    const level = sweep.levels[layer] && sweep.levels[layer][i];
    if (level) parts.unshift(`${sweep.score} ${level[0].toFixed(sweep.panels[0].digits)}`);
    return `Layer ${layer}, ${sweep.unit} ${strengthText(strength)}${converted}: ${parts.join("; ")}.`;
  };
  const draw = (key) => {
    const figure = figures.get(key), sweep = data.sweeps[key];
    const { layer, strength } = state.get(key) || { layer: sweep.layer, strength: null };
    if (figure.slider) {
      figure.slider.value = sweep.layers.indexOf(layer);
      figure.slider.setAttribute("aria-valuetext", `layer ${layer}`);
      figure.output.textContent = layer;
    }
    for (const svg of figure.charts)
      moveChart(svg, sweep, sweep.panels[svg.dataset.panel], layer, strength);
    if (figure.layers) {
      const x = figure.layers.dataset.xs.split(" ")[sweep.layers.indexOf(layer)];
      const cursor = figure.layers.querySelector(".cursor");
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
    }
    for (const table of figure.maps) {
      for (const cell of table.querySelectorAll("td")) {
        const on = Number(cell.dataset.l) === layer && Number(cell.dataset.s) === strength;
        cell.setAttribute("aria-selected", on);
        if (on) rove(table, cell);
      }
      for (const head of table.querySelectorAll("thead th"))
        head.classList.toggle("at", head.textContent === String(layer));
    }
    figure.said.textContent = readout(sweep, layer, strength);
  };

  /* ---- keys ---- */
  const rove = (table, cell) => {
    for (const other of table.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    cell.tabIndex = 0;
  };
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const moveIn = (table, event) => {
    const cell = event.target.closest("td");
    const step = steps[event.key];
    if (!cell || !step) return;
    event.preventDefault();
    const row = table.rows[cell.parentNode.rowIndex + step[0]];
    const next = row && row.cells[cell.cellIndex + step[1]];
    if (!next || next.tagName !== "TD") return;
    rove(table, next);
    next.focus();
  };

  /* ---- set-up ---- */
  for (const node of document.querySelectorAll("[data-sweep]")) {
    const key = node.dataset.sweep, sweep = data.sweeps[key];
    const figure = {
      node,
      slider: node.querySelector('input[type="range"]'),
      output: node.querySelector(".slider output"),
      said: node.querySelector(".readout output"),
      layers: node.querySelector("svg.layers"),
      charts: [...node.querySelectorAll("svg.chart")],
      maps: [...node.querySelectorAll("table.heat")],
    };
    figures.set(key, figure);
    const strengthNow = () => (state.get(key) || { strength: null }).strength;
    if (figure.slider) {
      const layerNow = () => sweep.layers[Number(figure.slider.value)];
      let began = null;
      figure.slider.addEventListener("input", () => {
        if (began === null) { began = true; choose(key, layerNow(), strengthNow(), true); }
        else choose(key, layerNow(), strengthNow(), false);
      });
      figure.slider.addEventListener("change", () => { began = null; });
    }
    if (figure.layers)
      figure.layers.addEventListener("click", (event) => {
        const box = figure.layers.getBoundingClientRect();
        const x = ((event.clientX - box.left) / box.width) * figure.layers.viewBox.baseVal.width;
        const far = figure.layers.dataset.xs.split(" ").map((each) => Math.abs(each - x));
        choose(key, sweep.layers[far.indexOf(Math.min(...far))], strengthNow(), true);
      });
    for (const table of figure.maps) {
      const pick = (cell) => {
        if (!cell || !cell.dataset.l) return;
        choose(key, Number(cell.dataset.l), Number(cell.dataset.s), true);
      };
      table.addEventListener("click", (event) => pick(event.target.closest("td")));
      table.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          pick(event.target.closest("td"));
        } else moveIn(table, event);
      });
    }
  }

  /* ---- answers ---- */
  const boxes = [...document.querySelectorAll(".search input")];
  const search = (text) => {
    const wanted = text.trim().toLowerCase();
    for (const box of boxes) {
      if (box.value !== text) box.value = text;
      const area = box.closest(".replies");
      let found = 0;
      for (const row of area.querySelectorAll(".answers tbody tr")) {
        const fits = !wanted || row.textContent.toLowerCase().includes(wanted);
        row.hidden = !fits;
        found += fits;
        const folded = row.closest("details");
        if (fits && wanted && folded) folded.open = true;
      }
      box.closest(".search").querySelector("output").textContent =
        wanted ? `${found} question${found === 1 ? "" : "s"}` : "";
    }
  };
  for (const box of boxes)
    box.addEventListener("input", () => {
      const last = [...state].filter(([key]) => key !== "find");
      state = new Map(box.value ? [["find", box.value], ...last] : last);
      write(false);
      search(box.value);
    });

  /* ---- tokens ---- */
  for (const area of document.querySelectorAll(".tokens")) {
    const said = area.querySelector(".readout output");
    const tell = (token) => { said.textContent = `${JSON.stringify(token.textContent)}: ${token.title}`; };
    area.addEventListener("change", (event) => {
      for (const token of area.querySelectorAll(".tok")) {
        const [sign, share] = token.dataset[event.target.value].split(" ");
        token.classList.remove("pos", "neg");
        token.classList.add(sign);
        token.style.setProperty("--s", `${share}%`);
      }
    });
    for (const text of area.querySelectorAll(".text")) {
      const tokens = [...text.querySelectorAll(".tok")];
      text.addEventListener("pointerover", (event) => {
        if (event.target.matches(".tok")) tell(event.target);
      });
      text.addEventListener("focusin", (event) => tell(event.target));
      text.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        const next = step && tokens[tokens.indexOf(event.target) + step];
        if (!next) return;
        event.preventDefault();
        event.target.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      });
    }
  }

  /* ---- the way back ---- */
  const restore = () => {
    state = read() || state;
    for (const key of figures.keys()) draw(key);
    search(state.get("find") || "");
  };
  window.addEventListener("popstate", () => {
    state = read() || new Map();
    restore();
  });
  for (const link of document.querySelectorAll('a[href^="#"]'))
    link.addEventListener("click", (event) => {
      const goal = document.getElementById(decodeURIComponent(link.hash.slice(1)));
      if (!goal) return;
      event.preventDefault();
      goal.scrollIntoView();
      goal.focus({ preventScroll: true });
    });
  restore();
  const last = [...state.keys()].filter((key) => key !== "find").pop();
  if (last) figures.get(last).node.scrollIntoView();
})();
