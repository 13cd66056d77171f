"""Which architectures cannot be steered, by name and with the reason.

A decoder-only model that is in no list here is tried: its blocks are looked for when it is
loaded, and its fast way is compared with its slow way before it is trusted.
"""

from __future__ import annotations

from utils.errors import UserError

_ENCODER = "it is an encoder, no decoder-only language model"
_BOTH = "it is an encoder with a decoder, no decoder-only language model"
_RECURRENT = "a recurrent model does not tell its blocks at which position a token stands"
_ORDER = "it does not read from left to right through one list of blocks"
_STREAMS = "its blocks hand on several residual streams, not one"
_IMAGE = "it does not run without an image"

_ENCODERS = (
    *("albert", "bert", "bert-generation", "big_bird", "camembert", "clip", "data2vec-text"),
    *("deberta", "deberta-v2", "distilbert", "electra", "ernie", "megatron-bert", "modernbert"),
    *("nomic-bert", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer"),
    *("siglip", "vit", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)
_ENCODER_DECODERS = (
    *("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "led", "m2m_100", "marian"),
    *("mbart", "mt5", "mvp", "pegasus", "plbart", "prophetnet", "t5", "t5encoder", "t5gemma"),
    *("trocr", "umt5", "whisper", "florence2", "pix2struct", "pp_formulanet", "t5gemma2", "udop"),
    "vision-encoder-decoder",
)
_OF_IMAGES = ("blip", "blip-2", "evolla", "idefics", "instructblip", "instructblipvideo", "pi0")
_BOTH_WAYS = ("cpmant", "diffusion_gemma", "hrm_text", "paligemma", "reformer", "xlm", "xlnet")
REFUSED = {
    **dict.fromkeys(_ENCODERS, _ENCODER),
    **dict.fromkeys(_ENCODER_DECODERS, _BOTH),
    **dict.fromkeys(("falcon_mamba", "mamba", "mamba2", "rwkv", "rwkv6", "xlstm"), _RECURRENT),
    **dict.fromkeys(_BOTH_WAYS, _ORDER),
    **dict.fromkeys(("gemma3n", "gemma3n_text"), _STREAMS),
    **dict.fromkeys(_OF_IMAGES, _IMAGE),
}
# The usual ones, whose configs have the plain names: for these nobody has to wait until
# transformers is imported.
PLAIN = (
    *("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3"),
    *("gemma3_text", "phi3", "gpt_neox"),
)


def check_architecture(kind: str, where: str) -> None:
    """Check that a model type of transformers is a decoder-only language model, or has one.

    Args:
        kind: ``model_type`` of a ``config.json``.
        where: whose it is, for the message.

    Raises:
        UserError: it cannot be steered, or transformers does not know it.
    """
    refuse_by_name(kind, where)
    if kind in PLAIN:
        return
    from transformers import __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    # a wrapper around a language model, which alone is run
    if kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return
    if kind in CONFIG_MAPPING_NAMES:
        reason = f"transformers {__version__} has no causal language model of that name"
    else:
        reason = (
            f"transformers {__version__} does not know it (a newer version may; code that comes "
            "with a model is not run)"
        )
    raise UserError(f"{where}: architecture {kind!r} cannot be steered: {reason}")


def refuse_by_name(kind: str, where: str) -> None:
    """Check one name, of transformers or of a GGUF file, against the lists here.

    Raises:
        UserError: it cannot be steered.
    """
    if kind in REFUSED:
        raise UserError(f"{where}: architecture {kind!r} cannot be steered: {REFUSED[kind]}")
