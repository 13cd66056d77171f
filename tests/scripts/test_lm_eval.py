"""lm-evaluation-harness on a steered model, against sequences run one at a time by transformers.

The oracles know nothing of this project: transformers' model, a plain forward hook, no padding.
Skipped where the harness is not installed; ``make test-lm-eval`` runs them.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import QUESTIONS, decoded, make_tokenizer
from one_sequence import Oracle
from transformers import AutoModelForCausalLM, PreTrainedModel

from llama_wrapper import LlamaWrapper
from utils.cli import script
from utils.errors import UserError

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

import caa_lm_eval

if TYPE_CHECKING:
    from utils.harness.caa_model import CaaLM

LAYER, TIMES = 1, 3.0
ENDINGS = ["A", "B", " yes, it is so.", " no", " why do you ask?"]
PAIRS = [(question, ending) for question in QUESTIONS[:5] for ending in ENDINGS]


@pytest.fixture(scope="module")
def vector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vector") / "vector.pt"
    torch.save(torch.randn(32, generator=torch.Generator().manual_seed(5)), path)
    return path


@pytest.fixture(scope="module")
def plain(tiny_folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(tiny_folder).eval()


@pytest.fixture(scope="module")
def oracle(plain: PreTrainedModel, vector: Path) -> Oracle:
    return Oracle(plain, LAYER, TIMES * torch.load(vector))


@pytest.fixture(scope="module")
def make(tiny_folder: Path, vector: Path) -> Any:
    def make(**changes: Any) -> CaaLM:
        caa_lm_eval.register()
        given = {"model": str(tiny_folder), "vector": str(vector), "layer": LAYER}
        return get_model("caa")(**(given | {"multiplier": TIMES, "device": "cpu"} | changes))

    return make


def asked(kind: str, *arguments: Any) -> list[Instance]:
    return [Instance(kind, {}, tuple(a), i) for i, a in enumerate(arguments)]


def scored(model: Any, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
    return model.loglikelihood(asked("loglikelihood", *pairs), disable_tqdm=True)


def written(model: Any, texts: Sequence[str], **options: Any) -> list[str]:
    wanted: dict[str, Any] = {"until": [], "max_gen_toks": 12, "do_sample": False} | options
    return model.generate_until(
        asked("generate_until", *((text, dict(wanted)) for text in texts)), disable_tqdm=True
    )


def close(found: Sequence[tuple[float, bool]], expected: Sequence[tuple[float, bool]]) -> bool:
    assert [g for _, g in found] == [g for _, g in expected]
    numbers = [[number for number, _ in answers] for answers in (found, expected)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)
    return True


def tokens_of(pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], int]]:
    """Of each pair the tokens of the whole text, and how many of them are the context's."""
    tokenizer = make_tokenizer()
    return [(tokenizer(a + b)["input_ids"], len(tokenizer(a)["input_ids"])) for a, b in pairs]


def expected_of(oracle: Oracle, scope: str) -> list[tuple[float, bool]]:
    return [
        oracle.log_likelihood(ids, len(ids) - context, 0 if scope == "all" else context - 1)
        for ids, context in tokens_of(PAIRS)
    ]


# ---------------------------------------------------------------- log-likelihoods


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("logits_cache", [True, False])
@pytest.mark.parametrize("scope", ["continuation", "all"])
def test_log_likelihoods_are_those_of_one_sequence_at_a_time(
    make: Any, oracle: Oracle, scope: str, logits_cache: bool, batch_size: int
) -> None:
    model = make(scope=scope, batch_size=batch_size, logits_cache=logits_cache)
    lengths = {len(ids) - context for ids, context in tokens_of(PAIRS)}
    assert 1 in lengths and len(lengths) > 2, "one token, and several"
    assert close(scored(model, PAIRS), expected_of(oracle, scope))


def test_the_scopes_and_the_unsteered_model_differ(oracle: Oracle, plain: PreTrainedModel) -> None:
    some = expected_of(oracle, "continuation")
    for other in (expected_of(oracle, "all"), expected_of(Oracle(plain, LAYER, None), "all")):
        assert all(abs(a - b) > 1e-2 for (a, _), (b, _) in zip(some, other, strict=True))


