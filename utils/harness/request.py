"""What ``--model_args`` of the ``caa`` model type asks for, checked before a model is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from llama_wrapper import LlamaWrapper
from utils.errors import UserError
from utils.files.names import DOSE
from utils.files.paths import REPOSITORY
from utils.models.choice import ModelChoice, check_access, choose_model, read_shape
from utils.models.device import resolved_dtype
from utils.models.identity import weights_fingerprint
from utils.models.loading import load_tokenizer
from utils.prompts.format import PromptFormat
from utils.ranks import rank_count
from utils.text.listing import did_you_mean, shortened
from utils.vectors.dose import SteeringVector
from utils.vectors.origin import Origin
from utils.vectors.own import OwnVectors
from utils.vectors.stored import read_vector

SCOPES = ("continuation", "after_instruction", "all")
OWN = ("model", "behavior", "vector", "layer", "multiplier", "dose", "scope", "artifacts_dir")
PLACING = ("device", "dtype")
HARNESS = (
    "batch_size",
    "max_batch_size",
    "max_length",
    "truncation",
    "logits_cache",
    "add_bos_token",
    "prefix_token_id",
    "softmax_dtype",
    "mixed_precision_dtype",
    "enable_thinking",
    "think_end_token",
    "chat_template_args",
)
"""Arguments of the harness's ``hf`` model that mean something for a model that is there."""


@dataclass(frozen=True)
class Request:
    """A model, and one vector to be added to it.

    Attributes:
        choice: the model.
        tokenizer: the model's.
        origin: its weights, dtype and template.
        vector: what is added at ``layer``, times ``multiplier``.
        source: the behaviour, or the vector's file, as it was given.
        scope: one of :data:`SCOPES`.
    """

    choice: ModelChoice
    tokenizer: PreTrainedTokenizerBase
    origin: Origin
    vector: SteeringVector
    source: dict[str, str]
    layer: int
    multiplier: float
    scope: str

    @classmethod
    def of(
        cls,
        *,
        model: str | None = None,
        behavior: str | None = None,
        vector: str | Path | None = None,
        layer: int | None = None,
        multiplier: float | None = None,
        dose: float | None = None,
        scope: str = SCOPES[0],
        artifacts_dir: str | Path = REPOSITORY,
        device: str = "auto",
        dtype: str = "auto",
    ) -> Request:
        """Check everything and read the vector.

        Args:
            model: what ``--model`` of the scripts takes; ``None`` for the bundled model.
            behavior: whose normalised vector; or
            vector: a file that holds one plain tensor.
            layer: after which block it is added.
            multiplier: how often; or
            dose: its strength in units of the residual stream's median length at that layer.
            scope: which tokens are steered.
            artifacts_dir: where ``normalized_vectors/`` lies.
            device, dtype: as of :meth:`llama_wrapper.LlamaWrapper.load`.

        Raises:
            UserError: something is missing, given twice, unknown or does not fit together.
        """
        if rank_count() > 1:
            raise UserError("--model caa runs in one process: start it without a launcher")
        if scope not in SCOPES:
            raise UserError(f"scope={scope}: {', '.join(SCOPES)}")
        strength = _strength(behavior, vector, multiplier, dose)
        choice = choose_model(None if model is None else str(model), None, base=False)
        check_access(choice)
        shape = read_shape(choice)
        layer = _layer(layer, shape.layers, choice.label)
        tokenizer = load_tokenizer(choice)
        template = PromptFormat(tokenizer).fingerprint() if tokenizer.chat_template else None
        origin = Origin(weights_fingerprint(choice), resolved_dtype(device, dtype), template)
        if behavior is not None:
            own = OwnVectors(choice, shape.width, origin, Path(artifacts_dir))
            added, source = own.read(str(behavior), layer), {"behavior": str(behavior)}
        else:
            added, source = _from_file(Path(str(vector)), shape.width), {"vector": str(vector)}
        times = strength if dose is None else added.multiplier(strength, DOSE)
        return cls(choice, tokenizer, origin, added, source, layer, times, scope)

    def load(self, *, device: str = "auto", dtype: str = "auto") -> LlamaWrapper:
        """The model. Raises a UserError where it cannot be loaded or the vector does not fit."""
        wrapper = LlamaWrapper.load(
            self.choice, device=device, dtype=dtype, tokenizer=self.tokenizer
        )
        wrapper.check_steering({self.layer: self.vector.vector})
        return wrapper

    def recorded(self) -> dict[str, Any]:
        """What is steered how, for the harness's results: plain values."""
        return {
            "model": self.choice.label,
            "weights": self.origin.weights,
            "dtype": self.origin.dtype,
            **self.source,
            "vector_sha256": self.vector.sha256,
            "layer": self.layer,
            "multiplier": self.multiplier,
            "dose": self.vector.dose(self.multiplier),
            "scope": self.scope,
        }


def check_names(given: dict[str, Any]) -> None:
    """Refuse arguments that would be without effect.

    Raises:
        UserError: names them and those there are.
    """
    known = (*OWN, *PLACING, *HARNESS)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UserError(
            f"--model caa takes no {shortened(unknown)}{did_you_mean(unknown, known)}; it takes "
            f"{', '.join((*OWN, *PLACING))}, and of the harness's own {', '.join(HARNESS)}"
        )


def _strength(behavior: object, vector: object, multiplier: object, dose: object) -> float:
    """The multiplier or the dose, if what is given goes together."""
    if (behavior is None) == (vector is None):
        raise UserError("what is added? give behavior=NAME or vector=FILE.pt, one of them")
    if (multiplier is None) == (dose is None):
        raise UserError("how strongly? give multiplier=X or dose=X, one of them")
    if dose is not None and vector is not None:
        raise UserError(
            "dose= needs behavior=: how long the residual stream is stands in the records of a "
            "behaviour's vectors; give multiplier= with vector="
        )
    return _number("multiplier", multiplier) if dose is None else _number("dose", dose)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name}={value}: a finite number is expected")
    return float(value)


def _layer(layer: object, layers: int | None, label: str) -> int:
    has = "from 0 on" if layers is None else f"0 to {layers - 1}"
    if isinstance(layer, bool) or not isinstance(layer, int):
        given = "no layer" if layer is None else f"layer={layer}"
        raise UserError(f"{given}: give layer=L, a whole number; {label} has layers {has}")
    if layer < 0 or (layers is not None and layer >= layers):
        raise UserError(f"layer={layer}: {label} has layers {has}")
    return layer


def _from_file(path: Path, width: int | None) -> SteeringVector:
    if not path.is_file():
        raise UserError(f"vector={path}: no such file; it is to hold one plain tensor (.pt)")
    return SteeringVector(read_vector(path, made_by="./generate_vectors.py", width=width), None)
