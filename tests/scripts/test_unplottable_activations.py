"""Activations that cannot be plotted: named with what to do, and nothing is drawn."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from conftest import ROWS, write_json
from made_up_activations import Saved, generated, saved
from running import ROOT, imported

from utils.plans.saved_sources import model_flags

__all__ = ("generated", "saved")  # fixtures


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
    assert not imported(done.stderr) & {"torch", "sklearn", "matplotlib"}