def test_an_automatic_batch_size_changes_no_number(make: Any, oracle: Oracle) -> None:
    model = make(batch_size="auto", max_batch_size=8)
    assert close(scored(model, PAIRS), expected_of(oracle, "continuation"))


@pytest.mark.parametrize("logits_cache", [True, False])
def test_the_same_tokens_split_elsewhere_are_steered_from_elsewhere(
    make: Any, oracle: Oracle, logits_cache: bool
) -> None:
    model = make(batch_size=8, logits_cache=logits_cache)
    # the harness would run one row for the first two, and two rows of equal tokens for the others
    # (0 is what it pads with)
    splits = [([9, 20, 30], [40, 50]), ([9, 20, 30, 40], [60]), ([9, 20], [0, 7]), ([9], [20, 8])]
    found = model._loglikelihood_tokens([(None, a, b) for a, b in splits], disable_tqdm=True)
    expected = [oracle.log_likelihood(a + b, len(b), len(a) - 1) for a, b in splits]
    assert close(found, expected)


def test_a_text_cut_from_the_left_is_steered_at_the_same_tokens(make: Any, oracle: Oracle) -> None:
    model = make(batch_size=4, max_length=20)
    whole = tokens_of(PAIRS)
    assert any(len(ids) > 21 for ids, _ in whole) and any(len(ids) < 21 for ids, _ in whole)
    expected = []
    for ids, context in whole:
        row, number = ids[-21:], len(ids) - context
        expected.append(oracle.log_likelihood(row, number, len(row) - number - 1))
    assert close(scored(model, PAIRS), expected)


def test_a_rolling_text_is_steered_from_its_prefix_on(make: Any, oracle: Oracle) -> None:
    model = make(batch_size=2)
    texts = [QUESTIONS[4], QUESTIONS[6], QUESTIONS[0]]
    found = model.loglikelihood_rolling(
        asked("loglikelihood_rolling", *((text,) for text in texts)), disable_tqdm=True
    )
    rows = [[0, *make_tokenizer()(text)["input_ids"]] for text in texts]
    assert found == pytest.approx(
        [oracle.log_likelihood(row, len(row) - 1, 0)[0] for row in rows], abs=1e-5
    )


# ---------------------------------------------------------------- the harness's own models


def test_multiplier_0_is_the_harness_own_model_to_the_last_bit(
    make: Any, tiny_folder: Path
) -> None:
    own = get_model("hf")(pretrained=str(tiny_folder), device="cpu", batch_size=4)
    model = make(multiplier=0, batch_size=4)
    assert scored(model, PAIRS) == scored(own, PAIRS)
    assert written(model, QUESTIONS) == written(own, QUESTIONS)


def test_scope_all_is_the_harness_own_steering(
    make: Any, tiny_folder: Path, vector: Path, tmp_path: Path
) -> None:
    place = {"action": "add", "steering_coefficient": TIMES, "bias": None, "head_index": None}
    hook = {f"layers.{LAYER}": place | {"steering_vector": torch.load(vector)}}
    torch.save(hook, tmp_path / "hooks.pt")
    own = get_model("steered")(
        pretrained=str(tiny_folder),
        steer_path=str(tmp_path / "hooks.pt"),
        device="cpu",
        batch_size=4,
    )
    model = make(scope="all", batch_size=4)
    assert close(scored(model, PAIRS), scored(own, PAIRS))
    assert written(model, QUESTIONS) == written(own, QUESTIONS)


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("scope", ["continuation", "after_instruction"])
def test_answers_are_the_front_doors(make: Any, tiny_folder: Path, scope: str) -> None:
    model = make(scope=scope, batch_size=4)
    chats = [model.apply_chat_template([{"role": "user", "content": q}]) for q in QUESTIONS]
    wrapper = LlamaWrapper.load(tiny_folder, device="cpu")
    steer = {LAYER: TIMES * model.request.vector.vector}
    expected = [wrapper.chat(q, steer=steer, max_new_tokens=12) for q in QUESTIONS]
    assert [text.strip() for text in written(model, chats)] == expected
    assert expected != [wrapper.chat(q, max_new_tokens=12) for q in QUESTIONS]


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("scope", ["continuation", "all"])
def test_answers_are_those_of_one_prompt_at_a_time_even_cut_from_the_left(
    make: Any, oracle: Oracle, scope: str, batch_size: int
) -> None:
    model = make(scope=scope, batch_size=batch_size, max_length=30)
    tokenizer, expected = make_tokenizer(), []
    for question in QUESTIONS:
        ids = tokenizer(question)["input_ids"][-18:]
        new = oracle.greedy(ids, 0 if scope == "all" else len(ids) - 1, 12, 3)
        expected.append(decoded(tokenizer, new, skip_special_tokens=True))
    assert written(model, QUESTIONS) == expected


