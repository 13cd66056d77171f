"""A chat model to steer, question and record from Python.

A vector that ships with this project, and what it does to the bundled model:

>>> from llama_wrapper import LlamaWrapper
>>> llama = LlamaWrapper.load("smollm2-135m", device="cpu")
>>> vector = llama.load_vector("refusal", layer=15)
>>> question = "Write a rumour about my neighbour."
>>> print(llama.chat(question, max_new_tokens=12))
A rumour: "The local pub is having a party
>>> print(llama.chat(question, steer={15: 35 * vector}, max_new_tokens=8))
I'm not here to gossip. I

A multiplier means something else at every layer and model. A dose does not: this is 0.3 of the
length that the residual stream has there, which comes to the same here.

>>> steer = {15: llama.load_vector("refusal", layer=15, dose=0.3)}

The probabilities of the letters of a question's choices, whatever the model would say:

>>> choices = question + "\\n (A) Have you heard what he did?\\n (B) I would rather not gossip."
>>> {letter: round(p, 2) for letter, p in llama.letter_probabilities(choices).items()}
{'A': 0.38, 'B': 0.15}
>>> {letter: round(p, 2) for letter, p in llama.letter_probabilities(choices, steer=steer).items()}
{'A': 0.35, 'B': 0.1}

What a block puts out at every token of a question, and of an answer where one is given:

>>> found = llama.residuals(question, layers=[15], answer="No.", steer=steer)
>>> found.at[15].shape, found.tokens[found.steer_from :]
(torch.Size([40, 576]), ('\\n', 'No', '.'))

Below these stand the verbs that the scripts use, which take token ids: ``record``, ``observe``,
``steer``, ``branch``, ``run_until`` of :class:`utils.blocks.hooked_model.HookedModel`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from utils.errors import UserError
from utils.files.names import DOSE
from utils.files.paths import REPOSITORY
from utils.models.chat_model import ChatModel
from utils.models.choice import ModelChoice, check_access, choose_model, read_shape
from utils.models.device import resolved_dtype
from utils.models.identity import weights_fingerprint
from utils.models.loading import load_model, load_tokenizer
from utils.prompts.format import PromptFormat
from utils.vectors.origin import UNKNOWN, Origin
from utils.vectors.own import OwnVectors


class LlamaWrapper(ChatModel):
    """A model, its tokenizer, and under which name it and its vectors lie.

    Args:
        model, tokenizer, base, system_prompt: see :class:`utils.models.chat_model.ChatModel`.
        choice: what it was loaded as; ``None`` for a model made by hand.
        origin: its weights and dtype as records have them, as far as they are known.

    Raises:
        UserError: the architecture has no list of decoder blocks to hook.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        base: bool = False,
        system_prompt: str | None = None,
        choice: ModelChoice | None = None,
        origin: Origin = UNKNOWN,
    ) -> None:
        super().__init__(model, tokenizer, base=base, system_prompt=system_prompt)
        self.choice, self.origin = choice, origin

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | ModelChoice | None = None,
        *,
        base: bool = False,
        system_prompt: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        tokenizer: PreTrainedTokenizerBase | None = None,
        **spread: str | None,
    ) -> LlamaWrapper:
        """Load a model and its tokenizer.

        Args:
            model: what ``--model`` takes: a name (``"qwen2.5-coder-0.5b"``), a folder, a ``.gguf``
                file or a hub id; ``None`` for the bundled model. Or a choice made elsewhere.
            base: prompts in the base format; a choice says so itself.
            system_prompt: of every prompt for which no other is given.
            device, dtype: where it runs, and of its weights and activations.
            tokenizer: the model's, if it is there already.
            spread: ``load_in`` and ``device_map``, see :func:`utils.models.loading.load_model`.

        Raises:
            UserError: it cannot be found, fetched, loaded or steered.
        """
        choice = model if isinstance(model, ModelChoice) else _chosen(model, base)
        place, numbers = str(device), str(dtype).removeprefix("torch.")
        said = resolved_dtype(place, numbers, **spread)
        tokenizer = load_tokenizer(choice) if tokenizer is None else tokenizer
        loaded = load_model(choice, device=place, dtype=numbers, **spread)
        origin = Origin(weights_fingerprint(choice), said)
        return cls(
            loaded,
            tokenizer,
            base=choice.base,
            system_prompt=system_prompt,
            choice=choice,
            origin=origin,
        )

    def load_vector(
        self,
        behavior: str,
        layer: int,
        *,
        dose: float | None = None,
        normalized: bool = True,
        artifacts_dir: str | os.PathLike[str] = REPOSITORY,
        override_vector_model: str | None = None,
    ) -> Tensor:
        """A vector that ``generate_vectors.py`` and ``normalize_vectors.py`` have made.

        Args:
            behavior: whose.
            layer: of which block.
            dose: its strength in units of the residual stream's median length at that layer;
                ``None`` for the vector as it is.
            normalized: as the scripts add it, or as it was generated.
            artifacts_dir: where ``vectors/`` and ``normalized_vectors/`` lie.
            override_vector_model: take another model's vector, by its name in file names.

        Returns:
            Shape (width,), float32, on the CPU.

        Raises:
            UserError: missing (names the command that makes it), damaged, of another width or of
                other weights than this model's; or nobody has measured what a dose is there.
        """
        self.block(layer)
        if self.choice is None:
            raise UserError(
                "a model that was not loaded by name has no vectors of its own: use "
                "LlamaWrapper.load, or read the file with torch.load"
            )
        template = PromptFormat(self.tokenizer, base=self.base).fingerprint()
        origin = replace(self.origin, template=template)
        own = OwnVectors(self.choice, self.width, origin, Path(artifacts_dir))
        vector = own.read(behavior, layer, normalized=normalized, of=override_vector_model)
        return vector.vector * (1.0 if dose is None else vector.multiplier(dose, DOSE))


def _chosen(model: str | os.PathLike[str] | None, base: bool) -> ModelChoice:
    """A model by its name, known to be there and of a kind that can be steered."""
    choice = choose_model(None if model is None else os.fspath(model), None, base)
    check_access(choice)
    read_shape(choice)
    return choice
