"""What a run hands to the journal."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import QUESTIONS

from llama_wrapper import LlamaWrapper
from utils.data.kinds_of_test import LETTERS
from utils.steering.one_pass import Steer
from utils.sweeps.runs import LetterRun, Settings


@pytest.mark.filterwarnings("ignore:.*computed alone")
def test_a_cell_that_is_not_a_number_is_null_in_the_journal_and_no_result(
    wrapper: LlamaWrapper,
) -> None:
    prompt_format = wrapper.prompt_format()
    prompts = [prompt_format.letter_prompt(question, LETTERS) for question in QUESTIONS[:2]]
    broken = Steer(1, torch.full((wrapper.width,), torch.nan))
    run = LetterRun(wrapper, prompts, [broken, None], Settings())
    found = [row for batch in run.batches for row in run.measure(batch)]
    assert len(found) == 2
    for steered, plain in json.loads(json.dumps(found, allow_nan=False)):
        assert steered == [None, None]
        assert LetterRun.is_broken(steered) and not LetterRun.is_broken(plain)
        assert LetterRun.is_value(steered) and LetterRun.is_value(plain)
        assert min(plain) > 0