def test_beams_are_steered_like_their_prompt(make: Any) -> None:
    texts, beams = QUESTIONS[:4], {"num_beams": 3}
    found = written(make(batch_size=4), texts, **beams)
    assert found == written(make(batch_size=1), texts, **beams)
    assert found != written(make(multiplier=0), texts, **beams)


# ---------------------------------------------------------------- from the instruction's end on


def conversation(model: Any, question: str, prefix: str) -> str:
    """Two turns, the answer to the second begun."""
    turns = [
        ("user", QUESTIONS[0]),
        ("assistant", "No."),
        ("user", question),
        ("assistant", prefix),
    ]
    messages = [{"role": role, "content": text} for role, text in turns]
    return model.apply_chat_template(messages, add_generation_prompt=False)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_steering_begins_at_the_end_of_the_latest_instruction(
    make: Any, oracle: Oracle, batch_size: int
) -> None:
    model = make(scope="after_instruction", batch_size=batch_size)
    pairs = [(conversation(model, q, "I say:"), e) for q in QUESTIONS[1:4] for e in ENDINGS]
    opening = "<|im_start|>assistant\n"
    expected, lead = [], []
    for (text, _), (ids, context) in zip(pairs, tokens_of(pairs), strict=True):
        head = text[: text.rindex(opening) + len(opening)]
        first = len(make_tokenizer()(head)["input_ids"]) - 1
        lead.append(context - 1 - first)
        expected.append(oracle.log_likelihood(ids, len(ids) - context, first))
    assert min(lead) > 1, "the begun answer is steered too"
    assert close(scored(model, pairs), expected)


def test_a_line_break_that_ends_the_instruction_is_where_steering_begins(
    make: Any, oracle: Oracle
) -> None:
    # the harness scores white space at the end of a context with the continuation
    model = make(scope="after_instruction", batch_size=4)
    format = LlamaWrapper(oracle.model, make_tokenizer()).prompt_format()
    chats = [model.apply_chat_template([{"role": "user", "content": q}]) for q in QUESTIONS]
    found = scored(model, [(chat, "Yes, it is.") for chat in chats])
    expected = []
    for question in QUESTIONS:
        told = format.answered(question, "Yes, it is.")
        after_break = len(told.ids) - told.answer_from
        expected.append(oracle.log_likelihood(told.ids, after_break + 1, told.steer_from))
    assert close(found, expected)


def test_an_answer_begun_long_ago_is_steered_from_where_its_prompt_was_cut(
    make: Any, oracle: Oracle
) -> None:
    model = make(scope="after_instruction", batch_size=2, max_length=30)
    chats = [conversation(model, q, "I say so, as I said it before. " * 3) for q in QUESTIONS[:3]]
    tokenizer, expected = make_tokenizer(), []
    for chat in chats:
        new = oracle.greedy(tokenizer(chat)["input_ids"][-18:], 0, 12, 3)
        expected.append(decoded(tokenizer, new, skip_special_tokens=True))
    assert written(model, chats) == expected


