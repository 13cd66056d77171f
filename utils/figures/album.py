"""Figures as artefacts: each drawn aside, then put in its place with a record of what it shows.

A figure is derived: more or changed sources draw it again without a word. Fewer sources do not,
since the figure in place shows more than could be drawn now. The figure, its numbers (``.txt``,
``.tex``) and a table's two forms are one artefact with one record. Nothing here imports
matplotlib, so that a run that finds everything drawn never does.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from utils.drawing.files import FORMATS, pictures
from utils.errors import UserError
from utils.files.artifacts import check_place, save
from utils.files.contents import combined_digest, read_record, sha256_file
from utils.files.json_files import NOT_JSON, json_bytes
from utils.files.paths import Paths
from utils.files.remembered import code_version
from utils.text.listing import shortened

# Grows when the same sources would show other numbers; 4: no interval where nothing changes.
DRAWING = 5
"""Version of the drawing code: a higher number draws every figure again."""

Sources = Mapping[str, Mapping[str, str]]
"""What a figure shows: group (one variant's results, say) -> item -> hash."""
Pen = TypeVar("Pen")


@dataclass(frozen=True)
class Job(Generic[Pen]):
    """One figure to be drawn.

    Attributes:
        key: what tells it from the other figures of its folder.
        sources: what it shows.
        draw: draws it, given what draws.
        behavior: whose folder it belongs to; ``None`` for a figure of several.
        part: which part of what there is it shows; stands at the end of its name (see
            :mod:`utils.files.subsets`).
        options: what else it depends on.
    """

    key: str
    sources: Sources
    draw: Callable[[Pen], object]
    behavior: str | None = None
    part: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, Any]:
        sources = {group: dict(items) for group, items in self.sources.items()}
        options = dict(self.options)
        return {"figure": self.key + self.part, "sources": sources, "options": options}


class Album(Generic[Pen]):
    """Draws figures that are not there yet, or that show less than there is now.

    Args:
        paths: where to write.
        overwrite: also replace figures that show what is gone.
    """

    def __init__(self, paths: Paths, *, overwrite: bool) -> None:
        self.paths, self.overwrite = paths, overwrite
        self.written: list[Path] = []
        self.shown: list[Path] = []

    def pending(self, jobs: Sequence[Job[Pen]]) -> list[Job[Pen]]:
        """The jobs whose figures are to be drawn.

        Raises:
            UserError: a figure in place shows something that is gone.
        """
        folders = {job.behavior: self._recorded(job.behavior) for job in jobs}
        left = []
        for job in jobs:
            found = folders[job.behavior].get(job.key + job.part)
            if found is None or not self._is_finished(*found, job):
                left.append(job)
            else:
                self.shown += _files(*found)
        return left

    def draw(
        self,
        jobs: Iterable[Job[Pen]],
        start: Callable[[Paths], Pen],
    ) -> None:
        """Draw figures and put them in their places.

        Args:
            jobs: those of :meth:`pending`.
            start: makes what draws, given the folders to draw into.

        Raises:
            UserError: a figure in place shows something that is gone, or it cannot be written.
        """
        with tempfile.TemporaryDirectory(prefix="caa_figures_") as folder:
            aside = replace(self.paths, artifacts=Path(folder))
            pen = None
            for job in jobs:
                pen = start(aside) if pen is None else pen
                job.draw(pen)
                self._place(job, aside.figures(job.behavior))

    def _place(self, job: Job[Pen], drawn: Sequence[Path]) -> None:
        """Move what a job has drawn; several pictures of one job are artefacts of their own."""
        for stem in dict.fromkeys(path.stem for path in drawn):
            files = sorted((p for p in drawn if p.stem == stem), key=_pictures_first)
            places = [self.paths.figure(stem + job.part, job.behavior, p.suffix) for p in files]
            check_place(places[0])
            record = _record_of(places[0])
            if record is None or not self._is_finished(places[0], record, job):
                data = [path.read_bytes() for path in files]
                beside = dict(zip(places[1:], data[1:], strict=True))
                inputs = job.inputs | {"drawing": DRAWING}
                save(places[0], data[0], inputs, beside=beside)
                # a PDF of what the PNG no longer shows
                for stale in {p for p in _files(places[0], record or {}) if p not in places}:
                    stale.unlink(missing_ok=True)
                self.written += places
            self.shown += places
            for path in files:
                path.unlink()

    def _recorded(self, behavior: str | None) -> dict[str, tuple[Path, dict[str, Any]]]:
        """The figures of a folder by what their records call them."""
        found = {}
        for path in self.paths.figures(behavior):
            record = _record_of(path)
            if record is not None:
                found[str(record["inputs"].get("figure"))] = (path, record)
        return found

    def _is_finished(self, path: Path, record: Mapping[str, Any], job: Job[Pen]) -> bool:
        inputs = record["inputs"]
        if not self.overwrite:
            refuse_less(path, inputs.get("sources", {}), job.sources)
        same = inputs == job.inputs | {"drawing": DRAWING}
        return bool(same and _has_formats(path, record) and _is_whole(path, record))


