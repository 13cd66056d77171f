"""What a run hands to the journal."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import QUESTIONS

from llama_wrapper import LlamaWrapper
from utils.data.evaluation import AB, LETTERS
from utils.steering.one_pass import Steer
from utils.sweeps.runs import Settings, is_broken, is_value, start_run


@pytest.mark.filterwarnings("ignore:.*computed alone")
def test_a_cell_that_is_not_a_number_is_null_in_the_journal_and_no_result(
    wrapper: LlamaWrapper,
) -> None:
    prompt_format = wrapper.prompt_format()
    prompts = [prompt_format.letter_prompt(question, LETTERS) for question in QUESTIONS[:2]]
    broken = Steer(1, torch.full((wrapper.width,), torch.nan))
    run = start_run(AB, wrapper, prompts, [broken, None], Settings())
    found = [row for batch in run.batches for row in run.measure(batch)]
    assert len(found) == 2
    for steered, plain in json.loads(json.dumps(found, allow_nan=False)):
        assert steered == [None, None]
        assert is_broken(steered) and not is_broken(plain)
        assert is_value(AB, steered) and is_value(AB, plain)
        assert min(plain) > 0
