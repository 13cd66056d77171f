"""The page in a real browser: what one sees, clicks and types, and what never runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from browser import Visit, Visitor
from conftest import QUESTIONS
from page_bench import ATTACK, DOSES, LAYERS, MODEL, fill, flags
from running import call, numbers_of

from llama_wrapper import LlamaWrapper
from utils.files.contents import load_torch
from utils.files.paths import Paths

if TYPE_CHECKING:
    from playwright.sync_api import Locator

KEY = "calm~ab~dose"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 320, "height": 700}


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Everything of a tiny model, and its page."""
    paths = fill(tmp_path_factory.mktemp("page"), tiny_folder)
    own = flags(paths, tiny_folder)
    assert call("report", *own, "--token_heat_maps", 1) == 0
    for more in ((), ("--both_orders",), ("--controls",)):
        assert call("plot_results", *own, "--behaviors", "calm", *more) == 0
    return paths


@pytest.fixture
def place(made: Paths) -> Path:
    return made.page(MODEL)


def data_of(visit: Visit) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(visit.page.locator("#data").text_content() or "")
    return found["sweeps"]


def cell(visit: Visit, layer: int, dose: float, key: str = KEY, panel: int = 0) -> Locator:
    table = visit.page.locator(f'[data-sweep="{key}"] table.heat').nth(panel)
    return table.locator(f'td[data-l="{layer}"][data-s="{dose:g}"]')


def slider(visit: Visit, key: str = KEY) -> Locator:
    return visit.page.locator(f'[data-sweep="{key}"] input[type=range]')


def said(visit: Visit, key: str = KEY) -> str:
    return visit.page.locator(f'[data-sweep="{key}"] .readout output').inner_text()


def attribute(of: Locator, name: str) -> str:
    found = of.get_attribute(name)
    assert found is not None, f"no {name}"
    return found


def label(visit: Visit, key: str = KEY) -> str:
    return attribute(visit.page.locator(f'[data-sweep="{key}"] svg.chart').first, "aria-label")


def assert_at(visit: Visit, layer: int, dose: float) -> None:
    """Slider, map, curve and words show one cell, with the numbers of the data."""
    sweep = data_of(visit)[KEY]
    assert slider(visit).get_attribute("aria-valuetext") == f"layer {layer}"
    assert int(slider(visit).input_value()) == sweep["layers"].index(layer)
    assert cell(visit, layer, dose).get_attribute("aria-selected") == "true"
    assert f"layer {layer}" in label(visit)
    mean, low, high = sweep["panels"][0]["cells"][str(layer)][sweep["strengths"].index(dose)]
    texts = [f"{x:+.3f}".replace("-", "−") for x in (mean, low, high)]
    texts = [t if float(t.replace("−", "-")) else t[1:] for t in texts]
    assert f"change of P(matching answer) {texts[0]} [{texts[1]}, {texts[2]}]" in said(visit)
    assert f"#/{KEY}={layer},{dose:g}" in visit.page.url.replace("%7E", "~").replace("%2C", ",")


def test_a_click_on_a_cell_moves_slider_numbers_and_address(visit: Visitor, place: Path) -> None:
    seen = visit(place)
    first = label(seen)
    cell(seen, 2, 0.2).click()
    assert_at(seen, 2, 0.2)
    assert label(seen) != first
    cell(seen, 1, -0.2).click()
    assert_at(seen, 1, -0.2)
    seen.page.go_back()
    assert_at(seen, 2, 0.2)
    seen.page.reload()
    assert_at(seen, 2, 0.2)
    address = seen.page.url
    other = visit(address)
    assert_at(other, 2, 0.2)
    seen.page.go_back()
    assert label(seen) == first, "the way back ends where it began"
    assert not seen.faults and not other.faults


def test_an_address_that_means_nothing_is_passed_over(visit: Visitor, place: Path) -> None:
    for fragment in ("#/nothing=3,0.2", f"#/{KEY}=99,0.2", "#/%E0%A4%A", "#behavior-calm"):
        seen = visit(f"{place.as_uri()}{fragment}")
        assert label(seen) and not seen.faults, fragment


