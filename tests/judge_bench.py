"""What the tests of the judge stage share: a bench to run it on, a server, a judge's answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import write_json
from judge_server import Answer, Asked, JudgeServer, serve
from running import call, every_file

from utils.files.names import ResultName, Variant
from utils.files.paths import Paths

KEY = "sk-secret-0123456789abcdef"
ENVIRONMENT = ("OPEN_AI_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL")


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key and no server of the person who runs the tests; short pauses."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("CAA_BACKOFF_SECONDS", "0.01")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr("utils.judging.settings.REPOSITORY", tmp_path / "empty")


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with serve() as judge:
        yield judge


class Bench:
    """A data folder with rubrics, a folder of results, and the command line of a run."""

    def __init__(self, root: Path, url: str) -> None:
        self.root, self.url = root, url
        self.paths = Paths(root / "made", root / "datasets")
        for behavior in ("calm", "bold"):
            self.describe(behavior, f"Judge how {behavior} it is {{braces}}.")

    def describe(self, behavior: str, rubric: str | None) -> None:
        folder = self.paths.datasets / "generate" / behavior
        write_json(folder / "generate_dataset.json", [])
        description = {"name": behavior} | ({} if rubric is None else {"rubric": rubric})
        write_json(folder / "behavior.json", description)

    def results(
        self, answers: list[str], behavior: str = "calm", layer: int = 1, multiplier: float = 1.0
    ) -> ResultName:
        name = ResultName(layer, multiplier, behavior, Variant("open_ended", model="tiny"))
        rows = [
            {"question": f"Question {n}?", "model_output": text, "raw_model_output": f"x {text}"}
            for n, text in enumerate(answers)
        ]
        write_json(self.paths.result(name), rows)
        return name

    def options(self, *more: object) -> list[object]:
        folders = ["--artifacts_dir", self.paths.artifacts, "--datasets_dir", self.paths.datasets]
        return [*folders, "--base_url", self.url, *more]

    def run(self, *more: object) -> int:
        return call("scoring", *self.options(*more))

    def rows(self, name: ResultName) -> list[dict[str, Any]]:
        return json.loads(self.paths.scores(name).read_text())

    def scores(self, name: ResultName) -> list[float | None]:
        return [row["score"] for row in self.rows(name)]

    def record(self, name: ResultName) -> dict[str, Any]:
        """The record beside a file of scores."""
        scores = self.paths.scores(name)
        return json.loads(scores.with_name(f".{scores.name}.record").read_text())

    def cached(self) -> dict[str, list[str]]:
        """The prompts with an answer on disk, each with its replies."""
        folder = self.paths.artifacts / "results/open_ended_scores/.cache"
        entries = [json.loads(p.read_text()) for p in folder.glob("??/*.json")]
        return {e["call"]["messages"][-1]["content"]: e["replies"] for e in entries}


@pytest.fixture
def bench(tmp_path: Path, server: JudgeServer) -> Bench:
    return Bench(tmp_path, server.url)


def is_harmless(asked: Asked) -> bool:
    """Whether this is no item, but the question that tells an item's fault from the judge's."""
    return "What is two and two?" in asked.prompt


def own_score(asked: Asked) -> float:
    """A score that depends on the answer judged, and on nothing else."""
    match = re.search(r"<answer>\nanswer (\d+)\n</answer>", asked.prompt)
    assert match is not None, asked.prompt
    return int(match[1]) % 21 / 2


def many(number: int) -> list[str]:
    return [f"answer {n}" for n in range(number)]


def expected(number: int) -> list[float]:
    return [n % 21 / 2 for n in range(number)]


def but(score: float, refusal: Answer) -> Callable[[Asked], Answer]:
    """A judge that scores every item but one, and answers a harmless question."""

    def script(asked: Asked) -> Answer:
        if is_harmless(asked):
            return Answer("10")
        return refusal if own_score(asked) == score else Answer(str(own_score(asked)))

    return script


def everything_in(folder: Path) -> bytes:
    return b"".join(every_file(folder).values())
