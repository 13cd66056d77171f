"""An answer ends at what the generation config, the tokenizer or the template calls its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_templates import chatml
from conftest import CHATML, make_model, make_tokenizer, make_wrapper, write_json
from grids import open_prompts, steers_of, texts
from made_tokenizers import ending_tokenizer
from running import call
from small_gguf import write_gguf
from transformers import GenerationConfig, PreTrainedTokenizerBase

from llama_wrapper import LlamaWrapper
from utils.files.contents import read_record
from utils.lens.conversation import converse
from utils.models.choice import choose_model
from utils.models.loading import load_end_tokens, load_model, load_tokenizer
from utils.prompts.end_tokens import EndTokens, template_end
from utils.steering.decoding import GreedyGrid

NEW, START, END = 14, 2, 3
ASSISTANT = "<|im_start|>assistant\n"


def closing(after: str) -> str:
    """ChatML in which this, in jinja, stands after an answer."""
    return chatml(answer="{{ '" + ASSISTANT + "' + m['content'] }}" + after)


def spoken(token: int = START) -> LlamaWrapper:
    """A model that says a special token in the middle of its answers."""
    wrapper = make_wrapper("llama")
    plain = texts(GreedyGrid(wrapper, open_prompts(wrapper), [None], max_new_tokens=NEW, slow=True))
    common = max(range(4, 400), key=lambda t: sum(t in a[2:-2] for row in plain for a in row))
    head = wrapper.model.get_output_embeddings().weight
    with torch.no_grad():
        head[token] = 1.02 * head[common]
    return wrapper


def name_it(wrapper: LlamaWrapper, place: str) -> None:
    """Let one place alone name ``<|im_start|>`` as the end, and the others another token."""
    wrapper.model.generation_config.eos_token_id = START if place == "config" else 0
    wrapper.tokenizer.eos_token = "<|im_start|>" if place == "tokenizer" else "<s>"
    after = "{{ '\n<|im_start|>' }}" if place == "template" else ""
    wrapper.tokenizer.chat_template = closing(after)


@pytest.mark.parametrize("place", ["config", "tokenizer", "template"])
@pytest.mark.parametrize("slow", [False, True])
def test_answers_end_at_the_token_that_one_place_alone_names(place: str, slow: bool) -> None:
    wrapper = spoken()
    options: dict[str, Any] = {"max_new_tokens": NEW, "slow": slow}
    name_it(wrapper, "nobody")
    prompts, steers = open_prompts(wrapper)[:4], steers_of(wrapper)[:3]
    on = texts(GreedyGrid(wrapper, prompts, steers, **options))
    name_it(wrapper, place)
    found = texts(GreedyGrid(wrapper, prompts, steers, **options))
    cut = 0
    for answers, wholes in zip(found, on, strict=True):
        for tokens, whole in zip(answers, wholes, strict=True):
            at = whole.index(START) + 1 if START in whole else len(whole)
            assert tokens == whole[:at]
            cut += at < len(whole)
    assert cut > 1, "no answer went on past its end: the test shows nothing"


@pytest.mark.parametrize("place", ["config", "tokenizer", "template"])
def test_an_answer_that_is_looked_at_ends_there_too(place: str) -> None:
    wrapper = spoken()
    question = next(
        q
        for q in ("Is it raining?", "Is it?", "Why is that so?", "What is the moon made of?")
        if START in converse(wrapper, q, max_new_tokens=NEW).ids[-NEW:-1]
    )
    name_it(wrapper, place)
    found = converse(wrapper, question, max_new_tokens=NEW)
    answer = found.ids[found.answer_from :]
    assert answer[-1] == START and answer.count(START) == 1 and len(answer) < NEW


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, END),
        (closing(""), None),
        (closing("{{ '\n' }}"), None),
        (closing("{{ '\n\n### End\n' }}"), None),
        (closing("{{ ' ' + eos_token }}"), END),
        (closing("{{ '\nover.</s>\n<|im_start|>' }}"), 1),
        (closing("{{ '</s><|im_end|>' }}"), 1),
        # Llama 3's own: a generation prompt whether it is asked for or not
        (chatml(generation="") + "{{ '<|im_start|>assistant\n' }}", END),
        # the answer is not shown as it is, or not at all
        (chatml(answer="{{ m['content'] | upper + '<|im_end|>' }}"), None),
        (chatml(answer="{{ raise_exception('user only') }}"), None),
        # in a thinking block, and after it
        (
            closing("").replace(
                "m['content'] }}", "m['content'] + '<s>' + m['content'] + '</s>'}}"
            ),
            1,
        ),
    ],
)
def test_the_first_special_token_after_an_answer_is_the_templates_end(
    template: str, expected: int | None
) -> None:
    assert template_end(make_tokenizer(template)) == expected


def test_a_tokenizer_that_ends_every_text_puts_no_end_into_the_template() -> None:
    assert template_end(ending_tokenizer(closing(""))) is None


@pytest.mark.parametrize(
    ("configured", "base", "expected"),
    [
        (None, False, {3: ["tokenizer"], 1: ["chat template"]}),
        (3, False, {3: ["generation config", "tokenizer"], 1: ["chat template"]}),
        ([0, 1], False, {0: ["generation config"], 1: ["generation config", "chat template"]}),
        ([0, 1], True, {0: ["generation config"], 1: ["generation config"]}),
    ],
)
def test_every_place_is_named(
    configured: Any, base: bool, expected: Mapping[int, list[str]]
) -> None:
    tokenizer = make_tokenizer(closing("{{ '</s>' }}"))
    found = EndTokens.of(tokenizer, GenerationConfig(eos_token_id=configured), base=base)
    assert {i: places for i, places in found.places.items() if i in expected} == expected
    assert found.places.keys() == expected.keys() | {3}, "the tokenizer's is always one"
    assert set(found.inputs().get("end_tokens", found.places)) == set(found.places)
    beyond = any("generation config" not in places for places in found.places.values())
    assert bool(found.inputs()) == beyond


def test_a_tokenizer_without_a_template_or_an_end_has_none() -> None:
    tokenizer = make_tokenizer(None)
    tokenizer.eos_token = None
    found = EndTokens.of(tokenizer, GenerationConfig(), base=False)
    assert found.places == {} and found.inputs() == {}
    assert "at no token" in found.shown(tokenizer)


# ---------------------------------------------------------------- by the scripts


@pytest.fixture
def questions(datasets: Path) -> Path:
    rows = [{"question": q} for q in ("Is it raining?", "Why?", "What is the moon made of?")]
    write_json(datasets / "test/calm/test_dataset_open_ended.json", rows)
    return datasets


def folder_of(wrapper: LlamaWrapper, folder: Path) -> Path:
    wrapper.model.save_pretrained(folder)
    wrapper.tokenizer.save_pretrained(folder)
    return folder


def answers_of(model: Path, data: Path, out: Path, *more: object) -> tuple[Any, Any]:
    """Rows and record of unsteered answers."""
    options = ["--type", "open_ended", "--layers", 1, "--multipliers", 0, "--behaviors", "calm"]
    options += ["--model", model, "--datasets_dir", data, "--artifacts_dir", out]
    assert call("prompting_with_steering", *options, "--max_new_tokens", NEW, *more) == 0
    (path,) = out.glob("results/calm/*.json")
    return json.loads(path.read_text()), read_record(path)


def test_what_runs_on_is_cut_and_in_the_record_and_what_did_not_is_as_before(
    questions: Path, tmp_path: Path
) -> None:
    wrapper = spoken(token=END)
    same = folder_of(wrapper, tmp_path / "same")
    rows, record = answers_of(same, questions, tmp_path / "a")
    assert "end_tokens" not in record["inputs"], "the records that there are must stay"
    # the template's end of a turn is not what the generation config and the tokenizer name
    wrapper.model.generation_config.eos_token_id = 0
    wrapper.tokenizer.eos_token = "<s>"
    other = folder_of(wrapper, tmp_path / "other")
    found, record = answers_of(other, questions, tmp_path / "b")
    assert record["inputs"]["end_tokens"] == [0, END]
    assert found == rows
    ended = [row["raw_model_output"].split(ASSISTANT)[1].partition("<|im_end|>") for row in found]
    assert any(end for _, end, _ in ended) and not any(after for _, _, after in ended)


def test_an_end_that_the_tokenizer_does_not_call_special_is_not_in_the_answer(
    questions: Path, tmp_path: Path
) -> None:
    wrapper = spoken(token=300)
    name = wrapper.tokenizer.convert_ids_to_tokens(300)
    tokenizer = wrapper.tokenizer
    tokenizer.add_tokens(["<turn>"])
    with torch.no_grad():
        wrapper.model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        head = wrapper.model.get_output_embeddings().weight
        head[-1], head[300] = head[300].clone(), 0.0
    tokenizer.chat_template = closing("{{ '<turn>' }}")
    folder = folder_of(wrapper, tmp_path / "model")
    rows, _ = answers_of(folder, questions, tmp_path / "out")
    assert any(row["raw_model_output"].endswith("<turn>") for row in rows), name
    assert not any("<turn>" in row["model_output"] for row in rows)


@pytest.mark.parametrize("base", [False, True])
def test_show_tokens_names_the_ends_of_answers(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], base: bool
) -> None:
    folder = tmp_path / "model"
    make_model("llama", eos_token_id=0).save_pretrained(folder)
    make_tokenizer(closing("{{ '</s>' }}")).save_pretrained(folder)
    options = ["--type", "open_ended", "--layers", 1, "--multipliers", 0, "--behaviors", "calm"]
    options += ["--model", folder, "--datasets_dir", questions, "--artifacts_dir", tmp_path / "a"]
    options += ["--show_tokens", *(["--use_base_model"] if base else [])]
    assert call("prompting_with_steering", *options) == 0
    lines = [x for x in capsys.readouterr().out.splitlines() if "answers end at" in x]
    expected = [
        "answers end at token 0 '<s>' (generation config)",
        "answers end at token 3 '<|im_end|>' (tokenizer)",
        "answers end at token 1 '</s>' (chat template)",
    ]
    assert [line.strip() for line in lines] == expected[: 2 if base else 3]


@pytest.mark.parametrize("kind", ["folder", "no generation config", "gguf", "converted gguf"])
def test_the_ends_are_known_before_the_model_is_loaded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path / "cache"))
    if "gguf" in kind:
        source, keep = write_gguf(tmp_path / "tiny.gguf"), kind != "gguf"
    else:
        source, keep = tmp_path / "model", True
        model = make_model("llama", eos_token_id=[0, 1])
        assert model.generation_config is not None
        model.generation_config.eos_token_id = [1, 2]
        model.save_pretrained(source)
        make_tokenizer().save_pretrained(source)
        if kind != "folder":
            (source / "generation_config.json").unlink()
    choice = choose_model(str(source), None, False, keep_converted=keep)
    tokenizer: PreTrainedTokenizerBase = load_tokenizer(choice)
    before = load_end_tokens(choice, tokenizer)
    loaded = load_model(choice, device="cpu").generation_config
    assert before == EndTokens.of(tokenizer, loaded, base=False)
    expected = {"folder": [1, 2], "no generation config": [0, 1]}.get(kind, [1, 3])
    assert [i for i, p in before.places.items() if "generation config" in p] == (
        expected if "gguf" not in kind else [3, 1]
    )