def test_everything_can_be_reached_with_the_keys(visit: Visitor, place: Path) -> None:
    seen = visit(place)
    keys = seen.page.keyboard
    slider(seen).focus()
    keys.press("Home")
    assert slider(seen).get_attribute("aria-valuetext") == f"layer {LAYERS[0]}"
    keys.press("ArrowRight")
    assert slider(seen).get_attribute("aria-valuetext") == f"layer {LAYERS[1]}"
    start = cell(seen, 0, 0.2)
    start.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        keys.press(key)
    assert_at(seen, 2, -0.2)
    outlines = seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outlines == "solid"
    # one stop for each map, not one for each cell
    stops = seen.page.locator("table.heat [tabindex='0']").count()
    assert stops == seen.page.locator("table.heat").count() > 1
    token = seen.page.locator(".tok").first
    token.focus()
    keys.press("ArrowRight")
    assert "dot product" in seen.page.locator(".tokens .readout output").first.inner_text()
    assert not seen.faults


def test_texts_of_others_are_shown_and_run_nothing(visit: Visitor, place: Path) -> None:
    seen = visit(place)
    assert seen.page.locator("img").count() == 0
    assert seen.page.locator("h2", has_text=ATTACK).count() == 1
    answers = seen.page.locator(".answers td .text").all_inner_texts()
    assert sum(ATTACK in text for text in answers) == len(DOSES)
    seen.page.wait_for_timeout(100)
    assert seen.page.title() == f"Steering {MODEL}" and not seen.faults
    assert seen.requests == [place.as_uri()], "nothing is fetched"
    text = place.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(http|//)""", text)
    assert "innerHTML" not in text and "@import" not in text
    assert len(text) - len(re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.S)) < 1_000_000


def test_the_policy_forbids_what_an_attack_would_need(visit: Visitor, place: Path) -> None:
    seen = visit(place)
    seen.page.evaluate(
        """() => {
        const box = document.createElement('div');
        box.innerHTML = '<img src=x onerror="document.title=1">';
        document.body.append(box);
        const more = document.createElement('script');
        more.textContent = 'document.title = 2';
        document.body.append(more);
    }"""
    )
    seen.page.wait_for_timeout(100)
    assert seen.page.title() == f"Steering {MODEL}"


def shown(text: str, digits: int = 3) -> str:
    return f"{float(text):+.{digits}f}".replace("-", "−")


def headline(visit: Visit, name: str) -> list[dict[str, str]]:
    """The rows of the tables of the first screen, by their headings."""
    script = """table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))"""
    found = []
    for table in visit.page.locator(f"#summary table.{name}").all():
        head, *rows = table.evaluate(script)
        found += [dict(zip(head, row, strict=True)) for row in rows]
    return found


def test_numbers_are_those_of_the_tables(visit: Visitor, made: Paths, place: Path) -> None:
    """Of the first table, the maps and the curves, against the texts beside the figures."""
    seen = visit(place)
    stem = f"doses_type=ab_model={MODEL}"
    rows = numbers_of(made.figure(f"LAYER_SWEEP_{stem}", "calm", ".txt"))
    sweep = data_of(seen)[KEY]
    strengths = {f"{s:g}": i for i, s in enumerate(sweep["strengths"])}
    compared = 0
    for row in rows:
        column = strengths[row["dose"]]
        if row["quantity"] == "score":
            found = sweep["levels"][row["layer"]][column]
        elif row["dose"] == "0":
            continue
        else:
            found = sweep["panels"][0]["cells"][row["layer"]][column]
            text = attribute(cell(seen, int(row["layer"]), float(row["dose"])), "aria-label")
            assert text.endswith(shown(row["mean"]).replace("+0.000", "0.000"))
        expected = [float(row[name]) for name in ("mean", "low95", "high95")]
        assert found == pytest.approx(expected, abs=1.1e-5)
        compared += 1
    assert compared == len(LAYERS) * (3 + 2)
    calm = next(row for row in headline(seen, "headline") if row["behaviour"] == "Calm")
    at = {r["dose"]: r for r in rows if r["layer"] == calm["layer"] and r["quantity"] == "score"}
    for dose, title in zip(("-0.2", "0", "0.2"), ("−0.2", "0", "+0.2"), strict=True):
        assert calm[title] == f"{float(at[dose]['mean']):.3f}"


