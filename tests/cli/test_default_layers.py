"""--layers as people write it, and chains of scripts in which nothing is repeated but --limit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import artifacts, call

import analyze_vectors
import generate_vectors
import plot_activations
import plot_results
import prompting_with_steering
import scoring
from utils.errors import UserError

WITH_LAYERS = [
    analyze_vectors,
    generate_vectors,
    plot_activations,
    plot_results,
    prompting_with_steering,
    scoring,
]
LABEL = "tiny-llama"


@pytest.fixture
def flags(tmp_path: Path, datasets: Path, tiny_folder: Path) -> list[object]:
    folders = ["--artifacts_dir", tmp_path / "out", "--datasets_dir", datasets]
    return ["--model", tiny_folder, *folders]


@pytest.mark.parametrize("script", WITH_LAYERS, ids=lambda s: s.__name__)
@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["13"], [13]),
        (["0-3"], [0, 1, 2, 3]),
        (["5", "10-12", "0-1"], [0, 1, 5, 10, 11, 12]),
        (["2-2", "2", "1-3"], [1, 2, 3]),
        (["all"], None),
        (["3", "all"], None),
        (None, None),
    ],
)
def test_layers_are_numbers_ranges_or_all(
    script: object, texts: list[str] | None, expected: list[int] | None
) -> None:
    more = [] if texts is None else ["--layers", *texts]
    assert script.build_parser().parse_args(more).layers == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("script", WITH_LAYERS, ids=lambda s: s.__name__)
@pytest.mark.parametrize(
    "text", ["29-0", "0-", "x", "1.5", "0..3", "1-2-3", "0-9999999999", "9" * 5000]
)
def test_what_is_no_layer_is_refused_before_anything_is_read(
    script: object, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        script.build_parser().parse_args(["--layers", text])  # type: ignore[attr-defined]
    assert caught.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "--layers" in message and "0-29" in message


def test_a_range_beyond_the_model_names_the_layers(flags: list[object]) -> None:
    with pytest.raises(UserError, match=r"--layers 4 5 6: .* has layers 0 to 3"):
        call("generate_vectors", "--layers", "2-6", *flags)


def test_without_layers_and_multipliers_a_sweep_is_of_all_that_there_are(
    flags: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert call("generate_vectors", *flags) == 0
    assert len(list(out.glob(f"vectors/calm/vec_layer_?_{LABEL}.pt"))) == 4
    for path in out.glob(f"vectors/*/vec_layer_3_{LABEL}.pt"):
        path.unlink()
    assert call("normalize_vectors", *flags[2:]) == 0
    assert call("prompting_with_steering", *flags) == 0
    names = {p.name for p in out.glob("results/bold/*.json")}
    assert names == {
        f"results_layer={layer}_multiplier={m}_behavior=bold_type=ab_model={LABEL}.json"
        for layer in (0, 1, 2)
        for m in ("-1.0", "0.0", "1.0")
    }


def test_without_vectors_the_missing_one_is_named_with_its_command(flags: list[object]) -> None:
    with pytest.raises(UserError, match=r"missing vector .*vec_layer_0_(.|\n)*generate_vectors"):
        call("prompting_with_steering", *flags)


def test_one_vector_at_every_layer_is_of_all_layers(flags: list[object], tmp_path: Path) -> None:
    assert call("generate_vectors", "--layers", 1, *flags) == 0
    assert call("normalize_vectors", *flags[2:]) == 0
    options = ["--override_vector", 1, "--multipliers", 1, "--behaviors", "calm"]
    assert call("prompting_with_steering", *options, *flags) == 0
    assert len(list(tmp_path.glob("out/results/calm/*.json"))) == 4


def test_doses_take_the_place_of_the_default_multipliers(flags: list[object]) -> None:
    parsed = prompting_with_steering.build_parser().parse_args(["--doses", "0.1"])
    assert prompting_with_steering.flag_values.strengths(parsed) == ("dose", [0.1])


def vector_of(path: Path) -> str | None:
    record = json.loads(path.with_name(f".{path.name}.record").read_text())
    return record["inputs"]["vector"]


def sha_of(path: Path) -> str:
    return str(json.loads(path.with_name(f".{path.name}.record").read_text())["sha256"])


def test_a_chain_of_a_try_finds_its_own_vectors(
    flags: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also beside vectors of all pairs, which are not to be taken in place of them."""
    out, limit = tmp_path / "out", ("--limit", 4)
    assert call("generate_vectors", *flags) == 0
    assert call("normalize_vectors", *flags[2:]) == 0
    before = artifacts(out)
    assert call("generate_vectors", *limit, *flags) == 0
    assert "(a try: --limit" in capsys.readouterr().out
    assert call("normalize_vectors", *limit, *flags[2:]) == 0
    assert call("prompting_with_steering", *limit, *flags) == 0
    said = capsys.readouterr().out
    assert "a try: the first 4 questions; vectors of the first 4 pairs: bold, calm" in said
    tried = out / "normalized_vectors" / "calm" / f"vec_layer_2_{LABEL}_limit=4.pt"
    name = f"results_layer=2_multiplier=1.0_behavior=calm_type=ab_model={LABEL}_limit=4.json"
    assert vector_of(out / "results" / "calm" / name) == sha_of(tried)
    assert before.items() <= artifacts(out).items(), "what is not of the try stays"


def test_a_try_without_vectors_of_its_own_takes_the_full_ones_and_says_so(
    flags: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("generate_vectors", "--layers", 1, *flags) == 0
    assert call("normalize_vectors", *flags[2:]) == 0
    assert call("generate_vectors", "--layers", 1, "--limit", 3, "--behaviors", "bold", *flags) == 0
    assert call("normalize_vectors", "--limit", 3, *flags[2:]) == 0
    capsys.readouterr()
    assert call("prompting_with_steering", "--limit", 3, *flags) == 0
    said = capsys.readouterr().out
    assert "vectors of the first 3 pairs: bold; vectors of all pairs: calm" in said


def test_a_missing_vector_of_a_try_is_made_with_the_same_limit(flags: list[object]) -> None:
    limit = ("--limit", 4, "--behaviors", "calm")
    assert call("generate_vectors", "--layers", 1, *limit, *flags) == 0
    assert call("normalize_vectors", *limit, *flags[2:]) == 0
    with pytest.raises(UserError, match=r"generate_vectors.* --limit 4.*normalize.* --limit 4"):
        call("prompting_with_steering", "--layers", "1-2", *limit, *flags)


def test_normalising_a_try_leaves_the_other_vectors_alone(
    flags: list[object], tmp_path: Path
) -> None:
    assert call("generate_vectors", "--layers", 1, *flags) == 0
    assert call("generate_vectors", "--layers", 1, "--limit", 4, *flags) == 0
    assert call("normalize_vectors", "--limit", 4, *flags[2:]) == 0
    made = [p.name for p in tmp_path.glob("out/normalized_vectors/calm/*.pt")]
    assert made == [f"vec_layer_1_{LABEL}_limit=4.pt"]
    with pytest.raises(UserError, match="under --limit 5"):
        call("normalize_vectors", "--limit", 5, *flags[2:])
