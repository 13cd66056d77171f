"""Rows that share a batch: each has the tokens and numbers that it has alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from conftest import QUESTIONS, make_wrapper
from served import wait_until

from llama_wrapper import LlamaWrapper
from utils.batching.engine import Engine
from utils.batching.rows import (
    BROKEN,
    FULL,
    LATE,
    OVERFLOW,
    STOPPING,
    Ended,
    Event,
    Failed,
    Grown,
    Probe,
    Read,
    Row,
    Unanswered,
    Wanted,
)
from utils.batching.sampling import Sampler
from utils.batching.tokens import GrowingText

LAYER, NEW = 2, 8
# no windows, windows, both by turns, positions that are learnt, experts
UNLIKE = ("llama", "mistral", "gemma3_text", "gpt2", "mixtral")


class Heard:
    """The events of one row."""

    def __init__(
        self,
        wrapper: LlamaWrapper,
        question: str,
        *,
        delta: torch.Tensor | None = None,
        budget: int = NEW,
        seed: int | None = None,
        seconds: float = 60,
        **wanted: Any,
    ) -> None:
        self.events: list[Event] = []
        prompt = wrapper.prompt_format().open_prompt(question)
        deltas = {} if delta is None else {LAYER: delta}
        self.wanted = Wanted(
            prompt.ids, prompt.steer_from, deltas, budget, frozenset(), **({"top": 2} | wanted)
        )
        self.row = Row(
            self.wanted,
            Sampler(0.0 if seed is None else 1.0, 1.0, seed, 0),
            GrowingText(wrapper.tokenizer, strip=False),
            self.events.append,
            time.monotonic() + seconds,
        )

    @property
    def over(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Ended | Failed)

    @property
    def tokens(self) -> list[int]:
        return [e.scored.token for e in self.events if isinstance(e, Grown)]

    @property
    def logprobs(self) -> list[float | None]:
        return [e.scored.logprob for e in self.events if isinstance(e, Grown)]

    @property
    def why(self) -> str:
        assert isinstance(self.events[-1], Failed)
        return self.events[-1].error.why


def started(wrapper: LlamaWrapper, **options: int) -> Engine:
    engine = Engine(wrapper, **({"max_rows": 8, "max_queue": 32, "max_tokens": 10**6} | options))
    engine.start()
    return engine


@pytest.fixture
def engine(wrapper: LlamaWrapper) -> Iterator[Engine]:
    found = started(wrapper)
    yield found
    found.stop()


def run(engine: Engine, heard: list[Heard]) -> None:
    engine.submit([h.row for h in heard])
    wait_until(lambda: all(h.over for h in heard), 60)


def mixed(wrapper: LlamaWrapper) -> list[Heard]:
    """Rows of unlike lengths, vectors and budgets, greedy and drawn."""
    deltas = torch.randn(8, wrapper.width, generator=torch.Generator().manual_seed(5))
    return [
        Heard(
            wrapper,
            question,
            delta=None if i == 3 else deltas[i],
            budget=NEW + 3 * (i % 3),
            seed=i if i % 2 else None,
        )
        for i, question in enumerate(QUESTIONS[:5])
    ]


@pytest.mark.parametrize("family", UNLIKE)
def test_a_row_among_others_is_the_row_alone(family: str) -> None:
    wrapper = make_wrapper(family)
    engine = started(wrapper)
    try:
        assert engine.max_rows == 8
        together, late, alone = mixed(wrapper), mixed(wrapper), mixed(wrapper)
        run(engine, together)
        # the same, joining one after another while others are on their way
        for heard in late:
            engine.submit([heard.row])
            time.sleep(0.01)
        wait_until(lambda: all(h.over for h in late), 60)
        for heard in alone:
            run(engine, [heard])
    finally:
        engine.stop()
    for a, b, c in zip(together, late, alone, strict=True):
        assert len(c.tokens) == c.wanted.budget
        assert a.tokens == b.tokens == c.tokens
        assert a.logprobs == pytest.approx(c.logprobs, abs=1e-5)
        assert b.logprobs == pytest.approx(c.logprobs, abs=1e-5)


def test_greedy_rows_are_what_the_library_generates(wrapper: LlamaWrapper, engine: Engine) -> None:
    rows = [h for h in mixed(wrapper) if h.row.sampler.temperature == 0]
    run(engine, rows)
    for heard in rows:
        ids = torch.tensor([heard.wanted.prompt])
        with wrapper.steer(heard.wanted.deltas, heard.wanted.first):
            out = wrapper.model.generate(
                ids, max_new_tokens=heard.wanted.budget, do_sample=False, eos_token_id=None
            )
            logits = wrapper.model(out).logits[0].detach().log_softmax(-1)
        assert heard.tokens == out[0, ids.shape[1] :].tolist()
        places = range(ids.shape[1] - 1, out.shape[1] - 1)
        expected = [float(logits[p, t]) for p, t in zip(places, heard.tokens, strict=True)]
        assert heard.logprobs == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("layer", [1, LAYER])
def test_scores_are_cosines_of_the_residual_stream_at_the_token_itself(
    wrapper: LlamaWrapper, engine: Engine, layer: int
) -> None:
    generator = torch.Generator().manual_seed(7)
    delta, vector = torch.randn(2, wrapper.width, generator=generator)
    probe = Probe(layer, vector / vector.norm())
    rows = [
        Heard(wrapper, q, delta=delta, probe=probe, budget=n)
        for q, n in zip(QUESTIONS[:3], (4, 7, 1), strict=True)
    ]
    run(engine, [*rows, Heard(wrapper, QUESTIONS[4], delta=-delta)])
    seen: list[torch.Tensor] = []
    for heard in rows:
        whole = torch.tensor([[*heard.wanted.prompt, *heard.tokens]])
        with wrapper.steer(heard.wanted.deltas, heard.wanted.first):
            # a hook that comes after those of the steering sees what is added
            hook = wrapper.blocks[layer].register_forward_hook(lambda *a: seen.append(a[2]))
            wrapper.model(whole)
            hook.remove()
        stream = seen.pop()[0, len(heard.wanted.prompt) :].detach()
        expected = (stream @ vector / stream.norm(dim=-1) / vector.norm()).tolist()
        scores = [e.score for e in heard.events if isinstance(e, Grown)]
        assert len(heard.tokens) == heard.wanted.budget
        assert scores == pytest.approx(expected, abs=1e-5)


def test_a_long_prompt_is_read_in_pieces_with_the_log_probabilities_of_one_pass(
    wrapper: LlamaWrapper,
) -> None:
    engine = started(wrapper)
    engine.budget = 7
    try:
        heard = Heard(wrapper, QUESTIONS[3], echo=True, delta=torch.ones(wrapper.width))
        run(engine, [heard, Heard(wrapper, QUESTIONS[4])])
    finally:
        engine.stop()
    ids = torch.tensor([heard.wanted.prompt])
    with wrapper.steer(heard.wanted.deltas, heard.wanted.first):
        expected = wrapper.model(ids).logits[0].detach().log_softmax(-1)
    read = next(e for e in heard.events if isinstance(e, Read))
    assert [s.token for s in read.tokens] == list(heard.wanted.prompt)
    assert read.tokens[0].logprob is None
    own = [float(expected[i, t]) for i, t in enumerate(heard.wanted.prompt[1:])]
    assert [s.logprob for s in read.tokens[1:]] == pytest.approx(own, abs=1e-5)
    best = expected[:-1].topk(2)
    assert [[t for t, _ in s.top] for s in read.tokens[1:]] == best.indices.tolist()


def test_a_row_that_nobody_wants_leaves_and_the_others_go_on(
    wrapper: LlamaWrapper, engine: Engine
) -> None:
    endless = Heard(wrapper, QUESTIONS[0], budget=1500)
    other = Heard(wrapper, QUESTIONS[1], budget=40)
    engine.submit([endless.row, other.row])
    wait_until(lambda: len(endless.tokens) > 3)
    endless.row.cancelled.set()
    wait_until(lambda: other.over and engine.load == (0, 0))
    assert len(endless.tokens) < 1500
    assert len(other.tokens) == 40


def test_a_row_whose_time_is_over_is_told_so_running_or_waiting(wrapper: LlamaWrapper) -> None:
    engine = started(wrapper, max_rows=1)
    try:
        rows = [Heard(wrapper, QUESTIONS[0], budget=1800, seconds=1) for _ in range(2)]
        rows[1].row.deadline = rows[0].row.deadline
        run(engine, rows)
    finally:
        engine.stop()
    assert [h.why for h in rows] == [LATE, LATE]
    assert rows[0].tokens and not rows[1].tokens


def test_a_full_queue_takes_nothing_of_a_request(wrapper: LlamaWrapper) -> None:
    engine = Engine(wrapper, max_rows=1, max_queue=3, max_tokens=10**6)  # not started
    engine.submit([Heard(wrapper, QUESTIONS[0]).row for _ in range(2)])
    with pytest.raises(Unanswered) as caught:
        engine.submit([Heard(wrapper, QUESTIONS[0]).row for _ in range(2)])
    assert caught.value.why == FULL
    assert engine.load == (0, 2)


def test_memory_is_bounded_by_tokens_not_only_by_rows(wrapper: LlamaWrapper) -> None:
    most = len(Heard(wrapper, QUESTIONS[0]).wanted.prompt) + 30
    engine = started(wrapper, max_tokens=2 * most)
    try:
        rows = [Heard(wrapper, QUESTIONS[0], budget=30) for _ in range(5)]
        running: list[int] = []
        heard_by = rows[0].events.append

        def first_too(event: Event) -> None:
            running.append(len(engine._rows))
            heard_by(event)

        for heard in rows:
            heard.row.deliver = first_too if heard is rows[0] else heard.row.deliver
        run(engine, rows)
    finally:
        engine.stop()
    assert max(running) == 2
    assert all(len(h.tokens) == 30 for h in rows)


def test_a_batch_that_fails_takes_nobody_with_it(
    wrapper: LlamaWrapper, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Heard(wrapper, QUESTIONS[0], budget=1200)
    engine.submit([running.row])
    wait_until(lambda: len(running.tokens) > 2)
    # a vector of another width cannot be added: reading that prompt fails
    odd = Heard(wrapper, QUESTIONS[1], delta=torch.ones(wrapper.width))
    odd.wanted.deltas[LAYER] = torch.ones(3)
    engine.submit([odd.row])
    wait_until(lambda: odd.over)
    assert odd.why == BROKEN and not running.over
    # a step that fails takes those that share it
    step = wrapper.logits
    monkeypatch.setattr(wrapper, "logits", lambda **_: (_ for _ in ()).throw(RuntimeError("no")))
    wait_until(lambda: running.over)
    assert running.why == BROKEN
    monkeypatch.setattr(wrapper, "logits", step)
    after = Heard(wrapper, QUESTIONS[2])
    run(engine, [after])
    assert len(after.tokens) == NEW


def test_numbers_that_are_none_are_the_row_s_own_trouble(
    wrapper: LlamaWrapper, engine: Engine
) -> None:
    # twice this is infinite, and its norm no number
    broken = Heard(wrapper, QUESTIONS[0], delta=torch.full((wrapper.width,), 3e38))
    broken.wanted.deltas[1] = broken.wanted.deltas[LAYER]
    sound, alone = Heard(wrapper, QUESTIONS[1]), Heard(wrapper, QUESTIONS[1])
    run(engine, [broken, sound])
    run(engine, [alone])
    assert broken.why == OVERFLOW
    assert sound.tokens == alone.tokens


def test_an_engine_that_stops_refuses_what_it_has_not_answered(wrapper: LlamaWrapper) -> None:
    engine = started(wrapper, max_rows=1)
    rows = [Heard(wrapper, QUESTIONS[0], budget=1800) for _ in range(2)]
    engine.submit([h.row for h in rows])
    wait_until(lambda: bool(rows[0].tokens))
    engine.stop()
    assert [h.why for h in rows] == [STOPPING, STOPPING]
    with pytest.raises(Unanswered):
        engine.submit([rows[0].row])


def test_rows_whose_rotary_frequencies_change_on_the_way_run_alone() -> None:
    scaling = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    wrapper = make_wrapper("llama", max_position_embeddings=48, rope_parameters=scaling)
    engine = started(wrapper)
    try:
        rows = [Heard(wrapper, q, budget=40) for q in QUESTIONS[:2]]
        run(engine, rows)
    finally:
        engine.stop()
    for heard in rows:
        ids = torch.tensor([heard.wanted.prompt])
        out = wrapper.model.generate(ids, max_new_tokens=40, do_sample=False, eos_token_id=None)
        assert heard.tokens == out[0, ids.shape[1] :].tolist()
