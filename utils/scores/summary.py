"""One table of everything that was measured: scores, steerability, and signs of breaking."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from utils.data.kinds_of_test import Test
from utils.data.orders import question_count, question_means
from utils.data.rows import Row
from utils.scores.loops import find_loop
from utils.scores.tables import ScoreTable, extremes, variant_label
from utils.stats import Estimate, mean_of_changes, slopes
from utils.text.number_tables import one_line
from utils.text.numbers import formatted, true_minus

FIELDS = (
    "behavior",
    "type",
    "variant",
    "layer",
    "questions",
    "unit",
    *(
        f"{part}_{column}"
        for column in ("negative", "zero", "positive")
        for part in ("strength", "converted", "score", "low95", "high95")
    ),
    "change",
    "change_low95",
    "change_high95",
    "steerability",
    "steerability_low95",
    "steerability_high95",
    "anti_steerable_fraction",
    "tied_fraction",
    "p_a_plus_p_b",
    "missing_scores",
    "proper_ends",
    "distinct_3_grams",
    "loops",
    "words",
)
UNKNOWN = "-"
# Behind the others, where any row is of both orders.
ORDER_FIELDS = (
    "exchanged",
    *(
        f"{effect}_{part}"
        for effect in ("content", "letter")
        for part in ("change", "low95", "high95")
    ),
    "letter_share",
    "consistent_negative",
    "consistent_zero",
    "consistent_positive",
)


def summary_rows(behavior: str, test: Test, table: ScoreTable) -> list[dict[str, str]]:
    """One row for each layer of one behaviour, type and variant.

    Open-ended answers without scores have a row all the same, with what needs no judge.
    """
    layers = sorted({layer for layer, _ in table.answers})
    return [_row(behavior, test, table, layer) for layer in layers]


def _row(behavior: str, test: Test, table: ScoreTable, layer: int) -> dict[str, str]:
    strengths = sorted(s for n, s in table.scores if n == layer)
    rows = {s: found for (n, s), found in table.answers.items() if n == layer}
    row = {
        "behavior": behavior,
        "type": test.type,
        "variant": variant_label(table.variant),
        "layer": str(layer),
        "questions": str(question_count(next(iter(rows.values())))),
        "unit": table.variant.unit,
    }
    ends = extremes(strengths)
    shown = {"negative": ends[:1], "zero": [0.0], "positive": ends[-1:]}
    for column, (strength,) in ((c, s) for c, s in shown.items() if s):
        row |= _score_columns(column, table, (layer, strength))
    change = table.change((layer, ends[-1]), (layer, ends[0])) if len(ends) > 1 else None
    if change is not None:
        row |= _texts(("change", "change_low95", "change_high95"), change)
    row |= _text_columns(rows) if test.free_text else _letter_columns(test, rows)
    row |= _order_columns(table, layer, ends)
    if test.judged and strengths:
        missing = {s: int(np.isnan(table.scores[layer, s]).sum()) for s in strengths}
        row["missing_scores"] = " ".join(f"{m:g}:{count}" for m, count in missing.items())
    return row


def _score_columns(column: str, table: ScoreTable, cell: tuple[int, float]) -> dict[str, str]:
    estimate = table.score(cell)
    if estimate is None:
        return {}
    names = (f"score_{column}", f"low95_{column}", f"high95_{column}")
    found = _texts(names, estimate) | {f"strength_{column}": f"{cell[1]:g}"}
    if cell in table.converted:
        found[f"converted_{column}"] = f"{table.converted[cell]:.3g}"
    return found


def _order_columns(table: ScoreTable, layer: int, ends: Sequence[float]) -> dict[str, str]:
    """Content and letter told apart: what changes of them between the extreme strengths."""
    effects = next((e for (n, _), e in table.effects.items() if n == layer), None)
    if effects is None:
        return {}
    columns = {"exchanged": str(np.count_nonzero(~np.isnan(effects.content)))}
    if len(ends) > 1:
        high, low = (layer, ends[-1]), (layer, ends[0])
        for name in ("content", "letter"):
            if (change := table.effect(name, high, low)) is not None:
                columns |= _texts((f"{name}_change", f"{name}_low95", f"{name}_high95"), change)
        share = table.letter_share(high, low)
        columns |= {} if share is None else {"letter_share": f"{share:.3f}"}
    shown = {"negative": ends[:1], "zero": [0.0], "positive": ends[-1:]}
    for column, (strength,) in ((c, s) for c, s in shown.items() if s):
        if (found := table.effect("consistent", (layer, strength))) is not None:
            columns[f"consistent_{column}"] = f"{found.mean:.3f}"
    return columns


def _texts(names: tuple[str, str, str], e: Estimate) -> dict[str, str]:
    ends = (formatted(e.low, ".4f"), formatted(e.high, ".4f")) if e.has_interval else ("", "")
    return dict(zip(names, (formatted(e.mean, ".4f"), *ends), strict=True))


def probabilities(row: Row) -> tuple[float, float]:
    """P(A) and P(B) of a row that its test has scored."""
    a, b = (float(cast(float, row[name])) for name in ("a_prob", "b_prob"))
    return a, b


def logit_differences(test: Test, rows: Sequence[Row]) -> NDArray[np.float64]:
    """log P(matching) - log P(other letter) of every question, shape (questions,).

    The mean over both orders of a question that has both: its content effect. NaN where the
    matching letter is neither A nor B or a probability is 0.
    """
    found = []
    for row, letter in zip(rows, test.letters(rows), strict=True):
        a, b = probabilities(row)
        if letter not in ("A", "B") or a <= 0 or b <= 0:
            found.append(np.nan)
        else:
            found.append(np.log(a / b) if letter == "A" else np.log(b / a))
    return question_means(np.array(found), rows)


def steerability(test: Test, rows: Mapping[float, Sequence[Row]]) -> NDArray[np.float64]:
    """Least-squares slope of the logit difference against the strength, shape (questions,).

    Source: Tan et al., "Analysing the Generalisation and Reliability of Steering Vectors"
    (NeurIPS 2024), section 3: steerability is the slope of the propensity (the logit difference
    of the two answers) in the multiplier; a question whose slope has the wrong sign is
    anti-steerable. Units: logits for each unit of the multiplier, or of the dose. Questions
    without a logit difference at some strength are left out. A slope of exactly 0 is a tie: the
    question was not moved at all (in 16 bits, or by a vector of another layer's scale), and is
    neither steerable nor anti-steerable.
    """
    strengths = sorted(rows)
    differences = np.stack([logit_differences(test, rows[s]) for s in strengths], axis=1)
    return slopes(strengths, differences[~np.isnan(differences).any(axis=1)])


def _letter_columns(test: Test, rows: Mapping[float, Sequence[Row]]) -> dict[str, str]:
    mass = {m: np.mean([sum(probabilities(r)) for r in found]) for m, found in rows.items()}
    columns = {"p_a_plus_p_b": " ".join(f"{m:g}:{value:.3f}" for m, value in mass.items())}
    if len(rows) > 1:
        found = steerability(test, rows)
        if found.size:
            names = ("steerability", "steerability_low95", "steerability_high95")
            columns |= _texts(names, mean_of_changes(found, None))
            columns["anti_steerable_fraction"] = f"{(found < 0).mean():.3f}"
            if (found == 0).any():
                columns["tied_fraction"] = f"{(found == 0).mean():.3f}"
    return columns


def distinct_3_grams(text: str) -> float:
    """Different word 3-grams over all of them: near 1 for prose, near 0 for a loop.

    Source: Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models"
    (NAACL 2016), distinct-n. A text of fewer than three words has nothing to repeat: 1.
    """
    words = re.findall(r"\w+", text.lower())
    grams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


def ends_properly(row: Row) -> bool:
    """Whether an answer ended at an end token rather than at the limit of its length."""
    return str(row["raw_model_output"]).rstrip().endswith(("|>", "</s>", "<eos>", "<end_of_turn>"))


def shares_of_answers(rows: Sequence[Row]) -> dict[str, float]:
    """What open-ended answers are like, without a judge.

    Returns:
        ``ends``: share that ends at an end token; ``distinct``: mean :func:`distinct_3_grams`;
        ``loops``: share that ends in a loop (:func:`utils.scores.loops.find_loop`); ``words``: mean
        length in words.
    """
    answers = [str(row["model_output"]) for row in rows]
    return {
        "ends": float(np.mean([ends_properly(row) for row in rows])),
        "distinct": float(np.mean([distinct_3_grams(answer) for answer in answers])),
        "loops": float(np.mean([find_loop(answer) is not None for answer in answers])),
        "words": float(np.mean([len(answer.split()) for answer in answers])),
    }


def _text_columns(rows: Mapping[float, Sequence[Row]]) -> dict[str, str]:
    shares = {m: shares_of_answers(found) for m, found in rows.items()}

    def each(name: str, digits: int = 2) -> str:
        return " ".join(f"{m:g}:{share[name]:.{digits}f}" for m, share in shares.items())

    return {
        "proper_ends": each("ends"),
        "distinct_3_grams": each("distinct"),
        "loops": each("loops"),
        "words": each("words", 0),
    }


def as_csv(rows: Sequence[Mapping[str, str]]) -> bytes:
    """All columns, comma-separated; what does not apply is empty."""
    buffer = io.StringIO()
    fields = FIELDS + (ORDER_FIELDS if any("exchanged" in row for row in rows) else ())
    writer = csv.DictWriter(buffer, fields, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def as_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The columns that hold anything, as a Markdown table; intervals beside their means."""
    header = ["behavior", "type", "variant", "layer", *_strength_titles(rows), "change"]
    header += ["content", "letter", "letter share", "consistent", "steerability", "anti", "ties"]
    header += ["P(A)+P(B)", "missing", "ends", "3-grams", "loops", "words"]
    lines = []
    for row in rows:
        cells = [row[name] for name in ("behavior", "type", "variant", "layer")]
        for key in ("negative", "zero", "positive"):
            cells.append(_with_interval(row, f"score_{key}", f"low95_{key}", f"high95_{key}"))
        cells.append(_with_interval(row, "change", "change_low95", "change_high95"))
        cells += _order_cells(row)
        slope = ("steerability", "steerability_low95", "steerability_high95")
        cells.append(_with_interval(row, *slope))
        rest = ("anti_steerable_fraction", "tied_fraction", "p_a_plus_p_b", "missing_scores")
        cells += [
            row.get(n, "") for n in (*rest, "proper_ends", "distinct_3_grams", "loops", "words")
        ]
        lines.append(cells)
    used = [i for i in range(len(header)) if any(cells[i] for cells in lines)]
    table = [[header[i] for i in used], ["---"] * len(used)]
    table += [[cells[i] for i in used] for cells in lines]
    return "".join(f"| {' | '.join(_cell(text) for text in cells)} |\n" for cells in table)


def _order_cells(row: Mapping[str, str]) -> list[str]:
    """Content, letter, the letter's share, consistent questions before and after; or nothing."""
    if "exchanged" not in row:
        return [""] * 4
    changes = [
        _with_interval(row, f"{name}_change", f"{name}_low95", f"{name}_high95")
        for name in ("content", "letter")
    ]
    shares = [row.get(f"consistent_{n}", UNKNOWN) for n in ("zero", "negative", "positive")]
    consistent = "{} \N{RIGHTWARDS ARROW} {} / {}".format(*shares)
    return [change or UNKNOWN for change in (*changes, row.get("letter_share", ""), consistent)]


def _cell(text: str) -> str:
    return one_line(text).replace("|", r"\|")


def _strength_titles(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Titles of the score's three columns: their strengths, if those of all rows agree."""
    titles = []
    for column in ("negative", "zero", "positive"):
        found = {row[f"strength_{column}"] for row in rows if f"strength_{column}" in row}
        title = found.pop() if len(found) == 1 else column
        unit = f"{rows[0]['unit']} " if rows and column != "zero" else ""
        titles.append(true_minus(f"{unit}{'0' if column == 'zero' else title}"))
    return titles


def _with_interval(row: Mapping[str, str], mean: str, low: str, high: str) -> str:
    return f"{row[mean]} [{row[low]}, {row[high]}]" if mean in row else ""
