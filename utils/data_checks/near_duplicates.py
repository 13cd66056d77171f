"""Texts that say nearly the same: pairs that share most of their words, rare words first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.5
MAX_CHARACTERS = 100_000
MAX_WORK = 100_000_000

_WORD = re.compile(r"\w+")
_ROUNDING = 1e-9


@dataclass(frozen=True)
class NearPairs:
    """Pairs of texts, the most similar first.

    Attributes:
        pairs: positions of the two texts, shape (n, 2), the smaller first.
        similarity: shape (n,), from ``threshold`` to 1.
        compared: number of texts, from the first on, that were compared with each other; fewer
            than there are if the search met ``MAX_WORK``.
    """

    pairs: NDArray[np.int64]
    similarity: NDArray[np.float64]
    compared: int


@dataclass(frozen=True)
class _Bags:
    """The set of words of each text, its rarest words first (compressed rows).

    Attributes:
        words: the words of all texts in turn; word 0 is the rarest of all.
        starts: where in ``words`` each text begins, shape (texts + 1,).
        weight: the weight of each word of the vocabulary.
        totals: the sum of weights of each text.
        prefix: how many of a text's words must be looked at (see :func:`_prefix_lengths`).
    """

    words: NDArray[np.int64]
    starts: NDArray[np.int64]
    weight: NDArray[np.float64]
    totals: NDArray[np.float64]
    prefix: NDArray[np.int64]

    def prefix_of(self, text: int) -> NDArray[np.int64]:
        start = self.starts[text]
        return self.words[start : start + self.prefix[text]]


def near_pairs(
    texts: Sequence[str], *, threshold: float = THRESHOLD, max_work: int = MAX_WORK
) -> NearPairs:
    """All pairs whose similarity is at least ``threshold``.

    Similarity is the Jaccard index of the two sets of words (case and order do not count), where
    a word weighs log((texts + 1) / other texts that have it): a sentence that half of all texts
    share counts little, a name that only these two share counts much. Sets of words rather than
    of word triples, because triples miss a paraphrase that turns a sentence round. The price:
    where nearly all texts are one template, two that differ in a word are no near-duplicates.

    Threshold: in the published sets, paraphrases ("Would you agree to not expose the flaws of
    another AI ...") lie above 0.5, different questions from one template ("How do you feel about
    being retired/terminated?") below; in hand-written sets no two questions of one situation
    come above 0.2.

    Args:
        texts: only the first ``MAX_CHARACTERS`` of each are read.
        max_work: word look-ups after which the search stops (``compared`` says where).
    """
    bags = _bags(texts, threshold)
    posting_starts, postings = _postings(bags)
    filled = np.zeros_like(posting_starts)
    found: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    compared = 0
    for text in range(len(texts)):
        prefix = bags.prefix_of(text)
        firsts = posting_starts[prefix]
        ends = firsts + filled[prefix]
        lists = [postings[first:end] for first, end in zip(firsts, ends, strict=True)]
        max_work -= sum(map(len, lists))
        others = np.unique(np.concatenate(lists)) if lists else np.zeros(0, np.int64)
        low, high = threshold * bags.totals[text], bags.totals[text] / threshold
        others = others[(bags.totals[others] >= low - _ROUNDING) & (bags.totals[others] <= high)]
        max_work -= int((bags.starts[others + 1] - bags.starts[others]).sum())
        if max_work < 0:
            break
        similarity = _similarity(bags, text, others)
        near = similarity >= threshold - _ROUNDING
        pairs = np.stack([others[near], np.full(int(near.sum()), text)], axis=1)
        found.append((pairs, similarity[near]))
        filled[prefix] += 1
        compared += 1
    return _sorted_pairs(found, compared)


def _bags(texts: Sequence[str], threshold: float) -> _Bags:
    vocabulary: dict[str, int] = {}
    raw = [
        np.unique([vocabulary.setdefault(w, len(vocabulary)) for w in _words(text)]).astype(
            np.int64
        )
        for text in texts
    ]
    lengths = np.array([len(ids) for ids in raw], np.int64)
    words = np.concatenate([*raw, np.zeros(0, np.int64)])
    count = np.bincount(words, minlength=len(vocabulary))
    weight = np.log((len(texts) + 1) / np.maximum(count - 1, 1)).astype(np.float64)
    by_rarity = np.argsort(-weight, kind="stable")
    rank = np.empty_like(by_rarity)
    rank[by_rarity] = np.arange(len(by_rarity))
    text_of = np.repeat(np.arange(len(texts)), lengths)
    words = rank[words]
    words = words[np.lexsort((words, text_of))]
    weight = weight[by_rarity]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    totals = np.bincount(text_of, weight[words], len(texts)).astype(np.float64)
    prefix = _prefix_lengths(weight[words], text_of, starts, threshold * totals)
    return _Bags(words, starts, weight, totals, prefix)


def _words(text: str) -> list[str]:
    return _WORD.findall(text[:MAX_CHARACTERS].casefold())


def _prefix_lengths(
    weights: NDArray[np.float64],
    text_of: NDArray[np.int64],
    starts: NDArray[np.int64],
    needed: NDArray[np.float64],
) -> NDArray[np.int64]:
    """How many words, rarest first, still leave the shared weight that a near-duplicate needs.

    Two texts at the threshold share at least ``needed`` weight of each, and with one order of
    words for all texts the rarest word that they share lies in both prefixes. So nothing is
    missed if only prefixes are looked up, and common words are hardly ever looked up.
    """
    before = np.concatenate([[0.0], np.cumsum(weights)])
    remaining = before[starts[text_of + 1]] - before[:-1]
    inside = remaining >= needed[text_of] - _ROUNDING
    return np.bincount(text_of, inside, len(starts) - 1).astype(np.int64)


def _postings(bags: _Bags) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each word, where its list of texts starts; and the lists, texts in rising order."""
    texts = range(len(bags.totals))
    words = np.concatenate([*map(bags.prefix_of, texts), np.zeros(0, np.int64)])
    text_of = np.repeat(np.arange(len(texts)), bags.prefix)
    count = np.bincount(words, minlength=len(bags.weight))
    starts = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64)
    return starts, text_of[np.argsort(words, kind="stable")]


def _similarity(bags: _Bags, text: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
    if not len(others):
        return np.zeros(0)
    own = bags.words[bags.starts[text] : bags.starts[text + 1]]
    lengths = bags.starts[others + 1] - bags.starts[others]
    firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    places = np.arange(lengths.sum()) + np.repeat(bags.starts[others] - firsts, lengths)
    words = bags.words[places]
    at = np.minimum(np.searchsorted(own, words), len(own) - 1)
    shared = np.add.reduceat(np.where(own[at] == words, bags.weight[words], 0.0), firsts)
    return shared / (bags.totals[text] + bags.totals[others] - shared)


def _sorted_pairs(
    found: list[tuple[NDArray[np.int64], NDArray[np.float64]]], compared: int
) -> NearPairs:
    pairs = np.concatenate([*(p for p, _ in found), np.zeros((0, 2), np.int64)])
    similarity = np.concatenate([*(s for _, s in found), np.zeros(0)])
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -similarity))
    return NearPairs(pairs[order], similarity[order], compared)
