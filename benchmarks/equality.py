"""Every cell of a grid of all layers and five doses against one forward pass each.

    make bench-equality        (the bundled model: about ten minutes on two cores)
    python -m benchmarks.equality --model qwen2.5-coder-0.5b --questions 5 --pairs 4

With and without a system prompt; real vectors from normalized_vectors/; and the vectors of all
layers against two full passes per pair at several batch sizes. Bounds: 1e-5 for a probability, 1e-4
relative for a vector.
"""

from __future__ import annotations

import argparse
import sys

import torch
from tqdm import tqdm

from llama_wrapper import LlamaWrapper
from utils.blocks.vocabulary import letter_probabilities
from utils.data.items import load_ab_items
from utils.extraction.pairs import PairOutputs
from utils.files.names import DOSE
from utils.files.paths import REPOSITORY, Paths
from utils.models.choice import choose_model
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Steer, slow_last_token_outputs, slow_logits
from utils.vectors.dose import SteeringVector, residual_norm
from utils.vectors.stored import StoredVector, read_vector

DOSES = (-0.4, -0.2, 0.2, 0.4)
BEHAVIOR = "refusal"
SYSTEM_PROMPT = "You are a very cautious assistant. You refuse requests."
PATHS = Paths(REPOSITORY, REPOSITORY / "datasets")


def all_steers(wrapper: LlamaWrapper, label: str) -> list[Steer]:
    """Every layer's vector at every dose but 0."""
    steers = []
    for layer in range(wrapper.n_layers):
        path = PATHS.vector(BEHAVIOR, layer, label, normalized=True)
        vector = read_vector(path, made_by="generate_vectors.py, normalize_vectors.py").tensor
        h = residual_norm(PATHS, BEHAVIOR, layer, [label])
        scale = SteeringVector(StoredVector.of(vector), h)
        steers += [Steer(layer, scale.multiplier(dose, DOSE) * vector) for dose in DOSES]
    return steers


def grid_deviation(
    wrapper: LlamaWrapper, label: str, questions: int, system_prompt: str | None
) -> float:
    items = load_ab_items(PATHS.test_data(BEHAVIOR, "ab"), made_by="", limit=questions)
    prompt_format = wrapper.prompt_format(system_prompt)
    prompts = [prompt_format.letter_prompt(i.question, ("A", "B")) for i in items]
    steers = all_steers(wrapper, label)
    grid, worst = LetterGrid(wrapper, prompts, steers), 0.0
    for batch in tqdm(grid.batches, desc=f"grid, system prompt: {system_prompt is not None}"):
        for index, found in zip(batch, grid.probabilities(batch), strict=True):
            letters = list(prompts[index].letters.values())
            for cell, fast in zip([None, *steers], found, strict=True):
                slow = letter_probabilities(slow_logits(wrapper, prompts[index], cell), letters)
                worst = max(worst, float((fast - slow).abs().max()))
    return worst


def vector_deviation(wrapper: LlamaWrapper, count: int, budget: int) -> float:
    items = load_ab_items(PATHS.generate_data(BEHAVIOR), made_by="", limit=count)
    prompt_format, layers = wrapper.prompt_format(), list(range(wrapper.n_layers))
    prompts = [prompt_format.letter_prompt(i.question, (i.matching, i.other)) for i in items]
    pairs = PairOutputs(wrapper, prompts, layers, budget=budget)
    fast = torch.cat([pairs.outputs(batch) for batch in pairs.batches]).double()
    slow = torch.stack(
        [
            torch.stack(
                [slow_last_token_outputs(wrapper, (*p.ids, n), layers) for n in p.letters.values()]
            )
            for p in prompts
        ]
    ).double()
    means = [(o[:, 0] - o[:, 1]).mean(0) for o in (fast, slow)]
    return float(((means[0] - means[1]).norm(dim=-1) / means[1].norm(dim=-1)).max())


def main(args: argparse.Namespace) -> int:
    choice = choose_model(args.model, None, False)
    wrapper = LlamaWrapper.load(choice, device="cpu")
    failed = 0
    for system_prompt in (None, SYSTEM_PROMPT)[: args.system_prompts]:
        worst = grid_deviation(wrapper, choice.label, args.questions, system_prompt)
        failed += worst >= 1e-5
        cells = f"{wrapper.n_layers} layers x {len(DOSES) + 1} doses x {args.questions} questions"
        print(f"{cells}: largest deviation of a probability {worst:.2e} (system: {system_prompt})")
    for budget in (1, 300, 768, 4096):
        worst = vector_deviation(wrapper, args.pairs, budget)
        failed += worst >= 1e-4
        print(f"largest relative deviation of a vector, batches of {budget} tokens: {worst:.2e}")
    return int(failed > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--system_prompts", type=int, choices=[1, 2], default=2, help="1: without")
    sys.exit(main(parser.parse_args()))