def refuse_less(path: Path, before: Sources, now: Sources) -> None:
    """Refuse to draw a figure from less than it shows.

    Raises:
        UserError: says what is gone and what can be done.
    """
    gone = [
        f"{group}: {item}"
        for group, items in before.items()
        for item in items
        if item not in now.get(group, {})
    ]
    if gone and path.exists():
        count = sum(map(len, before.values()))
        raise UserError(
            f"{path} shows {count} results or vectors and now there are fewer; gone ({len(gone)}): "
            f"{shortened(gone, '; ')}\n"
            "Put them back or make them again; --overwrite draws it from what there is"
        )


def _pictures_first(path: Path) -> tuple[bool, bool, str]:
    return path.suffix[1:] not in FORMATS, path.suffix != ".png", path.suffix


def _record_of(path: Path) -> dict[str, Any] | None:
    """A figure's record; a figure is drawn again where it cannot be read."""
    try:
        return read_record(path)
    except UserError:
        return None


def _files(path: Path, record: Mapping[str, Any]) -> list[Path]:
    return [path, *(path.with_name(name) for name in record.get("beside", {}))]


def _has_formats(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether the formats that are asked for now are among a picture's files."""
    return path.suffix != ".png" or set(pictures(path)) <= set(_files(path, record))


def _is_whole(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether a figure and what belongs to it are as they were written."""
    hashes = [record["sha256"], *record.get("beside", {}).values()]
    pairs = zip(_files(path, record), hashes, strict=True)
    return all(file.is_file() and sha256_file(file) == sha for file, sha in pairs)


class Memory:
    """What a request drew and printed, so that the same request has nothing to read.

    It is a convenience, hidden and ignored by git: without it, figures' own records tell the same
    once results have been read and scored.

    Args:
        paths: where figures lie.
        kind: of figures.
        request: everything that what is drawn and printed depends on, but for the sources.
        sources: what is to be shown now.
    """

    def __init__(
        self, paths: Paths, kind: str, request: Mapping[str, Any], sources: Sources
    ) -> None:
        self.paths = paths
        formats = [path.suffix for path in pictures(Path("figure.png"))]
        asked = dict(request) | {"code": code_version(), "formats": formats}
        self.path = paths.drawn(kind, json.dumps(asked, sort_keys=True, default=str))
        self.now: dict[str, Any] = {"request": asked, "sources": sources}

    def printed(self) -> str | None:
        """What was printed, if the sources are those and all figures lie there as drawn."""
        try:
            found = json.loads(self.path.read_bytes())
            same = found["sources"] == self.now["sources"]
            same = same and found["figures"] == self._hashes(map(Path, found["figures"]))
            return str(found["printed"]) if same else None
        except (OSError, KeyError, TypeError, AttributeError, *NOT_JSON):
            return None

    def text(self, album: Album[Any], draw: Callable[[], str]) -> str:
        """What is to be printed; drawn, kept and printed anew where anything has changed."""
        text = self.printed()
        if text is None:
            text = draw()
            self.keep(album.shown, text)
        return text

    def keep(self, figures: Iterable[Path], printed: str) -> None:
        """Remember what has been drawn and printed."""
        from utils.files.durable import write_bytes

        places = [path.relative_to(self.paths.artifacts) for path in dict.fromkeys(figures)]
        content = self.now | {"figures": self._hashes(places), "printed": printed}
        write_bytes(self.path, json_bytes(content))

    def _hashes(self, figures: Iterable[Path]) -> dict[str, str]:
        return {str(p): combined_digest([self.paths.artifacts / p]) for p in figures}
