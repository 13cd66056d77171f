"""Texts that say nearly the same: pairs that share most of their words, rare words first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

THRESHOLD = 0.5
MAX_CHARACTERS = 100_000
MAX_WORK = 2_000_000_000

_WORD = re.compile(r"\w+")
_ROUNDING = 1e-9
_CHUNK = 256


@dataclass(frozen=True)
class NearPairs:
    """Pairs of texts, the most similar first.

    Attributes:
        pairs: positions of the two texts, shape (n, 2), the smaller first.
        similarity: shape (n,), from ``threshold`` to 1.
        compared: number of texts, from the first on, that were compared with each other; fewer
            than there are if the search would have been more than ``MAX_WORK``.
    """

    pairs: NDArray[np.int64]
    similarity: NDArray[np.float64]
    compared: int


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
        max_work: multiplications after which the search stops (``compared`` says where).
    """
    if not any(map(_words, texts)):
        return NearPairs(np.zeros((0, 2), np.int64), np.zeros(0), len(texts))
    bags = CountVectorizer(binary=True, analyzer=_words).fit_transform(texts)
    count = np.bincount(bags.indices)
    compared = int(np.searchsorted(np.cumsum(bags @ count), max_work, side="right"))
    weight = np.log((len(texts) + 1) / np.maximum(count - 1, 1))
    found = list(_near(bags[:compared], weight, threshold))
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *(p for p, _ in found)])
    similarity = np.concatenate([np.zeros(0), *(s for _, s in found)])
    # rounded: the order of equal pairs is not to hang on the order in which weights are added
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -similarity.round(9)))
    return NearPairs(pairs[order], similarity[order], compared)


def _words(text: str) -> list[str]:
    return _WORD.findall(text[:MAX_CHARACTERS].casefold())


def _near(
    bags: csr_matrix, weight: NDArray[np.float64], threshold: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Each text of a chunk with the texts before it: pairs and similarity, chunk by chunk."""
    weighted = bags.multiply(weight).tocsr()
    totals = bags @ weight
    for first, end in pairwise([*range(0, bags.shape[0], _CHUNK), bags.shape[0]]):
        shared = (weighted[first:end] @ bags[:end].T).tocoo()
        earlier, later = shared.col, shared.row + first
        similarity = shared.data / (totals[earlier] + totals[later] - shared.data)
        near = (earlier < later) & (similarity >= threshold - _ROUNDING)
        yield np.stack([earlier[near], later[near]], axis=1), similarity[near]
