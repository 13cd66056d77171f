"""Answers decoded together behind one prefill = one at a time by the library's generate."""

from __future__ import annotations

import pytest
from conftest import decoded, make_wrapper
from grids import all_answers, open_prompts, steers_of, texts

from llama_wrapper import LlamaWrapper
from utils.steering.decoding import GreedyGrid

NEW = 14


def test_together_equals_one_at_a_time(family_wrapper: LlamaWrapper) -> None:
    prompts, steers = open_prompts(family_wrapper), steers_of(family_wrapper)
    together = GreedyGrid(family_wrapper, prompts, steers, max_new_tokens=NEW, rows=20)
    assert together.together, "this family must take the fast way"
    alone = GreedyGrid(family_wrapper, prompts, steers, max_new_tokens=NEW, slow=True)
    assert texts(together) == texts(alone)
    found = texts(together)
    assert any(len(set(answers)) > 1 for answers in found), "steering must change some answer"


@pytest.mark.parametrize("rows", [1, 3, 7, 40, 500])
def test_any_batch_size_order_and_subset_gives_the_same_answers(
    wrapper: LlamaWrapper, rows: int
) -> None:
    prompts, steers = open_prompts(wrapper), steers_of(wrapper)
    expected = texts(GreedyGrid(wrapper, prompts, steers, max_new_tokens=NEW, slow=True))
    assert texts(GreedyGrid(wrapper, prompts, steers, max_new_tokens=NEW, rows=rows)) == expected
    turned = GreedyGrid(wrapper, prompts[::-1], steers, max_new_tokens=NEW, rows=rows)
    assert texts(turned) == expected[::-1]
    some = GreedyGrid(wrapper, prompts[2:4], steers[:2], max_new_tokens=NEW, rows=rows)
    assert texts(some) == [answers[:2] for answers in expected[2:4]]


def test_rows_leave_at_their_end_token(wrapper: LlamaWrapper) -> None:
    prompts, steers = open_prompts(wrapper), steers_of(wrapper)
    plain = texts(GreedyGrid(wrapper, prompts, steers, max_new_tokens=NEW, slow=True))
    # make a token that comes up in the middle of some answers an end token
    common = max(range(400), key=lambda t: sum(t in a[2:-2] for row in plain for a in row))
    wrapper.model.generation_config.eos_token_id = [3, common]
    sizes: list[int] = []
    handle = wrapper.model.lm_head.register_forward_hook(
        lambda _m, args, _o: sizes.append(len(args[0]))
    )
    grid = GreedyGrid(wrapper, prompts, steers, max_new_tokens=NEW, rows=100)
    sizes.clear()
    found = texts(grid)
    handle.remove()
    lengths = [len(tokens) for answers in found for tokens in answers]
    assert len(set(lengths)) > 2, "rows must end at different steps"
    assert sizes == [sum(n > step for n in lengths) for step in range(max(lengths))]
    for answers, whole in zip(found, plain, strict=True):
        for tokens, uncut in zip(answers, whole, strict=True):
            ends = [i for i, t in enumerate(uncut) if t in (3, common)]
            assert tokens == (uncut[: ends[0] + 1] if ends else uncut)


def test_the_prompt_runs_once_for_all_steers(wrapper: LlamaWrapper) -> None:
    prompts, steers = open_prompts(wrapper), steers_of(wrapper)
    grid = GreedyGrid(wrapper, prompts, steers, max_new_tokens=2, rows=100)
    tokens: list[int] = []
    wrapper.blocks[0].register_forward_hook(lambda _m, _a, out: tokens.append(out[..., 0].numel()))
    for batch in grid.batches:
        grid.answers(batch)
    longest = max(len(p.ids) for p in prompts) - 1
    assert tokens[0] == len(prompts) * longest
    assert tokens[1] == len(prompts) * len(steers)


def test_the_margin_is_the_smallest_distance_of_the_two_best_logits(wrapper: LlamaWrapper) -> None:
    prompt = open_prompts(wrapper)[0]
    answer = all_answers(GreedyGrid(wrapper, [prompt], [None], max_new_tokens=6))[0][0]
    ids, gaps = list(prompt.ids), []
    for token in answer.tokens:
        best = wrapper.next_logits(ids).topk(2)
        assert int(best.indices[0]) == token
        gaps.append(float(best.values[0] - best.values[1]))
        ids.append(token)
    assert answer.margin == pytest.approx(min(gaps), abs=1e-4)


def test_steering_begins_at_the_last_token_of_the_instruction() -> None:
    wrapper = make_wrapper("llama")
    prompt = open_prompts(wrapper)[0]
    assert decoded(wrapper.tokenizer, prompt.ids).endswith("assistant\n")
    assert prompt.tail == 1 and prompt.steer_from == len(prompt.ids) - 1
