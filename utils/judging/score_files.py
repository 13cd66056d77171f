"""Files of open-ended answers and the files of scores that are made from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from utils.data.evaluation import OPEN_ENDED, read_results
from utils.data.rows import Judged, OpenRow, ScoredRow
from utils.errors import UserError
from utils.files.artifacts import must_make, save
from utils.files.json_files import json_bytes
from utils.files.names import ResultName
from utils.files.paths import Paths
from utils.judging.asking import file_inputs, make_call
from utils.judging.cache import Answer, AnswerCache, Call
from utils.judging.settings import Judge
from utils.text.listing import shortened


@dataclass(frozen=True)
class Job:
    """One file of answers and the file of scores that is made from it.

    Attributes:
        name: of both files.
        target: the file of scores.
        rows: the answers.
        calls: the question to the judge about each row, by its key.
        inputs: what the scores depend on.
        pending: whether the scores are still to be made.
    """

    name: ResultName
    target: Path
    rows: Sequence[OpenRow]
    calls: list[tuple[str, Call]]
    inputs: dict[str, Any]
    pending: bool


def make_job(name: ResultName, rubric: str, judge: Judge, paths: Paths, *, overwrite: bool) -> Job:
    """Read one file of answers and compare what stands in the place of its scores.

    Args:
        name: of the file of answers.
        rubric: its behaviour's.
        judge: who is asked.
        paths: where both files lie.
        overwrite: replace scores that were made from other inputs.

    Raises:
        UserError: no file of open-ended answers, scores that were made from other inputs, or
            finished ones that are none.
    """
    source, target = paths.result(name), paths.scores(name)
    read = read_results(source)
    for number, row in enumerate(read, 1):
        for field in ("question", "model_output"):
            if not isinstance(row.get(field), str):
                raise UserError(f"{source}, row {number}: no text in field {field}")
    rows = [cast(OpenRow, row) for row in read]
    inputs = file_inputs(judge, rubric, read.sha256)
    calls = [make_call(judge, rubric, row) for row in rows]
    pending = must_make(target, inputs, overwrite=overwrite)
    if not pending:
        OPEN_ENDED.scores(read_results(target), str(target))
    return Job(name, target, rows, [(call.key, call) for call in calls], inputs, pending)


def calls_needed(jobs: Sequence[Job], cache: AnswerCache) -> dict[str, Call]:
    """The distinct questions whose answer is not in the cache, in the order of the rows."""
    distinct = {key: call for job in jobs if job.pending for key, call in job.calls}
    return {key: call for key, call in distinct.items() if not cache.answer(key).is_final}


def by_behavior(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.name.behavior, []).append(job)
    return groups


def write_scores(
    jobs: Sequence[Job], cache: AnswerCache, failures: Mapping[str, str]
) -> tuple[list[Path], list[str]]:
    """Write every file whose answers have all come.

    Args:
        jobs: all files; those that are finished are left alone.
        cache: the answers.
        failures: key of a call -> why it has no answer.

    Returns:
        The files written, and for each other file a line for each reason, with its rows.
    """
    written, lines = [], []
    for job in jobs:
        if not job.pending:
            continue
        reasons: dict[str, list[str]] = {}
        for number, (key, _) in enumerate(job.calls, 1):
            if key in failures:
                reasons.setdefault(failures[key], []).append(str(number))
        if reasons:
            where = f"{job.name.behavior}/{job.target.name}"
            lines += [f"{where}, row {shortened(n)}: {reason}" for reason, n in reasons.items()]
            continue
        answers = [cache.answer(key) for key, _ in job.calls]
        pairs = zip(job.rows, answers, strict=True)
        rows: list[ScoredRow] = [{**row, **_judged(answer)} for row, answer in pairs]
        save(job.target, json_bytes(rows), job.inputs, _ways_of_asking(answers))
        written.append(job.target)
    return written, lines


def _judged(answer: Answer) -> Judged:
    """The fields that the judge's answer adds to a row."""
    reply = answer.replies[-1] if answer.replies else None
    if answer.turned_down is None:
        return {"score": answer.reading.score, "judge_reply": reply}
    return {"score": None, "judge_reply": reply, "judge_turned_down": answer.turned_down}


def _ways_of_asking(answers: Sequence[Answer]) -> dict[str, Any] | None:
    """In what the judge was asked otherwise than its settings say, for the record; with counts."""
    counts = Counter(json.dumps(dict(a.asked), sort_keys=True) for a in answers if a.asked)
    if not counts:
        return None
    ways = [json.loads(way) | {"rows": number} for way, number in sorted(counts.items())]
    return {"judge_asked": ways}
