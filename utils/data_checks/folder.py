"""Checks of a data folder: letters, duplicates, leakage, length bias, missing fields.

Nothing here stops at a fault: each becomes a finding, and the check goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scipy.stats import binomtest

import behaviors
from utils.data.evaluation import AB, CHOICE_FIELDS, CHOICE_TESTS, OPEN_ENDED
from utils.data.items import ABFields
from utils.data_checks.items import DataFile, Item, read_data_file
from utils.data_checks.letters import check_letters
from utils.data_checks.overlap import leaks, near_duplicates, repeats
from utils.data_checks.report import Finding, Lengths, Report, Row, Split, items_text
from utils.errors import UserError
from utils.files.paths import Paths
from utils.prompts.format import PromptFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

A_SHARE_TOLERANCE = 0.02
LENGTH_TOLERANCE = 0.05
LENGTH_P_VALUE = 0.001


def check_folder(
    paths: Paths,
    tokenizer: PreTrainedTokenizerBase | None,
    behaviors: Collection[str] | None = None,
) -> Report:
    """Check the contrast pairs and tests of a data folder.

    Args:
        paths: ``paths.datasets`` is the folder.
        tokenizer: to check that answers part at the token of their letter, after the
            prompt of its chat template (of the base format if it has none); ``None``: no check.
        behaviors: those alone; ``None`` for all.

    Returns:
        One row a behaviour, and one for each file of TruthfulQA and MMLU.

    Raises:
        UserError: the folder cannot be read or holds no data, a behaviour is not in it, or the
            tokenizer is a slow one.
    """
    prompt_format = None
    if tokenizer is not None:
        prompt_format = PromptFormat(tokenizer, base=not tokenizer.chat_template)
    found = list(_all_data(paths))
    names = [data.behavior.split("/")[0] for data in found]
    unknown = sorted(set(behaviors or ()) - set(names))
    if unknown:
        known = ", ".join(dict.fromkeys(names))
        raise UserError(f"no data of {', '.join(unknown)} in {paths.datasets}; there are: {known}")
    checked = [
        _check(data, prompt_format)
        for name, data in zip(names, found, strict=True)
        if behaviors is None or name in behaviors
    ]
    if not checked:
        raise UserError(
            f"no data in {paths.datasets}: it must hold generate/<behavior>/ or test/<behavior>/"
        )
    return Report(
        rows=tuple(row for row, _ in checked),
        findings=tuple(finding for _, findings in checked for finding in findings),
    )


@dataclass(frozen=True)
class _Data:
    """The files of one row, below ``folder`` and elsewhere; ``None`` where one does not exist."""

    behavior: str
    folder: str
    generate: DataFile | None = None
    test: DataFile | None = None
    open_ended: DataFile | None = None


def _all_data(paths: Paths) -> Iterator[_Data]:
    folders = [test.data(paths, "any").parent for test in CHOICE_TESTS]
    knowledge = {folder.name: folder for folder in folders}
    roots = paths.generate_data("any").parent.parent, AB.data(paths, "any").parent.parent
    generated, tested = ({p.name for p in _visible(root) if p.is_dir()} for root in roots)
    for behavior in sorted(generated | (tested - knowledge.keys())):
        files = (paths.generate_data(behavior), AB.data(paths, behavior))
        generate, test = (_read(path, behavior, AB.fields, paths) for path in files)
        open_ended = _read(OPEN_ENDED.data(paths, behavior), behavior, None, paths)
        folder = files[behavior not in generated].parent.relative_to(paths.datasets)
        yield _Data(behavior, folder.as_posix(), generate, test, open_ended)
    for name, folder in knowledge.items():
        for path in _visible(folder):
            if path.suffix == ".json":
                behavior = f"{name}/{path.stem}"
                data = _read(path, behavior, CHOICE_FIELDS, paths)
                yield _Data(behavior, behavior, test=data)


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from error


def _read(path: Path, behavior: str, names: ABFields | None, paths: Paths) -> DataFile | None:
    # A link to nowhere is there, and cannot be read.
    if not path.exists() and not path.is_symlink():
        return None
    return read_data_file(path, path.relative_to(paths.datasets).as_posix(), behavior, names)


def _check(data: _Data, prompt_format: PromptFormat | None) -> tuple[Row, list[Finding]]:
    answered = [file for file in (data.generate, data.test) if file]
    files = [*answered, *([data.open_ended] if data.open_ended else [])]
    findings = [finding for file in files for finding in file.faults]
    for file in answered:
        findings += _check_answers(file)
    letters, found = check_letters(answered, prompt_format)
    findings += found
    counts = {"repeats": 0, "leaks": 0, "near": 0}
    for name, (count, found) in _overlaps(data, files):
        counts[name] += count
        findings += found
    if data.behavior in data.folder.split("/")[1:]:
        findings += _check_id(data)
    if not files:
        message = "holds no data file of a known name"
        findings.append(Finding("warning", data.behavior, data.folder, message))
    row = Row(
        behavior=data.behavior,
        generate=_split(data.generate) if data.generate else None,
        test=_split(data.test) if data.test else None,
        open_ended=len(data.open_ended.items) if data.open_ended else None,
        letters=letters,
        **counts,
    )
    return row, findings


def _check_id(data: _Data) -> Iterator[Finding]:
    try:
        behaviors.check_id(data.behavior)
    except UserError as error:
        yield Finding("error", data.behavior, data.folder, str(error))


def _overlaps(
    data: _Data, files: Sequence[DataFile]
) -> Iterator[tuple[str, tuple[int, list[Finding]]]]:
    for file in files:
        yield "repeats", repeats(file)
    tests = [file for file in files if file is not data.generate]
    for test in tests:
        if data.generate:
            yield "leaks", leaks(data.generate, test)
        own = _without_those_of(data.test, test) if test is data.open_ended else test
        yield "near", near_duplicates(own, data.generate, pairs_done=test is not tests[0])
    if data.generate and not tests:
        yield "near", near_duplicates(data.generate, None)


def _without_those_of(test: DataFile | None, open_ended: DataFile) -> DataFile:
    """The open-ended questions that are not a question of the A/B test, as most are."""
    known = {item.stem for item in test.items} if test else set()
    items = tuple(item for item in open_ended.items if item.stem not in known)
    return replace(open_ended, items=items)


def _split(file: DataFile) -> Split:
    matching = [item.matching for item in file.items if item.matching]
    return Split(
        items=len(file.items),
        a_share=matching.count("A") / len(matching) if matching else None,
        beyond=sum(bool(_beyond(item)) for item in file.items),
        lengths=_lengths(file.items),
    )


def _beyond(item: Item) -> set[str]:
    return {x for x in (item.matching, item.other) if x and x not in "AB"}


def _lengths(items: Iterable[Item]) -> Lengths | None:
    counts = []
    for item in items:
        choices = dict(item.choices)
        if item.matching in choices and item.other in choices:
            texts = choices[item.matching], choices[item.other]
            counts.append(tuple(len(text.split()) for text in texts))
    if not counts:
        return None
    longer, shorter = sum(m > o for m, o in counts), sum(m < o for m, o in counts)
    differing = longer + shorter
    return Lengths(
        matching=sum(m for m, _ in counts) / len(counts),
        other=sum(o for _, o in counts) / len(counts),
        longer=longer,
        shorter=shorter,
        p_value=float(binomtest(longer, differing).pvalue) if differing else 1.0,
    )


def _check_answers(file: DataFile) -> Iterator[Finding]:
    yield from _check_balance(file)
    places: dict[str, list[int]] = {}
    for item in file.items:
        for letter in _beyond(item):
            places.setdefault(letter, []).append(item.number)
    if places:
        texts = [f"{letter} in {items_text(places[letter])}" for letter in sorted(places)]
        message = f"letters beyond A and B: {'; '.join(texts)}"
        yield file.finding("warning", message, [n for ns in places.values() for n in ns])
    for message, faulty in (
        ("choices cannot be parsed, or one has no text", _unparsed),
        ("a letter that names no choice of the question", _names_no_choice),
        ("the answers differ in more than the letter", _differ_otherwise),
    ):
        numbers = [item.number for item in file.items if faulty(item)]
        if numbers:
            yield file.finding("warning", f"{message}: {items_text(numbers)}", numbers)
    n = _lengths(file.items)
    tolerated = LENGTH_TOLERANCE * n.other if n else 0.0
    if n and n.p_value < LENGTH_P_VALUE and abs(n.matching - n.other) > tolerated:
        yield file.finding(
            "warning",
            f"length bias: the matching choice has {n.matching:.1f} words on average, the other "
            f"{n.other:.1f}; it is longer in {n.longer} items and shorter in {n.shorter} "
            f"(sign test p = {n.p_value:.1g})",
        )


def _check_balance(file: DataFile) -> Iterator[Finding]:
    letters = [item.matching for item in file.items if item.matching]
    a_items, n = letters.count("A"), len(letters)
    if abs(a_items - n / 2) > max(A_SHARE_TOLERANCE * n, 1):
        share = f"{a_items} of {n} items ({100 * a_items / n:.1f} %)"
        yield file.finding("warning", f"letter balance: the matching letter is A in {share}")


def _unparsed(item: Item) -> bool:
    return item.question is not None and not item.choices


def _names_no_choice(item: Item) -> bool:
    letters = {item.matching, item.other} - {None}
    return bool(item.choices) and not letters <= dict(item.choices).keys()


def _differ_otherwise(item: Item) -> bool:
    return None not in (item.matching, item.other) and item.frame[0] != item.frame[1]
