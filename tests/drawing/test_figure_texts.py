"""Texts of users in figures and tables: as they were written, whatever the machine's settings."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, cast

import matplotlib
import pytest
from conftest import ROWS, write_json
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.text import Text
from running import ROOT, call

from utils.drawing import fonts, plotting
from utils.drawing.category_plots import CategoryLine, DotPlot, category_figure
from utils.drawing.line_plots import line_figure, stacked_figure
from utils.drawing.panels import Line, Panel, exact
from utils.drawing.plotting import drawing
from utils.stats import Estimate
from utils.text.number_tables import tex_table, text_table

POINT = Estimate(0.5, 0.4, 0.6, 9)
# In no font: the last character of all is for private use.
NOWHERE = "\U0010fffd"


def draw(path: Path, text: str) -> bytes:
    """A figure that has a text at every kind of place."""
    lines = [CategoryLine(text, {text: POINT, "b": POINT})]
    beside = {text: text}
    plot = DotPlot([text, "b"], lines, text, beside=beside, beside_title=text)
    category_figure(plot, text, path, note=text)
    panels = [Panel([Line(text, [0, 1], [POINT, POINT])], text, text, text)] * 2
    line_figure(panels, path.with_suffix(".lines.png"), title=text, note=text)
    stacked_figure(panels, path.with_suffix(".stacked.png"), title=text, note=text)
    return path.read_bytes()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text of the figures saved, as it is drawn."""
    texts: list[str] = []
    real = plotting.png

    def keep(figure: Figure) -> bytes:
        data = real(figure)
        texts.extend(t.get_text() for t in figure.findobj(Text) if isinstance(t, Text))
        return data

    monkeypatch.setattr(plotting, "png", keep)
    return texts


# ---------------------------------------------------------------- the user's settings

