"""Which figures plot_activations.py draws: what each shows and what it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.activations.saved import SIGNS, Source
from utils.figures.album import Job
from utils.files.artifacts import fingerprint
from utils.files.contents import combined_digest, read_record
from utils.files.paths import Paths, record_path
from utils.files.subsets import part, ranges

if TYPE_CHECKING:
    from utils.figures.activation_figures import ActivationFigures, Measured, View

    Draw = Callable[[ActivationFigures], object]

Hashes = Mapping[str, Mapping[str, str]]


def hashes_of(sources: Sequence[Source], paths: Paths) -> dict[str, dict[str, str]]:
    """Group -> layer -> hash of both answers' activations."""
    return {
        group_of(source): {
            str(layer): combined_digest(
                _told_by(paths.activations(source.behavior, sign, layer, source.model))
                for sign in SIGNS
            )
            for layer in source.layers
        }
        for source in sources
    }


def _told_by(path: Path) -> Path:
    """What tells one state of a file from another: its record, which has its hash, or itself.

    Activations may be gigabytes: they are not read to find that nothing has changed.
    """
    record = read_record(path)
    return path if record is None else record_path(path)


def group_of(source: Source) -> str:
    return f"activations/{source.behavior}: {source.model}"


def jobs_of(
    shown: Sequence[tuple[Source, Measured]],
    names: Mapping[str, str],
    hashes: Hashes,
    every: Sequence[str],
) -> list[Job[ActivationFigures]]:
    """All figures of one model.

    Args:
        shown: what was measured of each behaviour.
        names: a name for people for each behaviour's id.
        hashes: of :func:`hashes_of`.
        every: ids of all behaviours that have activations of this model.
    """
    jobs = [job for one in shown for job in _jobs_of_one(*one, names, hashes)]
    if len(shown) > 1:
        ids = {source.behavior for source, _ in shown}
        named = "" if ids.issuperset(every) else ",".join(sorted(ids))
        every_source = [source for source, _ in shown]
        jobs.append(
            Job(
                key=f"SEPARATION{_some(every_source)} {every_source[0].model}",
                sources={group_of(s): hashes[group_of(s)] for s in every_source},
                draw=lambda figures: figures.separations(shown),
                part=part(behaviors=named),
                options=_options(every_source, names),
            )
        )
    return jobs


def _jobs_of_one(
    source: Source, measured: Measured, names: Mapping[str, str], hashes: Hashes
) -> list[Job[ActivationFigures]]:
    from utils.figures.activation_figures import AS_THEY_ARE, LETTERS_REMOVED

    known = hashes[group_of(source)]

    def job(kind: str, draw: Draw, layer: int | None = None) -> Job[ActivationFigures]:
        at = _some([source]) if layer is None else f" layer={layer}"
        items = known if layer is None else {str(layer): known[str(layer)]}
        return Job(
            key=f"{kind}{at} {source.model}",
            sources={group_of(source): items},
            draw=draw,
            behavior=source.behavior,
            options=_options([source], names),
        )

    def scatter(layer: int) -> Draw:
        return lambda figures: figures.scatter(source, layer, measured[layer])

    def page(view: View) -> Draw:
        return lambda figures: figures.page(source, measured, view)

    jobs = [job("PCA", scatter(layer), layer) for layer in measured]
    if len(measured) > 1:
        jobs += [
            job(f"PCA_all_layers{view.part}", page(view)) for view in (AS_THEY_ARE, LETTERS_REMOVED)
        ]
    jobs.append(job("separation", lambda figures: figures.separation(source, measured)))
    return [*jobs, job("variance", lambda figures: figures.variance(source, measured))]


def _some(sources: Sequence[Source]) -> str:
    return max(f" layers={ranges(s.layers)}" if s.some else "" for s in sources)


def _options(sources: Sequence[Source], names: Mapping[str, str]) -> dict[str, object]:
    letters = {s.behavior: [list(pair) for pair in s.letters] for s in sources}
    shown = {s.behavior: names[s.behavior] for s in sources}
    return {"names": shown, "letters": fingerprint(letters)}
