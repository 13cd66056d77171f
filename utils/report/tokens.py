"""Answers token by token: where the residual stream lies along a behaviour's vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from utils.data.evaluation import OPEN_ENDED
from utils.data.items import load_open_items
from utils.files.paths import Paths
from utils.report.heat_maps import MOST_COLOUR
from utils.report.markup import Html, tag
from utils.report.sweeps import Sweep
from utils.text.numbers import signed, true_minus
from utils.vectors.dose import SteeringVector, residual_norm

if TYPE_CHECKING:
    from llama_wrapper import LlamaWrapper

LENGTH = 60


@dataclass(frozen=True)
class TokenPlan:
    """The token heat maps of one behaviour.

    Attributes:
        sweep: whose layer and highest strength they are made at.
        vector: of that layer.
        questions: as many as were asked for.
        inputs: what the maps depend on beside the model.
    """

    sweep: Sweep
    vector: SteeringVector
    questions: Sequence[str]
    inputs: Mapping[str, Any]

    @property
    def strength(self) -> float:
        return max(self.sweep.strengths)


def plan_tokens(
    sweeps: Sequence[Sweep], count: int, model: str, paths: Paths, made_by: str
) -> dict[str, TokenPlan]:
    """What is to be shown of each behaviour, at the layer that its first sweep shows.

    Args:
        sweeps: of all behaviours.
        count: of questions, the first of each open-ended test.
        model: its name in names of vectors.
        paths: where.
        made_by: the command that makes a missing vector.

    Raises:
        UserError: a missing or damaged vector or test.
    """
    found: dict[str, TokenPlan] = {}
    for sweep in sweeps:
        behavior, layer = sweep.behavior.id, sweep.layer
        if behavior in found:
            continue
        path = OPEN_ENDED.data(paths, behavior)
        if not path.exists():
            continue
        items = load_open_items(path, made_by=OPEN_ENDED.made_by, limit=count)
        vector = SteeringVector.read(paths, behavior, layer, model, made_by=made_by, width=None)
        norm = residual_norm(paths, behavior, layer, [model])
        vector = replace(vector, residual_norm=norm)
        inputs = {"vector": vector.sha256, "data": items.sha256, "count": count, "layer": layer}
        questions = [item.question for item in items]
        found[behavior] = TokenPlan(sweep, vector, questions, inputs)
    return found


def token_maps(plan: TokenPlan, wrapper: LlamaWrapper) -> Html:
    """Each question with the model's own answer, unsteered and steered, coloured token by token.

    Both are read without the vector added, so that colours say what the text does to the stream.

    Raises:
        UserError: a dose where the residual stream's length is not known.
    """
    sweep, layer = plan.sweep, plan.sweep.layer
    unit = sweep.variant.unit
    multiplier = plan.vector.multiplier(plan.strength, unit)
    parts = []
    for question in plan.questions:
        for strength, deltas in (
            (0.0, {}),
            (plan.strength, {layer: multiplier * plan.vector.vector}),
        ):
            name = f"{unit} {signed(strength)}" if strength else "unsteered"
            parts.append(_map(plan, wrapper, question, name, deltas))
    return tag(
        "div",
        tag("h4", f"Token by token, layer {layer}"),
        tag(
            "p",
            "The residual stream after this layer on the vector, each token less the mean over "
            "tokens: orange along the vector, blue against it. The first token, an attention sink, "
            "is left out. The bar marks the first steered token, the dashed line the answer, which "
            "the model has written itself and which is read without steering.",
            class_="note",
        ),
        _switch(f"tokens-{sweep.behavior.id}"),
        parts,
        tag("p", tag("output", "point at a token, or move with the arrow keys"), class_="readout"),
        class_="tokens",
    )


def _switch(name: str) -> Html:
    def choice(value: str, label: str, *, checked: bool) -> Html:
        box = tag("input", type="radio", name=name, value=value, checked=checked)
        return tag("label", box, " ", label)

    return tag(
        "fieldset",
        tag("legend", "colour by"),
        choice("dot", "dot product", checked=True),
        " ",
        choice("cos", "cosine", checked=False),
        class_="needs-js",
    )


def _map(
    plan: TokenPlan,
    wrapper: LlamaWrapper,
    question: str,
    name: str,
    deltas: Mapping[int, Any],
) -> Html:
    # torch comes with them
    from utils.lens.coloured_text import token_pieces
    from utils.lens.conversation import converse
    from utils.lens.logit_lens import projections

    layer, vector = plan.sweep.layer, plan.vector.vector
    said = converse(wrapper, question, max_new_tokens=LENGTH, deltas=deltas)
    pieces = token_pieces(wrapper.tokenizer, said.ids)
    dots, cosines = (
        projections(wrapper, said.ids, vector, layer, cosine=cosine).tolist()
        for cosine in (False, True)
    )
    shades = [_shades(values) for values in (dots, cosines)]
    spans: list[Html] = []
    for place, piece in enumerate(pieces):
        if place == said.answer_from:
            spans.append(tag("hr"))
        numbers = true_minus(f"dot product {dots[place]:+.4g}, cosine {cosines[place]:+.4f}")
        first = place == said.steer_from
        kind, share = shades[0][place]
        spans.append(
            tag(
                "span",
                piece,
                class_=f"tok {kind}{' first' if first else ''}",
                style=f"--s:{share}%",
                data_dot=f"{kind} {share}",
                data_cos=" ".join(map(str, shades[1][place])),
                tabindex=0 if place == 0 else -1,
                title=numbers + (" (first steered token)" if first else ""),
            )
        )
    return tag(
        "figure",
        tag("figcaption", name),
        tag("div", spans, class_="text", role="group", aria_label=f"tokens, {name}"),
    )


def _shades(values: Sequence[float]) -> list[tuple[str, int]]:
    """Sign and share of full colour of each token, less the mean of all but the first."""
    from utils.lens.coloured_text import largest_magnitude

    rest = values[1:] or values
    mean = sum(rest) / len(rest)
    centred = [0.0, *(v - mean for v in values[1:])]
    limit = largest_magnitude(centred) or 1.0
    return [
        ("pos" if v > 0 else "neg", round(MOST_COLOUR * min(1.0, abs(v) / limit))) for v in centred
    ]
