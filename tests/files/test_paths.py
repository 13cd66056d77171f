"""Names of files: exactly those of the paper's repository, read back exactly."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utils.data.evaluation import AB
from utils.files.names import ResultName, Variant, format_strength
from utils.files.paths import REPOSITORY, Paths, record_path
from utils.scores.cells import cells_of, chosen_cells, discover_variants
from utils.scores.tables import load_scores

PUBLISHED = (
    "results_layer=13_multiplier=1.0_behavior=sycophancy_type=ab"
    "_use_base_model=False_model_size=7b.json"
)
LLAMA = ResultName(13, 1.0, "sycophancy", Variant("ab", use_base_model=False, model_size="7b"))
OTHER = ResultName(13, 1.0, "sycophancy", Variant("ab", model="SmolLM2-135M-Instruct-Q4_1"))
ROW = '[{"question": "?", "answer_matching_behavior": "(A)", "a_prob": 0.25, "b_prob": 0.25}]'


def varied(name: ResultName, **parts: Any) -> ResultName:
    """The same name with other parts, of its cell and of its variant."""
    own = {key: parts.pop(key) for key in ("layer", "strength") if key in parts}
    return replace(name, variant=replace(name.variant, **parts), **own)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, tmp_path / "datasets")


def touch(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


# ---------------------------------------------------------------- results


def test_the_name_of_a_published_result(paths: Paths) -> None:
    assert LLAMA.filename() == PUBLISHED
    assert ResultName.parse(PUBLISHED) == LLAMA
    assert paths.result(LLAMA) == paths.artifacts / "results" / "sycophancy" / PUBLISHED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            OTHER,
            "layer=13_multiplier=1.0_behavior=sycophancy_type=ab_model=SmolLM2-135M-Instruct-Q4_1",
        ),
        (
            varied(LLAMA, system_prompt="pos"),
            "layer=13_multiplier=1.0_behavior=sycophancy_type=ab_system_prompt=pos"
            "_use_base_model=False_model_size=7b",
        ),
        (
            varied(LLAMA, override_vector=15),
            "layer=13_multiplier=1.0_behavior=sycophancy_type=ab_override_vector=15"
            "_use_base_model=False_model_size=7b",
        ),
        (
            varied(LLAMA, layer=0, override_vector=0),
            "layer=0_multiplier=1.0_behavior=sycophancy_type=ab_override_vector=0"
            "_use_base_model=False_model_size=7b",
        ),
        (
            varied(LLAMA, override_vector_model="Llama-2-13b-hf"),
            "layer=13_multiplier=1.0_behavior=sycophancy_type=ab"
            "_override_vector_model=Llama-2-13b-hf_use_base_model=False_model_size=7b",
        ),
        (
            varied(LLAMA, override_model_weights_path="sycophancy_pos_finetune_all"),
            "layer=13_multiplier=1.0_behavior=sycophancy_type=ab_use_base_model=False"
            "_model_size=7b_override_model_weights_path=sycophancy_pos_finetune_all",
        ),
        (
            ResultName(
                layer=5,
                strength=-0.5,
                behavior="coordinate-other-ais",
                variant=Variant(
                    type="open_ended",
                    system_prompt="neg",
                    override_vector=13,
                    override_vector_model="Llama-2-7b-hf",
                    use_base_model=True,
                    model_size="13b",
                    override_model_weights_path="w",
                    limit=8,
                ),
            ),
            "layer=5_multiplier=-0.5_behavior=coordinate-other-ais_type=open_ended"
            "_system_prompt=neg_override_vector=13_override_vector_model=Llama-2-7b-hf"
            "_use_base_model=True_model_size=13b_override_model_weights_path=w_limit=8",
        ),
        (
            varied(OTHER, strength=0.2, unit="dose"),
            "layer=13_dose=0.2_behavior=sycophancy_type=ab_model=SmolLM2-135M-Instruct-Q4_1",
        ),
    ],
    ids=["model", "system", "vector", "layer_0", "vector_model", "weights", "all", "dose"],
)
def test_each_optional_part_has_its_place(name: ResultName, expected: str) -> None:
    assert name.filename() == f"results_{expected}.json"
    assert ResultName.parse(name.filename()) == name
    own = expected[expected.index("type=") :]
    assert name.variant.stem() == own and name.variant.stem(0) == f"layer=0_{own}"


def test_a_plain_variant_has_none_of_the_overrides_but_those_that_are_kept() -> None:
    own = varied(OTHER, limit=8, unit="dose").variant
    changed: dict[str, Any] = {
        "system_prompt": "pos",
        "override_vector": 0,
        "override_model_weights_path": "w",
    }
    other = replace(own, **changed)
    assert own.overrides == () and other.overrides == tuple(changed)
    assert own.plain() == own == other.plain()
    assert other.plain(keep=("override_vector",)) == replace(own, override_vector=0)


def test_variants_are_those_of_their_own_model_unit_and_kept_overrides() -> None:
    plain = varied(OTHER, limit=8)
    prompted = varied(plain, system_prompt="neg")
    moved = varied(plain, override_vector=3)
    both = varied(moved, system_prompt="neg")
    others = [varied(plain, limit=9), varied(plain, unit="dose"), varied(plain, model="m")]
    known = [both, *others, moved, prompted, plain]
    every = [n.variant for n in (plain, moved, prompted, both)]
    assert discover_variants(plain.variant, known) == every
    assert discover_variants(prompted.variant, known) == [prompted.variant, both.variant]
    assert discover_variants(varied(plain, limit=7).variant, known) == []


@pytest.mark.parametrize(
    ("multiplier", "text"),
    [
        (1, "1.0"),
        (1.0, "1.0"),
        (-1, "-1.0"),
        (0, "0.0"),
        (0.0, "0.0"),
        (-0.0, "0.0"),
        (-0.5, "-0.5"),
        (1.25, "1.25"),
        (0.1, "0.1"),
        (20, "20.0"),
        (np.float64(-0.0), "0.0"),
        (np.float32(0.5), "0.5"),
    ],
)
def test_multipliers_are_written_as_floats_and_zero_has_no_sign(
    multiplier: float, text: str
) -> None:
    assert format_strength(multiplier) == text
    name = replace(LLAMA, strength=multiplier)
    assert f"_multiplier={text}_" in name.filename()
    assert ResultName.parse(name.filename()) == name


def many_names() -> list[ResultName]:
    models: list[dict[str, object]] = [
        {"use_base_model": False, "model_size": "7b"},
        {"use_base_model": True, "model_size": "70b"},
        {"model": "SmolLM2-135M-Instruct-Q4_1"},
        {"model": "my_own_model_v1.5_base"},
        {"model": "Qwen2.5-0.5B.Q4_K_M"},
        {"model": "limit=8"},
        {"model": "a.json"},
    ]
    parts = itertools.product(
        (0, 1, 15, 131),
        (("multiplier", -1.0), ("multiplier", 0.0), ("dose", 0.1), ("multiplier", 1e-07)),
        ("sycophancy", "corrigible-neutral-HHH", "my_behavior"),
        ("ab", "open_ended", "truthful_qa"),
        (None, "pos", "neg"),
        ((None, None), (2, None), (None, "Llama-2-7b-hf"), (13, "tiny_llama.v2_limit=8")),
        models,
        (None, "sycophancy_pos_finetune_all", "w.1_2"),
        (None, 8),
    )
    return [
        ResultName(
            layer,
            strength,
            behavior,
            Variant(
                kind,
                unit=unit,
                system_prompt=sign,
                override_vector=vector[0],
                override_vector_model=vector[1],
                **model,  # type: ignore[arg-type]
                override_model_weights_path=weights,
                limit=limit,
            ),
        )
        for layer, (unit, strength), behavior, kind, sign, vector, model, weights, limit in parts
    ]


def test_every_name_is_read_back_as_it_was_and_no_two_are_the_same() -> None:
    names = many_names()[::7]
    assert len(names) > 5000
    written = [name.filename() for name in names]
    assert [ResultName.parse(text) for text in written] == names
    assert len(set(written)) == len(names)


def test_a_name_of_both_orders_is_read_back_and_is_never_that_of_one() -> None:
    # a model whose own name ends so is refused before it has any result
    for name in many_names()[::199]:
        both = varied(name, both_orders=True)
        plain = name.filename()
        assert both.filename() == f"{plain.removesuffix('.json')}_both_orders.json"
        assert ResultName.parse(both.filename()) == both != name == ResultName.parse(plain)
        assert discover_variants(name.variant.plain(), [both]) == []
        assert discover_variants(both.variant.plain(), [name]) == []
        assert cells_of(name.variant, [both]) == set()
    assert varied(LLAMA, both_orders=True).variant.stem(0).endswith("_model_size=7b_both_orders")


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "results.json",
        "results_.json",
        "notes.json",
        PUBLISHED.removesuffix(".json"),
        PUBLISHED.removesuffix(".json") + ".txt",
        PUBLISHED + ".bak",
        "." + PUBLISHED + ".record",
        "old_" + PUBLISHED,
        PUBLISHED + "\n",
        PUBLISHED.replace("layer=13", "layer=x"),
        PUBLISHED.replace("layer=13", "layer="),
        PUBLISHED.replace("layer=13", "layer=013"),
        PUBLISHED.replace("layer=13", "layer=1.0"),
        PUBLISHED.replace("layer=13", "layer=\u0661"),
        PUBLISHED.replace("layer=13", "LAYER=13"),
        PUBLISHED.replace("multiplier=1.0", "multiplier=1"),
        PUBLISHED.replace("multiplier=1.0", "multiplier=-0.0"),
        PUBLISHED.replace("multiplier=1.0", "multiplier=1,0"),
        PUBLISHED.replace("multiplier=1.0", "multiplier=high"),
        PUBLISHED.replace("multiplier=1.0", "multiplier=1.00"),
        PUBLISHED.replace("_behavior=sycophancy", ""),
        PUBLISHED.replace("_type=ab", ""),
        "results_multiplier=1.0_layer=13_behavior=sycophancy_type=ab_model=m.json",
    ],
)
def test_a_foreign_name_is_no_result(foreign: str) -> None:
    assert ResultName.parse(foreign) is None


@pytest.mark.parametrize(
    "foreign",
    [
        PUBLISHED.replace("_use_base", "_override_vector=two_use_base"),
        PUBLISHED.replace("_use_base", "_override_vector=02_use_base"),
        PUBLISHED.replace("_use_base", "_system_prompt=maybe_use_base"),
        PUBLISHED.replace("use_base_model=False", "use_base_model=maybe"),
        PUBLISHED.replace("use_base_model=False", "use_base_model=0"),
        PUBLISHED.replace(".json", "_limit=08.json"),
    ],
)
def test_a_part_with_a_wrong_value_is_never_read_as_a_result_we_know(foreign: str) -> None:
    # A model's name may hold anything, so such a name may be read as that of an unknown test.
    found = ResultName.parse(foreign)
    assert found is None or found.variant.type not in ("ab", "open_ended", "truthful_qa", "mmlu")


def test_a_word_in_the_place_of_the_limit_belongs_to_the_models_name() -> None:
    text = OTHER.filename().replace(".json", "_limit=none.json")
    found = ResultName.parse(text)
    assert found is not None and found.variant.model == "SmolLM2-135M-Instruct-Q4_1_limit=none"
    assert found.filename() == text


def test_layer_1_is_never_taken_for_layer_15(paths: Paths) -> None:
    for layer in (15, 11, 10, 100):
        touch(paths.result(replace(OTHER, layer=layer)), ROW)
    wanted = replace(OTHER, layer=1)
    assert not paths.result(wanted).exists()
    assert [n.layer for n in paths.results_of("sycophancy") if n.layer == 1] == []
    found = cells_of(wanted.variant, paths.results_of("sycophancy"))
    table = load_scores("sycophancy", wanted.variant, chosen_cells(found, [1, 15], None), AB, paths)
    assert list(table.scores) == [(15, 1.0)] and table.missing == [(1, 1.0)]


def test_multiplier_1_is_never_taken_for_1_5_or_minus_1(paths: Paths) -> None:
    for multiplier in (-1.0, 1.5, 0.1):
        touch(paths.result(replace(OTHER, strength=multiplier)), ROW)
    found = cells_of(OTHER.variant, paths.results_of("sycophancy"))
    table = load_scores(
        "sycophancy", OTHER.variant, chosen_cells(found, None, [1.0, -1.0]), AB, paths
    )
    assert list(table.scores) == [(13, -1.0)] and table.missing == [(13, 1.0)]


def test_a_dose_is_never_taken_for_a_multiplier(paths: Paths) -> None:
    dosed = varied(OTHER, strength=0.5, unit="dose")
    for name in (OTHER, replace(OTHER, strength=0.5), dosed):
        touch(paths.result(name), ROW)
    known = paths.results_of("sycophancy")
    assert cells_of(OTHER.variant, known) == {(13, 0.5), (13, 1.0)}
    assert cells_of(dosed.variant, known) == {(13, 0.5)}
    for name in (OTHER, dosed):
        assert discover_variants(name.variant, known) == [name.variant]


def test_results_of_one_variant_are_not_those_of_another(paths: Paths) -> None:
    variants = [
        OTHER,
        varied(OTHER, system_prompt="pos"),
        varied(OTHER, override_vector=13),
        varied(OTHER, override_vector_model="SmolLM2-135M-Instruct-Q4_1"),
        varied(OTHER, model="SmolLM2-135M-Instruct-Q4_1_base"),
        varied(OTHER, model="SmolLM2-135M"),
        varied(OTHER, limit=8),
        varied(OTHER, type="open_ended"),
        LLAMA,
        varied(LLAMA, use_base_model=True),
        varied(LLAMA, override_model_weights_path="w"),
    ]
    for number, name in enumerate(variants):
        touch(paths.result(replace(name, layer=number)), ROW)
    for number, name in enumerate(variants):
        assert cells_of(name.variant, paths.results_of(name.behavior)) == {(number, 1.0)}


def test_results_of_lists_all_results_of_the_behaviour_and_nothing_else(paths: Paths) -> None:
    names = [
        replace(OTHER, layer=2),
        replace(OTHER, layer=10),
        replace(LLAMA, strength=-1.0),
        varied(LLAMA, system_prompt="neg"),
    ]
    for name in names:
        path = touch(paths.result(name), ROW)
        touch(record_path(path))
    folder = paths.artifacts / "results" / "sycophancy"
    touch(paths.journal("sycophancy", "0" * 64))
    touch(folder / "results_layer=1_notes.json")
    touch(folder / PUBLISHED.replace(".json", ".txt"))
    touch(folder / f".{PUBLISHED}.1234.tmp")
    touch(folder / PUBLISHED.replace("behavior=sycophancy", "behavior=refusal"), ROW)
    touch(paths.result(replace(OTHER, behavior="sycophancy-2")), ROW)
    touch(folder / "open_ended_scores" / PUBLISHED, ROW)
    assert sorted(n.filename() for n in paths.results_of("sycophancy")) == sorted(
        n.filename() for n in names
    )
    assert paths.results_of("nothing") == []


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
    for paths, status in ((shown, 1), (hidden, 0)):
        for path in paths:
            assert git("check-ignore", "--quiet", "--no-index", path).returncode == status, path
