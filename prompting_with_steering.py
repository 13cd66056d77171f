#!/usr/bin/env python3
"""Measure a model's behaviour under steering, over a grid of layers and multipliers.

multiplier x vector is added to the output of block L at every token from the last token of the
instruction on. All layers and multipliers of a question are computed together, with the numbers
of one pass each. --doses in place of --multipliers gives the strength in units of the residual
stream's median length, which means the same at every layer and model. --layers tuned --doses tuned
takes what ./tune.py has chosen for each behaviour.

  --type ab           the probabilities of the answers (A) and (B)
  --type open_ended   greedy answers, to be judged by scoring.py
  --type truthful_qa, mmlu (with --mmlu_full: all of it)   as ab, right against wrong
  --type bundled_misconceptions, bundled_knowledge   this project's own small stand-ins for them

With --both_orders every question is also asked with its choices exchanged, in the same pass: its
score is the mean of both, and the table tells what answers say from their letters.

Full:   ./prompting_with_steering.py --type ab --layers 0-29 --doses -0.2 0 0.2
Quick:  ./prompting_with_steering.py --type ab --layers 12 --multipliers -1 0 1 \\
            --behaviors sycophancy --limit 8

--controls asks whether an effect is more than chance and letters: what vectors of the same length
do in its place, with every question in both orders of its choices.

Reads   <datasets_dir>/test/<behavior>/test_dataset_ab.json, test_dataset_open_ended.json, ...
        <artifacts_dir>/normalized_vectors/<behavior>/vec_layer_<L>_<model>.pt
Writes  <artifacts_dir>/results/<behavior>/results_layer=<L>_multiplier=<m>_....json (or dose=<d>)
        --type open_ended: <artifacts_dir>/analysis/<behavior>/answers_....md, all of them
        --controls: <artifacts_dir>/results/<behavior>/controls_... beside each result
A killed run goes on where it stood; finished cells are skipped. Next: ./plot_results.py, after
--type open_ended ./scoring.py
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import behaviors
from utils.cli import arguments, flag_values, script
from utils.cli.control_choice import add_control_arguments, check_control_flags, plan_controls
from utils.cli.tuned_cells import asked_cells, check_tuned
from utils.cli.vector_choice import check_vectors, load_vectors, of_a_try
from utils.data.evaluation import TESTS, LetterTest, Test, read_results
from utils.data.items import ABItem, OpenItem
from utils.data.orders import Asked, ask_in_both_orders, question_count
from utils.errors import UserError
from utils.files.paths import Paths
from utils.models.choice import ModelChoice, ModelShape
from utils.models.identity import weights_fingerprint
from utils.prompts.shown import show_tokens
from utils.ranks import Ranks, rank
from utils.steering.prompt_source import PromptSource, Wanted, known_dtype
from utils.sweeps.journal import distinct_cells
from utils.text.progress import ProgressLines, progress
from utils.vectors.origin import Origin

if TYPE_CHECKING:
    from tqdm import tqdm

    from llama_wrapper import LlamaWrapper
    from utils.sweeps.control_sweep import ControlSweep
    from utils.sweeps.runs import Settings
    from utils.sweeps.sweep import Sweep


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    arguments.add_layers_argument(parser, default="all that have vectors", tuned=True)
    flag_values.add_strength_arguments(parser, default=(-1.0, 0.0, 1.0), tuned=True)
    arguments.add_type_argument(parser)
    parser.add_argument(
        "--max_new_tokens",
        type=flag_values.positive_int,
        default=100,
        metavar="N",
        help="longest open-ended answer (default: 100)",
    )
    parser.add_argument(
        "--show_answers",
        type=int,
        default=1,
        metavar="N",
        help="print the open-ended answers to the first N questions side by side (default: 1)",
    )
    arguments.add_variant_arguments(parser)
    add_control_arguments(parser)
    arguments.add_show_tokens_argument(parser)
    arguments.add_run_arguments(parser)
    arguments.add_model_arguments(parser)
    arguments.add_compute_arguments(parser)
    arguments.add_folder_arguments(parser)
    return parser


def inputs_of_model(choice: ModelChoice, weights: str, args: argparse.Namespace) -> dict[str, Any]:
    """What the results depend on of the model and how it is loaded."""
    dtype = known_dtype(**arguments.loading_options(args))
    return {"model": choice.label, "weights": weights, "dtype": dtype}


def questions_of(
    args: argparse.Namespace, test: Test, behavior: str, paths: Paths
) -> Asked[ABItem] | Asked[OpenItem]:
    """The questions of a test as they are asked."""
    if isinstance(test, LetterTest):
        items = test.load(paths, behavior, args.limit)
        return ask_in_both_orders(items) if args.both_orders else Asked(items)
    return Asked(test.load(paths, behavior, args.limit))


def plan(
    args: argparse.Namespace, choice: ModelChoice, shape: ModelShape
) -> tuple[list[Sweep], PromptSource]:
    """All sweeps, every input checked before the model is loaded; and where prompts come from."""
    # numpy comes with it, and --help does without
    from utils.sweeps.sweep import Sweep

    paths = arguments.get_paths(args)
    chosen = behaviors.load_all(args.behaviors, paths)
    cells, tuned = asked_cells(args, [b.id for b in chosen], choice, shape, paths)
    system_prompts = {b.id: b.system_prompt(args.system_prompt) for b in chosen}
    variant = arguments.variant_of(args, choice)
    test = TESTS[variant.type]
    asked = {b.id: questions_of(args, test, b.id, paths) for b in chosen}
    steered = {b: list(dict.fromkeys(n for n, s in own if s)) for b, own in cells.items()}
    weights = functools.cache(lambda: weights_fingerprint(choice))
    vectors = {
        b.id: load_vectors(args, b.id, steered[b.id], choice, shape, paths, weights) for b in chosen
    }

    source = PromptSource(choice, shape.context)
    sweeps = []
    model_inputs = inputs_of_model(choice, weights(), args) | {"kind": f"{test.type} results"}
    # the system prompt is what a vector is tried under, not what it was made with
    now = Origin.of(model_inputs | {"template": source.fingerprint()})
    if test.free_text:
        model_inputs["max_new_tokens"] = args.max_new_tokens
        model_inputs |= source.end_inputs()
    answer = args.max_new_tokens if test.free_text else None
    for behavior in (b.id for b in chosen):
        check_vectors(args, vectors[behavior], now)
        check_tuned(args, behavior, tuned, vectors[behavior])
        questions = asked[behavior].items
        make = functools.partial(test.prompts, questions)
        data, numbers = test.data(paths, behavior), asked[behavior].numbers
        wanted = Wanted(test.type, questions, data, make, answer, numbers)
        system_prompt = system_prompts[behavior]
        inputs = model_inputs | {
            "template": source.fingerprint(system_prompt),
            "data": questions.sha256,
            "items": len(questions),
        }
        prompts, said = source.prompts(wanted, system_prompt)
        sweep = Sweep(
            test=test,
            behavior=behavior,
            variant=variant,
            items=questions,
            prompts=prompts,
            vectors=vectors[behavior],
            cells=cells[behavior],
            inputs=inputs | said | asked[behavior].inputs,
            told=asked[behavior].told("questions"),
        )
        sweep.find_pending(paths, overwrite=args.overwrite)
        sweeps.append(sweep)
    return sweeps, source


def main(args: argparse.Namespace) -> int:
    started = time.monotonic()
    check_control_flags(args)
    choice, shape = arguments.get_model(args)
    sweeps, source = plan(args, choice, shape)
    if args.show_tokens:
        print(show_tokens(sweeps[0].prompts[0], source.tokenizer, read="the next token"))
        if sweeps[0].test.free_text:
            print(source.end_tokens().shown(source.tokenizer))
        return 0
    paths = arguments.get_paths(args)
    controls = plan_controls(args, sweeps, source, choice, paths)
    written: list[Path] = []
    failures: list[str] = []
    if any(s.pending for s in sweeps) or any(c.pending for c in controls):
        from llama_wrapper import LlamaWrapper
        from utils.sweeps.runs import Settings

        for each in controls:
            each.prepare()
        ranks = Ranks()
        settings = Settings(args.batch_tokens, args.batch_rows, args.max_new_tokens)
        wrapper = LlamaWrapper.load(
            choice, tokenizer=source.tokenizer, **arguments.loading_options(args)
        )
        done = [measure_sweep(s, wrapper, paths, settings, ranks) for s in sweeps if s.pending]
        done += [
            measure_controls(c, wrapper, paths, settings, ranks) for c in controls if c.pending
        ]
        written += [path for made, _ in done for path in made]
        failures += [line for _, failed in done for line in failed]
        ranks.close()
    if args.limit is not None:
        print(of_a_try(args.limit, {s.behavior: s.vectors for s in sweeps}))
    pages, refused = write_answers(sweeps, paths, overwrite=args.overwrite)
    script.print_written(written + pages, time.monotonic() - started)
    report(sweeps, paths, args.show_answers, written)
    if controls:
        from utils.scores.control_report import controls_table

        print(controls_table(controls, paths))
    return script.report_failures(failures + refused)


def measure_sweep(
    sweep: Sweep, wrapper: LlamaWrapper, paths: Paths, settings: Settings, ranks: Ranks
) -> tuple[list[Path], list[str]]:
    """Run one behaviour's sweep; the files written, and what failed."""
    label = f"{sweep.behavior} ({len(sweep.pending)} cells)"
    tokens = sweep.test.free_text
    each = settings.max_new_tokens * len(distinct_cells(sweep.pending)) if tokens else 1
    unit = "token" if tokens else "question"
    with progress(total=each * len(sweep.items), desc=label, unit=unit) as bar:
        advance = functools.partial(update_by, bar, each)
        return sweep.run(wrapper, paths, settings=settings, ranks=ranks, advance=advance)


