"""plot_activations.py: its statistics against independent ones, its figures against their texts."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.colors
import numpy as np
import pytest
import torch
from conftest import QUESTIONS, ROWS, pair, write_json
from running import ROOT, artifacts, call

from utils.activations import separation
from utils.activations.components import principal_components, share_along, variance_shares
from utils.activations.saved import Answers
from utils.activations.separation import (
    auroc,
    comparable,
    deal_folds,
    held_out_projections,
    mean_difference,
    measure,
    same_letter,
    without_letters,
)
from utils.drawing import plotting
from utils.errors import UserError
from utils.figures import activation_figures
from utils.files.paths import Paths
from utils.plans.saved_sources import model_flags

AB, BA = ("A", "B"), ("B", "A")


def make_answers(
    seed: int, pairs: int, *, signal: float = 0.0, letter: float = 5.0, share_a: float = 0.5
) -> Answers:
    """Noise, a common offset, what each question adds, what the letter adds, and a signal."""
    generator = np.random.default_rng(seed)
    width = 20
    letters = [AB if i < round(pairs * share_a) else BA for i in range(pairs)]
    letters = [letters[i] for i in generator.permutation(pairs)]
    side = np.array([1.0 if pair == AB else -1.0 for pair in letters])[:, None]
    common = 10 * generator.normal(size=width) + 2 * generator.normal(size=(pairs, width))
    by_letter = side * letter * generator.normal(size=width) / 2
    vector = np.zeros(width)
    vector[3] = signal / 2
    noise = generator.normal(size=(2, pairs, width))
    return Answers(
        common + by_letter + vector + noise[0], common - by_letter - vector + noise[1], letters
    )


def numbers_of(path: Path) -> list[dict[str, str]]:
    header, *lines = path.read_text().splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


# ---------------------------------------------------------------- components


@pytest.mark.parametrize("pairs", [2, 5, 40], ids=["all_values", "few", "arpack"])
def test_components_are_those_of_a_singular_value_decomposition(pairs: int) -> None:
    answers = make_answers(0, pairs)
    together = np.concatenate([answers.matching, answers.other])
    u, s, _ = np.linalg.svd(together - together.mean(axis=0), full_matrices=False)
    coordinates, shares = principal_components(answers)
    assert shares == pytest.approx(s[:2] ** 2 / (s**2).sum(), rel=1e-9)
    for k in range(2):
        expected = u[:, k] * s[k]
        sign = np.sign(expected @ coordinates[:, k])
        assert coordinates[:, k] == pytest.approx(sign * expected, abs=1e-7 * s[0])


@pytest.mark.parametrize("seed", range(6))
def test_the_sign_of_a_component_is_no_chance(seed: int) -> None:
    answers = make_answers(seed, 30, letter=20)
    first, _ = principal_components(answers)
    mirrored, _ = principal_components(Answers(-answers.matching, -answers.other, answers.letters))
    assert first == pytest.approx(mirrored, abs=1e-9)
    is_a = np.array([m == "A" for m, _ in answers.letters] + [o == "A" for _, o in answers.letters])
    assert first[is_a, 0].mean() > 5 > -5 > first[~is_a, 0].mean(), "A is positive"
    # Matching is, where the component follows that.
    strong = make_answers(seed, 30, letter=0, signal=40)
    for sign in (1, -1):
        coordinates, _ = principal_components(
            Answers(sign * strong.matching, sign * strong.other, strong.letters)
        )
        assert coordinates[:30, 0].min() > 0 > coordinates[30:, 0].max()
    # If it follows neither, the longer tail is.
    questions = np.zeros((30, 20))
    questions[:3, 7] = 300
    for sign in (1, -1):
        tail = [each + sign * questions for each in (answers.matching, answers.other)]
        coordinates, _ = principal_components(Answers(tail[0], tail[1], answers.letters))
        assert coordinates[:3, 0].min() > 200 > coordinates[3:30, 0].max()


def test_shares_of_variance() -> None:
    answers = make_answers(2, 30, signal=3)
    together = np.concatenate([answers.matching, answers.other])
    total = together.var(axis=0).sum()
    coordinates, components = principal_components(answers)
    shares = variance_shares(answers, components)
    assert shares.pc1 == pytest.approx(coordinates[:, 0].var() / total)
    assert shares.pc2 == pytest.approx(coordinates[:, 1].var() / total)
    is_a = np.array([m == "A" for m, _ in answers.letters] + [o == "A" for _, o in answers.letters])
    for found, direction in (
        (shares.difference, (answers.matching - answers.other).mean(axis=0)),
        (shares.letter, together[is_a].mean(axis=0) - together[~is_a].mean(axis=0)),
    ):
        projected = together @ direction / np.linalg.norm(direction)
        assert found == pytest.approx(projected.var() / total)
    assert shares.letter is not None
    assert 0 < shares.difference < shares.letter < shares.pc1 + 1e-9
    assert share_along(together, np.zeros(20)) == 0
    numbered = Answers(answers.matching, answers.other, [("C", "D")] * 30)
    assert variance_shares(numbered, components).letter is None


# ---------------------------------------------------------------- held-out pairs


@pytest.mark.parametrize(("pairs", "folds"), [(2, 2), (9, 9), (10, 5), (23, 5), (60, 5)])
def test_folds_are_even_in_size_and_in_letters(pairs: int, folds: int) -> None:
    letters = make_answers(3, pairs, share_a=0.6).letters
    dealt = deal_folds(letters)
    assert sorted(set(dealt)) == list(range(folds))
    assert np.ptp(np.bincount(dealt)) <= 1
    for both in (AB, BA):
        counts = np.bincount(dealt[[p == both for p in letters]], minlength=folds)
        assert np.ptp(counts) <= 1
    assert list(dealt) == list(deal_folds(letters)), "the same every time"
    if pairs == 60:
        assert list(dealt) != sorted(dealt), "not in the order of the data file"


def test_projections_are_those_on_the_other_folds_mean_difference() -> None:
    answers = make_answers(4, 23, share_a=0.7)
    folds = deal_folds(answers.letters)
    found = held_out_projections(answers, folds)
    first = np.array([p == AB for p in answers.letters])
    difference = answers.matching - answers.other
    for i in range(23):
        training = folds != folds[i]
        by_letter = [difference[training & each].mean(axis=0) for each in (first, ~first)]
        vector = by_letter[0] * first.mean() + by_letter[1] * (1 - first.mean())
        origin = np.concatenate([answers.matching[training], answers.other[training]]).mean(axis=0)
        for column, each in enumerate((answers.matching, answers.other)):
            expected = (each[i] - origin) @ vector / np.linalg.norm(vector)
            assert found[i, column] == pytest.approx(expected)


def test_the_direction_of_all_pairs_is_the_plain_mean_and_knows_no_held_out_pair() -> None:
    answers = make_answers(5, 30, share_a=0.7)
    plain = (answers.matching - answers.other).mean(axis=0)
    assert mean_difference(answers, np.ones(30, dtype=bool)) == pytest.approx(plain)
    training = np.arange(30) % 5 != 0
    before = mean_difference(answers, training)
    first = np.array([p == AB for p in answers.letters])
    learnt = [(answers.matching - answers.other)[training & each].mean(axis=0)
              for each in (first, ~first)]  # fmt: skip
    assert before == pytest.approx(0.7 * learnt[0] + 0.3 * learnt[1])
    answers.matching[~training] = 1e6
    assert mean_difference(answers, training) == pytest.approx(before)


def brute_force_auroc(scores: Any, allowed: Any) -> float:
    """The share of comparisons that matching wins, counted one by one; a tie is half."""
    won = [
        1.0 if scores[i, 0] > scores[j, 1] else 0.5 if scores[i, 0] == scores[j, 1] else 0.0
        for i, j in itertools.product(range(len(scores)), repeat=2)
        if allowed(i, j)
    ]
    return sum(won) / len(won)


@pytest.mark.parametrize("share_a", [0.5, 0.8])
def test_auroc_is_the_share_of_comparisons_won(share_a: float) -> None:
    letters = make_answers(6, 23, share_a=share_a).letters
    scores = np.random.default_rng(6).integers(0, 8, size=(23, 2)).astype(float)
    folds = deal_folds(letters)
    blocks = comparable(folds)

    def same_fold(i: int, j: int) -> bool:
        return bool(folds[i] == folds[j])

    everything = auroc(scores, [(block, block) for block in blocks])
    assert everything is not None and everything.n == 23
    assert everything.mean == pytest.approx(brute_force_auroc(scores, same_fold))
    fair = auroc(scores, same_letter(blocks, letters))
    expected = brute_force_auroc(
        scores, lambda i, j: same_fold(i, j) and letters[i][0] == letters[j][1]
    )
    assert fair is not None and fair.mean == pytest.approx(expected) != everything.mean


@pytest.mark.parametrize("decimals", [9, 0], ids=["no_ties", "ties"])
def test_the_interval_of_auroc_is_that_of_resampled_pairs(decimals: int) -> None:
    generator = np.random.default_rng(7)
    scores = (generator.normal(size=(40, 2)) + np.array([0.8, 0])).round(decimals)
    everyone = np.arange(40)
    found = auroc(scores, [(everyone, everyone)])
    drawn = []
    for _ in range(400):
        again = scores[generator.integers(0, 40, size=40)]
        difference = again[:, None, 0] - again[None, :, 1]
        drawn.append((np.sign(difference).mean() + 1) / 2)
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found is not None
    assert found.low == pytest.approx(low, abs=0.03) and found.high == pytest.approx(high, abs=0.03)
    assert found.low < found.mean < found.high


def test_leave_one_out_compares_all_pairs_with_one_another() -> None:
    assert [list(b) for b in comparable(np.arange(4))] == [[0, 1, 2, 3]]
    assert [list(b) for b in comparable(np.array([0, 1, 0, 1]))] == [[0, 2], [1, 3]]


def test_what_the_letter_adds_changes_nothing_but_the_measures_with_all_letters() -> None:
    letters = make_answers(8, 40, share_a=0.6).letters
    blocks = comparable(deal_folds(letters))
    scores = np.random.default_rng(8).normal(size=(40, 2))
    moved = scores + 3.0 * (np.array(letters) == "A")
    strata = same_letter(blocks, letters)
    assert auroc(scores, strata) == auroc(moved, strata)
    assert without_letters(moved, blocks, letters) == pytest.approx(
        without_letters(scores, blocks, letters)
    )
    everything = [(block, block) for block in blocks]
    assert auroc(scores, everything) != auroc(moved, everything)


def test_letters_are_removed_by_half_of_what_the_two_kinds_of_pairs_differ_by() -> None:
    scores = np.array([[5.0, 0], [7.0, 0], [1.0, 0], [9.0, 0]])
    letters = [AB, AB, BA, ("C", "D")]
    # (A, B): 6 on average, (B, A): 1, so the letters make +-2.5; (C, D) has no counterpart.
    found = without_letters(scores, [np.arange(4)], letters)
    assert sorted(found) == [2.5, 3.5, 4.5]
    assert len(without_letters(scores[:2], [np.arange(2)], letters[:2])) == 0


def test_answers_that_lie_apart_are_told_apart() -> None:
    found = measure(make_answers(9, 40, signal=30)).separation
    assert found.auroc is not None and found.paired is not None
    assert (found.auroc.mean, found.auroc.low, found.paired.mean) == (1.0, 1.0, 1.0)
    assert found.auroc.n == found.paired.n == found.auroc_any.n == found.paired_any.n == 40


@pytest.mark.parametrize("pairs", [8, 23, 60], ids=["leave_one_out", "uneven", "five_folds"])
def test_noise_is_chance_for_held_out_pairs_though_not_for_those_trained_on(
    pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separation, "RESAMPLES", 2)
    held_out, trained_on = [], []
    for seed in range(60):
        answers = make_answers(seed, pairs)
        found = separation.separation(answers)
        assert found.auroc is not None and found.paired is not None
        held_out.append((found.auroc.mean, found.paired.mean))
        direction = (answers.matching - answers.other).mean(axis=0)
        scores = np.stack([answers.matching @ direction, answers.other @ direction], axis=1)
        everyone = [np.arange(pairs)]
        same = auroc(scores, same_letter(everyone, answers.letters))
        fair = without_letters(scores, everyone, answers.letters)
        assert same is not None
        trained_on.append((same.mean, (fair > 0).mean()))
    assert np.mean(held_out, axis=0) == pytest.approx([0.5, 0.5], abs=0.05)
    assert np.mean(trained_on, axis=0).min() > 0.56
    assert np.mean(trained_on, axis=0)[1] > 0.7


def test_uneven_letters_feign_a_separation_only_where_letters_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(separation, "RESAMPLES", 2)
    found = [separation.separation(make_answers(s, 60, share_a=0.8)) for s in range(30)]
    assert np.mean([f.auroc.mean for f in found if f.auroc]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([f.paired.mean for f in found if f.paired]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([f.auroc_any.mean for f in found]) == pytest.approx(0.8, abs=0.02)
    assert np.mean([f.paired_any.mean for f in found]) == pytest.approx(0.8, abs=0.02)


def test_one_letter_for_all_is_not_measurable() -> None:
    answers = make_answers(10, 20)
    found = separation.separation(Answers(answers.matching, answers.other, [AB] * 20))
    assert found.auroc is None and found.paired is None
    assert found.auroc_any.n == 20


def test_the_same_activations_for_both_answers_are_chance() -> None:
    answers = make_answers(11, 20)
    found = separation.separation(Answers(answers.matching, answers.matching, answers.letters))
    assert found.auroc is not None and found.paired is not None
    assert found.auroc.mean == found.paired.mean == found.paired_any.mean == 0.5


# ---------------------------------------------------------------- files and figures


class Saved:
    """Activations of a made-up model in an artefact folder, and the data they belong to."""

    def __init__(self, datasets: Path, folder: Path) -> None:
        self.datasets, self.folder = datasets, folder
        self.flags = ("--artifacts_dir", folder, "--datasets_dir", datasets)
        self.paths = Paths(folder, datasets)

    def put(self, behavior: str, layer: int, model: str = "m", pairs: int = 8) -> Answers:
        """Write one layer: values that say which behaviour, layer and model they are of."""
        seed = sum(map(ord, f"{behavior} {layer} {model}"))
        values = make_answers(seed, pairs)
        for sign, matrix in (("pos", values.matching), ("neg", values.other)):
            path = self.paths.activations(behavior, sign, layer, model)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(torch.tensor(matrix, dtype=torch.float32), path)
        return values

    def change(self, sign: str, change: Any, layer: int = 1, behavior: str = "calm") -> Path:
        path = self.paths.activations(behavior, sign, layer, "m")
        torch.save(change(torch.load(path, weights_only=True)), path)
        return path

    def plot(self, *more: object) -> int:
        return call("plot_activations", *self.flags, *more)

    def refused(self, *more: object) -> str:
        before = artifacts(self.folder)
        with pytest.raises(UserError) as error:
            self.plot(*more)
        assert artifacts(self.folder) == before, "nothing is drawn"
        return str(error.value)

    def text(self, stem: str, behavior: str = "calm", model: str = "m") -> list[dict[str, str]]:
        path = self.folder / "analysis" / behavior / f"{stem}_model={model}.txt"
        assert path.with_suffix(".png").stat().st_size > 5000
        return numbers_of(path)


@pytest.fixture
def saved(datasets: Path, tmp_path: Path) -> Saved:
    return Saved(datasets, tmp_path / "out")


def test_names_are_parsed_exactly(saved: Saved) -> None:
    saved.put("calm", 1)
    saved.put("calm", 15, "some_model_limit=3")
    folder = saved.folder / "activations/calm"
    (folder / "activations_neg_15_some_model_limit=3.pt").unlink()
    for name in ("activations_pos_x_m.pt", "activations_pos_07_m.pt", "activations_mid_2_m.pt"):
        (folder / name).touch()
    (folder / ".activations_pos_3_m.pt.record").touch()
    (saved.folder / "activations/empty").mkdir()
    found = saved.paths.saved_activations()
    assert found == {"calm": [(1, "m"), (15, "some_model_limit=3")]}
    assert Paths(saved.folder / "none", saved.datasets).saved_activations() == {}


@pytest.fixture
def generated(tiny_folder: Path, saved: Saved) -> Saved:
    call("generate_vectors", "--layers", 0, 1, 2, "--save_activations", *saved.flags, "--model",
         tiny_folder)  # fmt: skip
    return saved


def test_from_generated_vectors_to_figures(
    generated: Saved, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generated.plot() == 0
    model = "tiny-llama"
    out = capsys.readouterr().out
    rows = json.loads(generated.paths.generate_data("bold").read_text())
    for layer in (0, 1, 2):
        files = [generated.paths.activations("bold", s, layer, model) for s in ("pos", "neg")]
        answers = [torch.load(f, weights_only=True).double().numpy() for f in files]
        together = np.concatenate(answers)
        u, s, _ = np.linalg.svd(together - together.mean(axis=0), full_matrices=False)
        found = generated.text(f"PCA_layer={layer}", "bold", model)
        assert [int(r["pair"]) for r in found] == [*range(1, 9)] * 2
        assert [r["answer"] for r in found] == ["matching"] * 8 + ["other"] * 8
        letters = [r[f"answer_{k}_behavior"][1] for k in ("matching", "not_matching") for r in rows]
        assert [r["letter"] for r in found] == letters
        for k in range(2):
            values = np.array([float(r[f"pc{k + 1}"]) for r in found])
            expected = u[:, k] * s[k] * np.sign(values @ u[:, k])
            assert values == pytest.approx(expected, rel=1e-4, abs=1e-4 * s[0])
            assert float(found[0][f"share{k + 1}"]) == pytest.approx(
                s[k] ** 2 / (s**2).sum(), abs=1e-6
            )
        page = generated.text("PCA_all_layers", "bold", model)
        for row, line in zip(found, (r for r in page if r["layer"] == str(layer)), strict=True):
            assert line.items() <= row.items()
        pairs = [(r["answer_matching_behavior"][1], r["answer_not_matching_behavior"][1])
                 for r in rows]  # fmt: skip
        measured = measure(Answers(answers[0], answers[1], pairs))
        # The direction learnt from all pairs is the vector that generate_vectors.py has saved.
        vector = torch.load(generated.paths.vector("bold", layer, model, normalized=False))
        direction = mean_difference(Answers(answers[0], answers[1], pairs), np.ones(8, dtype=bool))
        assert direction == pytest.approx(vector.numpy(), abs=1e-5)
        for row in generated.text("separation", "bold", model):
            if row["layer"] == str(layer):
                attribute = (activation_figures.MEASURES | activation_figures.ONLY_IN_TEXT)[
                    row["measure"]
                ]
                estimate = getattr(measured.separation, attribute)
                shown = [row[k] for k in ("mean", "low95", "high95", "n")]
                assert shown == [
                    f"{e:.6f}" for e in (estimate.mean, estimate.low, estimate.high)
                ] + ["8"]
        variance = generated.text("variance", "bold", model)[layer]
        for name in ("pc1", "pc2", "difference", "letter"):
            assert variance[name] == f"{getattr(measured.shares, name):.6f}"
    together_page = numbers_of(generated.folder / f"analysis/SEPARATION_model={model}.txt")
    assert len(together_page) == 2 * 3 * 4
    assert {r["behavior"] for r in together_page} == {"calm", "bold"}
    best = max(
        (r for r in generated.text("separation", "bold", model)
         if r["measure"] == "AUROC, same letter"), key=lambda r: float(r["mean"])
    )  # fmt: skip
    (printed,) = [text for text in out.splitlines() if text.startswith("bold")]
    assert printed.split()[1:5] == ["8", "4", best["layer"], f"{float(best['mean']):.3f}"]
    assert len(list((generated.folder / "analysis").rglob("*.png"))) == 2 * (3 + 2 + 2) + 1


def test_a_second_run_gives_the_same_bytes(saved: Saved) -> None:
    saved.put("calm", 1)
    saved.put("calm", 15)
    saved.plot()
    before = artifacts(saved.folder)
    for path in (saved.folder / "analysis").rglob("*"):
        if path.is_file():
            path.unlink()
    saved.plot()
    assert artifacts(saved.folder) == before
    assert len(before) == 4 + 2 * (2 + 2 + 2)


def test_layer_1_is_not_layer_15_and_some_layers_do_not_replace_all(saved: Saved) -> None:
    values = {layer: saved.put("calm", layer) for layer in (1, 5, 15)}
    saved.plot()
    before = artifacts(saved.folder)
    saved.plot("--layers", 15, 1)
    after = artifacts(saved.folder)
    assert before.items() <= after.items()
    new = {Path(name).name.split("_model")[0] for name in after.keys() - before.keys()}
    assert new == {
        "PCA_layers=1,15",
        "PCA_layers=1,15_letters_removed",
        "separation_layers=1,15",
        "variance_layers=1,15",
    }
    letters = [("A", "B"), ("B", "A")] * 4
    for layer, answers in values.items():
        single = answers.matching.astype(np.float32), answers.other.astype(np.float32)
        exact = Answers(single[0].astype(float), single[1].astype(float), letters)
        expected, _ = principal_components(exact)
        found = saved.text(f"PCA_layer={layer}")
        assert [float(r["pc1"]) for r in found] == pytest.approx(expected[:, 0], rel=1e-4)
    assert [r["layer"] for r in saved.text("variance_layers=1,15")] == ["1", "15"]


def test_of_one_layer_there_are_no_lines_but_their_numbers(saved: Saved) -> None:
    for behavior in ("bold", "calm"):
        saved.put(behavior, 7)
    saved.plot()
    folder = saved.folder / "analysis"
    assert {p.name for p in folder.rglob("*.png")} == {"PCA_layer=7_model=m.png"}
    for name in ("SEPARATION", "calm/separation", "calm/variance", "bold/variance"):
        assert {r["layer"] for r in numbers_of(folder / f"{name}_model=m.txt")} == {"7"}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Every figure by the start of its name, as it is when it is saved."""
    found: dict[str, Any] = {}

    def keep(figure: Any, path: Path) -> None:
        found[path.name.split("_model")[0]] = figure

    monkeypatch.setattr(plotting, "save_figure", keep)
    return found


