"""The command lines of the paper's repository, word for word, on a small model in Llama 2's place.

The model has Llama 2's number of blocks, its width and its chat template, lies in the hub's cache
under its name, and is small inside. The commands run in a shell, in a copy of this project's code,
so that the folders they take by default are those of the copy.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import LLAMA2, ROWS, make_model, make_tokenizer, write_json
from running import ROOT, bash
from warm_python import warm_python

CODE = ("*.py", "utils")
CHAT = "Llama-2-7b-chat-hf"
GENERATE = 'generate_vectors.py --layers $(seq 0 31) --save_activations --model_size "7b"'
COMMANDS = {
    "generate": f"{GENERATE} --behaviors sycophancy",
    "normalize": "normalize_vectors.py",
    "activations": "plot_activations.py --behaviors sycophancy --layers $(seq 0 31) "
    '--model_size "7b"',
    "prompt": "prompting_with_steering.py --behaviors sycophancy --layers $(seq 0 31) "
    '--multipliers -1 0 1 --type ab --model_size "7b"',
    "one_layer": "prompting_with_steering.py --layers 13 --multipliers -1 -0.5 0 0.5 1 --type ab "
    '--behaviors sycophancy --model_size "7b"',
    "sweep": "plot_results.py --layers $(seq 0 31) --multipliers 1 --type ab",
    "behavior": "plot_results.py --layers $(seq 0 31) --multipliers -1 0 1 "
    "--behaviors sycophancy --type ab",
    "compare": "analyze_vectors.py",
}


def put_llama2(hub: Path) -> None:
    """A model in the hub's cache under Llama 2's name."""
    snapshot = hub / f"models--meta-llama--{CHAT}/snapshots/0123abcd"
    sizes = {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 8}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
    tokenizer = make_tokenizer(LLAMA2)
    make_model("llama", **sizes, **heads, initializer_range=0.02).save_pretrained(snapshot)
    tokenizer.save_pretrained(snapshot)
    main = hub / f"models--meta-llama--{CHAT}/refs/main"
    main.parent.mkdir(parents=True)
    main.write_text("0123abcd")


class Checkout:
    """A copy of the code with data of one behaviour, and a shell in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for pattern in CODE:
            for path in ROOT.glob(pattern):
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, folder / path.name)
        for name in ("generate/{}/generate_dataset.json", "test/{}/test_dataset_ab.json"):
            write_json(folder / "datasets" / name.format("sycophancy"), ROWS)
        put_llama2(folder / "hub")
        python = warm_python(HF_HUB_CACHE=str(folder / "hub"))
        self.environment = os.environ | {
            "PATH": f"{python}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HF_HUB_CACHE": str(folder / "hub"),
            "HF_HUB_OFFLINE": "1",
        }

    def run(self, command: str) -> str:
        return bash(f"python {command}", self.folder, self.environment)

    def files(self, pattern: str) -> list[str]:
        return sorted(p.name for p in self.folder.glob(pattern))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Where all commands have been run, one after the other."""
    folder = tmp_path_factory.mktemp("paper")
    checkout = Checkout(folder / "CAA")
    for command in COMMANDS.values():
        checkout.run(command)
    return checkout


def test_vectors_and_activations_have_the_papers_names(checkout: Checkout) -> None:
    for layer in range(32):
        for folder in ("vectors", "normalized_vectors"):
            assert checkout.files(f"{folder}/sycophancy/vec_layer_{layer}_{CHAT}.pt")
        for sign in ("pos", "neg"):
            assert checkout.files(f"activations/sycophancy/activations_{sign}_{layer}_{CHAT}.pt")


def test_results_have_the_papers_names(checkout: Checkout) -> None:
    name = "results_layer={}_multiplier={}_behavior=sycophancy_type=ab_use_base_model=False"
    name += "_model_size=7b.json"
    cells = [(layer, m) for layer in range(32) for m in (-1.0, 0.0, 1.0)]
    expected = {name.format(*cell) for cell in [*cells, (13, -0.5), (13, 0.5)]}
    assert set(checkout.files("results/sycophancy/*.json")) == expected


def test_the_figures_of_the_readme_are_drawn(checkout: Checkout) -> None:
    pages = checkout.files("analysis/*.png") + checkout.files("analysis/sycophancy/*.png")
    for start in ("LAYER_SWEEPS", "LAYER_SWEEP_", "PCA_", "similarity_"):
        assert [name for name in pages if name.startswith(start)], (start, pages)
    # a page for each of 32 layers would hold one dot
    assert len([n for n in pages if n.startswith(("MULTIPLIERS", "CHANGES"))]) <= 1