SETTINGS: dict[str, dict[str, Any]] = {
    "size": {"savefig.dpi": 20, "figure.dpi": 33},
    "colours": {"savefig.transparent": True, "axes.facecolor": "black", "text.color": "red"},
    "fonts": {"font.family": "serif", "font.size": 30, "axes.labelweight": "bold"},
    "cropping": {"savefig.bbox": "tight", "savefig.pad_inches": 2},
    "hand_drawn": {"path.sketch": (1, 100, 2)},
    "tex": {"text.usetex": True},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_users_settings_change_no_byte_and_are_there_afterwards(
    tmp_path: Path, name: str
) -> None:
    plain = draw(tmp_path / "plain.png", "text")
    with matplotlib.rc_context(cast(Any, SETTINGS[name])):
        before = dict(matplotlib.rcParams)
        assert draw(tmp_path / "own.png", "text") == plain
        assert dict(matplotlib.rcParams) == before


FIGURE = (
    "from pathlib import Path; from utils.drawing.line_plots import *; "
    "from utils.drawing.panels import *; "
    "from utils.stats import Estimate; "
    "e = Estimate(.5, .4, .6, 9); "
    "line_figure([Panel([Line('a', [0, 1], [e, e])], 'x', 'y')], Path('figure.png'))"
)


def python(code: str, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=place, env=known, capture_output=True, text=True, check=False
    )


def test_a_settings_file_in_the_working_folder_or_a_strange_backend_changes_nothing(
    tmp_path: Path,
) -> None:
    folders = [tmp_path / "plain", tmp_path / "own"]
    for folder in folders:
        folder.mkdir()
    settings = "savefig.dpi: 20\nsavefig.transparent: True\naxes.facecolor: black\n"
    (folders[1] / "matplotlibrc").write_text(settings)
    for folder, backend in zip(folders, ("", "no such backend"), strict=True):
        done = python(FIGURE, folder, MPLBACKEND=backend)
        assert done.returncode == 0, done.stderr
    plain, own = ((folder / "figure.png").read_bytes() for folder in folders)
    assert plain == own


def test_a_settings_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe\x00")
    done = python(FIGURE, tmp_path)
    assert done.stderr.splitlines()[-1].startswith("utils.errors.UserError: ")
    assert "matplotlibrc" in done.stderr.splitlines()[-1]


# ---------------------------------------------------------------- formulas


@pytest.mark.parametrize(
    "text", ["Takes $5 now over $10 later", "$x$", r"$\frac$", "$a_{$", r"\$5 and $", "$$"]
)
def test_a_dollar_sign_is_a_dollar_sign(tmp_path: Path, text: str) -> None:
    draw(tmp_path / "figure.png", text)
    with drawing(size=(8, 2)) as (figure, ((axes,),)):
        whole, part = (axes.set_title(t).get_window_extent().width for t in (text, text[:-1]))
        lone = axes.set_title(text[-1]).get_window_extent().width
        assert whole == pytest.approx(part + lone, abs=5)
        plotting.png(figure)


@pytest.mark.parametrize("values", [[0.3, 0.5, 0.7], [1.1, 1.2, 1.15], [2e4, 3e4, 5e4]])
def test_a_logarithmic_axis_has_plain_numbers(
    tmp_path: Path, shown: list[str], values: list[float]
) -> None:
    panel = Panel([exact("a", [1, 2, 3], values)], "layer", "norm", log=True)
    line_figure([panel], tmp_path / "x.png", title="t")
    numbers = [text for text in shown if any(c.isdigit() for c in text)]
    assert len(numbers) >= 4
    assert not [text for text in numbers if set(text) & set("$\\{")]


# ---------------------------------------------------------------- scripts of the world


def test_characters_that_no_font_has_are_written_as_code_points(
    tmp_path: Path, shown: list[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(tmp_path / "figure.png", f"a{NOWHERE}b")
    assert shown.count("a\\U0010fffdb") >= 8
    assert not [text for text in shown if NOWHERE in text]


@pytest.mark.parametrize(
    "text", ["Ελλάδα", "мир", "שלום", "مرحبا بالعالم", "naïve – “x”", "a\u200db"]
)
def test_what_the_usual_font_has_stays_as_it_is(
    tmp_path: Path, shown: list[str], text: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(tmp_path / "figure.png", text)
    assert shown.count(text) >= 8


def test_a_name_that_cannot_be_drawn_gives_way_to_the_id(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"calm": "Calm", "refusal": f"{NOWHERE}{NOWHERE}", "again": "Calm"}
    expected = {"calm": "Calm (calm)", "refusal": "refusal", "again": "Calm (again)"}
    assert fonts.shown_names(names) == expected
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("refusal: no font on this machine has") and "install" in line


def make_font(path: Path, character: str) -> None:
    """A font with one glyph, a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for point in ((100, 700), (800, 700), (800, 0)):
        pen.lineTo(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (900, 0), "square": (900, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Only One", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True)
    builder.save(path)


def test_a_font_that_is_installed_later_is_found(tmp_path: Path) -> None:
    # matplotlib's own list of fonts is made at the first start and stays
    code = f"from utils.drawing.fonts import families; print(*families({NOWHERE!r}))"
    places = {name: str(tmp_path / name) for name in ("MPLCONFIGDIR", "XDG_DATA_HOME")}
    first = python(code, tmp_path, **places)
    assert first.stdout.split() == ["['DejaVu", "Sans']", "['\\U0010fffd']"], first.stderr
    make_font(tmp_path / "XDG_DATA_HOME/fonts/only-one.ttf", NOWHERE)
    second = python(code, tmp_path, **places)
    assert second.stdout == "['DejaVu Sans', 'Only One'] []\n", second.stderr


def test_plots_of_a_behaviour_with_any_name(
    tmp_path: Path, datasets: Path, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for behavior, name in (("calm", "Takes $5 now over $10 later"), ("bold", NOWHERE)):
        write_json(datasets / f"generate/{behavior}/behavior.json", {"name": name})
        for multiplier in (-1.0, 0.0, 1.0):
            stem = f"results_layer=1_multiplier={multiplier}_behavior={behavior}_type=ab_model=x_y"
            rows = [row | {"a_prob": 0.25, "b_prob": 0.5} for row in ROWS]
            write_json(tmp_path / "a/results" / behavior / f"{stem}.json", rows)
    flags = ["--artifacts_dir", tmp_path / "a", "--datasets_dir", datasets, "--model", "x_y"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call("plot_results", *flags) == 0
    assert "Takes $5 now over $10 later, layer 1" in shown and "bold, layer 1" in shown
    assert capsys.readouterr().err.count("no font on this machine has") <= 1


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("weights a_b.pt", r"weights a\_b.pt"),
        ("$5 & 10 %", r"\$5 \& 10 \%"),
        ("#{x}~^", r"\#\{x\}\textasciitilde{}\textasciicircum{}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("a<b>|c", r"a\textless{}b\textgreater{}\textbar{}c"),
        ("two\nlines", r"two\textbackslash{}nlines"),
    ],
)
def test_a_label_of_a_tex_table_is_set_as_it_is_written(text: str, tex: str) -> None:
    table = tex_table("dose", ["$1$"], [(text, [POINT])]).decode()
    assert [line.split(" & 0.5")[0] for line in table.splitlines() if "0.500" in line] == [tex]


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\r\nb", "a\x1b[31mb", "a\u2028b", "a\0b"])
def test_a_field_of_a_table_is_one_field(text: str) -> None:
    lines = text_table(["category"], [([text], POINT)]).decode().splitlines()
    assert [len(line.split("\t")) for line in lines] == [5, 5]
    assert lines[1].split("\t")[0].isprintable()