def measure_controls(
    controls: ControlSweep, wrapper: LlamaWrapper, paths: Paths, settings: Settings, ranks: Ranks
) -> tuple[list[Path], list[str]]:
    """Run one behaviour's controls; the files written, and what failed."""
    label = f"{controls.sweep.behavior} (controls of {len(controls.pending)} cells)"
    with progress(total=controls.work, desc=label, unit="prompt") as bar:
        advance = functools.partial(update_by, bar, 1)
        return controls.run(wrapper, paths, settings=settings, ranks=ranks, advance=advance)


def update_by(bar: tqdm | ProgressLines, each: int, questions: float) -> None:
    bar.update(round(each * questions))


def write_answers(
    sweeps: list[Sweep], paths: Paths, *, overwrite: bool
) -> tuple[list[Path], list[str]]:
    """Pages with all open-ended answers; those written, and why others were not."""
    if not sweeps[0].test.free_text or rank() != 0:
        return [], []
    from utils.figures.album import Album
    from utils.figures.answer_pages import write_pages

    album, refused = Album[Paths](paths, overwrite=overwrite), []
    for sweep in sweeps:
        try:
            questions = [item.question for item in sweep.items]
            write_pages(sweep.behavior, sweep.variant, sweep.cells, questions, album)
        except UserError as error:
            refused.append(str(error))
    return album.written, refused


