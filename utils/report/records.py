"""What made everything on the page: each command once, with its inputs, versions and hashes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from utils.files.contents import read_record, sha256_file
from utils.report.markup import Html, tag


def records(places: Iterable[Path], root: Path) -> Html:
    """The records of some files, together where a command has made several.

    Args:
        places: files, each with a record or without.
        root: the artefact folder, which names are given below.
    """
    runs: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path in places:
        record = read_record(path)
        name = path.relative_to(root).as_posix()
        if record is None:
            head: dict[str, Any] = {"command": "(no record: these files came from elsewhere)"}
            runs.setdefault(json.dumps(head), []).append((name, sha256_file(path), {}))
            continue
        head = {key: record.get(key) for key in ("command", "versions", "vector_origin")}
        inputs = record["inputs"]
        runs.setdefault(json.dumps(head), []).append((name, record["sha256"], inputs))
    return tag("div", [_run(json.loads(head), files) for head, files in runs.items()])


def _run(head: Mapping[str, Any], files: list[tuple[str, str, Mapping[str, Any]]]) -> Html:
    every = [inputs for _, _, inputs in files]
    shared = {k: v for k, v in every[0].items() if all(i.get(k) == v for i in every)}
    facts = {"versions": _flat(head.get("versions")), "vector of": _flat(head.get("vector_origin"))}
    facts |= {key: _flat(value) for key, value in shared.items()}
    rows = [[tag("dt", key), tag("dd", text)] for key, text in facts.items() if text]
    lines = []
    for name, sha256, inputs in files:
        own = {k: v for k, v in inputs.items() if k not in shared}
        lines.append(f"{sha256}  {name}" + (f"  {_flat(own)}" if own else ""))
    count = f"{len(files)} file{'s' * (len(files) > 1)}"
    return tag(
        "details",
        tag("summary", tag("code", str(head["command"])), f" ({count})"),
        tag("dl", rows),
        tag("pre", "\n".join(lines), tabindex=0, role="region", aria_label="SHA-256 of each file"),
    )


def _flat(value: Any) -> str:
    """A value of a record on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(each)}" for key, each in value.items())
    if isinstance(value, list):
        return " ".join(map(_flat, value))
    return "" if value is None else str(value)
