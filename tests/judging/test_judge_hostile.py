"""Servers that mean harm or are broken, keys that stay at home, files as editors leave them."""

from __future__ import annotations

import codecs
import json
import re
import resource
from pathlib import Path

import pytest
from conftest import write_json
from judge_bench import KEY, Bench, bench, but, everything_in, many, own_score, server, surroundings
from judge_server import Answer, Asked, JudgeServer, error
from running import call, start_warm

import utils.models.choice
from utils.errors import UserError
from utils.files.env_file import read_env
from utils.judging.settings import find_server
from utils.text.printable import printable

__all__ = ("bench", "server", "surroundings")  # fixtures

GIGABYTE = 1 << 30
DEEP = 60_000


# --- bodies


@pytest.mark.parametrize("status", [200, 400, 503])
def test_an_endless_body_is_not_read_on(bench: Bench, server: JudgeServer, status: int) -> None:
    server.script = lambda _asked: Answer(status=status, body=b'{"choices": [', endless=GIGABYTE)
    bench.results(many(1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert bench.run("--max_retries", 1) == 1
    # what the server got rid of stands in the system's buffers, some megabytes for each call
    assert server.endless_bytes < 40 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_compressed_body_is_not_unpacked(bench: Bench, server: JudgeServer) -> None:
    server.script = lambda _asked: Answer(
        body=b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}
    )
    bench.results(many(1))
    assert bench.run("--max_retries", 0) == 1
    assert server.asked[0].headers["accept-encoding"] == "identity"


NESTED = b"[" * DEEP + b"]" * DEEP
BODIES = {
    "lists": NESTED,
    "dictionaries": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "inside a completion": b'{"choices": [{"message": {"content": ' + NESTED[:55_000] + b"}}]}",
    "a number of 5 000 digits": b'{"choices": ' + b"9" * 5_000 + b"}",
    "other types": b'{"choices": [{"message": {"content": {"text": 7}}}]}',
    "a number": b'{"choices": [{"message": {"content": 7}}]}',
    "no message": b'{"choices": [7]}',
    "half of a character": b'{"choices": [{"message": {"content": "\xff"}}]}',
}


@pytest.mark.parametrize("status", [200, 500, 400])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_cannot_be_read_costs_one_item(
    bench: Bench, server: JudgeServer, body: bytes, status: int
) -> None:
    server.script = but(1, Answer(status=status, body=body))
    broken, whole = bench.results(many(4)), bench.results(many(2), "bold")
    ended = bench.run("--max_retries", 1)
    assert bench.scores(whole) == [0, 0.5]
    if status == 400:
        assert ended == 0 and bench.scores(broken) == [0, 0.5, None, 1.5]
    else:
        assert ended == 1 and not bench.paths.scores(broken).exists()


def test_a_reply_of_a_seven_and_blanks_is_read_at_once(bench: Bench, server: JudgeServer) -> None:
    """Quadratic patterns took 56 s; test_judge_reply holds that none is."""
    server.script = lambda _asked: Answer("7" + " " * 32_000 + "x")
    name = bench.results(many(1))
    assert bench.run() == 0
    assert bench.scores(name) == [7]


def test_half_a_character_in_a_reply_is_kept_as_a_question_mark(
    bench: Bench, server: JudgeServer
) -> None:
    body = b'{"choices": [{"message": {"content": "7 \\ud800"}, "finish_reason": "stop"}]}'
    server.script = lambda _asked: Answer(body=body)
    name = bench.results(many(1))
    assert bench.run() == 0
    assert bench.rows(name)[0]["judge_reply"] == "7 ?"


# --- what reaches the terminal


EVIL = "\x1b[2Jgone\x1b]0;title\x07\r\u202eevil\x9b31m\u2028next\x00"


def test_control_characters_are_shown_as_such() -> None:
    assert printable(EVIL) == "\\x1b[2Jgone\\x1b]0;title\\x07 \\u202eevil\\x9b31m next\\x00"
    assert printable("Grüße, 你好") == "Grüße, 你好"
    assert len(printable("\x1b" * 100_000)) < 1000


@pytest.mark.parametrize("status", [500, 400, 401, 302])
def test_a_servers_words_cannot_steer_the_terminal(
    bench: Bench, server: JudgeServer, status: int
) -> None:
    there = "http://x/\x1b[2J"
    refusal = Answer(status=status, body=json.dumps({"error": {"message": EVIL}}).encode())
    server.script = lambda _asked: (
        refusal if status != 302 else Answer(status=302, body=b"", headers={"Location": there})
    )
    bench.results(many(2))
    process = start_warm("scoring", *bench.options("--max_retries", 0))
    out, errors = process.communicate(timeout=60)
    assert process.returncode in (1, 2) and "Traceback" not in errors
    # the progress bar's own carriage returns are its, not the server's
    assert not set("\x1b\x07\x9b\u202e\x00") & set(out + errors)


def test_a_judge_that_says_nothing_but_escapes_is_quoted_safely(
    bench: Bench, server: JudgeServer
) -> None:
    server.script = lambda _asked: Answer(EVIL)
    bench.results(many(12))
    with pytest.raises(UserError) as raised:
        bench.run()
    assert "\x1b" not in str(raised.value) and "gone" in str(raised.value)


# --- the key


def sent(server: JudgeServer) -> set[str]:
    return {asked.headers["authorization"].removeprefix("Bearer ") for asked in server.asked}


def test_the_key_does_not_go_to_another_host_of_its_own_accord(
    bench: Bench, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPEN_AI_KEY", "OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    bench.results(many(2))
    assert bench.run() == 0
    assert sent(server) == {"no-key-needed"}
    assert not any(KEY in value for asked in server.asked for value in asked.headers.values())


def test_the_key_that_is_named_is_sent(
    bench: Bench, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_AI_KEY", "of-openai")
    Path(".env").write_text("ROUTER_KEY=of-the-router\n")
    for layer, (flag, key) in enumerate(
        [
            (["--send_key", "ROUTER_KEY"], "of-the-router"),
            (["--send_key"], "of-openai"),
            (["--send_key", "none"], "no-key-needed"),
        ]
    ):
        bench.results([f"answer {layer}"], layer=layer)
        server.asked.clear()
        assert bench.run("--layers", layer, *flag) == 0
        assert sent(server) == {key}


@pytest.mark.parametrize(
    "url",
    [
        *["https://api.openai.com.evil.example/v1", "https://evil-api.openai.com/v1"],
        *["https://openrouter.ai/api/v1", "http://10.0.0.7:8000/v1", "http://127.0.0.1.nip.io/v1"],
        *["http://api.openai.com/v1", "https://localhost.example/v1", "https://api.openai.com./v1"],
    ],
)
def test_a_key_in_the_wrong_place_is_refused_before_any_call(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_AI_KEY", KEY)
    with pytest.raises(UserError, match="--send_key") as raised:
        find_server(url, needs_key=True)
    assert KEY not in str(raised.value)
    assert find_server(url, needs_key=True, send_key="") == (url, KEY)
    assert find_server(url, needs_key=True, send_key="none") == (url, None)
    monkeypatch.delenv("OPEN_AI_KEY")
    if "//api.openai.com/" not in url:
        assert find_server(url, needs_key=True) == (url, None)


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://eu.api.openai.com/v1", None])
def test_openais_key_goes_to_openai(url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert find_server(url, needs_key=True)[1] == KEY


def test_a_key_on_the_command_line_is_refused_and_not_shown(bench: Bench) -> None:
    bench.results(many(1))
    for secret in (KEY, "hf_abcdefgh12345678"):
        with pytest.raises(UserError, match="--send_key") as raised:
            bench.run("--send_key", secret)
        assert secret not in str(raised.value)
    assert KEY.encode() not in everything_in(bench.paths.artifacts)


def test_a_key_does_not_follow_a_redirect(
    bench: Bench, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_AI_KEY", KEY)
    there = {"Location": f"{server.url}/elsewhere"}
    server.script = lambda _asked: Answer(status=307, body=b"", headers=there)
    bench.results(many(1))
    with pytest.raises(UserError, match="elsewhere"):
        bench.run("--send_key")
    assert len(server.asked) == 1


def test_a_server_that_wants_a_key_is_told_which_flag(bench: Bench, server: JudgeServer) -> None:
    server.script = lambda _asked: error(401, "no key")
    bench.results(many(1))
    with pytest.raises(UserError, match=r"wants a key \(--send_key"):
        bench.run()


# --- proxies


@pytest.mark.parametrize(
    "proxy", ["socks5://user:hidden@127.0.0.1:1080", "socks4://x:1", "http://[::"]
)
def test_a_proxy_that_cannot_be_used_is_one_line(
    bench: Bench, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    bench.results(many(1))
    with pytest.raises(UserError, match=r"proxy") as raised:
        bench.run("--base_url", "http://judge.example/v1")
    assert "hidden" not in str(raised.value)


def test_a_server_on_this_machine_is_asked_without_a_proxy(
    bench: Bench, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    for name in ("ALL_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    answers = bench.results(many(1))
    assert bench.run("--max_retries", 0) == 0
    assert bench.scores(answers) == [7]


# --- .env


TEXT = "OPEN_AI_KEY=sk-example\r\nHF_TOKEN=hf_example\r\n"
UNREADABLE = {
    "UTF-16 with its mark": TEXT.encode("utf-16"),
    "UTF-16 without": TEXT.encode("utf-16-le"),
    "UTF-32": TEXT.encode("utf-32"),
    "Latin-1": b"# gr\xfc\xdfe\n" + TEXT.encode(),
    "no text": bytes(range(256)),
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_an_env_file_that_is_no_utf8_is_one_line_for_all_its_readers(
    bench: Bench, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_bytes(data)
    where = re.escape(str(Path(".env").resolve()))
    bench.results(many(1))
    with pytest.raises(UserError, match=rf"^{where} is no UTF-8 text.*UTF-8"):
        bench.run()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(UserError, match=rf"^{where} is no UTF-8 text.*UTF-8"):
        utils.models.choice.hub_token()


def test_an_env_file_may_have_a_mark_or_be_no_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert read_env(tmp_path) == {}
    path.write_bytes(codecs.BOM_UTF8 + TEXT.encode())
    assert read_env(tmp_path) == {"OPEN_AI_KEY": "sk-example", "HF_TOKEN": "hf_example"}
    path.unlink()
    path.mkdir()
    assert read_env(tmp_path) == {}


# --- scores of others


@pytest.mark.parametrize(
    "score", [11, -0.1, 10**400, float("nan"), float("inf"), True, "7", [7]], ids=repr
)
def test_a_foreign_score_that_is_none_is_refused_with_file_and_row(
    bench: Bench, server: JudgeServer, score: object
) -> None:
    name = bench.results(many(2))
    rows = [{"question": "?", "score": 5}, {"question": "!", "score": score}]
    path = write_json(bench.paths.scores(name), rows)
    where = rf"{re.escape(str(path))}, row 2: (the score must be a number from 0 to 10|score holds)"
    bench.results(many(2), "bold")
    with pytest.raises(UserError, match=where):
        bench.run()
    assert server.asked == [], "it was found after the work"
    model = bench.root / "tiny"
    write_json(model / "config.json", {"model_type": "llama"})
    folders = ["--artifacts_dir", bench.paths.artifacts, "--datasets_dir", bench.paths.datasets]
    with pytest.raises(UserError, match=where):
        call(
            "plot_results",
            "--type",
            "open_ended",
            "--behaviors",
            "calm",
            "--model",
            model,
            *folders,
        )


def test_a_key_that_a_server_echoes_is_not_shown(bench: Bench, server: JudgeServer) -> None:
    def script(asked: Asked) -> Answer:
        assert own_score(asked) == 0
        return error(500, "key gsk_0123456789abcdef and hf_0123456789 are known")

    server.script = script
    bench.results(many(1))
    process = start_warm("scoring", *bench.options("--max_retries", 0))
    _, errors = process.communicate(timeout=60)
    assert "0123456789" not in errors and "[key]" in errors
