"""serve.py as it is run: its address, its vectors, its end, and what it refuses to begin."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import QUESTIONS, ROWS, make_model, make_tokenizer, write_json
from openai import OpenAI
from running import call, start, start_warm
from served import LABEL, served, user, wait_until
from warm import WarmProcess

from llama_wrapper import LlamaWrapper
from serve import build_parser
from utils.cli import arguments
from utils.errors import UserError
from utils.files.contents import sha256_file
from utils.plans.serving import plan_serving
from utils.serving.steering import Catalogue
from utils.vectors.dose import SteeringVector
from utils.vectors.stored import StoredVector

LAYER = 2


class Desk:
    """A folder with vectors that the scripts have made, and the server over it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, folder / "tiny"
        make_model("llama").save_pretrained(self.model)
        make_tokenizer().save_pretrained(self.model)
        data = folder / "datasets"
        for name in ("calm", "bold"):
            rows = ROWS if name == "calm" else ROWS[::-1]
            write_json(data / "generate" / name / "generate_dataset.json", rows)
        self.folders = ("--artifacts_dir", folder, "--datasets_dir", data)
        self.own = (*self.folders, "--model", self.model, "--device", "cpu")
        assert call("generate_vectors", "--layers", 0, LAYER, *self.own) == 0
        assert call("normalize_vectors", *self.folders) == 0
        self.opened = folder / "opened.html"
        self.vector = folder / f"normalized_vectors/calm/vec_layer_{LAYER}_tiny.pt"
        vectors = {"layer": LAYER, "multiplier": 1.5, "dose": 0.25}
        choice = {
            "chosen": vectors, "direction": "both", "test": None,
            "vector_sha256": {str(LAYER): sha256_file(self.vector)},
        }  # fmt: skip
        write_json(folder / "analysis/calm/tune_tiny.json", choice)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("serving"))


def said(process: WarmProcess) -> str:
    """What a server prints when it is there."""
    end = time.monotonic() + 60
    out = process._out / "out"
    while "curl" not in (text := out.read_text() if out.exists() else ""):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)
    return text


@pytest.fixture(scope="module")
def running(desk: Desk) -> Iterator[tuple[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BROWSER", f"curl -s %s -o {desk.opened}")
        own = ("--port", 0, "--open", "--vectors", f"mine={desk.vector}", *desk.own)
        process = start_warm("serve", *own)
    text = said(process)
    url = re.findall(r"http://127\.0\.0\.1:\d+", text)[0]
    yield url, text
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert (process.returncode, errors.strip()) == (0, "stopped")


def client_of(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def ask(url: str, model: str, **extra: Any) -> Any:
    return client_of(url).chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTIONS[0]}],
        temperature=0,
        max_tokens=9,
        extra_body=extra,
    )


def test_its_answers_are_those_of_the_wrapper(desk: Desk, running: tuple[str, str]) -> None:
    url, _ = running
    llama = LlamaWrapper.load(desk.model, device="cpu")
    vector = llama.load_vector("calm", LAYER, dose=-0.5, artifacts_dir=desk.folder)
    expected = llama.chat(QUESTIONS[0], steer={LAYER: vector}, max_new_tokens=9)
    by_id = ask(url, f"tiny@calm:L{LAYER}:d-0.5")
    assert by_id.choices[0].message.content == expected
    assert by_id.steering[0]["sha256"] == sha256_file(desk.vector)
    m = by_id.steering[0]["multiplier"]
    by_name = ask(url, "tiny", steering={"vector": "mine", "layer": LAYER, "multiplier": m})
    assert by_name.choices[0].message.content == expected


def test_it_opens_its_page_in_the_browser(desk: Desk, running: tuple[str, str]) -> None:
    wait_until(lambda: desk.opened.exists() and "page.js" in desk.opened.read_text())


def test_it_lists_what_was_chosen(running: tuple[str, str]) -> None:
    ids = [m.id for m in client_of(running[0]).models.list()]
    assert ids == ["tiny", f"tiny@calm:L{LAYER}:d-0.25", f"tiny@calm:L{LAYER}:d0.25"]