def test_effects_are_those_of_the_tables(visit: Visitor, made: Paths, place: Path) -> None:
    """Content and letter, in both orders and beside controls; the band, and the three p."""
    seen = visit(place)
    both = data_of(seen)[f"{KEY}~both-orders"]
    names = [panel["quantity"] for panel in both["panels"]]
    assert names == ["score", "content", "letter"]
    (path,) = made.artifacts.rglob("orders_doses_*.txt")
    layer = re.search(r"layer=(\d+)", path.name)
    assert layer is not None
    for row in numbers_of(path):
        if row["quantity"] == "change" and row["dose"] != "0":
            index = both["strengths"].index(float(row["dose"]))
            found = both["panels"][names.index(row["effect"])]["cells"][layer[1]][index]
            expected = [float(row[name]) for name in ("mean", "low95", "high95")]
            assert found == pytest.approx(expected, abs=1.1e-5)
    beside = data_of(seen)[KEY]
    (path,) = (p for p in made.artifacts.rglob("controls_doses_*.txt"))
    layer = re.search(r"layer=(\d+)", path.name)
    assert layer is not None
    compared = 0
    for row in numbers_of(path):
        if row["strength"].startswith("±") or row["quantity"] == "score":
            continue
        index = beside["strengths"].index(float(row["strength"]))
        panel = next(p for p in beside["panels"] if p["quantity"] == row["quantity"])
        expected = [float(row[n]) for n in ("mean", "low95", "high95")] if row["n"] != "1" else []
        if row["vector"] == "calm":
            assert panel["cells"][layer[1]][index] == pytest.approx(expected, abs=1.1e-5)
            compared += 1
        elif row["vector"].startswith("random"):
            assert panel["band"][layer[1]][index] == pytest.approx(expected, abs=1.1e-5)
            compared += 1
    assert compared == 2 * 2 * 2
    rows = numbers_of(path)
    own = next(r for r in rows if r["strength"] == "±0.2" and r["quantity"] == "content")
    table = next(r for r in headline(seen, "controls") if r["vector"] == "Calm")
    assert table["effect [95 %]"].startswith(shown(own["mean"]))
    (choice,) = made.artifacts.rglob("tune_*.json")
    kls = [
        cell["kl"]
        for cell in json.loads(choice.read_text())["cells"]
        if cell["layer"] == int(layer[1]) and cell["dose"] == pytest.approx(0.2)
    ]
    assert [table["KL"]] == [f"{kl:.2g}" for kl in kls], "of the very vector and cell"
    assert table["p random"] == f"{float(own['p_random']):.3f}" and own["p_shuffled"] == "-"


def test_the_slider_moves_the_grey_band(visit: Visitor, place: Path) -> None:
    seen = visit(place)
    band = seen.page.locator(f'[data-sweep="{KEY}"] .band').first
    panel = data_of(seen)[KEY]["panels"][1]
    svg = seen.page.locator(f'[data-sweep="{KEY}"] svg.chart').nth(1)
    top, bottom = map(float, attribute(svg, "data-box").split())
    low, high = map(float, attribute(svg, "data-range").split())
    for layer in LAYERS:
        cell(seen, layer, 0.2).click()
        ys = [float(y) for y in re.findall(r",([-\d.]+)", attribute(band, "d"))]
        last = panel["band"][str(layer)][-1]
        expected = [top + (bottom - top) * (high - x) / (high - low) for x in (last[2], last[1])]
        assert ys[2:4] == pytest.approx(expected, abs=0.06), "the outer edge at the last dose"


def test_the_search_leaves_what_holds_the_words(visit: Visitor, place: Path) -> None:
    seen = visit(place)
    box = seen.page.locator(".search input").last
    box.fill("NEEDLE")
    rows = seen.page.locator(".answers tbody tr:visible")
    assert rows.count() == 1 and "needle" in rows.first.inner_text()
    assert seen.page.locator(".search output").last.inner_text() == "1 question"
    seen.page.reload()
    assert rows.count() == 1
    seen.page.locator(".search input").last.fill("")
    assert rows.count() > 4 and not seen.faults


def test_answers_say_what_differs_loops_and_is_judged(visit: Visitor, place: Path) -> None:
    seen = visit(place)
    calm, bold = (seen.page.locator(f"#behavior-{b} .answers") for b in ("calm", "bold"))
    assert "judge 2 of 10" in (calm.first.text_content() or "")
    first = bold.first.locator("tbody tr").first
    assert first.locator("td").nth(0).locator("mark").all_inner_texts() == ["No."]
    assert first.locator("td").nth(1).locator("mark").count() == 0, "the unsteered answer"
    assert "ends in a loop, 8 times" in (bold.first.text_content() or "")


