"""Open-ended answers side by side: a row a question, a column a strength."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from utils.data.rows import Row
from utils.report.markup import Html, data_table, joined, tag
from utils.report.sweeps import Sweep
from utils.scores.loops import find_loop
from utils.scores.summary import shares_of_answers
from utils.text.numbers import signed

# Shown at once; the others behind a line that opens.
FIRST = 2
_WORDS = re.compile(r"\s+|\S+")


def answers(sweep: Sweep, most: int) -> Html | None:
    """All layers' answers; ``None`` for a test that has none.

    Args:
        sweep: of a test with free answers.
        most: questions shown.
    """
    if not sweep.test.free_text:
        return None
    found = sweep.table.answers
    return joined(
        _layer(sweep, layer, {s: rows for (n, s), rows in found.items() if n == layer}, most)
        for layer in sorted({n for n, _ in found})
    )


def _layer(sweep: Sweep, layer: int, rows: Mapping[float, Sequence[Row]], most: int) -> Html:
    count = min(map(len, rows.values()))
    title = f"{sweep.behavior.name}: answers at layer {layer}"
    numbers = range(min(count, most))
    first, rest = numbers[:FIRST], numbers[FIRST:]
    left = f" of {count} (--limit_answers {count} for all)" if count > most else ""
    more = f"{len(rest)} more question{'s' * (len(rest) > 1)}{left}"
    return joined(
        tag("h4", f"Answers at layer {layer}"),
        _shares(sweep, rows),
        tag(
            "p",
            tag("label", "Search all answers ", tag("input", type="search")),
            tag("output", ""),
            class_="needs-js search",
        ),
        _table(sweep, title, rows, first),
        tag("details", tag("summary", more), _table(sweep, title + ", more", rows, rest))
        if rest
        else None,
    )


def _shares(sweep: Sweep, rows: Mapping[float, Sequence[Row]]) -> Html:
    """What answers are like without a judge, strength by strength."""
    parts = []
    for strength, found in rows.items():
        shares = shares_of_answers(found)
        words = f"{shares['words']:.0f} words, {100 * shares['loops']:.0f} % end in a loop"
        scores = [float(str(r["score"])) for r in found if r.get("score") is not None]
        judged = f", judge's mean score {sum(scores) / len(scores):.1f}" if scores else ""
        parts.append(f"{_strength(sweep, strength)}: {words}{judged}")
    return tag("p", "; ".join(parts), ".", class_="note")


def _strength(sweep: Sweep, strength: float) -> str:
    return f"{sweep.variant.unit} {signed(strength)}" if strength else "unsteered"


def _table(
    sweep: Sweep, title: str, rows: Mapping[float, Sequence[Row]], numbers: Sequence[int]
) -> Html:
    base = 0.0 if 0.0 in rows else None
    head = ["question", *(_strength(sweep, s) for s in rows)]
    body = []
    for n in numbers:
        plain = None if base is None else str(rows[base][n]["model_output"])
        cells = [_answer(found[n], None if s == base else plain) for s, found in rows.items()]
        question = str(next(iter(rows.values()))[n]["question"])
        body.append(tag("tr", tag("th", question, scope="row"), cells))
    return data_table(head, body, label=title, class_="answers", style=f"--n:{len(rows)}")


def _answer(row: Row, plain: str | None) -> Html:
    """One answer, words that the unsteered one has not at their place marked."""
    text = str(row["model_output"])
    notes = []
    if row.get("score") is not None:
        notes.append(f"judge {float(str(row['score'])):g} of 10")
    elif "score" in row:
        notes.append("no score")
    loop = find_loop(text)
    if loop is not None:
        notes.append(f"ends in a loop, {loop.times} times")
    shown: object = text if plain is None else joined(differing(plain, text))
    if plain == text:
        shown = tag("i", "the same as unsteered")
    said = tag("p", " · ".join(notes), class_="said") if notes else None
    return tag("td", tag("div", shown, class_="text"), said)


def differing(plain: str, text: str) -> list[Html]:
    """A text in pieces, those words marked that differ from another's at their place."""
    old, new = (_WORDS.findall(t) for t in (plain, text))
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    pieces = []
    for kind, _, _, start, end in matcher.get_opcodes():
        piece = "".join(new[start:end])
        if piece:
            pieces.append(
                tag("mark", piece) if kind != "equal" and piece.strip() else joined(piece)
            )
    return pieces
