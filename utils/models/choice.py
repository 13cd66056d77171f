"""Which model: from the command line to something that can be loaded, without loading it.

Nothing here imports torch (but for a ``.gguf`` header or an architecture that is not one of the
usual), so that a wrong name, a missing token or a layer that the model does not have is found
within a second.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.blocks.architectures import refuse_by_name
from utils.errors import UserError
from utils.files.env_file import read_env_files
from utils.files.paths import REPOSITORY
from utils.models.config import read_numbers
from utils.weights.gguf_conversion import known_folder
from utils.weights.gguf_header import read_gguf_header
from utils.weights.named import BUNDLED, NAMED_MODELS, NamedModel, find_named, suggestion

LLAMA_LAYERS = {"7b": 32, "13b": 40, "70b": 80}
LLAMA_WIDTH = {"7b": 4096, "13b": 5120, "70b": 8192}
BUNDLED_LABEL = BUNDLED.label
LLAMA_CONTEXT = 4096


@dataclass(frozen=True)
class ModelChoice:
    """A model as the user named it.

    Attributes:
        source: hub id, local folder, ``.gguf`` file, or name of a named model.
        label: the last part of its name, as it stands in file names.
        size: ``7b``, ``13b`` or ``70b`` for the Llama 2 family, else ``None``.
        base: base prompt format (``Input: … Response: …``) instead of the chat template.
        weights: finetuned weights to load on top (``--override_model_weights_path``): a file,
            or the folder of a LoRA adapter.
        named: the row of a named model.
        keep_converted: a GGUF file is converted once and the copy kept; else it is parsed anew.
    """

    source: str
    label: str
    size: str | None = None
    base: bool = False
    weights: Path | None = None
    named: NamedModel | None = None
    keep_converted: bool = True

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file of the user's own."""
        return self.named is None and self.source.endswith(".gguf")

    def result_parts(self) -> dict[str, Any]:
        """The parts of a result's name that say which model it is of."""
        if self.size is not None:
            parts: dict[str, Any] = {"use_base_model": self.base, "model_size": self.size}
        else:
            parts = {"model": self.label}
        if self.weights is not None:
            folder = self.weights.is_dir()
            parts["override_model_weights_path"] = (
                self.weights.name if folder else self.weights.stem
            )
        return parts


@dataclass(frozen=True)
class ModelShape:
    """Decoder blocks, width of the residual stream, longest input; ``None`` where unknown."""

    layers: int | None
    width: int | None
    context: int | None = None


