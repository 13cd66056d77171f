"""What tune.py has found, for tables that stand beside it. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.files.contents import read_json, read_verified
from utils.files.names import UNITS, Variant
from utils.files.paths import Paths
from utils.text.numbers import true_minus, with_interval

if TYPE_CHECKING:
    from utils.stats import Estimate

# A dose that was converted to a multiplier and back is the same dose.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Tuned:
    """The choice of one behaviour.

    Attributes:
        place: its layer and strength as text; ``None``: do not steer.
        effect: of the chosen cell on the test, in logits; ``None`` where nothing was chosen.
        questions: how many of the test.
        damage: cells with their KL(unsteered || steered) in nats, the best known first.
        direction: which signs were steered.
        vectors: layer -> hash of the vector.
    """

    place: str | None
    effect: Estimate | None
    questions: int
    damage: Sequence[tuple[Mapping[str, Any], float]]
    direction: str
    vectors: Mapping[int, str]

    def kl(self, layer: int, strength: float, unit: str, *, both: bool) -> float | None:
        """Of a cell, if it was measured.

        Args:
            layer, strength, unit: the cell.
            both: that strength in both signs, else in its own.
        """
        if self.direction != ("both" if both else "pos" if strength > 0 else "neg"):
            return None
        found = (
            kl
            for cell, kl in self.damage
            if cell["layer"] == layer
            and cell[unit] is not None
            and math.isclose(cell[unit], abs(strength), rel_tol=_ROUNDING)
        )
        return next(found, None)


def read_tuned(
    behaviors: Iterable[str], variant: Variant, label: str, paths: Paths
) -> dict[str, Tuned]:
    """The choices of those behaviours that have one.

    Args:
        behaviors: their ids.
        variant: of the results that they stand beside; tune.py makes choices for A/B tests without
            overrides only.
        label: of the model.
        paths: where to look.

    Raises:
        UserError: a file that tune.py has not written so.
    """
    if variant.type != "ab" or variant.overrides:
        return {}
    places = {b: paths.tuning(b, label) for b in behaviors}
    found = {}
    for behavior, place in places.items():
        if place.exists():
            content = read_json(read_verified(place))
            try:
                found[behavior] = _tuned(content)
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{place} is not a choice that ./tune.py wrote") from error
    return found


def _tuned(content: Any) -> Tuned:
    test, chosen = content["test"], content["chosen"]
    # with the vector of all pairs, and on other prompts: better than what the choice was made on
    cells = [*([] if test is None else [test]), *content["cells"]]
    # numpy comes with it, and a figure that is there does without
    from utils.stats import Estimate

    return Tuned(
        place=None if chosen is None else _place(chosen, content["unit"]),
        effect=None if test is None else Estimate(**_numbers(test["effect"])),
        questions=0 if test is None else len(content["splits"]["test"]),
        damage=[
            ({name: c[name] for name in ("layer", *UNITS)}, float(c["kl"]))
            for c in cells
            if c.get("kl") is not None
        ],
        direction=str(content["direction"]),
        vectors={int(layer): str(sha) for layer, sha in content["vector_sha256"].items()},
    )


def _place(cell: Mapping[str, Any], unit: str) -> str:
    return f"layer {int(cell['layer'])}, {unit} {float(cell[unit]):g}"


def _numbers(estimate: Mapping[str, Any]) -> dict[str, Any]:
    mean = float(estimate["mean"])
    low, high = (mean if estimate[end] is None else float(estimate[end]) for end in ("low", "high"))
    return {"mean": mean, "low": low, "high": high, "n": int(estimate["n"])}


def tuned_lines(found: Mapping[str, Tuned]) -> list[str]:
    """The figure of each behaviour that was not chosen on the questions it is of."""
    lines = []
    for behavior, each in found.items():
        if each.place is None or each.effect is None:
            lines.append(f"tuned on pairs held out: {behavior}: do not steer")
        else:
            effect = true_minus(with_interval(each.effect, "+.3f"))
            lines.append(
                f"tuned on pairs held out: {behavior}: {each.place}; then, on {each.questions} "
                f"test questions, content effect {effect} logits"
            )
    return lines