def test_tokens_are_those_of_a_plain_forward_pass(
    visit: Visitor, made: Paths, place: Path, tiny_folder: Path
) -> None:
    """Dot products and cosines by hand, the first steered token, and where the answer begins."""
    seen = visit(place)
    text = seen.page.locator("#behavior-calm .tokens .text").first
    shown = text.locator(".tok").evaluate_all("all => all.map(e => [e.textContent, e.title])")
    wrapper = LlamaWrapper.load(str(tiny_folder), device="cpu")
    prompt = wrapper.prompt_format().open_prompt(QUESTIONS[0])
    ids = torch.tensor([[*prompt.ids, *wrapper.generate([prompt.ids], max_new_tokens=60)[0]]])
    layer = data_of(seen)[KEY]["layer"]
    vector = load_torch(made.vector("calm", layer, MODEL, normalized=True)).double()
    with torch.no_grad():
        states = wrapper.model(ids, output_hidden_states=True).hidden_states[layer + 1][0].double()
    assert len(shown) == ids.shape[1]
    for (_, title), state in zip(shown, states, strict=True):
        numbers = re.findall(r"[+−][\d.]+(?:e[-−+]\d+)?", title)
        dot, cosine = (float(x.replace("−", "-")) for x in numbers)
        length = float(state.norm() * vector.norm())
        assert dot == pytest.approx(float(state @ vector), rel=1e-3)
        assert cosine == pytest.approx(float(state @ vector) / length, abs=1e-4)
    marked = [n for n, (_, title) in enumerate(shown) if title.endswith("(first steered token)")]
    assert marked == [prompt.steer_from]
    before = text.locator("hr").evaluate("e => [...e.parentNode.children].indexOf(e)")
    assert before == len(prompt.ids)


def test_the_choice_is_that_of_its_file(visit: Visitor, made: Paths, place: Path) -> None:
    seen = visit(place)
    found = json.loads(made.tuning("calm", MODEL).read_text())
    part = seen.page.locator("#behavior-calm")
    chosen, effect = found["chosen"], found["test"]["effect"]
    said = f"layer {chosen['layer']}, dose {chosen['dose']:.4g}. On the test questions: effect "
    said += shown(effect["mean"])
    assert said in part.inner_text()
    front = [cell for cell in found["cells"] if cell["pareto"]]
    rows = part.locator('[aria-label="Pareto front"] tbody tr').all_inner_texts()
    assert len(rows) == len(front) >= 2
    for cell_ in front:
        (row,) = (r for r in rows if r.startswith(f"{cell_['layer']}\t{cell_['dose']:.3f}"))
        assert shown(cell_["effect"]["mean"]) in row
        assert ("chosen" in row) == (
            cell_["layer"] == chosen["layer"] and cell_["dose"] == chosen["dose"]
        )
    assert part.locator("svg.pareto circle:not(.ring)").count() == len(found["cells"])


@pytest.mark.parametrize(
    ("scheme", "window"), [("light", NARROW), ("dark", WIDE)], ids=["light-narrow", "dark-wide"]
)
def test_no_barriers_and_no_sideways_scrolling(
    visit: Visitor, place: Path, scheme: str, window: dict[str, int]
) -> None:
    seen = visit(place, viewport=window, color_scheme=scheme)
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert seen.overflow() == 0
    assert seen.barriers() == []


def test_the_first_view_needs_no_script(visit: Visitor, place: Path) -> None:
    """What the script draws first is what stands there without it."""
    still, moved = visit(place, java_script_enabled=False), visit(place)
    assert "Steering tiny-llama" in still.page.locator(".lead").inner_text()
    assert still.page.locator("#summary table.headline").first.is_visible()
    assert not still.page.locator("input[type=range]").first.is_visible()
    drawn = [
        re.findall(r'<svg class="chart".*?</svg>', v.page.content(), flags=re.DOTALL)
        for v in (still, moved)
    ]
    # that a point is seen is said by the script, and goes without saying
    drawn[1] = [text.replace(' visibility="visible"', "") for text in drawn[1]]
    assert drawn[0] == drawn[1] and len(drawn[0]) > 4


def test_it_prints(visit: Visitor, place: Path, tmp_path: Path) -> None:
    seen = visit(place)
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("nav").is_visible()
    assert not seen.page.locator(".slider").first.is_visible()
    printed = seen.page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert printed.startswith(b"%PDF")