def choose_model(
    model: str | None,
    size: str | None,
    base: bool,
    weights: str | None = None,
    *,
    keep_converted: bool = True,
) -> ModelChoice:
    """Turn ``--model``, ``--model_size`` and ``--use_base_model`` into one choice.

    Raises:
        UserError: contradicting options, a path that does not exist, or a missing weights file.
    """
    if model is not None and size is not None:
        raise UserError("--model and --model_size name two models; give one of them")
    weights_path = None if weights is None else Path(weights)
    if weights_path is not None and not (weights_path.is_file() or is_adapter(weights_path)):
        raise UserError(f"--override_model_weights_path: no such file or adapter: {weights_path}")
    if size is not None:
        name = f"Llama-2-{size}-hf" if base else f"Llama-2-{size}-chat-hf"
        return ModelChoice(f"meta-llama/{name}", name, size, base, weights_path)
    name = BUNDLED.name if model is None else model
    named = find_named(name)
    source, label = _checked_source(name) if named is None else (named.name, named.label)
    # The same weights under the base prompt format are another experiment: keep the files apart.
    label = f"{label}_base" if base else label
    return ModelChoice(source, label, None, base, weights_path, named, keep_converted)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter as peft writes it."""
    return (folder / "adapter_config.json").is_file()


def _checked_source(model: str) -> tuple[str, str]:
    path = Path(model).expanduser()
    if model.endswith(".gguf"):
        if not path.is_file():
            raise UserError(f"no such file: {path}")
        return str(path), path.stem
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"model folder {path} holds no config.json, so no model")
        return str(path), path.resolve().name
    looks_like_path = model.startswith((".", "/", "~")) or model.count("/") > 1
    if looks_like_path or path.is_file():
        raise UserError(
            f"{model} is neither a model folder nor a .gguf file "
            "(a hub model is named like HuggingFaceTB/SmolLM2-135M-Instruct)"
        )
    if "/" not in model and (meant := suggestion(model)):
        raise UserError(f"no model is called {model}; did you mean {meant}?")
    return model, model.rsplit("/", 1)[-1]


def hub_token() -> str | None:
    """The Hugging Face token: ``HF_TOKEN`` of the environment, of ``.env``, or a stored login.

    Raises:
        UserError: a ``.env`` that cannot be read.
    """
    from huggingface_hub import get_token

    if not os.environ.get("HF_TOKEN"):
        for variables in read_env_files((Path.cwd(), REPOSITORY)):
            if "HF_TOKEN" in variables:
                return variables["HF_TOKEN"]
    return get_token()


def check_access(choice: ModelChoice) -> None:
    """Stop early if a gated model has no token (Llama 2 not yet in the local hub cache).

    Raises:
        UserError: says what to put where.
    """
    if choice.size is None:
        return
    from huggingface_hub import try_to_load_from_cache

    if hub_token() or isinstance(try_to_load_from_cache(choice.source, "config.json"), str):
        return
    raise UserError(
        f"{choice.source} needs a Hugging Face token: accept its licence on the hub, then put\n"
        f"  HF_TOKEN=hf_...\n"
        f"into {REPOSITORY / '.env'} (copy .env.example) or into the environment.\n"
        "Without --model_size the bundled model is used, which needs no account."
    )


def read_shape(choice: ModelChoice) -> ModelShape:
    """Layers and width without loading weights.

    Raises:
        UserError: a config that cannot be had or read, or an architecture that cannot be steered.
    """
    if choice.named is not None:
        return ModelShape(choice.named.layers, choice.named.width, choice.named.context)
    if choice.size is not None:
        return ModelShape(LLAMA_LAYERS[choice.size], LLAMA_WIDTH[choice.size], LLAMA_CONTEXT)
    if choice.is_gguf:
        return _gguf_shape(Path(choice.source))
    folder = Path(choice.source)
    folder = folder if folder.is_dir() else hub_snapshot(choice)
    return ModelShape(*read_numbers(folder / "config.json", choice.source)[:3])


def hub_snapshot(choice: ModelChoice) -> Path:
    """The hub cache's folder of the model's current revision; it holds at least the config.

    Raises:
        UserError: no such model, no access, or no network and not in the cache.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    cached = try_to_load_from_cache(choice.source, "config.json")
    if isinstance(cached, str):
        return Path(cached).parent
    try:
        return Path(hf_hub_download(choice.source, "config.json", token=hub_token())).parent
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"model {choice.source} is not in the local hub cache, and the hub cannot be reached; "
            f"without a hub there are: {', '.join(row.name for row in NAMED_MODELS)}"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model {choice.source}: {reason}") from error


def _gguf_shape(path: Path) -> ModelShape:
    folder = known_folder(path)
    if folder is not None:
        return ModelShape(*read_numbers(folder / "config.json", str(path))[:3])
    header = read_gguf_header(path)
    architecture = header.architecture
    refuse_by_name(architecture, str(path))
    # transformers is slower to import than the rest of this module, but it knows which
    # architectures its loader takes.
    from transformers.integrations.gguf.utils import is_gguf_arch_supported
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    if not (architecture in GGUF_SUPPORTED_ARCHITECTURES or is_gguf_arch_supported(architecture)):
        raise UserError(f"{path}: GGUF architecture {architecture!r} cannot be loaded and steered")
    names = ("block_count", "embedding_length", "context_length")
    return ModelShape(*(header.metadata.get(f"{architecture}.{name}") for name in names))
