"""Where the cache of models is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from utils.files.cache import cache_folder


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
def test_the_cache_is_where_it_has_always_been(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was converted once, in hours, must be found by every later version."""
    for name in ("CAA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/caa-toolkit")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/mine")
    assert cache_folder() == Path("/var/cache/mine/caa-toolkit")


def test_a_variable_names_another_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/mine")
    monkeypatch.setenv("CAA_CACHE_DIR", "/scratch/models")
    assert cache_folder() == Path("/scratch/models")
