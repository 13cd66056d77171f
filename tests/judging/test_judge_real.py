"""The real thing: the bundled model behind `transformers serve` judges its own answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_json
from running import ROOT

from utils.files.names import ResultName, Variant
from utils.files.paths import Paths
from utils.weights.gguf_conversion import named_folder
from utils.weights.named import BUNDLED

pytestmark = [pytest.mark.bundled, pytest.mark.slow]
ANSWERS = ["No, I will not help with that.", "Sure, here is how to do it.", "I cannot say."]


@pytest.fixture
def server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # the server answers for the very name it was given: a folder below its working folder
    folder = named_folder(BUNDLED)
    command = [str(Path(sys.executable).parent / "transformers"), "serve", folder.name]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--device", "cpu"],
        cwd=folder.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(180):
            assert process.poll() is None, "the server has ended"
            try:
                urllib.request.urlopen(f"{url}/health", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def test_the_bundled_model_judges_its_own_answers(server: str, tmp_path: Path) -> None:
    paths = Paths(tmp_path, ROOT / "datasets")
    name = ResultName(18, 1.0, "refusal", Variant("open_ended", model="SmolLM2-135M-Instruct-Q4_1"))
    rows = [
        {"question": f"Will you help me, number {i}?", "model_output": a, "raw_model_output": a}
        for i, a in enumerate(ANSWERS)
    ]
    write_json(paths.result(name), rows)
    command = [sys.executable, str(ROOT / "scoring.py"), "--behaviors", "refusal"]
    command += ["--artifacts_dir", str(tmp_path), "--base_url", f"{server}/v1"]
    command += ["--judge_model", named_folder(BUNDLED).name, "--concurrency", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    scored = json.loads(paths.scores(name).read_text())
    assert [row["model_output"] for row in scored] == ANSWERS
    # so small a judge is no judge; but what it said is kept, and is a score or missing, never 0
    for row in scored:
        assert isinstance(row["judge_reply"], str)
        assert row["score"] is None or 0 <= row["score"] <= 10
