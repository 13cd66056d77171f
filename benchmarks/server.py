"""The server under 64 clients at once, against one at a time and against ``transformers serve``.

    python -m benchmarks.server --seconds 120      (two cores: OMP_NUM_THREADS=2)

Starts serve.py on the bundled model, and asks 64 requests alone, one after another, each with a
vector, a layer and a strength of its own, greedily. Then as many clients ask them all at once, for
so long, and each answer is held against that of the same request alone. Prints what it finds and
writes benchmarks/server.json.
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

CLIENTS, FEW = 64, 8
LAYERS, DOSES, BEHAVIORS = (8, 12, 15, 18), (-0.3, -0.15, 0.15, 0.3), ("refusal", "sycophancy")
SEED = 0


@dataclass(frozen=True)
class Asked:
    """A request: a question, the id of the model that answers it, and its most tokens."""

    question: str
    model: str
    tokens: int


@dataclass(frozen=True)
class Answered:
    """What came, how many tokens it has, and after how many seconds."""

    text: str
    tokens: int
    seconds: float


def requests(model: str, tokens: int, *, steered: bool = True) -> list[Asked]:
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
        found.append(Asked(generator.choice(texts), model + ending, tokens))
    return found


def ask(client: OpenAI, asked: Asked) -> Answered:
    began = time.perf_counter()
    reply = client.chat.completions.create(
        model=asked.model,
        messages=[{"role": "user", "content": asked.question}],
        temperature=0,
        max_tokens=asked.tokens,
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
    """Let clients ask for so long, and for each request once; whatever goes wrong is raised."""
    lock, end = threading.Lock(), time.perf_counter() + seconds
    place = iter(range(10**9))
    found: list[tuple[Asked, Answered]] = []

    def one() -> None:
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)
        while True:
            with lock:
                number = next(place)
            if number >= len(todo) and time.perf_counter() > end:
                return
            asked = todo[number % len(todo)]
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


def ours(seconds: float, tokens: int, folder: Path) -> dict[str, object]:
    """This project's server: every request alone, then all under load, each held against itself."""
    log = folder / "serve.log"
    command = [sys.executable, "serve.py", "--port", "0"]
    process = start(command, lambda: log.exists() and "try:" in log.read_text(), log)
    try:
        url, model = log.read_text().split()[2], log.read_text().split()[0]
        todo = requests(model, tokens)
        single, own = under_load(url, todo, 1, 0)
        print("one at a time", single, flush=True)
        texts = {asked: answer.text for asked, answer in own}
        before = memory(process.pid)
        many, found = under_load(url, todo, CLIENTS, seconds / 2)
        print("first half", many, flush=True)
        between = memory(process.pid)
        more, again = under_load(url, todo, CLIENTS, seconds / 2)
        after = memory(process.pid)
    finally:
        process.terminate()
        process.wait(20)
    wrong = [(o, a.text, texts[o]) for o, a in found + again if a.text != texts[o]]
    return {
        "one at a time": asdict(single),
        "first half": asdict(many),
        "second half": asdict(more),
        "distinct requests": len(texts),
        "answers unlike alone": len(wrong),
        "unlike": [[one.model, one.question, got, own] for one, got, own in wrong[:5]],
        "MB before, between, after": [before, between, after],
    }


def theirs(seconds: float, tokens: int, folder: Path) -> dict[str, object]:
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
            ask(client, Asked("Hello", str(weights), 1))
        except Exception:  # noqa: BLE001
            return False
        return True

    try:
        process = start(command, ready, log)
    except RuntimeError as error:
        return {"does not run": str(error)}
    try:
        # it has one thread and no batches: more clients wait, and that is all
        todo = requests(str(weights), tokens, steered=False)[:FEW]
        single, _ = under_load(f"http://127.0.0.1:{port}", todo, 1, 0)
        many, _ = under_load(f"http://127.0.0.1:{port}", todo, FEW, seconds / 4)
    finally:
        process.terminate()
        process.wait(20)
    return {"one at a time": asdict(single), "at once": asdict(many)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--tokens", type=int, default=24, help="of an answer (default: 24)")
    parser.add_argument("--without_transformers", action="store_true")
    args = parser.parse_args()
    threads = os.environ.get("OMP_NUM_THREADS")
    found: dict[str, object] = {"threads": threads, "clients": CLIENTS, "tokens": args.tokens}
    with tempfile.TemporaryDirectory() as folder:
        found["ours"] = ours(args.seconds, args.tokens, Path(folder))
        print(json.dumps(found["ours"], indent=1), flush=True)
        if not args.without_transformers:
            found["transformers serve"] = theirs(args.seconds, args.tokens, Path(folder))
            print(json.dumps(found["transformers serve"], indent=1))
    place = REPOSITORY / "benchmarks" / "server.json"
    place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