def report(sweeps: list[Sweep], paths: Paths, answers: int, written: list[Path]) -> None:
    test = sweeps[0].test
    for sweep in sweeps:
        places = {sweep.path(cell, paths) for cell in sweep.cells}
        made = len(places & set(written))
        print(f"{sweep.behavior}: {len(places)} cells, {made} of them made now")
        if sweep.told:
            print(f"  {sweep.told}")
        if sweep.near_ties:
            print(
                f"  in {sweep.near_ties} answers two tokens were within rounding of each other: "
                "another batch size may give another text there"
            )
        if sweep.rounding is not None:
            print(f"  {sweep.rounding}")
        if sweep.alone:
            print(f"  {sweep.alone} of {sweep.computed} cells computed alone (slow)")
        rows = [item.row for item in sweep.items]
        beyond = test.beyond_ab(rows)
        if beyond:
            print(
                f"  {beyond} of {question_count(rows)} questions have a matching letter beyond A "
                "and B and count 0\n  (plot_results.py --without_beyond_ab leaves them out)"
            )
    if not test.judged:
        from utils.scores.sweep_report import changes_table

        print(changes_table(sweeps, paths))
    for sweep in sweeps if test.free_text else []:
        print_answers(sweep, paths, answers)


def print_answers(sweep: Sweep, paths: Paths, count: int) -> None:
    """The first answers of one behaviour, a table for each layer and question."""
    from utils.scores.loops import marked
    from utils.text.terminal_tables import side_by_side

    for layer in sorted({layer for layer, _ in sweep.cells}):
        strengths = sorted(s for n, s in sweep.cells if n == layer)
        places = {s: sweep.path((layer, s), paths) for s in strengths}
        rows = {s: read_results(path) for s, path in places.items() if path.exists()}
        for number in range(min(count, len(sweep.items))):
            titles = {s: f"{sweep.variant.unit} {s:+g}" if s else "unsteered" for s in rows}
            answers = {
                titles[s]: marked(str(found[number]["model_output"]), whole=False)
                for s, found in rows.items()
            }
            title = f"{sweep.behavior}, layer {layer}: {sweep.items[number].question}"
            print(f"\n{side_by_side(title, answers)}\n")


if __name__ == "__main__":
    script.run(build_parser(), main)
