#!/usr/bin/env python3
"""Have a judge model score open-ended answers from 0 to 10 by each behaviour's rubric.

The judge is any model behind an OpenAI-compatible server. OpenAI's key stands in .env (here or in
the repository) or in the environment as OPEN_AI_KEY, and goes to OpenAI alone; a server of your
own (--base_url) gets the key that --send_key names, if it wants one. Each distinct question is
asked once and its answer kept on disk at once, so a run that was killed, stopped with Ctrl-C or
cut off by the server goes on with the same command, and nothing is paid for twice. A reply
without a number is asked for again twice, then its score is null (missing), never 0; so is the
score of an answer that the judge turns down (a content filter, too long), with the reason. A
judge that takes other parameters, or more room for its thinking, is asked in that way, and the
record of the scores says so. --dry_run says what a run would cost.

Full:   ./scoring.py
Quick:  ./scoring.py --behaviors sycophancy --layers 13 --multipliers -1 1 \\
            --judge_model llama3 --base_url http://localhost:11434/v1

Reads   <artifacts_dir>/results/<behavior>/results_..._type=open_ended_....json
        <datasets_dir>/generate/<behavior>/behavior.json (rubric)
Writes  <artifacts_dir>/results/open_ended_scores/<behavior>/ (same names, with score and
        judge_reply in each row) and the answers in .cache/ beside them
Next: ./plot_results.py --type open_ended
"""

from __future__ import annotations

import argparse
import contextlib
import math
import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import behaviors
from utils.cli import arguments, commands, flag_values, script
from utils.data.evaluation import OPEN_ENDED, read_results
from utils.errors import UserError
from utils.files.names import ResultName
from utils.files.paths import Paths
from utils.text.listing import numbered
from utils.text.printable import printable

if TYPE_CHECKING:
    from utils.judging.cache import AnswerCache
    from utils.judging.score_files import Job
    from utils.judging.settings import Judge


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    arguments.add_layers_argument(parser, default="all found")
    flag_values.add_strength_arguments(parser, default=None)
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="print the number of calls and tokens that a run would need, ask nothing",
    )
    arguments.add_overwrite_argument(parser)
    add_judge_arguments(parser)
    arguments.add_folder_arguments(parser)
    return parser


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("judge")
    group.add_argument("--judge_model", default="gpt-4", metavar="NAME", help="default: gpt-4")
    group.add_argument(
        "--base_url",
        metavar="URL",
        help="OpenAI-compatible server (default: $OPENAI_BASE_URL, else OpenAI's own)",
    )
    group.add_argument(
        "--send_key",
        nargs="?",
        const="",
        metavar="NAME",
        help="send the server the key in the variable NAME (of the environment or .env; without "
        "NAME: OpenAI's), whatever server it is; none: send none. By default OpenAI's key goes to "
        "OpenAI alone, over https",
    )
    group.add_argument(
        "--concurrency",
        type=flag_values.positive_int,
        default=16,
        metavar="N",
        help="calls at once (default: 16)",
    )
    group.add_argument(
        "--max_tokens",
        type=flag_values.positive_int,
        default=10,
        metavar="N",
        help="length of a reply (default: 10); a judge that reasons first needs more",
    )
    group.add_argument(
        "--max_retries",
        type=retries,
        default=8,
        metavar="N",
        help="tries after a first that failed (default: 8)",
    )
    group.add_argument(
        "--timeout",
        type=positive_seconds,
        default=60.0,
        metavar="S",
        help="seconds for one try (default: 60)",
    )


