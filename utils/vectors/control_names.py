"""What control vectors are called: ``random:17``, ``shuffled:3``, ``letter``, ``other:refusal``.

No torch: flags and tables name controls that others make (:mod:`utils.vectors.controls`).
"""

from __future__ import annotations

KINDS = ("random", "shuffled", "letter", "others")
# Those that are drawn, and those made from the activations of the contrast pairs.
DRAWN, FROM_PAIRS = ("random", "shuffled"), ("shuffled", "letter")
DRAWS = 99


def drawn(kind: str, draws: int) -> list[str]:
    """The names of all draws of a kind, counted from 0."""
    return [f"{kind}:{number}" for number in range(draws)]


def other(behavior: str) -> str:
    """The vector of another behaviour."""
    return f"other:{behavior}"


def kind_of(name: str) -> str:
    head = name.partition(":")[0]
    return "others" if head == "other" else head
