"""The numbers of a figure as text: a tab-separated ``.txt`` and a ``.tex`` table."""

from collections.abc import Sequence

from utils.stats import Estimate

COLUMNS = ("mean", "low95", "high95", "n")


def text_table(header: Sequence[str], rows: Sequence[tuple[Sequence[str], Estimate]]) -> bytes:
    """Tab-separated lines: the keys of a point, its mean, interval and number of questions.

    Where any point lacks scores, a last column says how many.
    """
    lacking = any(e.missing for _, e in rows)
    lines = ["\t".join([*header, *COLUMNS, *(["missing"] if lacking else [])])]
    for keys, e in rows:
        numbers = [f"{e.mean:.6f}", f"{e.low:.6f}", f"{e.high:.6f}", str(e.n)]
        lines.append("\t".join([*keys, *numbers, *([str(e.missing)] if lacking else [])]))
    return ("\n".join(lines) + "\n").encode()


def tex_table(
    corner: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Estimate | None]]]
) -> bytes:
    """A LaTeX tabular with one cell a point: mean and, small, its interval."""
    lines = [
        rf"\begin{{tabular}}{{l{'c' * len(columns)}}}",
        r"\toprule",
        " & ".join([corner, *columns]) + r" \\",
        r"\midrule",
    ]
    for label, cells in rows:
        texts = [
            "--" if e is None else rf"{e.mean:.3f} {{\scriptsize [{e.low:.3f}, {e.high:.3f}]}}"
            for e in cells
        ]
        lines.append(" & ".join([label, *texts]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return ("\n".join(lines) + "\n").encode()
