"""Text of others, fit for one line of a terminal."""

from __future__ import annotations

LONGEST = 300


def printable(text: str, longest: int = LONGEST) -> str:
    """A text on one line, cut at ``longest`` characters.

    What is no character to be seen is shown as its escape (``\\x1b``): it could move the cursor,
    colour or hide what stands beside it, or set its own words for this program's.
    """
    words = " ".join(text[: 4 * longest].split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    return shown if len(shown) <= longest else shown[:longest] + " ..."