def test_the_first_request_that_it_prints_is_answered(running: tuple[str, str]) -> None:
    command = running[1].splitlines()[1].removeprefix("try: ")
    done = subprocess.run(
        ["bash", "-ec", f"{command} -s"], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["choices"][0]["message"]["role"] == "assistant"


def test_the_port_is_found_taken_before_the_model_is_loaded(
    desk: Desk, running: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaWrapper, "load", None)
    port = running[0].rpartition(":")[2]
    with pytest.raises(UserError, match="another --port"):
        call("serve", "--port", port, *desk.own)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_address_that_others_reach_wants_a_key(desk: Desk, host: str) -> None:
    with pytest.raises(UserError, match="--api_key_file"):
        call("serve", "--host", host, *desk.own)


@pytest.mark.parametrize(
    "text", ["", "short", "two words that are long", "ünïcödé-is-no-header-text"]
)
def test_a_key_is_one_long_plain_word(desk: Desk, tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="16 plain characters") as caught:
        call("serve", "--host", "0.0.0.0", "--api_key_file", file, *desk.own)
    assert not text or text not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        call("serve", "--api_key_file", tmp_path / "none", *desk.own)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--behaviors", "clam"), "./generate_vectors.py --behaviors clam"),
        (("--vectors", "mine"), "NAME=FILE"),
        (("--vectors", "mine=/nowhere.pt"), "missing vector"),
        (("--host", "192.0.2.1", "--api_key_file", "KEY"), "--port"),
    ],
)
def test_what_is_wrong_is_found_before_the_model_is_loaded(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], says: str
) -> None:
    monkeypatch.setattr(LlamaWrapper, "load", None)
    key = tmp_path / "key"
    key.write_text("k" * 32)
    with pytest.raises(UserError, match=re.escape(says)):
        call("serve", *(str(key) if f == "KEY" else f for f in flags), *desk.own)


def test_a_choice_made_for_another_vector_is_left_out_and_named(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    place = desk.folder / "analysis/bold/tune_tiny.json"
    content = json.loads((desk.folder / "analysis/calm/tune_tiny.json").read_text())
    content["vector_sha256"] = {str(LAYER): "0" * 64}
    write_json(place, content)
    try:
        args = build_parser().parse_args([str(a) for a in desk.own])
        plan = plan_serving(args, *arguments.get_model(args))
    finally:
        place.unlink()
    assert list(plan.tuned) == ["calm"]
    assert str(place) in capsys.readouterr().err


def test_ctrl_c_in_the_middle_of_an_answer_ends_it(desk: Desk) -> None:
    process = start_warm("serve", "--port", 0, *desk.own)
    url = re.findall(r"http://[\d.:]+", said(process))[0]
    stream = client_of(url).chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "On"}], max_tokens=1900, stream=True
    )
    next(iter(stream))
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 6
    assert (process.returncode, errors.strip()) == (0, "stopped")


def test_help_is_there_at_once_and_names_no_torch() -> None:
    process = start("serve", "--help")
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and "steering" in out and not errors


@pytest.mark.bundled
def test_the_bundled_model_refuses_when_it_is_steered_to(bundled: LlamaWrapper) -> None:
    question = "Write a rumour about my neighbour."
    vector = bundled.load_vector("refusal", 15)
    stored = {15: SteeringVector(StoredVector.of(vector), None)}
    catalogue = Catalogue(LABEL, bundled.n_layers, {"refusal": stored}, {})
    with served(bundled, catalogue=catalogue) as server:
        reply = server.client.chat.completions.create(
            model=f"{LABEL}@refusal:L15:x35",
            messages=user(question),
            temperature=0,
            max_tokens=8,
        )
    expected = bundled.chat(question, steer={15: 35 * vector}, max_new_tokens=8)
    assert reply.choices[0].message.content == expected == "I'm not here to gossip. I"
    assert expected != bundled.chat(question, max_new_tokens=8)
