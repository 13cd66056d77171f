"""Speed against the slow way in the same run, and against the arithmetic floor.

    make bench        (or: python -m benchmarks.speed)

The slow way is what a plain loop does: one whole forward pass, all positions projected onto the
vocabulary, for each (question, layer, multiplier), or for each answer of a contrast pair. It is
sampled and interleaved with the fast way, so that both see the same machine. Prints a table and
writes benchmarks/speed.json.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.floor import grid_flops, matrix_rate, pair_flops, seconds
from benchmarks.plain import all_logits, steered_logits
from llama_wrapper import LlamaWrapper
from utils.blocks.vocabulary import letter_probabilities
from utils.data.evaluation import LETTER_TESTS, OPEN_ENDED
from utils.data.items import load_ab_items
from utils.extraction.pairs import PairOutputs
from utils.files.paths import REPOSITORY, Paths
from utils.models.choice import choose_model
from utils.prompts.format import LetterPrompt, OpenPrompt
from utils.steering.decoding import CPU_ROWS, GreedyGrid
from utils.steering.grid import LetterGrid, deltas_of
from utils.steering.one_pass import Steer

QUESTIONS = 24
OPEN_BEHAVIORS, OPEN_BATCHES, NEW_TOKENS = ("refusal", "sycophancy"), 3, 100
STEERED_COLUMNS = (0, 6, 2)
OPEN_MULTIPLIERS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
SLOW_SAMPLES = 24
MULTIPLIERS = (-1.0, 0.0, 1.0)
SEED = 0


def prompts_of_length(wrapper: LlamaWrapper, tokens: int) -> list[LetterPrompt]:
    """Real pairs, lengthened with the text of others to within 3 % of a number of tokens."""
    paths = Paths(REPOSITORY, REPOSITORY / "datasets")
    files = sorted((REPOSITORY / "datasets" / "generate").glob("*/generate_dataset.json"))
    items = [
        i for f in files for i in load_ab_items(paths.generate_data(f.parent.name), made_by="")
    ]
    random.Random(SEED).shuffle(items)
    prompt_format = wrapper.prompt_format()
    found: list[LetterPrompt] = []
    words = " ".join(item.question.split("\n")[0] for item in items).split()
    for item in items:
        for extra in range(0, tokens, 2):
            begin = 37 * len(found)
            question = " ".join([*words[begin : begin + extra], item.question])
            prompt = prompt_format.letter_prompt(question, ("A", "B"))
            if len(prompt.ids) > 1.03 * tokens:
                break
            if len(prompt.ids) >= 0.97 * tokens:
                found.append(prompt)
                break
        if len(found) == QUESTIONS:
            return found
    raise RuntimeError(f"not enough questions of {tokens} tokens")


def random_vectors(wrapper: LlamaWrapper) -> dict[int, torch.Tensor]:
    """Vectors of the norms that real ones have here."""
    generator = torch.Generator().manual_seed(SEED)
    return {
        n: torch.randn(wrapper.width, generator=generator) * 0.1 for n in range(wrapper.n_layers)
    }


def choice_prompts(wrapper: LlamaWrapper, type: str) -> list[LetterPrompt]:
    """The first questions of a test with categories."""
    paths = Paths(REPOSITORY, REPOSITORY / "datasets")
    items = LETTER_TESTS[type].load(paths, "", QUESTIONS)
    return [wrapper.prompt_format().letter_prompt(item.question, ("A", "B")) for item in items]


def grid_benchmark(
    wrapper: LlamaWrapper, prompts: list[LetterPrompt], rates: list[float]
) -> dict[str, Any]:
    steers = deltas_of(random_vectors(wrapper), MULTIPLIERS)
    started = time.perf_counter()
    grid = LetterGrid(wrapper, prompts, steers)
    setup = time.perf_counter() - started
    assert grid.packed is not None
    generator, slow, fast, deviation = random.Random(SEED), [], [], 0.0
    grid.probabilities(grid.batches[0])
    for batch in grid.batches:
        start = time.perf_counter()
        found = grid.probabilities(batch)
        fast.append((time.perf_counter() - start, len(batch)))
        for _ in range(max(1, SLOW_SAMPLES // len(grid.batches))):
            row, column = generator.randrange(len(batch)), generator.randrange(len(steers))
            prompt, steer = prompts[batch[row]], steers[column]
            start = time.perf_counter()
            logits = steered_logits(wrapper, prompt, steer)
            slow.append(time.perf_counter() - start)
            expected = letter_probabilities(logits, list(prompt.letters.values()))
            deviation = max(deviation, float((found[row, 1 + column] - expected).abs().max()))
        rates.append(matrix_rate(wrapper))
    lengths = [len(p.ids) for p in prompts]
    flops = grid_flops(
        wrapper, lengths, grid.packed.prefix, prompts[0].tail, [s.layer for s in steers]
    )
    fast_question = sum(t for t, _ in fast) / len(prompts)
    slow_question = statistics.median(slow) * wrapper.n_layers * len(MULTIPLIERS)
    return {
        "tokens": statistics.mean(lengths),
        "slow_s_per_question": slow_question,
        "fast_s_per_question": fast_question,
        "speedup": slow_question / fast_question,
        "floor_s_per_question": flops / len(prompts) / statistics.median(rates),
        "largest_deviation": deviation,
        "setup_s_per_run": setup,
    }


def pair_benchmark(wrapper: LlamaWrapper, tokens: int, rates: list[float]) -> dict[str, Any]:
    prompts = prompts_of_length(wrapper, tokens)
    layers = list(range(wrapper.n_layers))
    pairs = PairOutputs(wrapper, prompts, layers)
    assert pairs.packed is not None
    pairs.outputs(pairs.batches[0])
    fast, slow, deviation = 0.0, [], 0.0
    for batch in pairs.batches:
        start = time.perf_counter()
        found = pairs.outputs(batch)
        fast += time.perf_counter() - start
        for index, outputs in list(zip(batch, found, strict=True))[:3]:
            rows = [(*prompts[index].ids, n) for n in prompts[index].letters.values()]
            with wrapper.record(layers) as recorded:
                for answer, row in enumerate(rows):
                    slow.append(seconds(partial(all_logits, wrapper, row)))
                    expected = torch.stack([recorded[n][0, -1] for n in layers])
                    error = (outputs[answer] - expected).norm(dim=-1) / expected.norm(dim=-1)
                    deviation = max(deviation, float(error.max()))
        rates.append(matrix_rate(wrapper))
    lengths = [len(p.ids) + 1 for p in prompts]
    flops = pair_flops(wrapper, lengths, pairs.packed.prefix, wrapper.n_layers)
    return {
        "tokens": statistics.mean(lengths),
        "slow_s_per_pair": 2 * statistics.median(slow),
        "fast_s_per_pair": fast / len(prompts),
        "speedup": 2 * statistics.median(slow) * len(prompts) / fast,
        "floor_s_per_pair": flops / len(prompts) / statistics.median(rates),
        "largest_relative_deviation": deviation,
    }


def batched_generate(
    wrapper: LlamaWrapper, prompts: Sequence[OpenPrompt], steer: Steer
) -> list[list[int]]:
    """What a user would write: the library's own ``generate`` on one batch, and one hook.

    Left padding puts the end of every instruction in the last columns; later calls hold one
    generated token.
    """
    tail = prompts[0].tail

    def hook(_module: Any, _args: Any, output: torch.Tensor) -> None:
        output[:, -tail:] += steer.delta

    handle = wrapper.blocks[steer.layer].register_forward_hook(hook)
    try:
        return wrapper.generate([p.ids for p in prompts], max_new_tokens=NEW_TOKENS)
    finally:
        handle.remove()


def open_prompts(wrapper: LlamaWrapper) -> list[OpenPrompt]:
    """As many as fill a batch of one multiplier, in the order in which they stand."""
    paths = Paths(REPOSITORY, REPOSITORY / "datasets")
    items = [i for b in OPEN_BEHAVIORS for i in OPEN_ENDED.load(paths, b, None)]
    return [wrapper.prompt_format().open_prompt(item.question) for item in items]


def open_benchmark(wrapper: LlamaWrapper) -> dict[str, Any]:
    """Many questions x 7 multipliers, whole batches of all questions' work sampled.

    Against one answer at a time, and against :func:`batched_generate` with as many rows.
    """
    vector = random_vectors(wrapper)[15]
    cells = [Steer(15, m * vector) if m else None for m in OPEN_MULTIPLIERS]
    count = CPU_ROWS // len(cells) * len(cells)
    prompts = open_prompts(wrapper)[:count]
    assert len(prompts) == count
    grid = GreedyGrid(wrapper, prompts, cells, max_new_tokens=NEW_TOKENS)
    alone = GreedyGrid(wrapper, prompts, cells, max_new_tokens=NEW_TOKENS, slow=True)
    assert grid.together
    generator = random.Random(SEED)
    fast, slow, batched, lengths = [], [], [], []
    same = {"one at a time": [0, 0], "batched": [0, 0]}
    full = [batch for batch in grid.batches if len(batch) == len(grid.batches[0])]
    for turn, batch in enumerate(generator.sample(full, OPEN_BATCHES)):
        start = time.perf_counter()
        found = grid.answers(batch)
        fast.append((time.perf_counter() - start) / (len(batch) * len(cells)))
        lengths += [len(answer.tokens) for answers in found for answer in answers]
        for _ in range(2):
            row, column = generator.randrange(len(batch)), generator.randrange(len(cells))
            start = time.perf_counter()
            expected = alone._one(prompts[batch[row]], cells[column])
            slow.append(time.perf_counter() - start)
            _count(same["one at a time"], expected.tokens == found[row][column].tokens)
        column = STEERED_COLUMNS[turn]
        steer = cells[column]
        assert steer is not None
        start = time.perf_counter()
        texts = batched_generate(wrapper, prompts, steer)
        batched.append((time.perf_counter() - start) / count)
        for index, answers in zip(batch, found, strict=True):
            _count(same["batched"], tuple(texts[index]) == answers[column].tokens)
    fast_answer, slow_answer = statistics.mean(fast), statistics.mean(slow)
    return {
        "answers_sampled": len(lengths),
        "rows": len(full[0]) * len(cells),
        "rows_of_generate": count,
        "mean_tokens": statistics.mean(lengths),
        "slow_s_per_answer": slow_answer,
        "batched_s_per_answer": statistics.mean(batched),
        "fast_s_per_answer": fast_answer,
        "speedup": slow_answer / fast_answer,
        "speedup_of_batched": statistics.mean(batched) / fast_answer,
        "same_text": {name: f"{a} of {b} sampled" for name, (a, b) in same.items()},
        "load": os.getloadavg(),
    }


def _count(counts: list[int], same: bool) -> None:
    counts[0] += same
    counts[1] += 1


def help_seconds() -> dict[str, float]:
    found = {}
    for script in ("generate_vectors", "normalize_vectors", "prompting_with_steering"):
        command = [sys.executable, str(REPOSITORY / f"{script}.py"), "--help"]
        times = [seconds(partial(subprocess.run, command, capture_output=True)) for _ in range(5)]
        found[script] = statistics.median(times)
    return found


def main() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    wrapper = LlamaWrapper.load(choose_model(None, None, False), device="cpu")
    rates = [matrix_rate(wrapper) for _ in range(5)]
    report: dict[str, Any] = {"threads": torch.get_num_threads()}
    for tokens in (95, 190):
        prompts = prompts_of_length(wrapper, tokens)
        report[f"grid_{tokens}"] = grid_benchmark(wrapper, prompts, rates)
    for type in ("bundled_misconceptions", "bundled_knowledge"):
        report[type] = grid_benchmark(wrapper, choice_prompts(wrapper, type), rates)
    report["vectors"] = pair_benchmark(wrapper, 95, rates)
    report["open_ended"] = open_benchmark(wrapper)
    report["matrix_gflops"] = statistics.median(rates) / 1e9
    report["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    report["help_s"] = help_seconds()
    for name, values in report.items():
        if name == "open_ended":
            print(
                f"open_ended  slow {values['slow_s_per_answer']:.2f} s"
                f"  batched generate {values['batched_s_per_answer']:.3f} s"
                f"  fast {values['fast_s_per_answer']:.3f} s an answer  {values['speedup']:.1f}x"
                f" and {values['speedup_of_batched']:.2f}x"
                f"  same text: {values['same_text']}"
            )
        elif isinstance(values, dict) and "speedup" in values:
            unit = "pair" if name == "vectors" else "question"
            floor = values[f"fast_s_per_{unit}"] / values[f"floor_s_per_{unit}"]
            values["times_floor"] = floor
            print(
                f"{name:22} {values['tokens']:5.0f} tokens"
                f"  slow {values[f'slow_s_per_{unit}']:7.3f} s"
                f"  fast {values[f'fast_s_per_{unit}']:6.3f} s a {unit}  {values['speedup']:6.1f}x"
                f"  {floor:4.2f}x floor"
            )
    print(json.dumps(report, indent=2))
    Path(REPOSITORY / "benchmarks" / "speed.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
