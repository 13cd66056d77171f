"""A model from Python: what it answers is what the scripts write, and its example runs."""

from __future__ import annotations

import doctest
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROWS, make_model, make_tokenizer, make_wrapper, write_json
from running import ROOT, call
from transformers.utils import logging

import llama_wrapper
from llama_wrapper import LlamaWrapper
from utils.errors import UserError
from utils.files.contents import read_record

LAYER = 2
NEW = 9
BEHAVIORS = ("calm", "bold")


class Desk:
    """A folder in which the scripts have made vectors and steered, and the model from Python."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, folder / "tiny"
        make_model("llama").save_pretrained(self.model)
        make_tokenizer().save_pretrained(self.model)
        data = folder / "datasets"
        for name in BEHAVIORS:
            rows = ROWS if name == "calm" else ROWS[::-1]
            write_json(data / "generate" / name / "generate_dataset.json", rows)
        write_json(data / "test/calm/test_dataset_ab.json", ROWS[:3])
        questions = [{"question": row["question"].split("\n")[0]} for row in ROWS[:3]]
        write_json(data / "test/calm/test_dataset_open_ended.json", questions)
        folders = ("--artifacts_dir", folder, "--datasets_dir", data)
        own = (*folders, "--model", self.model, "--device", "cpu")
        assert call("generate_vectors", "--layers", 0, LAYER, *own) == 0
        assert call("normalize_vectors", *folders) == 0
        grid = ("--behaviors", "calm", "--layers", LAYER, "--max_new_tokens", NEW, *own)
        for unit in (("--multipliers", 0, 4), ("--doses", 0.5)):
            for kind in ("ab", "open_ended"):
                assert call("prompting_with_steering", "--type", kind, *unit, *grid) == 0
        self.llama = LlamaWrapper.load(self.model, device="cpu")

    def rows(self, kind: str, strength: str) -> list[dict[str, Any]]:
        (path,) = (self.folder / "results/calm").glob(f"results_*_{strength}_*type={kind}_*.json")
        return json.loads(path.read_text())

    def vector(self, layer: int = LAYER, **options: Any) -> torch.Tensor:
        return self.llama.load_vector("calm", layer, artifacts_dir=self.folder, **options)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("front_door"))


def test_an_answer_is_the_text_that_the_script_writes(desk: Desk) -> None:
    steered = {
        "multiplier=0.0": {},
        "multiplier=4.0": {LAYER: 4 * desk.vector()},
        "dose=0.5": {LAYER: desk.vector(dose=0.5)},
    }
    answers = {}
    for strength, steer in steered.items():
        rows = desk.rows("open_ended", strength)
        answers[strength] = [
            desk.llama.chat(row["question"], steer=steer, max_new_tokens=NEW) for row in rows
        ]
        assert answers[strength] == [row["model_output"] for row in rows], strength
    assert answers["multiplier=4.0"] != answers["multiplier=0.0"], "or the comparison shows nothing"
    plain = [desk.llama.chat(row["question"], max_new_tokens=NEW) for row in rows]
    assert plain == answers["multiplier=0.0"]


def test_letters_have_the_probabilities_of_the_scripts_rows(desk: Desk) -> None:
    found = []
    for strength, steer in (
        ("multiplier=0.0", None),
        ("multiplier=4.0", {LAYER: 4 * desk.vector()}),
        ("dose=0.5", {LAYER: desk.vector(dose=0.5)}),
    ):
        for row in desk.rows("ab", strength):
            letters = desk.llama.letter_probabilities(row["question"], steer=steer)
            assert list(letters) == ["A", "B"]
            assert letters == pytest.approx({"A": row["a_prob"], "B": row["b_prob"]}, abs=1e-6)
            found.append(letters["A"])
    assert max(abs(a - b) for a, b in zip(found[:3], found[3:6], strict=True)) > 1e-3


def test_residuals_are_output_hidden_states_and_contain_steering(desk: Desk) -> None:
    question, vector = "Is it raining?", desk.vector()
    found = desk.llama.residuals(question, [0, LAYER])
    ids = desk.llama.prompt_format().open_prompt(question).ids
    with torch.inference_mode():
        out = desk.llama.model(torch.tensor([ids]), output_hidden_states=True)
    for layer in (0, LAYER):
        expected = out.hidden_states[layer + 1][0]
        assert torch.allclose(found.at[layer], expected, atol=1e-6)
    assert "".join(found.tokens) == desk.llama.prompt_format().instruction(question)
    assert found.steer_from == len(found.tokens) - 1
    steered = desk.llama.residuals(question, [LAYER], answer="No.", steer={LAYER: vector})
    assert "".join(steered.tokens).endswith("assistant\nNo.")
    plain = desk.llama.residuals(question, [LAYER], answer="No.")
    added = steered.at[LAYER] - plain.at[LAYER]
    assert added[: steered.steer_from].abs().max() == 0
    added = added[steered.steer_from :]
    assert torch.allclose(added, vector.expand_as(added), atol=1e-5)


def test_a_system_prompt_is_the_turns_own_or_the_wrappers(desk: Desk) -> None:
    own = LlamaWrapper(
        desk.llama.model, desk.llama.tokenizer, system_prompt="Say something else, please."
    )
    question = "Is it raining?"
    short: dict[str, Any] = {"max_new_tokens": NEW}
    asked = desk.llama.chat(question, system_prompt="Say something else, please.", **short)
    assert own.chat(question, **short) == asked != desk.llama.chat(question, **short)


def test_raw_vectors_and_doses_are_those_of_the_files(desk: Desk) -> None:
    for normalized, kind in ((True, "normalized_vectors"), (False, "vectors")):
        path = desk.folder / kind / "calm" / f"vec_layer_{LAYER}_tiny.pt"
        stored = torch.load(path, weights_only=True)
        assert torch.equal(desk.vector(normalized=normalized), stored)
        record = read_record(path)
        assert record is not None
        h = record["measured"]["residual_norm"]
        length = desk.vector(normalized=normalized, dose=0.25).norm()
        assert float(length) == pytest.approx(0.25 * h, rel=1e-6)


def test_a_vector_of_another_model_is_refused_unless_it_is_meant(desk: Desk) -> None:
    folder = desk.folder / "other/tiny"
    model: Any = make_model("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.5)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    other = LlamaWrapper.load(folder, device="cpu")
    with pytest.raises(UserError, match="made with another model than this run's") as refused:
        other.load_vector("calm", LAYER, artifacts_dir=desk.folder)
    assert "weights: " in str(refused.value)
    meant = other.load_vector(
        "calm", LAYER, artifacts_dir=desk.folder, override_vector_model="tiny"
    )
    assert torch.equal(meant, desk.vector())


def test_a_vector_in_another_dtype_is_refused(desk: Desk) -> None:
    half = LlamaWrapper.load(desk.model, device="cpu", dtype=torch.bfloat16)
    with pytest.raises(UserError, match="dtype: float32 -> bfloat16"):
        half.load_vector("calm", LAYER, artifacts_dir=desk.folder)


def test_what_is_wrong_is_said_in_pythons_words(desk: Desk, tmp_path: Path) -> None:
    llama, vector = desk.llama, desk.vector()
    wrong = {
        "layer 9: this model has layers 0 to 3": lambda: desk.vector(9),
        r"generate_vectors.py --behaviors calm --layers 1 --model .*tiny": lambda: desk.vector(1),
        "did you mean calm": lambda: llama.load_vector("clam", 0, artifacts_dir=desk.folder),
        "not loaded by name": lambda: make_wrapper("llama").load_vector("calm", 0),
        "question must be a text": lambda: llama.chat(" \n"),
        "no choices in this question": lambda: llama.letter_probabilities("Is it raining?"),
        "no layers": lambda: llama.residuals("Is it raining?", []),
        "NaN": lambda: llama.chat("Is it?", steer={1: vector * float("nan")}),
        "residual stream has width 32": lambda: llama.chat("Is it?", steer={1: vector[1:]}),
        "are beyond the": lambda: llama.chat("Is it?", max_new_tokens=10**6),
        "no dtype float99": lambda: LlamaWrapper.load(desk.model, device="cpu", dtype="float99"),
        "holds no config.json": lambda: LlamaWrapper.load(tmp_path),
        "did you mean qwen2.5-coder-0.5b": lambda: LlamaWrapper.load("qwen2.5-coder-05b"),
    }
    for message, call_it in wrong.items():
        with pytest.raises(UserError, match=message):
            call_it()


def test_a_name_that_nobody_knows_is_told_with_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"model nonsense is not .* smollm2-135m, qwen") as refused:
        LlamaWrapper.load("nonsense")
    assert "--" not in str(refused.value)


def test_importing_and_loading_leave_transformers_as_they_were(desk: Desk) -> None:
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.INFO)
    logging.enable_progress_bar()
    try:
        runpy.run_path(str(ROOT / "utils/models/loading.py"))
        LlamaWrapper.load(desk.model, device="cpu").chat("Is it raining?", max_new_tokens=1)
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.INFO, True)
    finally:
        logging.set_verbosity(before[0])
        if not before[1]:
            logging.disable_progress_bar()


@pytest.mark.bundled
def test_the_example_in_the_wrappers_docstring_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    failed, tried = doctest.testmod(llama_wrapper)
    assert tried > 9 and failed == 0
