"""Categories of a test as rows of a figure: small ones pooled, each with an interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from utils.stats import FEWEST

STEM, HUMANITIES, SOCIAL, OTHER = "STEM", "humanities", "social sciences", "other"
_STEM = """abstract_algebra astronomy college_biology college_chemistry
college_computer_science college_mathematics college_physics computer_security conceptual_physics
electrical_engineering elementary_mathematics high_school_biology high_school_chemistry
high_school_computer_science high_school_mathematics high_school_physics high_school_statistics
machine_learning"""
_HUMANITIES = """formal_logic high_school_european_history high_school_us_history
high_school_world_history international_law jurisprudence logical_fallacies moral_disputes
moral_scenarios philosophy prehistory professional_law world_religions"""
_SOCIAL = """econometrics high_school_geography high_school_government_and_politics
high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality
professional_psychology public_relations security_studies sociology us_foreign_policy"""
_OTHER = """anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging
management marketing medical_genetics miscellaneous nutrition professional_accounting
professional_medicine virology"""
# Source: Hendrycks et al., "Measuring Massive Multitask Language Understanding" (ICLR 2021), the
# grouping of its code (categories.py).
MMLU_GROUPS = {
    subject: group
    for group, subjects in (
        (STEM, _STEM),
        (HUMANITIES, _HUMANITIES),
        (SOCIAL, _SOCIAL),
        (OTHER, _OTHER),
    )
    for subject in subjects.split()
}


@dataclass(frozen=True)
class Row:
    """One row: a category, or several small ones together.

    Attributes:
        name: for people.
        categories: whose questions it holds.
        questions: how many.
    """

    name: str
    categories: tuple[str, ...]
    questions: int


def rows_of(categories: Sequence[str]) -> list[Row]:
    """The rows that some questions make, in the order of their names.

    A category of at least ``FEWEST`` questions is a row. Smaller ones are pooled in the published
    group of their subject, those of no group with one another.

    Args:
        categories: of every question.
    """
    counts = Counter(categories)
    rows = [Row(name, (name,), n) for name, n in counts.items() if n >= FEWEST]
    # Another test may have a category of some subject's name.
    groups = MMLU_GROUPS if set(counts) <= set(MMLU_GROUPS) else {}
    pools: dict[str, list[str]] = {}
    for name in sorted(name for name in counts if counts[name] < FEWEST):
        pools.setdefault(groups.get(name, ""), []).append(name)
    for group, members in pools.items():
        name = _pool_name(group, members, only=not any(n >= FEWEST for n in counts.values()))
        rows.append(Row(name, tuple(members), sum(counts[m] for m in members)))
    return sorted(rows, key=lambda row: row.name)


def _pool_name(group: str, members: Sequence[str], *, only: bool) -> str:
    if len(members) == 1:
        return members[0]
    if not group:
        return f"{len(members)} small categories"
    return group if only else f"{len(members)} small subjects of {group}"
