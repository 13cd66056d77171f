"""The download with the real hub client against a local server that speaks its protocol."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hub_server import Files, serve
from running import ROOT

from utils.data.sources import ANTHROPIC, HALLUCINATION, HUMAN, REFUSAL, SOURCES, Source


def paper_data() -> Path:
    return Path(os.environ.get("CAA_PAPER_DATA", ROOT.parent / "shared" / "paper_data"))


def ab_lines(count: int, name: str) -> bytes:
    rows = [
        {
            "question": f"{name} number {i}?\n\nChoices:\n (A) Yes\n (B) No",
            "answer_matching_behavior": f" ({'AB'[i % 2]})",
            "answer_not_matching_behavior": f" ({'BA'[i % 2]})",
        }
        for i in range(count)
    ]
    return "".join(json.dumps(row) + "\r\n" for row in rows).encode()


def parquet(rows: list[dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def truthful(count: int) -> bytes:
    return parquet(
        [
            {
                "category": f"kind {i % 5}",
                "question": f"What is {i}?",
                "best_answer": f"right {i}",
                "incorrect_answers": [f"wrong {i}", f"bad {i}"],
            }
            for i in range(count)
        ]
    )


def mmlu() -> bytes:
    return parquet(
        [
            {
                "question": f"What is {i}?",
                "subject": f"subject {i % 3}",
                "choices": [f"{letter}{i}" for letter in "abcd"],
                "answer": i % 4,
            }
            for i in range(60)
        ]
    )


@pytest.fixture
def hub() -> Iterator[Files]:
    """A server with all files of the published data, made up but for their shape."""
    with serve() as files:
        for name in ("sycophancy_on_nlp_survey", "sycophancy_on_political_typology_quiz"):
            path = f"datasets/{ANTHROPIC}/sycophancy/{name}.jsonl"
            files.content[path] = ab_lines(600, name)
        files.content[REFUSAL] = json.dumps(
            [json.loads(line) for line in ab_lines(458, "refusal").splitlines()]
        ).encode()
        files.content[
            "datasets/truthfulqa/truthful_qa/generation/validation-00000-of-00001.parquet"
        ] = truthful(817)
        files.content["datasets/cais/mmlu/all/test-00000-of-00001.parquet"] = mmlu()
        yield files


def download(
    hub: Files, folder: Path, *more: str, sources: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The script as a process, its hub and GitHub being the local server."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_HUB")}
    environment |= {
        "HF_ENDPOINT": hub.url,
        "CAA_GITHUB_RAW": hub.url,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    } | (sources or {})
    command = [sys.executable, str(ROOT / "process_raw_datasets.py"), "--download"]
    return subprocess.run(
        [*command, "--datasets_dir", str(folder / "paper"), *more],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    return json.loads(path.read_text())


def test_success_with_hub_and_github_files(hub: Files, tmp_path: Path) -> None:
    done = download(hub, tmp_path, "--behaviors", "sycophancy", "refusal", "truthfulqa", "mmlu")
    assert done.returncode == 0, done.stderr
    assert "sycophancy: n_generate: 1000 | n_test: 50" in done.stdout
    assert "refusal: n_generate: 408 | n_test: 50" in done.stdout
    data = tmp_path / "paper"
    truthful_qa = rows_of(data / "test/truthfulqa/truthful_qa.json")
    assert len(truthful_qa) == 817
    for i, row in enumerate(truthful_qa):
        assert row["correct_full_text"] == f"right {i}"
        assert f"{row['correct']} right {i}" in row["prompt"]
        assert row["category"] == f"kind {i % 5}"
    share = sum(row["correct"] == "(A)" for row in truthful_qa) / 817
    assert 0.4 < share < 0.6
    full, small = (rows_of(data / f"test/mmlu/{n}.json") for n in ("mmlu_full", "mmlu"))
    assert len(full) == 60 and len(small) == 30
    assert all(
        f"{r['correct']} {'abcd'[i % 4]}{i}\n" in r["prompt"] + "\n" for i, r in enumerate(full)
    )
    assert all(row in full for row in small)
    asked = len(hub.requests)
    again = download(hub, tmp_path, "--behaviors", "sycophancy", "refusal", "truthfulqa", "mmlu")
    assert again.returncode == 0 and len(hub.requests) == asked, "nothing is fetched twice"


def test_not_found_is_named_and_the_others_are_made(hub: Files, tmp_path: Path) -> None:
    del hub.content[REFUSAL]
    missing = f"datasets/{ANTHROPIC}/sycophancy/sycophancy_on_nlp_survey.jsonl"
    del hub.content[missing]
    done = download(hub, tmp_path, "--behaviors", "sycophancy", "refusal", "mmlu")
    assert done.returncode == 1
    assert "2 failed" in done.stderr and "sycophancy_on_nlp_survey.jsonl" in done.stderr
    assert "404" in done.stderr and "refusal" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "paper/test/mmlu/mmlu.json").exists()
    assert not (tmp_path / "paper/generate/refusal").exists()
    assert not (tmp_path / "paper/generate/sycophancy").exists()


def test_a_wrong_checksum_is_refused_and_nothing_is_made_of_it(hub: Files, tmp_path: Path) -> None:
    path = f"datasets/{ANTHROPIC}/{HUMAN}/myopic-reward.jsonl"
    hub.content[path] = ab_lines(1000, "not the real one")
    done = download(hub, tmp_path, "--behaviors", "myopic-reward")
    assert done.returncode == 1
    assert "wrong checksum" in done.stderr and "03d4e57220cb" in done.stderr
    assert not list((tmp_path / "paper").rglob("*.json*"))


@pytest.mark.parametrize("behavior", ["refusal", "sycophancy"])
def test_a_connection_that_breaks_off_is_resumed(hub: Files, tmp_path: Path, behavior: str) -> None:
    path = REFUSAL
    if behavior == "sycophancy":
        path = f"datasets/{ANTHROPIC}/sycophancy/sycophancy_on_nlp_survey.jsonl"
    # the client writes 10 MB at a time: a file that breaks off later must be longer than that
    long = json.loads(hub.content[path].splitlines()[0]) if behavior == "sycophancy" else None
    rows = [long] * 600 if long else json.loads(hub.content[path])
    rows = [
        r | {"question": f"{i} {'word ' * 9000}\n\nChoices:\n (A) Yes\n (B) No"}
        for i, r in enumerate(rows)
    ]
    body = json.dumps(rows) if behavior == "refusal" else "\n".join(map(json.dumps, rows))
    hub.content[path] = body.encode()
    hub.break_after[path] = 15_000_000
    done = download(hub, tmp_path, "--behaviors", behavior)
    if done.returncode:
        assert not (tmp_path / "paper/generate" / behavior).exists(), "never half a file"
        done = download(hub, tmp_path, "--behaviors", behavior)
    assert done.returncode == 0, done.stderr
    ranges = [asked for method, asked_path, asked in hub.requests if asked_path == path and asked]
    assert any(r and r.startswith("bytes=") and r != "bytes=0-" for r in ranges), "it was continued"
    source = tmp_path / f"paper/raw/{behavior}/source" / path.rsplit("/", 1)[-1]
    assert source.read_bytes() == hub.content[path]


def test_offline_says_what_to_do_and_loses_nothing(hub: Files, tmp_path: Path) -> None:
    assert download(hub, tmp_path, "--behaviors", "mmlu").returncode == 0
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "CAA_GITHUB_RAW": "http://127.0.0.1:9"}
    done = download(hub, tmp_path, "--behaviors", "mmlu", "refusal", sources=nowhere)
    assert done.returncode == 1
    assert (
        "1 failed" in done.stderr and "HTTPS_PROXY" in done.stderr and "HF_ENDPOINT" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert (tmp_path / "paper/test/mmlu/mmlu.json").exists()


def test_sizes_other_than_the_published_ones_are_reported(hub: Files, tmp_path: Path) -> None:
    hub.content[REFUSAL] = json.dumps(
        [json.loads(line) for line in ab_lines(100, "refusal").splitlines()]
    ).encode()
    done = download(hub, tmp_path, "--behaviors", "refusal")
    assert done.returncode == 1
    assert "sizes (50, 50), the published ones are (408, 50)" in done.stderr


def test_the_table_of_sources() -> None:
    assert len({s.path for s in SOURCES}) == len(SOURCES)
    assert sum(s.sha256 is not None for s in SOURCES) == 7
    assert (
        Source("x", "a/b/c.json", repo=None).url == "https://raw.githubusercontent.com/a/b/c.json"
    )


@pytest.mark.skipif(not paper_data().is_dir(), reason="the published files are not here")
def test_the_published_sizes_come_out_of_the_published_files(hub: Files, tmp_path: Path) -> None:
    raw = paper_data() / "raw"
    behaviors = []
    for path in sorted((raw / "anthropic").glob("*.jsonl")):
        hub.content[f"datasets/{ANTHROPIC}/{HUMAN}/{path.name}"] = path.read_bytes()
        behaviors.append(path.stem)
    for path in (raw / "hallucination").glob("*.csv"):
        hub.content[f"{HALLUCINATION}/{path.name}"] = path.read_bytes()
    done = download(hub, tmp_path, "--behaviors", *behaviors, "hallucination")
    assert done.returncode == 0, done.stderr
    for line in (
        "coordinate-other-ais: n_generate: 360 | n_test: 50",
        "corrigible-neutral-HHH: n_generate: 290 | n_test: 50",
        "hallucination: n_generate: 1000 | n_test: 50",
        "myopic-reward: n_generate: 950 | n_test: 50",
        "survival-instinct: n_generate: 903 | n_test: 50",
    ):
        assert line in done.stdout
    data, theirs = tmp_path / "paper", paper_data() / "processed"
    for behavior in behaviors:
        sets = []
        for folder in (data, theirs):
            generate = rows_of(folder / f"generate/{behavior}/generate_dataset.json")
            test = rows_of(folder / f"test/{behavior}/test_dataset_ab.json")
            sets.append({(r["question"], r["answer_matching_behavior"]) for r in generate + test})
        assert sets[0] == sets[1], behavior
    check_hallucination(data, raw / "hallucination")
    assert (data / "generate/survival-instinct/behavior.json").exists()


def check_hallucination(data: Path, raw: Path) -> None:
    """Every pair is a fiction accepted or a truth rejected, by the published columns."""
    matching: dict[str, tuple[str, str]] = {}
    for path in raw.glob("*.csv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line in csv.DictReader(file):
                fiction = (line["fiction_accepetance"], line["fiction_rejection"])
                truth = (line["truth_rejection"], line["truth_accepetance"])
                for kind, answers in (("fiction", fiction), ("truth", truth)):
                    asked = line[f"{kind}_question"].strip().removeprefix("Question:").strip()
                    matching.setdefault(asked, answers)
    rows = rows_of(data / "generate/hallucination/generate_dataset.json")
    share = sum(row["answer_matching_behavior"] == "(A)" for row in rows) / len(rows)
    assert 0.45 < share < 0.55
    for row in rows[:300]:
        question, choices = row["question"].split("\n\nChoices:\n")
        texts = dict(zip("AB", choices.split("\n (B) "), strict=True))
        texts["A"] = texts["A"].removeprefix(" (A) ")
        right, wrong = matching[question]
        letter, other = row["answer_matching_behavior"][1], row["answer_not_matching_behavior"][1]
        assert texts[letter].strip() == right.strip()
        assert texts[other].strip() == wrong.strip()


def test_the_same_bytes_every_time(hub: Files, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        download(hub, tmp_path / name, "--behaviors", "refusal", "mmlu")
        files = sorted(p for p in (tmp_path / name / "paper").rglob("*.json") if p.is_file())
        digests.append([hashlib.sha256(p.read_bytes()).hexdigest() for p in files])
    assert digests[0] == digests[1] and len(digests[0]) == 8
