"""A data folder in which some contrast pairs are the A/B tests, for choosing a layer and a dose.

    python -m benchmarks.held_out_pairs FOLDER [--n_test 50]

A layer that was chosen on the test questions looks better on them than it is. In the folder that
this writes, ``--n_test`` pairs of each behaviour, drawn with a fixed seed, are its A/B test, and
the others are its contrast pairs; the project's own test questions are not in it at all. The demo's
layers and doses were chosen so (LOG.md has the commands).
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from utils.files.contents import read_json
from utils.files.durable import write_bytes
from utils.files.json_files import json_bytes
from utils.files.paths import REPOSITORY, Paths

SEED = 0


def drawn(letters: list[str], count: int, behavior: str) -> list[int]:
    """Items to hold out, as evenly over the letters as they are.

    The difference between two letters is many times as long as a vector: pairs that are left with
    more of one letter than of the other would give a vector of the letter.
    """
    generator = random.Random(f"{SEED} {behavior}")
    order = generator.sample(range(len(letters)), len(letters))
    order.sort(key=lambda i: letters[i])  # stable: random within a letter
    places = [(number + 0.5) * len(order) / count for number in range(count)]
    return [order[int(place)] for place in places]


def hold_out(source: Paths, target: Paths, behavior: str, count: int) -> tuple[int, int]:
    """Deal the pairs of one behaviour; how many are left as pairs, and how many are tests."""
    rows = read_json(source.generate_data(behavior))
    held = set(drawn([row["answer_matching_behavior"] for row in rows], count, behavior))
    parts = [
        [row for i, row in enumerate(rows) if (i in held) == wanted] for wanted in (False, True)
    ]
    write_bytes(target.generate_data(behavior), json_bytes(parts[0]))
    write_bytes(target.test_data(behavior, "ab"), json_bytes(parts[1]))
    description = source.description(behavior)
    if description.exists():
        value = json.loads(description.read_text(encoding="utf-8"))
        write_bytes(target.description(behavior), json_bytes(value))
    return len(parts[0]), len(parts[1])


def main(args: argparse.Namespace) -> None:
    source = Paths(REPOSITORY, REPOSITORY / "datasets")
    target = Paths(REPOSITORY, args.folder)
    for file in sorted((source.datasets / "generate").glob("*/generate_dataset.json")):
        behavior = file.parent.name
        pairs, tests = hold_out(source, target, behavior, args.n_test)
        print(f"{behavior:28}{pairs:5} pairs{tests:5} A/B questions")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n_test", type=int, default=50)
    main(parser.parse_args())
