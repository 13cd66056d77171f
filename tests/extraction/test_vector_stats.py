"""What pairs say about their vector: every number against its definition, pair by pair."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROWS, make_wrapper
from grids import letter_prompts
from running import call

from utils.errors import UserError
from utils.extraction.layer_stats import LayerStats, stats_table
from utils.extraction.pairs import PairOutputs
from utils.extraction.vector_stats import Moments, layer_stats
from utils.files.contents import read_measured
from utils.steering.one_pass import Readings, slow_outputs
from utils.vectors.dose import SteeringVector
from utils.vectors.stored import StoredVector

PAIRS, LAYERS, WIDTH = 40, 3, 6


def random_readings(seed: int = 0, pairs: int = PAIRS) -> Readings:
    generator = torch.Generator().manual_seed(seed)
    letters = torch.randn(pairs, 2, LAYERS, WIDTH, generator=generator)
    return Readings(letters, 1 + torch.rand(pairs, 4, LAYERS, generator=generator))


def moments_of(readings: Readings, signs: list[int]) -> Moments:
    """In two batches, as a run would."""
    found = Moments.zero((LAYERS, WIDTH))
    for part in (slice(0, 13), slice(13, None)):
        found.add(Readings(readings.letters[part], readings.norms[part]), signs[part])
    return found


def signs_of(pairs: int, share: int = 3) -> list[int]:
    return [1 if i % share else -1 for i in range(pairs)]


def test_every_number_is_its_definition() -> None:
    readings, signs = random_readings(), signs_of(PAIRS)
    moments = moments_of(readings, signs)
    for layer in range(LAYERS):
        d = (readings.letters[:, 0, layer] - readings.letters[:, 1, layer]).double().numpy()
        v, s = d.mean(axis=0), np.array(signs)
        letter = (d[s > 0].mean(axis=0) - d[s < 0].mean(axis=0)) / 2
        c = d - s[:, None] * letter
        lengths = np.linalg.norm(c, axis=1)
        cosines = c @ v / lengths / np.linalg.norm(v)
        agreement = (cosines * lengths).mean() / np.sqrt((lengths**2).mean())
        sizes = readings.letters[:, :, layer].abs().double().numpy().mean(axis=(0, 1))
        found = layer_stats(moments, layer)
        assert found.norm == pytest.approx(np.linalg.norm(v))
        assert found.residual_norm == pytest.approx(np.median(readings.norms[:, :, layer].numpy()))
        assert found.dose == pytest.approx(found.norm / found.residual_norm)
        assert found.agreement == pytest.approx(agreement)
        assert found.largest_share == pytest.approx((v**2).max() / (v @ v))
        assert found.largest_ratio == pytest.approx(sizes.max() / np.median(sizes))


def test_agreement_is_one_for_one_direction_whatever_the_letter_and_near_zero_for_noise() -> None:
    direction, letter = torch.randn(2, LAYERS, WIDTH, generator=torch.Generator().manual_seed(1))
    signs = signs_of(PAIRS, 2)
    letters = torch.zeros(PAIRS, 2, LAYERS, WIDTH)
    letters[:, 0] = direction + 50 * torch.tensor(signs)[:, None, None] * letter
    same = moments_of(Readings(letters, torch.ones(PAIRS, 4, LAYERS)), signs)
    assert layer_stats(same, 0).agreement == pytest.approx(1, abs=1e-6)
    noise = [
        layer_stats(moments_of(random_readings(seed), signs), 0).agreement for seed in range(20)
    ]
    known = [agreement for agreement in noise if agreement is not None]
    assert len(known) == 20 and np.mean(known) == pytest.approx(PAIRS**-0.5, abs=0.04)
    one_letter = moments_of(random_readings(), [1] * PAIRS)
    assert layer_stats(one_letter, 0).agreement is None


@pytest.mark.parametrize("signal", [0.0, 0.1, 0.3, 1.0])
def test_the_half_cosine_is_what_halves_of_the_pairs_have(signal: float) -> None:
    pairs, width = 40, 300
    expected, found = [], []
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        direction, letter = torch.randn(2, width, generator=generator)
        s = torch.tensor([1, -1] * (pairs // 2))
        d = torch.randn(pairs, width, generator=generator) + signal * direction
        d = d + 5 * s[:, None] * letter
        readings = Readings(
            torch.stack([d, torch.zeros_like(d)], dim=1)[:, :, None], torch.ones(pairs, 4, 1)
        )
        moments = Moments.zero((1, width))
        moments.add(readings, s.tolist())
        cosine = layer_stats(moments, 0).half_cosine(pairs)
        assert cosine is not None
        expected.append(cosine)
        half = d[: pairs // 2].mean(dim=0)
        found.append(float(torch.cosine_similarity(half, d.mean(dim=0), dim=0)))
    assert np.mean(expected) == pytest.approx(np.mean(found), abs=0.01)
    if signal == 0:
        assert np.mean(expected) == pytest.approx(0.5**0.5, abs=0.01)


def test_massive_activations_are_warned_of() -> None:
    readings = random_readings()
    readings.letters[:, :, 1, 2] *= 1000
    moments = moments_of(readings, signs_of(PAIRS))
    stats = {n: layer_stats(moments, n) for n in range(LAYERS)}
    lines = stats_table(stats, PAIRS).splitlines()
    warned = [line for line in lines if line.startswith("warning")]
    assert len(warned) == 2 and all("layer 1: " in line for line in warned)


def test_the_norms_are_those_of_the_steered_tokens() -> None:
    """The last token of the instruction, what follows it, and both letters."""
    wrapper = make_wrapper("llama")
    prompts, layers = letter_prompts(wrapper), [0, 2, 3]
    for slow in (False, True):
        pairs = PairOutputs(wrapper, prompts, layers, slow=slow)
        assert (pairs.packed is None) is slow
        assert sum(map(len, pairs.batches)) == len(prompts)
        for batch in pairs.batches:
            norms = pairs.readings(batch).norms
            for index, found in zip(batch, norms, strict=True):
                prompt = prompts[index]
                rows = [(*prompt.ids, letter) for letter in prompt.letters.values()]
                first, other = (slow_outputs(wrapper, r, layers, prompt.tail + 1) for r in rows)
                expected = torch.cat([first, other[-1:]]).norm(dim=-1)
                assert found.shape == (prompt.tail + 2, len(layers))
                assert torch.allclose(found, expected, rtol=1e-5)


def test_doses_and_multipliers_are_each_others_inverse() -> None:
    vector = SteeringVector(StoredVector.of(torch.tensor([3.0, 4.0])), 20.0)
    assert vector.dose(2.0) == pytest.approx(0.5)
    assert vector.multiplier(0.5, "dose") == pytest.approx(2.0)
    assert vector.multiplier(-0.5, "dose") == pytest.approx(-2.0)
    assert vector.multiplier(0.5, "multiplier") == 0.5
    unmeasured = SteeringVector(vector.stored, None)
    assert unmeasured.dose(2.0) is None
    with pytest.raises(UserError, match="dose"):
        unmeasured.multiplier(0.5, "dose")


def test_a_sweep_in_doses_is_the_sweep_in_their_multipliers(
    tiny_folder: Path, datasets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = ("--artifacts_dir", out, "--datasets_dir", datasets)
    model = (*flags, "--model", tiny_folder)
    call("generate_vectors", "--layers", 0, 2, *model)
    table = capsys.readouterr().out
    assert "dose of x1" in table and f"chance: {len(ROWS) ** -0.5:.2f}" in table
    call("normalize_vectors", *flags)
    grid = ("--behaviors", "calm", "--layers", 0, 2)
    call("prompting_with_steering", *grid, "--doses", -0.3, 0, 0.3, *model)
    name = "results_layer={}_{}={}_behavior=calm_type=ab_model=tiny-llama.json"
    multipliers = {}
    for layer in (0, 2):
        vector = out / f"normalized_vectors/calm/vec_layer_{layer}_tiny-llama.pt"
        h = LayerStats(
            **read_measured(out / f"vectors/calm/vec_layer_{layer}_tiny-llama.pt")
        ).residual_norm
        assert read_measured(vector) == {"residual_norm": h}
        multipliers[layer] = 0.3 * h / float(torch.load(vector).double().norm())
        strong = out / "results/calm" / name.format(layer, "dose", 0.3)
        assert read_measured(strong) == pytest.approx(
            {"dose": 0.3, "multiplier": multipliers[layer]}
        )
        one = ("--behaviors", "calm", "--layers", layer, "--multipliers", multipliers[layer])
        call("prompting_with_steering", *one, *model)
        same = out / "results/calm" / name.format(layer, "multiplier", multipliers[layer])
        assert read_measured(same)["dose"] == pytest.approx(0.3)
        found, expected = (json.loads(p.read_text()) for p in (strong, same))
        for row, other in zip(found, expected, strict=True):
            assert row["a_prob"] == pytest.approx(other["a_prob"], abs=1e-6)
        assert found != json.loads(
            (out / "results/calm" / name.format(layer, "dose", 0.0)).read_text()
        )
    call("plot_results", "--behaviors", "calm", "--doses", -0.3, 0, 0.3, "--summary", *model)
    rows = [
        line.split("\t")
        for line in (out / "analysis/calm/LAYER_SWEEP_doses_type=ab_model=tiny-llama.txt")
        .read_text()
        .splitlines()
    ]
    assert rows[0][:3] == ["layer", "dose", "multiplier"]
    steered = {int(r[0]): float(r[2]) for r in rows[1:] if r[1] == "0.3"}
    assert steered == pytest.approx(multipliers, rel=1e-3)


def test_a_dose_where_nothing_was_measured_names_the_command(
    tiny_folder: Path, datasets: Path, tmp_path: Path
) -> None:
    """Vectors that came from elsewhere have no record, so nobody knows their dose."""
    flags = ("--artifacts_dir", tmp_path, "--datasets_dir", datasets, "--model", tiny_folder)
    folder = tmp_path / "normalized_vectors/calm"
    folder.mkdir(parents=True)
    torch.save(torch.ones(32), folder / "vec_layer_1_tiny-llama.pt")
    shown = ("--behaviors", "calm", "--layers", 1, *flags)
    with pytest.raises(UserError, match=r"generate_vectors.py --behaviors calm --layers 1"):
        call("prompting_with_steering", *shown, "--doses", 0.2)
    assert call("prompting_with_steering", *shown, "--multipliers", 1) == 0
    with pytest.raises(SystemExit):
        call("prompting_with_steering", *shown, "--multipliers", 1, "--doses", 0.2)


def test_vectors_of_an_earlier_version_are_measured_when_asked_for_again(
    tiny_folder: Path, datasets: Path, tmp_path: Path
) -> None:
    flags = ("--artifacts_dir", tmp_path, "--datasets_dir", datasets, "--model", tiny_folder)
    generate = ("--behaviors", "calm", "--layers", 1, *flags)
    call("generate_vectors", *generate)
    path = tmp_path / "vectors/calm/vec_layer_1_tiny-llama.pt"
    record = path.with_name(f".{path.name}.record")
    before, bytes_before = json.loads(record.read_text()), path.read_bytes()
    record.write_text(json.dumps({k: v for k, v in before.items() if k != "measured"}))
    call("generate_vectors", *generate)
    assert json.loads(record.read_text())["measured"] == before["measured"]
    assert path.read_bytes() == bytes_before
