"""Every cell of a 30 x 5 grid against one forward pass each, on the bundled model.

    make bench-equality        (about ten minutes on two cores)

Ten questions, with and without a system prompt; real vectors from normalized_vectors/; and the
vectors of all layers against two full passes per pair at several batch sizes.
"""

import sys

import torch
from tqdm import tqdm

from llama_wrapper import LlamaWrapper
from utils.artifacts import load_tensor
from utils.data import load_ab_items
from utils.grid import LetterGrid, deltas_of
from utils.models import BUNDLED_LABEL, choose_model
from utils.one_pass import letter_probabilities, slow_last_token_outputs, slow_logits
from utils.pairs import PairOutputs
from utils.paths import REPOSITORY, Paths

MULTIPLIERS = (-2.0, -1.0, 0.0, 1.0, 2.0)
QUESTIONS, PAIRS = 10, 12
BEHAVIOR = "refusal"
SYSTEM_PROMPT = "You are a very cautious assistant. You refuse requests."
PATHS = Paths(REPOSITORY, REPOSITORY / "datasets")


def grid_deviation(wrapper: LlamaWrapper, system_prompt: str | None) -> float:
    items = load_ab_items(PATHS.test_data(BEHAVIOR, "ab"), made_by="", limit=QUESTIONS)
    prompt_format = wrapper.prompt_format(system_prompt)
    prompts = [prompt_format.letter_prompt(i.question, ("A", "B")) for i in items]
    vectors = {
        n: load_tensor(PATHS.vector(BEHAVIOR, n, BUNDLED_LABEL, normalized=True), made_by="")
        for n in range(wrapper.n_layers)
    }
    steers = deltas_of(vectors, MULTIPLIERS)
    grid, worst = LetterGrid(wrapper, prompts, steers), 0.0
    for batch in tqdm(grid.batches, desc=f"grid, system prompt: {system_prompt is not None}"):
        for index, found in zip(batch, grid.probabilities(batch), strict=True):
            letters = list(prompts[index].letters.values())
            for cell, fast in zip([None, *steers], found, strict=True):
                slow = letter_probabilities(slow_logits(wrapper, prompts[index], cell), letters)
                worst = max(worst, float((fast - slow).abs().max()))
    return worst


def vector_deviation(wrapper: LlamaWrapper, budget: int) -> float:
    items = load_ab_items(PATHS.generate_data(BEHAVIOR), made_by="", limit=PAIRS)
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


def main() -> int:
    wrapper = LlamaWrapper.load(choose_model(None, None, False), device="cpu")
    failed = 0
    for system_prompt in (None, SYSTEM_PROMPT):
        worst = grid_deviation(wrapper, system_prompt)
        failed += worst >= 1e-5
        print(f"largest deviation of a probability: {worst:.2e} (system prompt: {system_prompt})")
    for budget in (1, 300, 768, 4096):
        worst = vector_deviation(wrapper, budget)
        failed += worst >= 1e-4
        print(f"largest relative deviation of a vector, batches of {budget} tokens: {worst:.2e}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
