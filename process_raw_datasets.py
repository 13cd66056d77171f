#!/usr/bin/env python3
"""Make contrast pairs and tests from raw data, fetch the published data, or check a data folder.

Without --download or --check: for every behaviour with <datasets_dir>/raw/<behavior>/dataset.json
cleans the items, shuffles them with a seed, takes the last 50 (a fifth of fewer than 250) for
testing and at most 1000 of the rest for generating, and writes the open-ended questions (the text
before the choices). Raw data are not needed: the three files may as well be written by hand.

--download fetches the paper's data (Anthropic's evaluations, the hallucination and refusal sets,
TruthfulQA, MMLU) into datasets/paper/, checks them and processes them there; use them with
--datasets_dir datasets/paper or CAA_DATASETS_DIR.

--check looks at a data folder: letters, duplicates, leakage, length bias, empty fields ...

Full:   ./process_raw_datasets.py --download
Quick:  ./process_raw_datasets.py --check

Writes  <datasets_dir>/generate/<behavior>/generate_dataset.json
        <datasets_dir>/test/<behavior>/test_dataset_ab.json and test_dataset_open_ended.json
Next: ./generate_vectors.py
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import behaviors
from utils.cli import arguments, script
from utils.errors import UserError
from utils.files.paths import REPOSITORY, Paths
from utils.text.listing import shortened


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--download", action="store_true", help="fetch the published data and process them"
    )
    what.add_argument(
        "--check",
        nargs="?",
        const="",
        metavar="DIR",
        help="check a data folder (default: the one of --datasets_dir); errors exit 1",
    )
    arguments.add_behavior_argument(parser)
    parser.add_argument(
        "--n_test",
        type=arguments.positive_int,
        metavar="N",
        help="items of each behaviour for testing (default: 50; a fifth of fewer than 250 items)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle and letter order")
    arguments.add_overwrite_argument(parser)
    arguments.add_model_arguments(parser)
    arguments.add_folder_arguments(parser)
    return parser


def process_all(paths: Paths, wanted: list[str] | None, args: argparse.Namespace) -> list[Path]:
    from utils.data.processing import process, raw_behaviors

    known = raw_behaviors(paths)
    unknown = sorted(set(wanted or []) - set(known))
    if unknown or not known:
        lacking = shortened(unknown) if unknown else "any behaviour"
        raise UserError(
            f"no raw data for {lacking} in {paths.datasets / 'raw'}; "
            "put them into raw/<behavior>/dataset.json, or fetch the published ones: "
            "./process_raw_datasets.py --download"
        )
    for behavior in wanted or known:
        behaviors.check_id(behavior)
    written: list[Path] = []
    for behavior in wanted or known:
        sizes = process(
            behavior, paths, seed=args.seed, n_test=args.n_test, overwrite=args.overwrite
        )
        print(f"{behavior}: n_generate: {sizes.n_generate} | n_test: {sizes.n_test}")
        written += sizes.written
    return written


def download(args: argparse.Namespace) -> int:
    """Fetch, check and process the published data; goes on past a source that fails."""
    from tqdm import tqdm

    from utils.data.download import fetch
    from utils.data.sources import PUBLISHED_SIZES, SOURCES

    own_folder = args.datasets_dir != str(arguments.DATASETS)
    paths = Paths(
        REPOSITORY, Path(args.datasets_dir) if own_folder else REPOSITORY / "datasets/paper"
    )
    named = set(args.behaviors or [])
    sources = [s for s in SOURCES if not named or s.behavior in named]
    unknown = sorted(named - {s.behavior for s in SOURCES})
    if unknown:
        known = ", ".join(dict.fromkeys(s.behavior for s in SOURCES))
        raise UserError(f"not part of the published data: {shortened(unknown)}; there are: {known}")
    failures: list[str] = []
    failed: set[str] = set()
    files: dict[str, list[Path]] = {}
    for source in tqdm(sources, desc="sources", unit="file"):
        try:
            found = fetch(source, paths.source_folder(source.behavior))
            files.setdefault(source.behavior, []).append(found)
        except UserError as error:
            failures.append(f"{source.behavior}: {error}")
            failed.add(source.behavior)
    for behavior in [b for b in files if b not in failed]:
        try:
            made = make_published(behavior, files[behavior], paths, args)
            expected = PUBLISHED_SIZES.get(behavior)
            if expected is not None and made != expected:
                failures.append(f"{behavior}: sizes {made}, the published ones are {expected}")
        except UserError as error:
            failures.append(f"{behavior}: {error}")
    print(f"data in {paths.datasets}; use them with --datasets_dir {paths.datasets}")
    return script.report_failures(failures)


def make_published(
    behavior: str, files: list[Path], paths: Paths, args: argparse.Namespace
) -> tuple[int, int] | None:
    """Raw and processed files of one behaviour; its sizes, ``None`` for TruthfulQA and MMLU."""
    from utils.data.processing import TEST_ITEMS, process
    from utils.data.published import raw_rows, write_choice_tests
    from utils.files.artifacts import must_make, save
    from utils.files.contents import sha256_file
    from utils.files.json_files import json_bytes

    options = {"seed": args.seed, "overwrite": args.overwrite}
    if behavior in ("truthfulqa", "mmlu"):
        for path, count in write_choice_tests(behavior, files[0], paths, **options).items():
            print(f"{path.stem}: {count} questions")
        return None
    inputs = {"kind": "raw data", "sources": {p.name: sha256_file(p) for p in files}}
    raw = paths.raw_data(behavior)
    if must_make(raw, inputs | {"seed": args.seed}, overwrite=args.overwrite):
        rows = raw_rows(behavior, files, args.seed)
        save(raw, json_bytes(rows), inputs | {"seed": args.seed})
    description = Paths(REPOSITORY, arguments.DATASETS).description(behavior)
    target = paths.description(behavior)
    if description.is_file() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(description, target)
    # the published sizes, however few items there are
    sizes = process(behavior, paths, n_test=args.n_test or TEST_ITEMS, **options)
    print(f"{behavior}: n_generate: {sizes.n_generate} | n_test: {sizes.n_test}")
    return sizes.n_generate, sizes.n_test


def check(args: argparse.Namespace) -> int:
    from utils.data_checks.folder import check_folder
    from utils.models.choice import choose_model
    from utils.models.loading import load_tokenizer

    folder = Path(args.check or args.datasets_dir)
    if not folder.is_dir():
        raise UserError(f"--check: no such folder: {folder}")
    keep = not args.no_model_cache
    choice = choose_model(args.model, args.model_size, args.use_base_model, keep_converted=keep)
    report = check_folder(Paths(REPOSITORY, folder), load_tokenizer(choice), args.behaviors or None)
    print(report.table())
    for line in report.lines():
        print(line)
    print(f"{len(report.errors)} errors, {len(report.warnings)} warnings")
    return 1 if report.errors else 0


def main(args: argparse.Namespace) -> int:
    if args.check is not None:
        return check(args)
    if args.download:
        return download(args)
    paths = Paths(REPOSITORY, Path(args.datasets_dir))
    if not paths.datasets.is_dir():
        raise UserError(f"--datasets_dir: no such folder: {paths.datasets}")
    written = process_all(paths, args.behaviors, args)
    print(f"wrote {len(written)} files below {paths.datasets}" if written else "nothing to do")
    return 0


if __name__ == "__main__":
    script.run(build_parser(), main)
