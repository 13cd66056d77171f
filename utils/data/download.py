"""Fetching the published files: resumable, checked, whole or absent."""

from __future__ import annotations

import shutil
from pathlib import Path

from utils.data.sources import Source
from utils.errors import UserError
from utils.files.artifacts import save
from utils.files.contents import sha256_file

_HUB_FOLDER = ".hub"
OFFLINE = (
    "Behind a proxy set HTTPS_PROXY; a mirror of the hub goes into HF_ENDPOINT. What was fetched "
    "is kept: the same command goes on."
)


def fetch(source: Source, folder: Path) -> Path:
    """One source file in ``folder``, from the net if it is not there yet.

    A file that stands there is whole: downloads go through a temporary one, which a later call
    continues. Its checksum is compared where one is known.

    Raises:
        UserError: not found, no network, a truncated body or the wrong checksum; nothing but
            the unfinished temporary file is left behind.
    """
    target = folder / source.name
    if not target.exists():
        fetched = _from_hub(source, folder) if source.repo else _from_url(source, folder)
        try:
            _check(source, fetched)
            inputs = {"kind": "source", "repo": source.repo, "path": source.path}
            save(target, fetched.read_bytes(), inputs | {"revision": source.revision})
        finally:
            fetched.unlink()
            shutil.rmtree(folder / _HUB_FOLDER, ignore_errors=True)
    else:
        _check(source, target)
    return target


def _check(source: Source, path: Path) -> None:
    if source.sha256 is None:
        return
    found = sha256_file(path)
    if found != source.sha256:
        raise UserError(
            f"{source.name} has the wrong checksum:\n  expected {source.sha256}\n"
            f"  found    {found}\nThe source has changed, or {path} was edited; nothing of it "
            "was used."
        )


def _from_hub(source: Source, folder: Path) -> Path:
    import httpx2
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    assert source.repo is not None
    try:
        found = hf_hub_download(
            source.repo,
            source.path,
            repo_type="dataset",
            revision=source.revision,
            local_dir=folder / _HUB_FOLDER,
        )
    except LocalEntryNotFoundError as error:
        raise UserError(f"cannot reach the hub for {source.repo}\n{OFFLINE}") from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise UserError(_failure(f"{source.repo}/{source.path}", error)) from error
    return Path(found)


def _from_url(source: Source, folder: Path) -> Path:
    import httpx2  # huggingface_hub's own client
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{source.name}.incomplete"
    try:
        with partial.open("ab") as file:
            http_get(source.url, file, resume_size=file.tell(), displayed_filename=source.name)
    except HfHubHTTPError as error:
        raise UserError(_failure(source.url, error)) from error
    except (httpx2.HTTPError, OSError) as error:
        raise UserError(f"cannot fetch {source.url}: {error}\n{OFFLINE}") from error
    return partial


def _failure(what: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()
    return f"cannot fetch {what}: {reason[0] if reason else type(error).__name__}\n{OFFLINE}"
