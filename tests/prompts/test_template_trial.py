"""Chat templates are programs: one that does not end, or fails, is one line."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import CHATML, make_tokenizer

from utils.errors import UserError
from utils.prompts import template_trial
from utils.prompts.templates import ChatTemplate

LOOP = "{% for a in range(99999) %}"
END = "{% endfor %}"
ENDLESS = {
    "loops": LOOP * 3 + END * 3,
    "power": "{{ 9 ** (9 ** 9) }}",
    "with_the_system_prompt": "{% if messages[0].role == 'system' %}"
    + LOOP * 3
    + END * 3
    + "{% endif %}",
    "on_long_texts": "{% for a in messages[0].content %}" * 3 + END * 3,
    "while_compiling": "{% set x = 9 ** (9 ** 9) %}",
}
TOO_LARGE = {
    "text": "{{ 'a' * 10 ** 10 }}",
    "filter": "{{ 'a' | center(10 ** 11) }}",
    "doubling": "{% set n = namespace(x='aaaaaaaaaaaa') %}"
    "{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
}
RAISING = {
    "zero": "{{ 1 / 0 }}",
    "overflow": "{{ 2.0 ** 5000 }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "digits": "{{ (10 ** 5000) | string }}",
    "brackets": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "range": "{% for a in range(10 ** 9) %}{% endfor %}",
    "missing": "{{ messages[9].content }}",
    "refusal": "{{ raise_exception('no\n  chat\x07') }}",
    "syntax": "{% if",
    "forbidden": "{{ ''.__class__.__mro__ }}{{ x.y.z }}",
    "type": "{{ 1 + 'a' }}",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is known of any template, and patience is short."""
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(template_trial, "CPU_SECONDS", 1)
    monkeypatch.setattr(template_trial, "BYTES", 1 << 29)
    return tmp_path / "cache"


def refusal(template: str) -> str:
    with pytest.raises(UserError) as caught:
        ChatTemplate(make_tokenizer(template), None)
    (line,) = str(caught.value).splitlines()
    assert "chat template" in line and len(line) < 800
    return line


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_does_not_end_is_refused(name: str) -> None:
    assert "does not end" in refusal(ENDLESS[name] + CHATML)


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_template_that_takes_all_memory_is_refused(name: str) -> None:
    assert "memory" in refusal(TOO_LARGE[name] + CHATML)


@pytest.mark.parametrize("name", RAISING)
def test_whatever_a_template_raises_is_one_line(name: str) -> None:
    assert "fails" in refusal(RAISING[name] + CHATML)


def test_what_a_template_raises_on_one_question_alone_is_one_line() -> None:
    broken = "{% if 'zero' in messages[0].content %}{{ 1 / 0 }}{% endif %}"
    template = ChatTemplate(make_tokenizer(broken + CHATML), None)
    assert "Is it?" in template.instruction("Is it?")
    with pytest.raises(UserError, match="fails: ZeroDivisionError: division by zero"):
        template.instruction("Is zero a number?")


def test_a_template_is_tried_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ChatTemplate(make_tokenizer(CHATML), None)
    assert len(list(cache.rglob("*"))) == 2

    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("a template that is known was tried again")

    monkeypatch.setattr(subprocess, "run", refuse)
    ChatTemplate(make_tokenizer(CHATML), "Be it.")
    with pytest.raises(AssertionError, match="tried again"):
        ChatTemplate(make_tokenizer(CHATML + " "), None)


def test_one_that_does_not_end_is_not_remembered(cache: Path) -> None:
    for _ in range(2):
        assert "does not end" in refusal(ENDLESS["power"] + CHATML)
    assert not list(cache.rglob("*"))


def test_a_known_template_costs_next_to_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What costs is the process in which one is tried."""
    options: dict[str, object] = {"enable_thinking": False}
    started: list[object] = []
    run: Any = subprocess.run

    def counted(*command: object, **more: object) -> object:
        started.append(command)
        return run(*command, **more)

    monkeypatch.setattr(subprocess, "run", counted)
    for _ in range(100):
        template_trial.check_ends(CHATML, options)
    assert len(started) == 1


def test_a_cache_folder_that_cannot_be_written_is_no_fault(cache: Path) -> None:
    cache.write_text("a file")
    assert "Is it?" in ChatTemplate(make_tokenizer(CHATML), None).instruction("Is it?")
