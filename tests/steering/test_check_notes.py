"""The comparison of the fast way with the slow one: made once, remembered if it was passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import QUESTIONS, make_tokenizer

from llama_wrapper import LlamaWrapper
from utils.extraction.pairs import PairOutputs
from utils.files import remembered
from utils.models.choice import choose_model
from utils.steering import check_notes
from utils.steering.decoding import GreedyGrid
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Steer
from utils.steering.self_check import Ways, checked
from utils.vectors.origin import UNKNOWN, Origin

KINDS = ("letters", "answers", "pairs")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path / "cache"))


def load(folder: Path, dtype: str = "float32") -> LlamaWrapper:
    choice = choose_model(str(folder), None, False)
    return LlamaWrapper.load(choice, tokenizer=make_tokenizer(), device="cpu", dtype=dtype)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A number for each comparison that was made, counted by its slow way."""
    made: list[int] = []

    def counted(test: object, slow: Callable[[], object], *rest: object) -> object:
        def counting() -> object:
            made.append(1)
            return slow()

        return Ways(test, counting, *rest)  # type: ignore[arg-type]

    for module in ("steering.grid", "steering.decoding", "extraction.pairs"):
        monkeypatch.setattr(f"utils.{module}.Ways", counted)
    yield made


def start(wrapper: LlamaWrapper, kind: str, repeats: int = 1) -> object:
    """Begin a run; what it says of rounding."""
    questions = [" ".join([q] * repeats) for q in QUESTIONS]
    prompt_format = wrapper.prompt_format()
    steer = Steer(1, torch.ones(wrapper.width))
    if kind == "answers":
        opens = [prompt_format.open_prompt(q) for q in questions]
        grid = GreedyGrid(wrapper, opens, [None, steer], max_new_tokens=2)
        assert grid.together
        return grid.rounding
    letters = [prompt_format.letter_prompt(q, ("A", "B")) for q in questions]
    if kind == "letters":
        found = LetterGrid(wrapper, letters, [steer])
        assert found.packed is not None
        return found.rounding
    pairs = PairOutputs(wrapper, letters, [0, 2])
    assert pairs.packed is not None
    return pairs.rounding


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_passed_comparison_is_not_made_again_and_its_rounding_is_the_same(
    tiny_folder: Path, compared: list[int], kind: str, dtype: str
) -> None:
    first = start(load(tiny_folder, dtype), kind)
    assert len(compared) == 1
    again = start(load(tiny_folder, dtype), kind)
    assert len(compared) == 1, "remembered"
    assert again == first and (first is None) is (dtype == "float32")


@pytest.mark.parametrize(
    "change", ["kind", "dtype", "longer prompts", "weights", "code", "nameless", "damaged"]
)
def test_another_case_is_compared(
    tiny_folder: Path,
    tmp_path: Path,
    compared: list[int],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    start(load(tiny_folder), "letters")
    wrapper = load(tiny_folder, "bfloat16" if change == "dtype" else "float32")
    if change == "weights":
        wrapper.origin = Origin("of another model")
    elif change == "nameless":
        wrapper.origin = UNKNOWN
    elif change == "code":
        monkeypatch.setattr(remembered, "code_version", lambda: "another")
    elif change == "damaged":
        (note,) = (tmp_path / "cache" / "notes" / "checks").iterdir()
        note.write_bytes(note.read_bytes()[:-9])
    kind = "pairs" if change == "kind" else "letters"
    start(wrapper, kind, repeats=4 if change == "longer prompts" else 1)
    assert len(compared) == 2


def test_a_failed_comparison_is_made_and_warned_of_every_time(tiny_folder: Path) -> None:
    wrapper = load(tiny_folder)
    made = []
    right, wrong = torch.randn(3, 50), torch.randn(3, 50)

    def slow() -> list[torch.Tensor]:
        made.append(1)
        return [right]

    test = check_notes.SelfTest("letters", [10, 20], 2)
    ways = Ways(test, slow, lambda: True, lambda _: [wrong], lambda: [right[None]])
    for count in (1, 2):
        with pytest.warns(UserWarning, match="one forward pass a cell"):
            assert checked(wrapper, ways)[0] is None
        assert len(made) == count
    assert checked(wrapper, Ways(test, slow, lambda: True, lambda _: [right], ways.batched))[0]
    assert checked(wrapper, ways)[0], "the passed one is remembered"
    assert len(made) == 3
