"""Names of results: exactly those of the paper's repository, read back exactly."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from file_names import LLAMA, OTHER, paths, touch, varied

from utils.data.evaluation import AB
from utils.files.names import ResultName, Variant, format_strength
from utils.files.paths import Paths, record_path
from utils.scores.cells import cells_of, chosen_cells, discover_variants
from utils.scores.tables import load_scores

__all__ = ("paths",)  # fixtures


PUBLISHED = (
    "results_layer=13_multiplier=1.0_behavior=sycophancy_type=ab"
    "_use_base_model=False_model_size=7b.json"
)
ROW = '[{"question": "?", "answer_matching_behavior": "(A)", "a_prob": 0.25, "b_prob": 0.25}]'


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