def points_of(axes: Any) -> list[tuple[float, float, str, int]]:
    """Place, colour and the number of corners of the marker of every point."""
    return [
        (*place, matplotlib.colors.to_hex(color[:3]), len(cloud.get_paths()[0].vertices))
        for cloud in axes.collections
        for place, color in zip(cloud.get_offsets(), cloud.get_facecolors(), strict=True)
    ]


def test_the_texts_of_scatters_hold_what_is_drawn(saved: Saved, drawn: dict[str, Any]) -> None:
    for layer in (1, 15):
        saved.put("calm", layer)
    saved.plot()
    folder = saved.folder / "analysis/calm"
    page = numbers_of(folder / "PCA_all_layers_model=m.txt")
    removed = numbers_of(folder / "PCA_all_layers_letters_removed_model=m.txt")
    colors = {"matching": plotting.COLORS[0].lower(), "other": plotting.COLORS[1].lower()}
    shapes: dict[str, set[int]] = {"A": set(), "B": set()}
    for number, layer in enumerate((1, 15)):
        rows = numbers_of(folder / f"PCA_layer={layer}_model=m.txt")
        for rest, lines in (("", page), ("_letters_removed", removed)):
            for row, line in zip(rows, (r for r in lines if r["layer"] == str(layer)), strict=True):
                names = ("pc1", "pc2", "share1", "share2")
                assert [row[f"{n}{rest}"] for n in names] == [line[n] for n in names]
        single, without = drawn[f"PCA_layer={layer}"].axes
        panel = drawn["PCA_all_layers"].axes[number]
        for axes in (single, panel):
            points = points_of(axes)
            assert len(points) == len(rows) == 16
            for row in rows:
                place = [float(row["pc1"]), float(row["pc2"])]
                (point,) = [p for p in points if np.allclose(p[:2], place, rtol=1e-4)]
                assert point[2] == colors[row["answer"]]
                shapes[row["letter"]].add(point[3])
        shares = [f"{100 * float(rows[0][name]):.0f} %" for name in ("share1", "share2")]
        assert (single.get_xlabel(), single.get_ylabel()) == (
            f"PC1 ({shares[0]} of the variance)",
            f"PC2 ({shares[1]})",
        )
        assert panel.get_title(loc="left") == f"layer {layer}"
        assert panel.get_title(loc="right") == ", ".join(shares)
        title = drawn[f"PCA_layer={layer}"].legends[0].get_title().get_text()
        assert title == f"Calm, layer {layer}"
        places = [[float(r[f"pc{k}_letters_removed"]) for k in (1, 2)] for r in rows]
        found = sorted(p[:2] for p in points_of(without))
        assert np.array(found) == pytest.approx(np.array(sorted(map(tuple, places))), rel=1e-4)
    assert all(len(found) == 1 for found in shapes.values()) and shapes["A"] != shapes["B"]
    for figure in ("PCA_layer=1", "PCA_all_layers"):
        legend, note = drawn[figure].legends
        assert "m; 8 pairs" in note.get_title().get_text()
        labels = [text.get_text() for text in legend.get_texts()]
        assert labels == ["matching", "other", "letter A", "letter B"]


