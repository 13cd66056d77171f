"""What is found before anything is asked: keys, servers, rubrics, results of another shape."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_json
from judge_bench import (
    KEY,
    Bench,
    bench,
    everything_in,
    is_harmless,
    many,
    own_score,
    server,
    surroundings,
)
from judge_server import Answer, Asked, JudgeServer, error
from running import ROOT, call, environment, imported, start_warm

from utils.errors import UserError

__all__ = ("bench", "server", "surroundings")  # fixtures


def test_a_dry_run_asks_nothing_and_counts_what_is_left(
    bench: Bench, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.results(many(4))
    bench.run()
    bench.results([*many(6), "answer 5"], layer=2)
    rows = json.loads(bench.paths.result(bench.results(many(6), layer=2)).read_text())
    write_json(bench.paths.result(bench.results(many(6), layer=2)), [*rows, rows[-1]])
    bench.results(many(2), "bold")
    before = everything_in(bench.paths.artifacts)
    capsys.readouterr()
    assert bench.run("--dry_run") == 0
    assert len(server.asked) == 4 and everything_in(bench.paths.artifacts) == before
    printed = capsys.readouterr().out
    lines = {words[0]: words[1:] for line in printed.splitlines() if (words := line.split())}
    assert lines["calm"][:3] == ["2", "11", "2"], "two of the six are not yet answered"
    assert lines["bold"][:3] == ["1", "2", "2"]
    assert lines["all"][:3] == ["3", "13", "4"] and lines["all"][4] == "40"
    assert "4 characters" in printed
    bench.run()
    new = server.asked[4:]
    assert len(new) == 4
    sizes = [sum(len(m["content"]) for m in asked.body["messages"]) for asked in new]
    assert int(lines["all"][3]) == sum(-(-size // 4) for size in sizes)


def test_no_key_and_no_server_is_said_before_anything_else(tmp_path: Path, bench: Bench) -> None:
    bench.results(many(1))
    before = everything_in(tmp_path)
    folders = ["--artifacts_dir", tmp_path / "new", "--datasets_dir", bench.paths.datasets]
    with pytest.raises(UserError, match=r"(?s)OPEN_AI_KEY=.*\.env.*--base_url"):
        call("scoring", *folders)
    assert not (tmp_path / "new").exists() and everything_in(tmp_path) == before


@pytest.mark.skipif((ROOT / ".env").exists(), reason="this checkout has a .env of its own")
def test_no_key_leaves_with_status_2_within_a_second(tmp_path: Path) -> None:
    """What takes longer is importing the client and what computes; it is not imported."""
    folders = ("--artifacts_dir", tmp_path / "new", "--datasets_dir", "nowhere")
    command = [sys.executable, "-X", "importtime", ROOT / "scoring.py", *folders]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 2 and "OPEN_AI_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    assert not imported(done.stderr) & {"openai", "torch", "transformers", "numpy", "matplotlib"}
    assert not (tmp_path / "new").exists()


def authorization(server: JudgeServer) -> str:
    return server.asked[-1].headers["authorization"].removeprefix("Bearer ")


def test_the_key_is_found_in_the_environment_and_in_both_env_files(
    bench: Bench, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repository").mkdir()
    monkeypatch.setattr("utils.judging.settings.REPOSITORY", tmp_path / "repository")
    bench.results(many(5))

    def key_sent(layer: int, *flag: str) -> str:
        bench.results([f"layer {layer}"], layer=layer)
        assert bench.run("--layers", layer, *flag) == 0
        return authorization(server)

    assert key_sent(1) == "no-key-needed"
    (tmp_path / "repository" / ".env").write_text("OPEN_AI_KEY=of-the-repository\n")
    assert key_sent(2, "--send_key") == "of-the-repository"
    Path(".env").write_text("OPEN_AI_KEY=of-the-folder\nOPENAI_API_KEY=other\n")
    assert key_sent(3, "--send_key") == "of-the-folder"
    monkeypatch.setenv("OPENAI_API_KEY", "second-name")
    assert key_sent(4, "--send_key") == "of-the-folder"
    monkeypatch.setenv("OPEN_AI_KEY", "of-the-environment")
    assert key_sent(5, "--send_key") == "of-the-environment"
    for file in (Path(".env"), tmp_path / "repository" / ".env"):
        file.unlink()
    monkeypatch.delenv("OPEN_AI_KEY")
    assert key_sent(6, "--send_key") == "second-name"


def test_the_server_is_found_in_the_environment(
    bench: Bench, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    bench.results(many(1))
    folders = ["--artifacts_dir", bench.paths.artifacts, "--datasets_dir", bench.paths.datasets]
    assert call("scoring", *folders) == 0
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://x/v1", f"http://me:{KEY}@x/v1", f"http://x/v1?key={KEY}", "http://"],
)
def test_a_server_that_is_no_plain_address_is_refused(bench: Bench, url: str) -> None:
    with pytest.raises(UserError, match="must look like http://host:port/v1") as raised:
        bench.run("--base_url", url)
    assert KEY not in str(raised.value)


def test_the_key_is_in_no_file_and_no_output(
    bench: Bench, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_AI_KEY", KEY)

    def script(asked: Asked) -> Answer:
        echo = asked.headers["authorization"]
        number = -1 if is_harmless(asked) else own_score(asked) * 2
        if number == 0:
            return error(500, f"bad: {echo}")
        if number == 1:
            return error(400, f"bad: {echo} and sk-other-9876543210")
        if is_harmless(asked):
            return Answer("10")
        return Answer(f"6 {echo}") if number == 2 else Answer("no")

    server.script = script
    bench.results(many(5))
    bench.results(many(5)[2:3], layer=2)
    process = start_warm("scoring", *bench.options("--max_retries", 1, "--send_key"))
    out, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert authorization(server) == KEY, "the key was not sent: nothing is shown"
    assert KEY not in out + errors and "[key]" in errors
    assert "sk-other" not in errors
    written = everything_in(bench.paths.artifacts)
    assert KEY.encode() not in written and b"[key]" in written


def test_a_behaviour_without_a_rubric_names_its_description(
    bench: Bench, server: JudgeServer
) -> None:
    bench.describe("bold", None)
    bench.results(many(1))
    assert bench.run() == 0, "a behaviour without results needs no rubric"
    bench.results(many(1), "bold")
    where = re.escape(str(bench.paths.description("bold")))
    with pytest.raises(UserError, match=rf"(?s)bold has no rubric.*{where}"):
        bench.run()
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "rows", [[{"question": "?"}], [{"question": "?", "model_output": 3}], [], {"a": 1}, ["x"]]
)
def test_results_of_another_shape_are_refused_before_anything_is_asked(
    bench: Bench, server: JudgeServer, rows: object
) -> None:
    bench.results(many(2))
    name = bench.results(many(2), "bold")
    write_json(bench.paths.result(name), rows)
    with pytest.raises(UserError, match=re.escape(str(bench.paths.result(name)))):
        bench.run()
    assert server.asked == []


def test_no_results_names_the_command_that_makes_them(bench: Bench) -> None:
    with pytest.raises(UserError, match=r"prompting_with_steering.py --type open_ended"):
        bench.run()