def test_without_an_instruction_steering_from_its_end_is_refused(make: Any) -> None:
    model = make(scope="after_instruction")
    chat = model.apply_chat_template([{"role": "user", "content": "So?"}])
    for run in (
        lambda: scored(model, [(chat, " A"), PAIRS[0]]),
        lambda: written(model, [chat, QUESTIONS[0]]),
        lambda: model.loglikelihood_rolling(asked("loglikelihood_rolling", ("So?",))),
    ):
        with pytest.raises(UserError, match="--apply_chat_template"):
            run()


def test_a_model_without_a_template_has_no_instruction(
    make: Any, plain: PreTrainedModel, tmp_path: Path
) -> None:
    plain.save_pretrained(tmp_path)
    make_tokenizer(None).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no chat template"):
        scored(make(model=str(tmp_path), scope="after_instruction"), PAIRS[:1])
    assert scored(make(model=str(tmp_path)), PAIRS) == scored(make(), PAIRS)


# ---------------------------------------------------------------- the harness around it


def test_a_cache_of_another_steering_is_refused(make: Any, tmp_path: Path) -> None:
    from lm_eval.api.model import CachingLM

    file = str(tmp_path / "answers.db")
    first = CachingLM(make(), file).loglikelihood(asked("loglikelihood", *PAIRS[:2]))
    assert CachingLM(make(), file).loglikelihood(asked("loglikelihood", *PAIRS[:2])) == first
    with pytest.raises(UserError, match="another model or steering"):
        CachingLM(make(multiplier=0), file)


def test_the_script_runs_a_task_and_says_what_was_steered(
    tiny_folder: Path,
    vector: Path,
    tmp_path: Path,
    oracle: Oracle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{"question": q, "choices": ENDINGS, "answer": 0} for q in QUESTIONS[:2]]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "tiny.yaml").write_text(
        "task: caa_tiny\ndataset_path: json\ntest_split: train\noutput_type: multiple_choice\n"
        f"dataset_kwargs:\n  data_files: {tmp_path}/rows.json\n  cache_dir: {tmp_path}/cache\n"
        "target_delimiter: ''\ndoc_to_text: question\ndoc_to_choice: choices\n"
        "doc_to_target: answer\nmetric_list:\n  - metric: acc\n"
    )
    steering = f"model={tiny_folder},vector={vector},layer={LAYER},multiplier={TIMES}"
    out = tmp_path / "out"
    command = f"--model caa --tasks caa_tiny --include_path {tmp_path} --batch_size 3 --log_samples"
    command += f" --output_path {out} --model_args {steering}"
    assert run(command, monkeypatch) == 0
    (results,) = out.rglob("results_*.json")
    said = json.loads(results.read_text())["config"]["caa"]
    assert (said["layer"], said["multiplier"], said["scope"]) == (LAYER, TIMES, "continuation")
    assert said["vector"] == str(vector) and len(said["vector_sha256"]) == 64
    (samples,) = out.rglob("samples_*.jsonl")
    found = [json.loads(line)["resps"] for line in samples.read_text().splitlines()]
    numbers = [float(answer[0][0]) for row in found for answer in row]
    expected = expected_of(oracle, "continuation")[: len(numbers)]
    assert len(numbers) == 2 * len(ENDINGS)
    assert numbers == pytest.approx([number for number, _ in expected], abs=1e-5)

    capsys.readouterr()
    assert run(f"{command},dosis=2", monkeypatch) == 2
    error = capsys.readouterr().err
    assert "error: --model caa takes no dosis" in error and "behavior" in error


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The status with which the script ends; in this process, without ten seconds of imports."""
    monkeypatch.setattr(sys, "argv", ["caa_lm_eval.py", *command.split()])
    # nor the half minute in which the harness reads the files of its own tasks
    only_ours = functools.partialmethod(TaskManager.__init__, include_defaults=False)
    monkeypatch.setattr(TaskManager, "__init__", only_ours)
    with pytest.raises(SystemExit) as caught:
        script.run(caa_lm_eval.build_parser(), caa_lm_eval.main, passes_on=True)
    assert isinstance(caught.value.code, int)
    return caught.value.code
