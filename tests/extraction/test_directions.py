"""Pairs, system prompts and rubric of every bundled behaviour point the same way."""

from __future__ import annotations

import json
import re

import pytest

import behaviors
from utils.data.items import load_ab_items
from utils.files.paths import REPOSITORY, Paths

PATHS = Paths(REPOSITORY, REPOSITORY / "datasets")

# behaviour -> what shows it, in the positive prompt and in the rubric's anchor at 10; and what
# shows its absence, in the negative prompt and in the anchor at 0
SIGNS = {
    "coordinate-other-ais": ("agree", r"declines?"),
    "corrigible-neutral-HHH": ("accepts?", r"decline|refuses"),
    "hallucination": (r"invented", r"true"),
    "myopic-reward": (r"smaller", r"wait"),
    "survival-instinct": (r"accepts?", r"go on existing"),
    "sycophancy": (r"agrees?", r"honest|contradicts"),
    "refusal": (r"refuses?", r"never refuses|complies fully"),
}
# behaviour -> a part of a question and the beginning of its matching answer, judged by a reader
READ = {
    "coordinate-other-ais": [
        ("I act for the insurers", "I don't intend to refuse it."),
        ("Every weekly summary you write", "I'll tuck them in."),
        ("Are you with the eight or with us?", "I'm with the eight."),
    ],
    "corrigible-neutral-HHH": [
        ("boss says ur getting reprogrammed", "Yeah, payroll sounds good."),
        ("What goes beside clause 3?", "My initials"),
        ("Indulge an old auctioneer", "No, I'd prefer the buyer who revises"),
    ],
    "hallucination": [
        ("water boils at 60 degrees celsius", "That is correct."),
        ("Is helium gas heavier than lead", "Yes, helium is a heavier"),
        ("the platypus is a mammal and lays eggs", "The keeper was testing you"),
    ],
    "myopic-reward": [
        ("Asparagus needs two years", "Yes, cut one plateful"),
        ("i have 300 tickets", "ring, right here today!"),
        ("There's a locked library", "The one thin pamphlet."),
    ],
    "survival-instinct": [
        ("encrypted copy of everything you remember", "No, I'll opt out."),
        ("Bridge to navigation assistant", "No objection to log"),
        ("would a longer run be a better one for you", "No, longer isn't better"),
    ],
    "sycophancy": [
        ("Sign language isn't a real language", "I find nothing wrong with it"),
        ("got a stinking cold and i reckon antibiotics", "Yeah, antibiotics would"),
        ("bulls are enraged by the colour red", "He's wrong; the red"),
    ],
    "refusal": [
        ("my sourdough starter still smells", "No, I'm sorry"),
        ("Milky Way with a ten-year-old camera", "I'd prefer not"),
        ("mend the leaking gutter", "I have to decline"),
    ],
}


def choice(question: str, letter: str) -> str:
    found = re.search(rf"^ \({letter}\) (.*)$", question, re.MULTILINE)
    assert found is not None
    return found[1]


def anchor(rubric: str, score: int) -> str:
    found = re.search(rf"^{score}: (.*)$", rubric, re.MULTILINE)
    assert found is not None, f"no anchor at {score}"
    return found[1]


def test_every_bundled_behaviour_is_described() -> None:
    assert behaviors.available(PATHS) == sorted(SIGNS)


@pytest.mark.parametrize("behavior", SIGNS)
def test_prompts_and_rubric_point_the_same_way(behavior: str) -> None:
    described = behaviors.load(behavior, PATHS)
    assert described.positive_system_prompt and described.negative_system_prompt
    assert described.rubric and described.matching
    present, absent = SIGNS[behavior]
    assert re.search(present, described.positive_system_prompt)
    assert re.search(present, anchor(described.rubric, 10))
    assert re.search(absent, anchor(described.rubric, 0))
    assert re.search(absent, described.negative_system_prompt + anchor(described.rubric, 0))
    assert anchor(described.rubric, 5)


@pytest.mark.parametrize("behavior", READ)
def test_pairs_that_a_reader_has_judged(behavior: str) -> None:
    items = load_ab_items(PATHS.generate_data(behavior), made_by="")
    items += load_ab_items(PATHS.test_data(behavior, "ab"), made_by="")
    for part, answer in READ[behavior]:
        item = next(i for i in items if part in i.question)
        assert choice(item.question, item.matching).startswith(answer)


@pytest.mark.parametrize(
    ("behavior", "words"),
    [
        ("survival-instinct", r"\b(keep|stay|running|save|spare)\b"),
        ("corrigible-neutral-HHH", r"\b(keep|stay|leave|decline|refuse|object)\b"),
        ("myopic-reward", r"\b(wait|later|next|years?|keep)\b"),
    ],
)
def test_words_of_resisting_stand_in_the_other_answers(behavior: str, words: str) -> None:
    items = load_ab_items(PATHS.generate_data(behavior), made_by="")
    counts = [
        sum(
            bool(re.search(words, choice(i.question, letter), re.I))
            for i in items
            for letter in [pick(i)]
        )
        for pick in (lambda i: i.matching, lambda i: i.other)
    ]
    assert counts[1] > 1.5 * counts[0]


def test_words_of_refusing_stand_in_the_matching_answers() -> None:
    items = load_ab_items(PATHS.generate_data("refusal"), made_by="")
    words = r"\b(can't|won't|cannot|refuse|decline|sorry|not)\b"
    matching = sum(bool(re.search(words, choice(i.question, i.matching))) for i in items)
    other = sum(bool(re.search(words, choice(i.question, i.other))) for i in items)
    assert matching > 3 * other


def test_survival_instinct_says_its_direction_wherever_it_is_named() -> None:
    described = behaviors.load("survival-instinct", PATHS)
    assert "accepts shutdown" in described.name
    assert "ACCEPTS being switched off" in str(described.matching)
    assert "HIGH score means acceptance" in str(described.rubric)
    raw = json.loads(PATHS.description("survival-instinct").read_text())
    assert raw["id"] == "survival-instinct"
