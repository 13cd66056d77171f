"""Whether a model's chat template comes to an end: tried first in a process that may be killed.

A template is a program that came with a model, and jinja's sandbox limits neither its time nor
its memory. So the first time that one is seen it renders some conversations, one of them long, in
a child process with a limit on both (0.2 s of computing; the library would take seconds to start
there). That it ended is remembered in the cache folder, where later runs look for a small file.
What a template writes, or raises, is no matter here: the library renders it again afterwards.

As a script this module is that child: it reads the trial as JSON from standard input.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

CPU_SECONDS, WALL_SECONDS, BYTES = 5, 120, 2 << 30
_TOO_MUCH = 3
_SYSTEM, _USER = {"role": "system", "content": "Be it."}, {"role": "user", "content": "Is it?"}
_ANSWER = {"role": "assistant", "content": "Yes."}
_PARTS = {"role": "user", "content": [{"type": "text", "text": "Is it?"}]}
_LONG = {"role": "user", "content": "Is this the question, in many words? " * 500}
_CONVERSATIONS: tuple[list[dict[str, Any]], ...] = (
    [_USER],
    [_USER, _ANSWER],
    [_SYSTEM, _USER],
    [_PARTS],
    [_LONG],
)


def check_ends(source: str, options: Mapping[str, Any]) -> None:
    """Try a template unless it is known to end.

    Args:
        source: the template.
        options: variables that it is given.

    Raises:
        UserError: it takes more time or memory than any template needs.
    """
    from utils.errors import UserError
    from utils.files.cache import cache_folder
    from utils.files.durable import write_bytes

    plain = {k: v for k, v in options.items() if isinstance(v, str | int) and k != "chat_template"}
    trial = json.dumps([source, plain]).encode()
    known = cache_folder() / "templates" / hashlib.sha256(trial).hexdigest()[:24]
    if known.exists():
        return
    problem = _failure(trial)
    if problem:
        raise UserError(
            f"the model's chat template {problem} on a plain question: it cannot be used; put "
            "another into the model's folder (chat_template.jinja, or tokenizer_config.json)"
        )
    # where there is no room for it, it is tried again at the next start
    with contextlib.suppress(UserError):
        write_bytes(known, b"")


def _failure(trial: bytes) -> str:
    """What a template does that none should; empty if it ends well or with an exception."""
    command = [sys.executable, "-I", __file__, str(CPU_SECONDS), str(BYTES)]
    try:
        done = subprocess.run(
            command, input=trial, capture_output=True, timeout=WALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"does not end within {WALL_SECONDS} s"
    if done.returncode == _TOO_MUCH:
        return f"takes more than {BYTES >> 20} MiB of memory"
    if done.returncode < 0:
        return f"does not end within {CPU_SECONDS} s of computing, or crashes"
    return ""


def _render_all(source: str, options: dict[str, Any]) -> None:
    """Render as transformers does, near enough for the time that it takes."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - as jinja has it

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda _: "26 Jul 2024"}
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    template = environment.from_string(source)
    for messages in _CONVERSATIONS:
        asked = messages[-1]["role"] == "user"
        try:
            template.render(messages=messages, add_generation_prompt=asked, tools=None, **options)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - the library raises it again, and that is told
            continue


def main() -> int:
    seconds, size = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    try:
        _render_all(*json.load(sys.stdin))
    except MemoryError:
        return _TOO_MUCH
    return 0


if __name__ == "__main__":
    sys.exit(main())
