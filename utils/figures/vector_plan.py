"""Which figures analyze_vectors.py draws: what each shows and what it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from utils.figures.album import Job
from utils.figures.vector_figures import VectorFigures
from utils.files.subsets import part, ranges
from utils.vectors.vector_set import Key, VectorSet, comparable_models

Draw = Callable[[VectorFigures], object]


@dataclass
class VectorPlan:
    """The figures that vectors allow.

    Attributes:
        vectors: what is compared.
        names: a name for people for each behaviour's id.
        every: all vectors that there are, asked for or not.
        hashes: of the files of each vector asked for.
        layers: those asked for, each with a figure of its own; ``None``: all, shown by their mean.
        notes: on figures that cannot be drawn, once :meth:`jobs` has been called.
    """

    vectors: VectorSet
    names: Mapping[str, str]
    every: Sequence[Key]
    hashes: Mapping[Key, str]
    layers: Sequence[int] | None
    notes: list[str] = field(default_factory=list)

    def jobs(self) -> list[Job[VectorFigures]]:
        """Every figure that these vectors allow, each once; notes on the others."""
        jobs: list[Job[VectorFigures]] = []
        for model in self.vectors.models:
            if self.vectors.behaviors_of(model):
                jobs += self._jobs_of(model)
        several = [b for b in self.vectors.behaviors if comparable_models(self.vectors, b)]
        for behavior in several:
            jobs += self._models(behavior)
        if len(several) >= 2:
            jobs.append(
                self._job("similarity_of_models_over_layers", lambda f: f.all_models_over_layers())
            )
        if len(self.vectors.models) < 2:
            self.notes.append("one model, nothing to compare it with")
        elif not several:
            self.notes.append("no two models have a behaviour, a layer and the width in common")
        return jobs

    @property
    def _each(self) -> list[int | None]:
        """Layers with a figure of their own; a mean over one layer is that layer."""
        found = sorted({k.layer for k in self.vectors.raw})
        one: list[int | None] = [*found] if len(found) == 1 else [None]
        return one if self.layers is None else [*sorted(set(self.layers))]

    def _jobs_of(self, model: str) -> list[Job[VectorFigures]]:
        shown = self.vectors.behaviors_of(model)
        counts = {b: len(self.vectors.directed_layers(model, b)) for b in shown}
        jobs = [self._layers(model, b) for b in shown if counts[b] >= 2]
        jobs += [self._plane(model, b) for b in shown if counts[b] >= 3]
        for least, what in ((2, "heat maps of layers"), (3, "principal components")):
            few = [b for b in shown if counts[b] < least]
            if few:
                self.notes.append(
                    f"{model}: no {what} of {', '.join(few)} (they need {least} layers)"
                )
        if len(shown) < 2:
            self.notes.append(f"{model}: one behaviour, nothing to compare it with")
        else:
            jobs += self._behaviors(model, over_layers=max(counts.values()) >= 2)
        jobs.append(self._job("norms", lambda f: f.norms(model), model=model))
        return jobs

    def _layers(self, model: str, behavior: str) -> Job[VectorFigures]:
        def draw(figures: VectorFigures) -> None:
            figures.layers(model, behavior)

        return self._job("similarity_of_layers", draw, model=model, behavior=behavior)

    def _plane(self, model: str, behavior: str) -> Job[VectorFigures]:
        def draw(figures: VectorFigures) -> None:
            figures.plane(model, behavior)

        return self._job("pca_of_layers", draw, model=model, behavior=behavior)

    def _behaviors(self, model: str, *, over_layers: bool) -> list[Job[VectorFigures]]:
        def at(layer: int | None) -> Draw:
            return lambda f: f.behaviors(model, layer)

        kind = "similarity_of_behaviors"
        jobs = [
            self._job(kind, at(layer), model=model, layer=layer)
            for layer in self._each
            if layer is None or sum(k[::2] == (model, layer) for k in self.vectors.raw) > 1
        ]
        if over_layers:
            jobs.append(
                self._job(
                    f"{kind}_over_layers", lambda f: f.behaviors_over_layers(model), model=model
                )
            )
        return jobs

    def _models(self, behavior: str) -> list[Job[VectorFigures]]:
        def at(layer: int | None) -> Draw:
            return lambda f: f.models(behavior, layer)

        kind = "similarity_of_models"
        jobs = []
        # heat maps are for more than two
        if len({m for pair in comparable_models(self.vectors, behavior) for m in pair}) > 2:
            jobs += [self._job(kind, at(n), behavior=behavior, layer=n) for n in self._each]
        over = self._job(
            f"{kind}_over_layers", lambda f: f.models_over_layers(behavior), behavior=behavior
        )
        return [*jobs, over]

    def _job(
        self,
        kind: str,
        draw: Draw,
        *,
        model: str | None = None,
        behavior: str | None = None,
        layer: int | None = None,
    ) -> Job[VectorFigures]:
        """One figure, of one model, behaviour and layer or of all of each."""

        def is_in(key: Key) -> bool:
            wanted = (model, behavior, layer)
            return all(w in (None, own) for w, own in zip(wanted, key, strict=True))

        shown = [key for key in self.vectors.raw if is_in(key)]
        sources: dict[str, dict[str, str]] = {}
        for key in shown:
            group = sources.setdefault(f"vectors/{key.behavior}: {key.model}", {})
            group[f"layer={key.layer}"] = self.hashes[key]
        at = "" if layer is None else f" layer={layer}"
        return Job(
            key=f"{kind}{at}{f' {model}' if model else ''}",
            sources=sources,
            draw=draw,
            behavior=behavior,
            part=part(**some_keys(shown, [key for key in self.every if is_in(key)])),
            options={"names": {b: self.names[b] for b in sorted({k.behavior for k in shown})}},
        )


def some_keys(shown: Sequence[Key], every: Sequence[Key]) -> dict[str, str]:
    """The layers, behaviours and models shown, each as text if they are not all that there are."""
    layers = {k.layer for k in shown}
    series = {k[:2] for k in shown}
    behaviors, models = {b for _, b in series}, {m for m, _ in series}
    hidden = set(every) - set(shown)
    beside = [k for k in hidden if k.layer in layers]
    named = {}
    if any(k[:2] in series for k in hidden):
        named["layers"] = ranges(layers)
    if any(k.model in models and k.behavior not in behaviors for k in beside):
        named["behaviors"] = ",".join(sorted(behaviors))
    if any(k.model not in models for k in beside):
        named["models"] = ",".join(sorted(models))
    return named
