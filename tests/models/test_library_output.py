"""What this project changes in a process that imports it: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from running import start_warm
from transformers.utils import logging

from utils.blocks.library_output import library_output


def test_importing_the_wrapper_and_loading_a_model_change_nothing_global(
    tiny_folder: Path,
) -> None:
    """In a process of its own: levels of logging, filters of warnings, the environment."""
    process = start_warm("tests/models/state_after_import", tiny_folder)
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert out.splitlines() == ["import []", "loading []"]
    assert errors == "", "nothing is shown meanwhile"


@pytest.mark.parametrize("bars", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_what_was_set_is_set_again(before: bool, bars: bool) -> None:
    with library_output(bars=before):
        logging.set_verbosity_info()
        with pytest.raises(KeyError), library_output(bars=bars):
            assert logging.get_verbosity() == logging.ERROR
            assert logging.is_progress_bar_enabled() == bars
            assert are_progress_bars_disabled() != bars
            raise KeyError
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled() == before
        assert are_progress_bars_disabled() != before
