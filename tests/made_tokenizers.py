"""Tokenizers made here that do as published ones do, or as none does yet."""

from __future__ import annotations

from chat_templates import QUESTION
from conftest import CHATML, LLAMA2, make_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast


def llama_like_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2's, from SentencePiece: a space is part of the token that follows it.

    test_real_tokenizers compares the end of a prompt with the real one's.
    """
    pieces = ["<unk>", "<s>", "</s>", "▁", "▁(", "(", ")", "A", "B", "▁(A", "[", "]", "/", "▁["]
    pieces += sorted(set(QUESTION + "INSTSYS<>/beWordslicyp.▁\n") - set(pieces))
    pieces += ["IN", "ST", "INST"]
    merges = [("▁", "("), ("I", "N"), ("S", "T"), ("IN", "ST"), ("▁", "[")]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.decoder = decoders.Replace("▁", " ")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = LLAMA2
    return tokenizer


def ending_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a beginning and an end around every text."""
    tokenizer = make_tokenizer(template)
    around = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.backend_tokenizer.post_processor = around
    return tokenizer


def merging_tokenizer(*merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    """Single characters and what these merges make of them.

    With ``(A`` and ``(B``: the case of Llama 3, Qwen 3, DeepSeek V3 and gpt-oss. Of the other
    merges no published tokenizer is known here.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate([*alphabet, *("".join(m) for m in merges)])}
    core = Tokenizer(models.BPE(vocabulary, list(merges)))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    tokenizer.chat_template = CHATML
    return tokenizer
