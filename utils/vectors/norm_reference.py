"""Over whose vectors the mean norm is taken: fixed by the first normalisation of a model.

A behaviour that is added later is scaled to the same norm, so that nothing changes for those that
were there, nor for what was measured with them. The records of normalised vectors name the
behaviours; files that came from elsewhere are taken to have been normalised together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.errors import UserError
from utils.files.contents import read_record
from utils.files.names import ResultName
from utils.files.paths import Paths
from utils.models.labels import model_of
from utils.text.listing import did_you_mean, shortened
from utils.vectors.stored import StoredVector, read_vector

Members = tuple[str, ...]


@dataclass
class References:
    """The references of one model's vectors.

    Attributes:
        label: the model's name in the files.
        asked: by ``--reference``, for all vectors.
        given: the behaviours of this run that have a vector of the model: the reference where
            nothing of it has been normalised yet.
        recorded: (behaviour, layer) -> whose norms its normalised vector was scaled to.
    """

    paths: Paths
    label: str
    asked: Members | None
    given: Members
    recorded: dict[tuple[str, int], Members] = field(default_factory=dict)

    def __post_init__(self) -> None:
        foreign = []
        for behavior in self.paths.behaviors_with_vectors(normalized=True):
            for layer, label in self.paths.vectors_of(behavior, normalized=True):
                if label != self.label:
                    continue
                path = self.paths.vector(behavior, layer, label, normalized=True)
                record = read_record(path)
                if record is None:
                    foreign.append(behavior)
                elif isinstance(found := record["inputs"].get("vectors"), dict):
                    self.recorded[behavior, layer] = tuple(sorted(found))
        self._foreign = tuple(sorted(set(foreign)))
        self._read: dict[tuple[str, int], StoredVector] = {}

    def path(self, behavior: str, layer: int) -> Path:
        """Where a raw vector of the model lies."""
        return self.paths.vector(behavior, layer, self.label, normalized=False)

    def raw(self, behavior: str, layer: int) -> StoredVector:
        """A raw vector of the model, read once.

        Raises:
            UserError: missing, damaged or zero.
        """
        if (behavior, layer) not in self._read:
            read = read_vector(self.path(behavior, layer), made_by="./generate_vectors.py")
            if read.norm == 0:
                raise UserError(f"layer {layer} of {self.label}: the vector of {behavior} is zero")
            self._read[behavior, layer] = read
        return self._read[behavior, layer]

    def mean_norm(self, layer: int, members: Members) -> float:
        """The mean length of some raw vectors of one layer (paper, section 3).

        Raises:
            UserError: one is missing, damaged or zero.
        """
        lacking = [b for b in members if not self.path(b, layer).exists()]
        if lacking:
            raise UserError(
                f"the mean norm of {self.label} is over {shortened(members)}, and layer {layer} "
                f"has no vector for {shortened(lacking)}\nMake it with: ./generate_vectors.py "
                f"--behaviors {' '.join(lacking)} --layers {layer} ...\n(--reference takes the "
                "mean over other behaviours)"
            )
        return sum(self.raw(b, layer).norm for b in members) / len(members)

    def members(self, behavior: str, layer: int) -> Members:
        """Whose mean norm a vector gets.

        Raises:
            UserError: vectors of this model were normalised over several sets, and it is in none.
        """
        return self.asked or self.recorded.get((behavior, layer)) or self._common() or self.given

    @property
    def fixed(self) -> bool:
        """Whether an earlier run has decided."""
        return self.asked is None and bool(self.recorded or self._foreign)

    def _common(self) -> Members:
        found = sorted(set(self.recorded.values()))
        if len(found) > 1:
            sets = "; ".join(shortened(members) for members in found)
            raise UserError(
                f"vectors of {self.label} have been normalised over different behaviours: {sets}\n"
                "Say over which with --reference"
            )
        return found[0] if found else self._foreign

    def check_asked(self, behaviors: Sequence[str], *, overwrite: bool) -> str:
        """What ``--reference`` makes stale, as a text for the end of the run; empty if nothing.

        Raises:
            UserError: it changes vectors that are there, and ``--overwrite`` was not given.
        """
        changed = {
            b: members
            for (b, _), members in self.recorded.items()
            if b in behaviors and members != self.asked
        }
        if self.asked is None or not changed:
            return ""
        before = shortened(sorted({b for members in changed.values() for b in members}))
        counts = {
            b: sum(self._uses_vectors(name) for name in self.paths.results_of(b))
            for b in sorted(changed)
        }
        results = [f"{b} ({count})" for b, count in counts.items() if count]
        stale = f"results that are of those vectors: {shortened(results)}"
        change = (
            f"the mean norm of {self.label} was over {before}, now over {shortened(self.asked)}, "
            f"which changes the vectors of {shortened(changed)}"
        )
        if not overwrite:
            raise UserError(
                f"--reference: {change}; {stale}\nUse --overwrite to change them all the same, or "
                "--artifacts_dir to write elsewhere."
            )
        again = "; make them again with ./prompting_with_steering.py --overwrite"
        return f"{change}; {stale}{again if results else ''}"

    def _uses_vectors(self, name: ResultName) -> bool:
        if name.strength == 0:
            return False
        return (name.variant.override_vector_model or model_of(name.variant)) == self.label


def check_known(asked: Iterable[str], known: Sequence[str]) -> None:
    """Check that behaviours have raw vectors.

    Raises:
        UserError: some have not; with what was probably meant.
    """
    unknown = sorted(set(asked) - set(known))
    if unknown:
        raise UserError(
            f"no vectors for behaviour {shortened(unknown)}{did_you_mean(unknown, known)}; there "
            f"are: {shortened(known)}\nMake them with: ./generate_vectors.py --behaviors "
            f"{' '.join(unknown)} --layers ..."
        )