def lines_of(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_the_texts_of_lines_hold_what_is_drawn(saved: Saved, drawn: dict[str, Any]) -> None:
    for behavior, layer in itertools.product(("calm", "bold"), (1, 2, 15)):
        saved.put(behavior, layer)
    saved.plot("--behaviors", "calm", "bold")
    both = numbers_of(saved.folder / "analysis/SEPARATION_model=m.txt")
    panels = drawn["SEPARATION"].axes
    assert [axes.get_title(loc="left") for axes in panels] == ["Calm", "Bold"]
    # The last behaviour's own figure is the one kept.
    for axes, behavior in (
        (panels[0], "calm"),
        (panels[1], "bold"),
        (drawn["separation"].axes[0], "bold"),
    ):
        lines = lines_of(axes)
        for label in activation_figures.MEASURES:
            rows = [r for r in both if (r["behavior"], r["measure"]) == (behavior, label)]
            expected = np.array([[float(r["layer"]), float(r["mean"])] for r in rows])
            # lines are moved aside by less than half a layer, so that their intervals stay apart
            assert np.round(lines[label][:, 0]) == pytest.approx(expected[:, 0])
            assert lines[label][:, 1] == pytest.approx(expected[:, 1], abs=1e-6)
            assert len(expected) == 3
    own = numbers_of(saved.folder / "analysis/bold/separation_model=m.txt")
    assert own == [{k: v for k, v in r.items() if k != "behavior"} for r in both
                   if r["behavior"] == "bold"]  # fmt: skip
    shares = numbers_of(saved.folder / "analysis/bold/variance_model=m.txt")
    axes = drawn["variance"].axes[0]
    lines = lines_of(axes)
    layers = np.array([float(r["layer"]) for r in shares])
    first, second = (np.array([float(r[name]) for r in shares]) for name in ("pc1", "pc2"))
    for label, expected in (("PC1", first), ("PC1 + PC2", first + second)):
        assert lines[label] == pytest.approx(np.stack([layers, expected], axis=1), abs=2e-6)
    total = np.zeros(len(layers))
    for area, part in zip(axes.collections, ("letter", "answer", "question", "rest"), strict=True):
        total += [float(r[f"part_{part}"]) for r in shares]
        corners = area.get_paths()[0].vertices
        for layer, top in zip(layers, total, strict=True):
            assert corners[corners[:, 0] == layer][:, 1].max() == pytest.approx(top, abs=4e-6)
    assert total == pytest.approx(np.ones(len(layers)), abs=4e-6)


def test_activations_of_the_first_pairs_take_the_first_letters(
    tiny_folder: Path, saved: Saved
) -> None:
    call("generate_vectors", "--layers", 1, "--limit", 3, "--save_activations", *saved.flags,
         "--model", tiny_folder)  # fmt: skip
    saved.plot("--behaviors", "calm")
    found = saved.text("PCA_layer=1", model="tiny-llama_limit=3")
    assert [r["letter"] for r in found] == ["A", "B", "A", "B", "A", "B"]


def test_every_model_has_figures_of_its_own(saved: Saved) -> None:
    saved.put("calm", 1, "one")
    saved.put("calm", 1, "two")
    saved.put("bold", 2, "two_base")
    saved.plot("--model", "two")  # bold has none of it, and has not been asked for
    assert {p.name.split("model=")[1] for p in saved.folder.rglob("PCA*.png")} == {"two.png"}
    saved.plot()
    found = {p.name for p in saved.folder.rglob("PCA*.png")}
    assert found == {
        f"PCA_layer={x}.png" for x in ("1_model=one", "1_model=two", "2_model=two_base")
    }


def test_one_letter_for_all_is_said_and_drawn_without(
    saved: Saved, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [pair(q, "A") for q in QUESTIONS]
    write_json(saved.datasets / "generate/calm/generate_dataset.json", rows)
    saved.put("calm", 1)
    saved.put("calm", 2)
    assert saved.plot() == 0
    assert "same letter in all pairs: not measurable" in capsys.readouterr().out
    assert {r["measure"] for r in saved.text("separation")} == {
        "AUROC, any letter", "paired accuracy, letters not removed"}  # fmt: skip


def test_letters_beyond_a_and_b(saved: Saved, drawn: dict[str, Any]) -> None:
    letters = [("A", "B"), ("B", "A"), ("C", "D"), ("G", "H")] * 2
    rows = [
        row | {"answer_matching_behavior": f"({m})", "answer_not_matching_behavior": f"({o})"}
        for row, (m, o) in zip(ROWS, letters, strict=True)
    ]
    write_json(saved.datasets / "generate/calm/generate_dataset.json", rows)
    saved.put("calm", 1)
    assert saved.plot() == 0
    legend, _ = drawn["PCA_layer=1"].legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names[2:] == [f"letter {x}" for x in "ABCDGH"]
    rows = numbers_of(saved.folder / "analysis/calm/PCA_layer=1_model=m.txt")
    assert [r["letter"] for r in rows[:4]] == ["A", "B", "C", "G"]


# ---------------------------------------------------------------- wrong input


def test_nothing_saved_names_the_command(saved: Saved) -> None:
    where = f" --artifacts_dir {saved.folder} --datasets_dir {saved.datasets}"
    command = "Make them with: ./generate_vectors.py --behaviors"
    said = saved.refused()
    assert "no activations have been saved in" in said
    assert said.endswith(f"{command} ... --layers ... --save_activations{where}")
    said = saved.refused("--behaviors", "calm", "--layers", 3, 1)
    assert said.endswith(f"{command} calm --layers 1 3 --save_activations{where}")
    saved.put("bold", 1)
    said = saved.refused("--behaviors", "bold", "calm")
    assert "saved for calm in" in said and f"{command} calm --layers ... --save" in said
    said = saved.refused("--model", "Llama-2-7b-chat-hf", "--behaviors", "bold", "--layers", 13)
    assert "no activations of Llama-2-7b-chat-hf" in said and "those of m have" in said
    assert said.endswith(f"{command} bold --layers 13 --save_activations --model_size 7b{where}")
    said = saved.refused("--model", "Llama")
    assert "no activations of Llama have been saved in" in said and "those of m have" in said
    assert "unknown behaviour 'bolt'" in saved.refused("--behaviors", "bolt")


@pytest.mark.parametrize(
    ("label", "flags"),
    [
        (None, ""),
        ("SmolLM2-135M-Instruct-Q4_1", ""),
        ("SmolLM2-135M-Instruct-Q4_1_base", " --use_base_model"),
        ("SmolLM2-135M-Instruct-Q4_1_limit=8", " --limit 8"),
        ("Llama-2-13b-chat-hf", " --model_size 13b"),
        ("Llama-2-7b-hf_limit=20", " --model_size 7b --use_base_model --limit 20"),
        ("tiny-llama", " --model .../tiny-llama"),
        ("Llama-2-7b-chat-hf-mine", " --model .../Llama-2-7b-chat-hf-mine"),
        ("a b_base", " --model '.../a b' --use_base_model"),
    ],
)
def test_the_flags_that_make_a_model_of_this_name(label: str | None, flags: str) -> None:
    assert model_flags(label) == flags


def test_a_layer_that_only_some_have(saved: Saved) -> None:
    saved.put("calm", 1)
    saved.put("calm", 15)
    saved.put("bold", 15)
    said = saved.refused()
    assert "bold has no saved activations of m at layer 1\n" in said
    assert "./generate_vectors.py --behaviors bold --layers 1 --save_activations" in said
    assert said.endswith("--layers 15")
    said = saved.refused("--layers", 5, 15, "--behaviors", "calm")
    assert "calm has no saved activations of m at layer 5\n" in said
    assert said.endswith("--layers 1 15")
    assert "counted from 0" in saved.refused("--layers", -1)
    assert saved.plot("--layers", 15) == 0


def test_half_of_a_pair_of_files(saved: Saved) -> None:
    saved.put("calm", 1)
    path = saved.paths.activations("calm", "neg", 1, "m")
    path.unlink()
    said = saved.refused()
    assert f"missing file {path}" in said
    assert "--behaviors calm --layers 1 --save_activations --model .../m" in said


FAULTS = {
    "shapes": ("pos", lambda t: t[:, :-1], r"has shape \(8, 19\), activations_neg_1_m.pt has"),
    "pairs": ("neg", lambda t: t[:7], r"has shape \(8, 20\), activations_neg_1_m.pt has \(7, 20"),
    "nan": ("neg", lambda t: t.index_fill(0, torch.tensor([2]), torch.nan), "NaN or infinite"),
    "infinite": ("pos", lambda t: t * 1e39, "NaN or infinite"),
    "vector": ("pos", lambda t: t[0], r"has shape \(20,\); expected pairs x width"),
    "whole": ("pos", lambda t: t.long(), "floating-point"),
    "no_tensor": ("pos", lambda t: {"a": t}, "floating-point"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_named(saved: Saved, fault: str) -> None:
    sign, change, message = FAULTS[fault]
    saved.put("calm", 0)
    saved.put("calm", 1)
    path = saved.change(sign, change)
    said = saved.refused()
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(said)
    assert str(path.parent) in said and "_1_m.pt" in said
    assert saved.plot("--layers", 0) == 0


def test_all_the_same_activations(saved: Saved) -> None:
    saved.put("calm", 1)
    for sign in ("pos", "neg"):
        saved.change(sign, torch.ones_like)
    assert "all activations are the same" in saved.refused()


def test_damaged_files(generated: Saved) -> None:
    path = generated.paths.activations("calm", "pos", 1, "tiny-llama")
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    assert f"{path} is not the file that its record describes" in generated.refused()
    path.with_name(f".{path.name}.record").unlink()
    assert f"{path} is damaged" in generated.refused()
    path.write_bytes(b"")
    assert f"{path} is damaged" in generated.refused()
    path.write_bytes(content)
    assert generated.plot("--behaviors", "calm", "--layers", 1) == 0


def test_one_pair_is_too_few(saved: Saved) -> None:
    saved.put("calm", 1, "m_limit=1", pairs=1)
    assert "at least 2 are needed" in saved.refused()


def test_data_of_another_length(generated: Saved) -> None:
    generated.put("calm", 1, "m", pairs=6)
    data = generated.paths.generate_data("calm")
    said = generated.refused("--model", "m")
    assert f"activations_pos_1_m.pt has 6 pairs, {data} has 8" in said
    write_json(data, ROWS[:5])
    said = generated.refused("--behaviors", "calm", "--model", "tiny-llama")
    assert f"_tiny-llama.pt has 8 pairs, {data} has 5" in said
    assert "--datasets_dir" in said and "--overwrite" in said


def test_other_data_of_the_same_length_are_not_taken_for_those_of_the_activations(
    generated: Saved,
) -> None:
    data = generated.paths.generate_data("calm")
    write_json(data, ROWS[::-1])
    said = generated.refused()
    assert f"was made from other data than {data} holds now" in said
    assert generated.plot("--behaviors", "bold") == 0


def test_missing_data(saved: Saved) -> None:
    saved.put("calm", 1)
    data = saved.paths.generate_data("calm")
    data.unlink()
    said = saved.refused()
    assert f"missing data file {data}\nThe letters" in said and "--datasets_dir" in said


def test_wrong_input_is_found_before_anything_slow(saved: Saved) -> None:
    saved.put("calm", 1)
    words = ["-X", "importtime", ROOT / "plot_activations.py", "--layers", "7", *saved.flags]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (
        "plot_activations.py: error: calm has no saved activations of m at layer 7" in done.stderr
    )
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "sklearn", "matplotlib"}