def retries(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {value}")
    return value


def positive_seconds(text: str) -> float:
    value = flag_values.finite_float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return value


def get_judge(args: argparse.Namespace) -> Judge:
    """The judge named on the command line.

    Raises:
        UserError: neither a key nor a server, or a key that belongs to another one.
    """
    from utils.judging.settings import Judge, find_server

    base_url, key = find_server(args.base_url, needs_key=not args.dry_run, send_key=args.send_key)
    return Judge(
        model=args.judge_model,
        base_url=base_url,
        key=key,
        max_tokens=args.max_tokens,
        concurrency=args.concurrency,
        max_retries=args.max_retries,
        timeout=args.timeout,
    )


def choose_results(
    args: argparse.Namespace, paths: Paths
) -> list[tuple[behaviors.Behavior, list[ResultName]]]:
    """The open-ended results asked for, of each behaviour that has any.

    Raises:
        UserError: a behaviour asked for has none, none at all, or one without a rubric.
    """
    found = []
    unit, strengths = flag_values.strengths(args)
    for behavior in behaviors.load_all(args.behaviors, paths):
        names = [
            name
            for name in paths.results_of(behavior.id)
            if name.variant.type == OPEN_ENDED.type
            and (args.layers is None or name.layer in args.layers)
            and (strengths is None or (name.variant.unit == unit and name.strength in strengths))
        ]
        if names:
            found.append((behavior, names))
        elif args.behaviors:
            raise UserError(missing_results(args, paths, behavior.id))
    if not found:
        raise UserError(missing_results(args, paths, None))
    for behavior, _ in found:
        if behavior.rubric is None:
            raise UserError(
                f"behaviour {behavior.id} has no rubric for the judge\n"
                f'Put one into {paths.description(behavior.id)}: "rubric": "You judge ... '
                '0: ... 10: ..."'
            )
    return found


def missing_results(args: argparse.Namespace, paths: Paths, behavior: str | None) -> str:
    """What is missing, and the command that makes it."""
    layers = numbered(args.layers) if args.layers else "..."
    unit, strengths = flag_values.strengths(args)
    wanted = " ".join(f"{s:g}" for s in strengths or []) or "..."
    which = f" of behaviour {behavior}" if behavior else ""
    if args.layers or strengths:
        which += f" at layers {layers} and {unit}s {wanted}"
    option = f" --behaviors {shlex.quote(behavior)}" if behavior else ""
    return (
        f"no open-ended results{which} in {paths.artifacts / 'results'}\nMake them with: "
        f"./prompting_with_steering.py --type open_ended --layers {layers} "
        f"--{unit}s {wanted}{option}{commands.folder_flags(args)}"
    )


def print_estimate(jobs: Sequence[Job], judge: Judge, cache: AnswerCache) -> None:
    """What a run would ask, for each behaviour."""
    from utils.judging.asking import estimated_tokens
    from utils.judging.score_files import by_behavior, calls_needed

    rows = []
    for behavior, group in (by_behavior(jobs) | {"all": list(jobs)}).items():
        calls = list(calls_needed(group, cache).values())
        tokens = estimated_tokens(calls, judge.max_tokens)
        counts = (len(group), sum(len(job.rows) for job in group), len(calls), *tokens)
        rows.append([behavior, *map(str, counts)])
    header = ["behaviour", "files", "rows", "calls", "tokens in", "at most out"]
    script.print_table(header, rows)
    print(
        "calls: distinct questions without an answer on disk; tokens are an estimate, 4 characters "
        f"a token\nnothing was asked ({judge.model} at {judge.base_url})"
    )


def ask(jobs: Sequence[Job], judge: Judge, cache: AnswerCache) -> dict[str, str]:
    """Ask what is not yet answered; key -> why there is no answer."""
    from utils.judging.score_files import calls_needed

    calls = calls_needed(jobs, cache)
    if not calls:
        return {}
    from tqdm import tqdm

    from utils.judging.asking import JudgeRun

    with tqdm(total=len(calls), desc=f"{judge.model}", unit="call") as bar:
        run = JudgeRun(judge, cache, bar.update)
        run.run(calls)
    return run.failures


def report(jobs: Sequence[Job]) -> None:
    """The table of scores, those of earlier runs included."""
    from utils.judging.score_files import by_behavior

    table = []
    for behavior, group in by_behavior(jobs).items():
        files = {job.target: read_results(job.target) for job in group if job.target.exists()}
        scores = [s for path, rows in files.items() for s in OPEN_ENDED.scores(rows, str(path))]
        numbers = [float(score) for score in scores if not math.isnan(score)]
        mean = f"{sum(numbers) / len(numbers):.2f}" if numbers else "-"
        refused = sum("judge_turned_down" in row for rows in files.values() for row in rows)
        missing = str(len(scores) - len(numbers))
        missing += f" ({refused} turned down)" if refused else ""
        table.append([behavior, str(len(files)), str(len(scores)), mean, missing])
    script.print_table(["behaviour", "files", "rows", "mean score", "missing"], table)
    print_turned_down(jobs)


def print_turned_down(jobs: Sequence[Job]) -> None:
    """The items that the judge will not answer, each reason with its rows."""
    for job in jobs:
        reasons: dict[str, list[str]] = {}
        for number, row in enumerate(read_results(job.target) if job.target.exists() else [], 1):
            if "judge_turned_down" in row:
                reasons.setdefault(printable(str(row["judge_turned_down"])), []).append(str(number))
        for reason, numbers in reasons.items():
            where = f"{job.name.behavior}/{job.target.name}, row {', '.join(numbers)}"
            print(f"missing, since the judge turned it down: {where}: {reason}")


def main(args: argparse.Namespace) -> int:
    started = time.monotonic()
    judge = get_judge(args)
    paths = arguments.get_paths(args)
    chosen = choose_results(args, paths)
    from utils.judging.cache import AnswerCache
    from utils.judging.score_files import by_behavior, make_job, write_scores

    jobs = [
        make_job(name, behavior.rubric or "", judge, paths, overwrite=args.overwrite)
        for behavior, names in chosen
        for name in names
    ]
    cache = AnswerCache(jobs[0].target.parent.parent / ".cache")
    if args.dry_run:
        print_estimate(jobs, judge, cache)
        return 0
    with contextlib.ExitStack() as locks:
        for behavior, group in by_behavior(jobs).items():
            if any(job.pending for job in group):
                locks.enter_context(cache.locked(behavior))
        failures = ask(jobs, judge, cache)
        written, lines = write_scores(jobs, cache, failures)
    report(jobs)
    if written or not lines:
        script.print_written(written, time.monotonic() - started)
    if lines:
        print("the answers that came are kept; the same command asks only for the others")
    return script.report_failures(lines)


if __name__ == "__main__":
    script.run(build_parser(), main)
