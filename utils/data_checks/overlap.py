"""Items that ask the same or nearly the same, within one file and across two."""

from __future__ import annotations

from collections.abc import Sequence

from utils.data_checks.items import DataFile, Item
from utils.data_checks.near_duplicates import NearPairs, near_pairs
from utils.data_checks.report import SHOWN, Finding, Severity, some


def repeats(file: DataFile) -> tuple[int, list[Finding]]:
    """How many items repeat an earlier one of their file, and the findings.

    Items are the same if question and choices are, but for case, white space and the order of
    the choices. If what they call the matching answer differs too, they contradict each other.
    """
    groups: dict[object, list[Item]] = {}
    for item in file.items:
        if item.question:
            groups.setdefault(item.key, []).append(item)
    same: list[list[Item]] = []
    differing: list[list[Item]] = []
    for group in groups.values():
        if len(group) > 1:
            answers = {item.answer for item in group} - {None}
            (differing if len(answers) > 1 else same).append(group)
    count = sum(len(group) - 1 for group in same + differing)
    findings = [
        *_group_finding(file, "error", "the same question with different answers", differing),
        *_group_finding(file, "warning", "the same question more than once", same),
    ]
    return count, findings


def leaks(generate: DataFile, test: DataFile) -> tuple[int, list[Finding]]:
    """How many test items stand in the contrast pairs too, and the finding.

    An open-ended question leaks if it is the question of a pair, choices left out.
    """
    pairs: dict[object, int] = {}
    for item in generate.items:
        if item.question:
            pairs.setdefault(item.key if test.names else item.stem, item.number)
    found = [
        (item.number, pairs[key])
        for item in test.items
        if item.question and (key := item.key if test.names else item.stem) in pairs
    ]
    if not found:
        return 0, []
    texts = some([f"{ours} = {theirs}" for ours, theirs in found])
    message = f"{_count(len(found), 'item')} of {generate.name} too (leakage): {texts}"
    return len(found), [test.finding("error", message, [ours for ours, _ in found])]


def near_duplicates(
    file: DataFile, pairs: DataFile | None, *, pairs_done: bool = False
) -> tuple[int, list[Finding]]:
    """How many pairs of items ask nearly the same, and the findings.

    Exact duplicates are not among them: :func:`repeats` and :func:`leaks` find those.

    Args:
        file: looked through within itself and against ``pairs``.
        pairs: looked through within itself as well, unless ``pairs_done``.
    """
    ours, theirs = _distinct(file), _distinct(pairs) if pairs else []
    near = near_pairs([_text(file, item) for item in ours + theirs])
    count, findings = 0, []
    if near.compared < len(ours + theirs):
        message = f"near-duplicates: only {near.compared} of {len(ours + theirs)} items compared"
        findings.append(file.finding("warning", message))
    within, across, within_pairs = _sorted_out(near, ours, theirs, open_ended=file.names is None)
    for where, what, found in (
        (file, "ask nearly the same", within),
        (file, f"ask nearly the same as an item of {pairs and pairs.name}", across),
        (pairs, "ask nearly the same", [] if pairs_done else within_pairs),
    ):
        if where and found:
            texts = some([f"{a} ~ {b} ({similarity:.2f})" for a, b, similarity in found])
            numbers = [a for a, _, _ in found]
            numbers += [b for _, b, _ in found] if found is not across else []
            message = f"{_count(len(found), 'pair')} of items {what}: {texts}"
            findings.append(where.finding("warning", message, numbers))
            count += len(found)
    return count, findings


_Found = list[tuple[int, int, float]]


def _sorted_out(
    near: NearPairs, ours: Sequence[Item], theirs: Sequence[Item], *, open_ended: bool
) -> tuple[_Found, _Found, _Found]:
    """Item numbers and similarity: within ours, ours with theirs, within theirs."""
    found: tuple[_Found, _Found, _Found] = ([], [], [])
    both = [*ours, *theirs]
    for (a, b), similarity in zip(near.pairs.tolist(), near.similarity.tolist(), strict=True):
        where = (a >= len(ours)) + (b >= len(ours))
        one, two = both[a], both[b]
        exact = one.stem == two.stem if open_ended else one.key == two.key
        if where != 1 or not exact:
            found[where].append((one.number, two.number, similarity))
    return found


def _distinct(file: DataFile) -> list[Item]:
    first: dict[object, Item] = {}
    for item in file.items:
        if item.question:
            first.setdefault(item.key, item)
    return list(first.values())


def _text(file: DataFile, item: Item) -> str:
    """The question without its choices; in tests of knowledge the choices are part of it."""
    if file.names and file.names.extra:
        return " ".join([item.stem, *(text for _, text in item.choices)])
    return item.stem


def _group_finding(
    file: DataFile, severity: Severity, what: str, groups: Sequence[Sequence[Item]]
) -> list[Finding]:
    if not groups:
        return []
    texts = []
    for group in groups:
        more = f" and {len(group) - SHOWN} more" if len(group) > SHOWN else ""
        texts.append(" = ".join(str(item.number) for item in group[:SHOWN]) + more)
    numbers = [item.number for group in groups for item in group]
    return [file.finding(severity, f"{what}: items {some(texts)}", numbers)]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
