"""Names of vectors, activations, figures and records, and what git shows of them."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from file_names import LLAMA, OTHER, paths, touch

from utils.files.paths import REPOSITORY, Paths, record_path

__all__ = ("paths",)  # fixtures


# ---------------------------------------------------------------- vectors and activations


def test_names_of_vectors_and_activations(paths: Paths) -> None:
    root = paths.artifacts
    model = "Llama-2-7b-chat-hf"
    name = "vec_layer_13_Llama-2-7b-chat-hf.pt"
    raw = paths.vector("sycophancy", 13, model, normalized=False)
    normalized = paths.vector("sycophancy", 13, model, normalized=True)
    assert raw == root / "vectors" / "sycophancy" / name
    assert normalized == root / "normalized_vectors" / "sycophancy" / name
    for sign in ("pos", "neg"):
        expected = f"activations_{sign}_13_Llama-2-7b-chat-hf.pt"
        assert paths.activations("sycophancy", sign, 13, model) == (
            root / "activations" / "sycophancy" / expected
        )


def test_names_of_data(paths: Paths) -> None:
    data = paths.datasets
    assert paths.generate_data("x") == data / "generate" / "x" / "generate_dataset.json"
    assert paths.test_data("x", "ab") == data / "test" / "x" / "test_dataset_ab.json"
    assert paths.test_data("x", "open_ended") == (
        data / "test" / "x" / "test_dataset_open_ended.json"
    )
    assert paths.description("x").parent == paths.generate_data("x").parent


def test_names_of_figures(paths: Paths) -> None:
    assert paths.figure("a") == paths.artifacts / "analysis" / "a.png"
    assert paths.figure("a", "x", ".txt") == paths.artifacts / "analysis" / "x" / "a.txt"
    dotted = paths.figure("multipliers_layer=1_model=Q2.5")
    assert dotted.name == "multipliers_layer=1_model=Q2.5.png"


def test_records_and_journals_are_never_taken_for_results(paths: Paths) -> None:
    result = paths.result(LLAMA)
    beside = [
        record_path(result),
        paths.journal("sycophancy", "f" * 64),
        paths.vector_progress("sycophancy", "m"),
    ]
    for path in beside:
        assert path.name.startswith(".") and not path.match("results_*.json")
    assert record_path(result).parent == result.parent


def test_vectors_of_lists_layers_and_models_in_order(paths: Paths) -> None:
    made = [(2, "a_b.c"), (10, "a_b.c"), (10, "z_limit=8"), (2, "Llama-2-7b-chat-hf")]
    for layer, model in made:
        path = touch(paths.vector("calm", layer, model, normalized=False))
        touch(record_path(path))
    folder = paths.artifacts / "vectors" / "calm"
    for decoy in (
        "vec_layer_3_m.txt",
        "vec_layer_3_m.pt.bak",
        "vec_layer_3.pt",
        "vec_layer_x_m.pt",
        "vec_layer_-1_m.pt",
        "vec_layer_3_.pt",
        ".vec_layer_3_m.pt.77.tmp",
        "old_vec_layer_3_m.pt",
        "activations_pos_3_m.pt",
    ):
        touch(folder / decoy)
    touch(paths.vector_progress("calm", "m"))
    touch(paths.vector("calm", 3, "m", normalized=True))
    touch(paths.vector("bold", 3, "m", normalized=False))
    assert paths.vectors_of("calm") == sorted(made)
    for layer, model in paths.vectors_of("calm"):
        assert paths.vector("calm", layer, model, normalized=False).exists()


@pytest.mark.parametrize("number", ["007", "\u0663"], ids=["zeros", "arabic"])
def test_a_layer_that_is_not_written_as_we_write_it_is_not_listed(
    paths: Paths, number: str
) -> None:
    touch(paths.artifacts / "vectors" / "calm" / f"vec_layer_{number}_m.pt")
    assert paths.vectors_of("calm") == []


def test_behaviours_with_vectors(paths: Paths) -> None:
    assert paths.behaviors_with_vectors() == []
    for behavior in ("calm", "bold"):
        touch(paths.vector(behavior, 3, "m", normalized=False))
    (paths.artifacts / "vectors" / "empty").mkdir()
    touch(paths.artifacts / "vectors" / "notes.txt")
    touch(paths.artifacts / "vectors" / "odd" / "notes.txt")
    assert paths.behaviors_with_vectors() == ["bold", "calm"]


# ---------------------------------------------------------------- what git shows of them


def git(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(REPOSITORY), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def checkout() -> Paths:
    """The default root, where it is a git checkout."""
    if shutil.which("git") is None or git("rev-parse").returncode:
        pytest.skip("this copy of the repository is no git checkout (of this user)")
    return Paths(REPOSITORY, REPOSITORY / "datasets")


def test_no_tracked_file_is_ignored(checkout: Paths) -> None:
    """Or a new one beside it would never show, and what is committed would drift."""
    tracked = git("ls-files")
    assert (
        tracked.returncode == 0 and "results/" in tracked.stdout and "analysis/" in tracked.stdout
    )
    ignored = git("ls-files", "--cached", "--ignored", "--exclude-standard")
    assert (ignored.returncode, ignored.stdout) == (0, "")


def test_finished_artefacts_show_and_unfinished_or_large_ones_do_not(checkout: Paths) -> None:
    shown = [
        *(checkout.result(n) for n in (LLAMA, OTHER)),
        checkout.scores(OTHER),
        checkout.figure("LAYER_SWEEPS_type=ab_model=any"),
        checkout.figure("PCA_layer=1_model=any", "calm", ".txt"),
        *(checkout.vector("calm", 3, "any", normalized=n) for n in (False, True)),
        checkout.test_data("calm", "ab"),
    ]
    shown += [record_path(path) for path in shown]
    weights = checkout.finetuned("calm", "pos", None, None, None)
    cache = checkout.artifacts / "results/open_ended_scores/.cache/calm.lock"
    hidden = [
        *(checkout.journal("calm", "0123456789abcdef", rank) for rank in (0, 1)),
        *(checkout.vector_progress("calm", "any", rank) for rank in (0, 1)),
        checkout.activations("calm", "pos", 3, "any"),
        checkout.finetuning_state(weights) / "step_1/run.json",
        *(weights, record_path(weights), cache, checkout.artifacts / "datasets/paper/test/x.json"),
    ]
    hidden += [p.with_name(f"{p.name}_lock") for p in hidden[:4]]
    hidden += [p.with_name(f".{p.name}.4711.tmp") for p in shown]
    for files, status in ((shown, 1), (hidden, 0)):
        for path in files:
            assert git("check-ignore", "--quiet", "--no-index", path).returncode == status, path
