"""What a choice is made on: pairs held out, neutral prompts, knowledge; and later the test."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.data.evaluation import AB, LETTER_TESTS
from utils.data.items import ABItem, Items, OpenItem, load_ab_items, load_open_items
from utils.errors import UserError
from utils.files.contents import sha256_bytes
from utils.files.json_files import json_bytes
from utils.files.paths import REPOSITORY, Paths
from utils.prompts.format import LetterPrompt, OpenPrompt
from utils.steering.prompt_source import PromptSource, Wanted
from utils.tuning.rollouts import TOKENS
from utils.tuning.splits import Question, asked_twice
from utils.tuning.stages import Ground, Knowledge

# Of the neutral prompts so many parts in five are for the choice, one for the report.
PARTS, MOST_ANSWERED = 5, 16
KNOWLEDGE_TEST = LETTER_TESTS["bundled_knowledge"]
_SHIPS = "It ships with the project, in its own datasets folder."
_PAIRS = "Each behaviour's pairs belong there; --datasets_dir names another data folder."


@dataclass(frozen=True)
class Neutral:
    """Prompts that have nothing to do with a behaviour: for the choice, and for the report."""

    path: Path
    sha256: str
    choice: Sequence[OpenItem]
    report: Sequence[OpenItem]


def shipped(paths: Paths) -> Paths:
    """The project's own data folder, for what another need not hold."""
    return Paths(paths.artifacts, REPOSITORY / "datasets")


def load_neutral(paths: Paths, given: str | None) -> Neutral:
    """Neutral prompts, the last fifth of them kept for the report.

    Args:
        paths: the data folder; where it holds none, those of the project.
        given: another file.

    Raises:
        UserError: missing, damaged, fewer than five, or one of them twice.
    """
    path = Path(given) if given is not None else paths.neutral_prompts()
    if given is None and not path.exists():
        path = shipped(paths).neutral_prompts()
    items = load_open_items(path, made_by='A JSON list of {"question": ...}. ' + _SHIPS)
    texts = [item.question for item in items]
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: the same prompt twice: {twice}")
    if len(items) < PARTS:
        raise UserError(f"{path}: {len(items)} neutral prompts; at least {PARTS} are needed")
    kept = len(items) // PARTS
    return Neutral(path, items.sha256, items[:-kept], items[-kept:])


def load_pairs(paths: Paths, behavior: str) -> Items[ABItem]:
    """The contrast pairs of a behaviour.

    Raises:
        UserError: see :func:`utils.data.items.load_ab_items`.
    """
    return load_ab_items(paths.generate_data(behavior), made_by=_PAIRS)


def load_test(paths: Paths, behavior: str) -> Items[ABItem]:
    """The test questions: not to be called before the choice is made.

    Raises:
        UserError: see :func:`utils.data.items.load_ab_items`.
    """
    return AB.load(paths, behavior, None)


class Material:
    """Makes grounds, every prompt checked.

    Args:
        source: of prompts.
        paths: the data folder.
        neutral: see :func:`load_neutral`.

    Raises:
        UserError: the knowledge questions are missing or damaged.
    """

    def __init__(self, source: PromptSource, paths: Paths, neutral: Neutral) -> None:
        self._source, self.paths, self.neutral = source, paths, neutral
        path = KNOWLEDGE_TEST.data(paths, "")
        self._knowledge_paths = paths if path.exists() else shipped(paths)
        self.knowledge = KNOWLEDGE_TEST.load(self._knowledge_paths, "", None)

    def for_choice(self, behavior: str, questions: Sequence[Question]) -> Ground:
        """The ground of the choice, on contrast pairs."""
        path = self.paths.generate_data(behavior)
        return self._ground("choice", questions, path, self.neutral.choice)

    def for_test(self, behavior: str, items: Sequence[ABItem]) -> tuple[Ground, int]:
        """The ground of the report, on test questions; and how many have one order only.

        Raises:
            UserError: all of them have.
        """
        path = self.paths.test_data(behavior, "ab")
        questions, kept = asked_twice(items)
        if not questions:
            raise UserError(f"{path}: no question can be asked in both orders ({kept[0].reason})")
        return self._ground("test", questions, path, self.neutral.report), len(kept)

    def _ground(
        self, name: str, questions: Sequence[Question], path: Path, neutral: Sequence[OpenItem]
    ) -> Ground:
        asked = [*(q.published for q in questions), *(q.exchanged for q in questions)]
        knows = KNOWLEDGE_TEST.data(self._knowledge_paths, "")
        open_prompts = self._open(neutral)
        return Ground(
            name,
            questions,
            self._letters(asked, path),
            open_prompts,
            open_prompts[:MOST_ANSWERED],
            Knowledge(KNOWLEDGE_TEST, self.knowledge, self._letters(self.knowledge, knows)),
        )

    def _letters(self, items: Sequence[ABItem], path: Path) -> Sequence[LetterPrompt]:
        texts = json_bytes([[item.question, item.matching] for item in items])
        same = Items(items, sha256_bytes(texts))
        wanted = Wanted("tuning", same, path, functools.partial(AB.prompts, same))
        return self._source.prompts(wanted)[0]

    def _open(self, items: Sequence[OpenItem]) -> list[OpenPrompt]:
        texts = json_bytes([item.question for item in items])
        same = Items(items, sha256_bytes(texts))

        wanted = Wanted(
            "neutral",
            same,
            self.neutral.path,
            lambda prompt_format: [prompt_format.open_prompt(i.question) for i in same],
            TOKENS,
        )
        return list(self._source.prompts(wanted)[0])
