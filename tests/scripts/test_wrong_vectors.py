"""Wrong vectors: missing ones with the commands that make them, and what cannot be added."""

from __future__ import annotations

import pytest
import torch
from bench import (
    NORMALIZE,
    PROMPT,
    Bench,
    bench,
    says,
    the_model_never_loads,
)

__all__ = ("bench", "the_model_never_loads")  # fixtures

STEERED = ["--behaviors", "calm", "--multipliers", 1]


def test_a_missing_vector_names_the_commands_that_make_it(bench: Bench) -> None:
    message = bench.refused(PROMPT, *STEERED, "--layers", 2)
    says(message, bench.vector("normalized_vectors", "calm", 2), "./normalize_vectors.py")
    says(message, f"./generate_vectors.py --behaviors calm --layers 2 --model {bench.model}")


def test_a_vector_that_only_lacks_normalizing_names_that_command_alone(bench: Bench) -> None:
    bench.put_vector("vectors", "calm", 1, torch.ones(32))
    message = bench.refused(PROMPT, *STEERED)
    says(message, bench.vector("normalized_vectors", "calm", 1), "./normalize_vectors.py")
    assert "generate_vectors" not in message


def test_the_commands_of_a_missing_vector_look_into_the_folders_of_the_run(bench: Bench) -> None:
    message = bench.refused(PROMPT, *STEERED)
    says(message, f"--artifacts_dir {bench.artifacts}", f"--datasets_dir {bench.datasets}")


def test_a_vector_of_another_layer_is_not_taken_for_the_one_asked_for(bench: Bench) -> None:
    bench.put_vector("normalized_vectors", "calm", 1, torch.ones(32))
    says(bench.refused(PROMPT, *STEERED, "--layers", 1, 2), "vec_layer_2_", "--layers 2")


def test_the_missing_vector_of_an_override_is_named(bench: Bench) -> None:
    bench.put_vector("normalized_vectors", "calm", 1, torch.ones(32))
    message = bench.refused(PROMPT, *STEERED, "--override_vector", 3)
    says(message, bench.vector("normalized_vectors", "calm", 3), "--layers 3")


def test_the_missing_vectors_of_another_model_are_named(bench: Bench) -> None:
    bench.put_vector("normalized_vectors", "calm", 1, torch.ones(32))
    message = bench.refused(PROMPT, *STEERED, "--override_vector_model", "other/Model-9b")
    says(message, bench.vector("normalized_vectors", "calm", 1, "Model-9b"))
    says(message, "./generate_vectors.py --behaviors calm --layers 1", "./normalize_vectors.py")


def test_the_command_for_vectors_of_another_model_names_that_model(bench: Bench) -> None:
    message = bench.refused(PROMPT, *STEERED, "--override_vector_model", "other/Model-9b")
    says(message.split("Make it with:")[1], "Model-9b")


@pytest.mark.parametrize(
    ("vector", "wanted"),
    [
        (torch.ones(24), ["width 24", "has 32", "another model"]),
        (torch.ones(1, 32), ["1-D"]),
        (torch.ones(32, dtype=torch.int64), ["floating-point"]),
        (torch.full((32,), float("nan")), ["NaN"]),
        (torch.full((32,), float("inf")), ["infinite"]),
    ],
    ids=["width", "two_dimensions", "integers", "nan", "infinite"],
)
def test_a_vector_that_cannot_be_added_is_named(
    bench: Bench, vector: torch.Tensor, wanted: list[str]
) -> None:
    path = bench.put_vector("normalized_vectors", "calm", 1, vector)
    says(bench.refused(PROMPT, *STEERED), path, *wanted)


def test_a_vector_file_of_another_kind_is_named(bench: Bench) -> None:
    path = bench.put_vector("normalized_vectors", "calm", 1, torch.ones(32))
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    says(bench.refused(PROMPT, *STEERED), path, "no plain tensor file")


def test_without_any_raw_vector_normalizing_names_the_command(bench: Bench) -> None:
    says(bench.refused(NORMALIZE), bench.artifacts / "vectors", "./generate_vectors.py")


def test_normalizing_an_unknown_model_names_it(bench: Bench) -> None:
    bench.put_vector("vectors", "calm", 1, torch.ones(32))
    says(bench.refused(NORMALIZE, "--model", "tiny"), "no vectors of tiny", "./generate_vectors.py")


def test_normalizing_over_unlike_sets_of_behaviours_names_the_missing_vector(bench: Bench) -> None:
    for behavior, layer in (("calm", 1), ("bold", 1), ("calm", 2)):
        bench.put_vector("vectors", behavior, layer, torch.ones(32))
    message = bench.refused(NORMALIZE)
    says(message, "layer 2", "bold", "./generate_vectors.py --behaviors bold --layers 2")


@pytest.mark.parametrize(
    ("vector", "wanted"),
    [(torch.zeros(32), "zero"), (torch.full((32,), float("nan")), "NaN")],
    ids=["zero", "nan"],
)
def test_normalizing_writes_nothing_if_the_last_of_the_vectors_is_bad(
    bench: Bench, vector: torch.Tensor, wanted: str
) -> None:
    for layer in (0, 1, 2):
        bench.put_vector("vectors", "bold", layer, torch.ones(32))
        bench.put_vector("vectors", "calm", layer, torch.ones(32) if layer < 2 else vector)
    says(bench.refused(NORMALIZE), "calm", "2", wanted)
