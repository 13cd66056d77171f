"""The server under 64 clients at once, against one at a time and against ``transformers serve``.

    python -m benchmarks.server --seconds 120      (two cores: OMP_NUM_THREADS=2)

Starts serve.py on the bundled model. Every client asks one question after another, each with a
vector, a layer and a strength of its own, greedily, and each answer is held against that of the
same request alone. Prints a table and writes benchmarks/server.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from openai import OpenAI

from utils.files.paths import REPOSITORY
from utils.weights.gguf_conversion import named_folder
from utils.weights.named import BUNDLED

CLIENTS, NEW_TOKENS = 64, 48
LAYERS, DOSES, BEHAVIORS = (8, 12, 15, 18), (-0.3, -0.15, 0.15, 0.3), ("refusal", "sycophancy")
SEED = 0


@dataclass(frozen=True)
class Asked:
    """A request: a question and the id of the model that answers it."""

    question: str
    model: str


@dataclass(frozen=True)
class Answered:
    """What came, how many tokens it has, and after how many seconds."""

    text: str
    tokens: int
    seconds: float


def requests(model: str, *, steered: bool = True) -> list[Asked]:
    """One for each client, with a cell of its own."""
    folder = REPOSITORY / "datasets" / "test"
    texts = [
        row["question"]
        for name in BEHAVIORS
        for row in json.loads((folder / name / "test_dataset_open_ended.json").read_text())
    ]
    generator = random.Random(SEED)
    found = []
    for _ in range(CLIENTS):
        cell = f"@{generator.choice(BEHAVIORS)}:L{generator.choice(LAYERS)}"
        ending = f"{cell}:d{generator.choice(DOSES)}" if steered else ""
        found.append(Asked(generator.choice(texts), model + ending))
    return found


def ask(client: OpenAI, asked: Asked) -> Answered:
    began = time.perf_counter()
    reply = client.chat.completions.create(
        model=asked.model,
        messages=[{"role": "user", "content": asked.question}],
        temperature=0,
        max_tokens=NEW_TOKENS,
    )
    tokens = reply.usage.completion_tokens if reply.usage else 0
    text = reply.choices[0].message.content or ""
    return Answered(text, tokens, time.perf_counter() - began)


def memory(process: int) -> float:
    """The resident memory of a process, in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@dataclass(frozen=True)
class Load:
    """What came of some clients within some seconds."""

    clients: int
    answers: int
    tokens_per_second: float
    p50: float
    p95: float


def under_load(
    url: str, todo: list[Asked], clients: int, seconds: float
) -> tuple[Load, list[tuple[Asked, Answered]]]:
    """Let clients ask for so long; whatever goes wrong is raised."""
    lock, end = threading.Lock(), time.perf_counter() + seconds
    place = iter(range(10**9))
    found: list[tuple[Asked, Answered]] = []

    def one() -> None:
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)
        while time.perf_counter() < end:
            with lock:
                asked = todo[next(place) % len(todo)]
            answer = ask(client, asked)
            with lock:
                found.append((asked, answer))

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for job in [pool.submit(one) for _ in range(clients)]:
            job.result()
    spent = time.perf_counter() - began
    times = sorted(answer.seconds for _, answer in found)
    rate = sum(answer.tokens for _, answer in found) / spent
    late = times[min(len(times) - 1, int(0.95 * len(times)))]
    return Load(clients, len(found), rate, statistics.median(times), late), found


def start(command: list[str], ready: Callable[[], bool], log: Path) -> subprocess.Popen[bytes]:
    """A server that is there."""
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log.open("wb"), stderr=2)
    end = time.monotonic() + 300
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise RuntimeError(f"{' '.join(command)} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)
    return process


def ours(seconds: float, folder: Path) -> dict[str, object]:
    """This project's server: alone, under load, and every answer held against its own alone."""
    log = folder / "serve.log"
    command = [sys.executable, "serve.py", "--port", "0"]
    process = start(command, lambda: log.exists() and "try:" in log.read_text(), log)
    try:
        url, model = log.read_text().split()[2], log.read_text().split()[0]
        todo = requests(model)
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        ask(client, todo[0])
        single, _ = under_load(url, todo, 1, seconds / 4)
        before = memory(process.pid)
        many, found = under_load(url, todo, CLIENTS, seconds / 2)
        between = memory(process.pid)
        more, again = under_load(url, todo, CLIENTS, seconds / 2)
        after = memory(process.pid)
        asked = dict.fromkeys(one for one, _ in found + again)
        texts = {one: ask(client, one).text for one in asked}
        wrong = [(o, a.text, texts[o]) for o, a in found + again if a.text != texts[o]]
        health = client.models.list().data[0].id
    finally:
        process.terminate()
        process.wait(20)
    return {
        "model": health,
        "one at a time": asdict(single),
        "first half": asdict(many),
        "second half": asdict(more),
        "distinct requests": len(texts),
        "answers unlike alone": len(wrong),
        "unlike": [[one.model, one.question, got, own] for one, got, own in wrong[:5]],
        "MB before, between, after": [before, between, after],
    }


def theirs(seconds: float, folder: Path) -> dict[str, object]:
    """``transformers serve`` with the same weights, unsteered, or why it does not run."""
    weights = named_folder(BUNDLED)
    port = random.randint(20_000, 40_000)
    log = folder / "transformers.log"
    command = [
        str(Path(sys.executable).with_name("transformers")), "serve", str(weights),
        "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32",
    ]  # fmt: skip
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=300)

    def ready() -> bool:
        try:
            ask(client, Asked("Hello", str(weights)))
        except Exception:  # noqa: BLE001
            return False
        return True

    try:
        process = start(command, ready, log)
    except RuntimeError as error:
        return {"does not run": str(error)}
    try:
        todo = requests(str(weights), steered=False)
        single, _ = under_load(f"http://127.0.0.1:{port}", todo, 1, seconds / 4)
        many, _ = under_load(f"http://127.0.0.1:{port}", todo, CLIENTS, seconds / 2)
    finally:
        process.terminate()
        process.wait(20)
    return {"one at a time": asdict(single), "many": asdict(many)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--without_transformers", action="store_true")
    args = parser.parse_args()
    threads = os.environ.get("OMP_NUM_THREADS")
    found: dict[str, object] = {"threads": threads, "clients": CLIENTS, "tokens": NEW_TOKENS}
    with tempfile.TemporaryDirectory() as folder:
        found["ours"] = ours(args.seconds, Path(folder))
        print(json.dumps(found["ours"], indent=1), flush=True)
        if not args.without_transformers:
            found["transformers serve"] = theirs(args.seconds, Path(folder))
            print(json.dumps(found["transformers serve"], indent=1))
    place = REPOSITORY / "benchmarks" / "server.json"
    place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
