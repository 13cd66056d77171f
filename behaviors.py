"""The behaviours: read from the data folder, never listed in code.

A behaviour is a folder ``<datasets>/generate/<behavior>/`` with contrast pairs in
``generate_dataset.json`` and, beside them, ``behavior.json``, which describes it. A new
folder is a new behaviour for every script at once.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files.contents import read_json
from utils.files.json_files import check_writable
from utils.files.paths import Paths
from utils.text.listing import did_you_mean, shortened

_FOLDER_OF_SCORES = "open_ended_scores"
_TEXT_FIELDS = ("name", "matching", "positive_system_prompt", "negative_system_prompt", "rubric")


@dataclass(frozen=True)
class Behavior:
    """What a behaviour is and how it is prompted and judged.

    Attributes:
        id: name of its folder, as it stands in file names.
        name: name for people, as it stands in plots.
        matching: what an answer that *matches* the behaviour does. The direction of every
            vector, score and system prompt.
        positive_system_prompt: asks the model to show the behaviour; ``None`` if there is none.
        negative_system_prompt: asks it not to.
        rubric: what a judge is told, from 0 (not shown) to 10 (fully shown).
    """

    id: str
    name: str
    matching: str | None = None
    positive_system_prompt: str | None = None
    negative_system_prompt: str | None = None
    rubric: str | None = None

    def system_prompt(self, sign: str | None) -> str | None:
        """The system prompt of ``--system_prompt pos|neg``; ``None`` for none.

        Raises:
            UserError: the behaviour has no such prompt.
        """
        if sign is None:
            return None
        prompt = self.positive_system_prompt if sign == "pos" else self.negative_system_prompt
        if prompt is None:
            kind = "positive" if sign == "pos" else "negative"
            raise UserError(
                f"behaviour {self.id} has no {kind}_system_prompt in its behavior.json, "
                f"so --system_prompt {sign} cannot be used with it"
            )
        return prompt


def check_id(behavior: str) -> None:
    """Check that a behaviour's id can stand in file names, commands and figures.

    Results are named ``..._behavior=<id>_type=...`` and read back from those names.

    Raises:
        UserError: it cannot; the message says what can.
    """
    normal = unicodedata.normalize("NFC", behavior)
    if normal != behavior:
        raise UserError(
            f"behaviour {behavior!a}: the name of its folder is written in decomposed "
            f"characters; rename it to {normal!a} (Unicode form NFC)"
        )
    plain = all(c in "-_.+" or unicodedata.category(c)[0] in "LMN" for c in behavior)
    if not plain or not behavior[:1].isalnum() or behavior == _FOLDER_OF_SCORES:
        raise UserError(
            f"behaviour {behavior!a}: the name of its folder must begin with a letter or a "
            "digit, hold only letters, digits and - _ . + (no spaces, no =), and not be "
            f"{_FOLDER_OF_SCORES}; rename the folder"
        )


def available(paths: Paths) -> list[str]:
    """Ids of the behaviours in the data folder, in alphabetical order; hidden folders are none."""
    folder = paths.datasets / "generate"
    if not folder.is_dir():
        return []
    names = (p.name for p in folder.iterdir() if not p.name.startswith("."))
    return sorted(name for name in names if paths.generate_data(name).is_file())


def load(behavior: str, paths: Paths) -> Behavior:
    """Read one behaviour's description; one without a description has its id only.

    Raises:
        UserError: unknown behaviour, one whose id cannot stand in file names, or a description
            of the wrong shape.
    """
    plain = behavior not in ("", ".", "..") and Path(behavior).name == behavior
    if not plain or not paths.generate_data(behavior).parent.is_dir():
        raise UserError(_unknown(behavior, plain, paths))
    check_id(behavior)
    path = paths.description(behavior)
    if not path.exists():
        return Behavior(id=behavior, name=behavior)
    return Behavior(id=behavior, **_checked_fields(path))


def _unknown(behavior: str, plain: bool, paths: Paths) -> str:
    if plain and paths.raw_data(behavior).is_file():
        return (
            f"behaviour {behavior!r} has raw data that have not been processed: "
            f"{paths.raw_data(behavior)}\nMake its contrast pairs and tests with: "
            f"./process_raw_datasets.py --behaviors {behavior} --datasets_dir {paths.datasets}"
        )
    known = available(paths)
    return (
        f"unknown behaviour {behavior!r}{did_you_mean([behavior], known)}; in {paths.datasets} "
        f"there are: {shortened(known)}"
    )


def _checked_fields(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold one JSON object")
    unknown = content.keys() - {"id", *_TEXT_FIELDS}
    if unknown:
        names = ", ".join(sorted(unknown)).encode("utf-8", "backslashreplace").decode()
        raise UserError(f"{path}: unknown field {names}; known are {', '.join(_TEXT_FIELDS)}")
    if content.get("id", path.parent.name) != path.parent.name:
        raise UserError(f"{path}: id {content['id']!r} is not the folder's name")
    values = {field: content[field] for field in _TEXT_FIELDS if content.get(field) is not None}
    for field, value in values.items():
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{path}: {field} must be a text that is not empty")
    check_writable(values, str(path))
    if "name" not in values:
        raise UserError(f"{path}: missing field name")
    if any(unicodedata.category(character) == "Cc" for character in values["name"]):
        raise UserError(f"{path}: name must be one line without control characters")
    return values


def load_all(wanted: list[str] | None, paths: Paths) -> list[Behavior]:
    """The behaviours named, or all of the data folder if none is named.

    Raises:
        UserError: unknown behaviour, or an empty data folder.
    """
    ids = wanted or available(paths)
    if not ids:
        raise UserError(f"no behaviours in {paths.datasets / 'generate'}")
    return [load(behavior, paths) for behavior in dict.fromkeys(ids)]
