"""A prompt and what is to follow it must fit into the model, or it is refused before the work."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import FAMILIES, QUESTIONS, ROWS, make_model, make_tokenizer, make_wrapper, write_json
from running import artifacts, call

from llama_wrapper import LlamaWrapper
from utils.errors import UserError
from utils.lens.conversation import converse
from utils.prompts.checks import check_prompts
from utils.prompts.format import LetterPrompt, OpenPrompt, PromptFormat

FILE = Path("here.json")
LENGTHS = (20, 31, 25)
# learned positions, rotary ones, a window
KINDS = {"gpt2": "n_positions", "llama": "max_position_embeddings", "mistral": None}


def prompts(lengths: tuple[int, ...] = LENGTHS) -> list[OpenPrompt]:
    return [OpenPrompt(tuple(range(n)), n - 1) for n in lengths]


@pytest.mark.parametrize(("context", "new", "fits"), [(131, 100, True), (130, 100, False)])
def test_the_longest_prompt_and_the_longest_answer_decide(
    context: int, new: int, fits: bool
) -> None:
    if fits:
        check_prompts(prompts(), context, FILE, max_new_tokens=new)
        return
    with pytest.raises(UserError) as raised:
        check_prompts(prompts(), context, FILE, max_new_tokens=new)
    for part in ("here.json, item 2", "31 tokens", "--max_new_tokens 100", "130", "99 at most"):
        assert part in str(raised.value)
    check_prompts(prompts(), context, FILE, max_new_tokens=99)


@pytest.mark.parametrize("new", [None, 1, 100])
def test_a_prompt_that_alone_is_too_long_is_named_first(new: int | None) -> None:
    with pytest.raises(UserError, match=r"item 2 makes a prompt of 31 tokens; the model takes 31"):
        check_prompts(prompts(), 31, FILE, max_new_tokens=new)


def test_a_letter_needs_one_more_token_and_an_unknown_context_is_no_limit() -> None:
    letters = [LetterPrompt(tuple(range(n)), n - 1, {"A": 1, "B": 2}) for n in LENGTHS]
    assert check_prompts(letters, 32, FILE) == {}
    assert check_prompts(prompts(), None, FILE, max_new_tokens=10**9) == {}
    assert check_prompts([], 5, FILE, max_new_tokens=5) == {}


def model_folder(family: str, context: int, folder: Path) -> Path:
    changes = {KINDS[family] or "max_position_embeddings": context}
    make_model(family, **changes).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", KINDS)
def test_the_script_refuses_it_before_the_work_and_takes_what_it_names(
    family: str, datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPT-2 has no position beyond its last; the others would go on with nonsense."""
    assert family in FAMILIES
    rows = [{"question": q} for q in QUESTIONS[:3]]
    data = write_json(datasets / "test/calm/test_dataset_open_ended.json", rows)
    formatted = PromptFormat(make_tokenizer())
    longest = max(len(formatted.open_prompt(row["question"]).ids) for row in rows)
    model = model_folder(family, longest + 6, tmp_path / "model")
    options = ["--type", "open_ended", "--layers", 1, "--multipliers", 0, "--behaviors", "calm"]
    options += ["--model", model, "--datasets_dir", datasets, "--artifacts_dir", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr(LlamaWrapper, "load", lambda *_a, **_k: pytest.fail("the model was loaded"))
        with pytest.raises(UserError) as raised:
            call("prompting_with_steering", *options)
    for part in (str(data), f"{longest} tokens", "give --max_new_tokens 6 at most"):
        assert part in str(raised.value)
    assert call("prompting_with_steering", *options, "--max_new_tokens", 6) == 0
    assert len(artifacts(tmp_path / "out" / "results")) == 1
    with pytest.raises(UserError, match="give --max_new_tokens 6 at most"):
        call("prompting_with_steering", *options, "--max_new_tokens", 7)


def test_letters_need_no_room_for_an_answer(datasets: Path, tmp_path: Path) -> None:
    formatted = PromptFormat(make_tokenizer())
    asked = [row["question"] for row in ROWS[:6]]
    longest = max(len(formatted.letter_prompt(q, ("A", "B")).ids) for q in asked)
    model = model_folder("gpt2", longest + 1, tmp_path / "model")
    options = ["--layers", 1, "--multipliers", 0, "--behaviors", "calm", "--model", model]
    options += ["--datasets_dir", datasets, "--artifacts_dir", tmp_path / "out"]
    assert call("prompting_with_steering", *options) == 0


def test_a_conversation_beyond_the_context_is_refused() -> None:
    wrapper = make_wrapper("gpt2", n_positions=40)
    length = len(wrapper.prompt_format().open_prompt(QUESTIONS[4]).ids)
    assert len(converse(wrapper, QUESTIONS[4], max_new_tokens=40 - length).ids) <= 40
    with pytest.raises(UserError, match=rf"beyond the 40 .*max_new_tokens={40 - length} at most"):
        converse(wrapper, QUESTIONS[4], max_new_tokens=41 - length)
