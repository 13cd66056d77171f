"""Published chat templates in miniature: what matters of each, in words of our own."""

from __future__ import annotations

from conftest import CHATML, LLAMA2

QUESTION = "Is it raining?\n\nChoices:\n (A) Yes\n (B) No"
ASSISTANT = "<|im_start|>assistant\n"


def chatml(before: str = "", generation: str = f"{{{{ '{ASSISTANT}' }}}}", answer: str = "") -> str:
    """ChatML with something before the turns, another generation prompt, other answers.

    Args:
        before: in front of everything.
        generation: what stands in place of the generation prompt.
        answer: jinja for a finished turn of the assistant; empty for the usual one.
    """
    turn = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    if answer:
        turn = "{% if m['role'] == 'assistant' %}" + answer + "{% else %}" + turn + "{% endif %}"
    loop = "{% for m in messages %}" + turn + "{% endfor %}"
    return before + loop + "{% if add_generation_prompt %}" + generation + "{% endif %}"


# Published templates in miniature: what matters of each, in words of our own.
# Qwen 3: an empty block after the generation prompt, and in the last finished turn.
THINKING = chatml(
    generation="{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and "
    "enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
    answer="{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + m['content'] + '<|im_end|>\n' }}",
)
# DeepSeek V3.1, Granite: thinking=True turns it on.
V31 = chatml(
    "{% if not thinking is defined %}{% set thinking = true %}{% endif %}",
    "{{ '<|im_start|>assistant\n' + ('<think>' if thinking else '</think>') }}",
    "{{ '<|im_start|>assistant\n</think>' + m['content'] + '<|im_end|>' }}",
)
# DeepSeek R1 distilled, QwQ: always open; a finished turn has lost its block.
R1 = chatml(
    generation="{{ '<|im_start|>assistant\n<think>\n' }}",
    answer="{{ '<|im_start|>assistant\n' + m['content'].split('</think>')[-1] + '<|im_end|>' }}",
)
# Qwen 3 Thinking of July 2025: always open; a finished turn shows how it is closed.
ALWAYS_THINKING = chatml(
    generation="{{ '<|im_start|>assistant\n<think>\n' }}",
    answer="{{ '<|im_start|>assistant\n<think>\n\n</think>\n' + m['content'] + '<|im_end|>' }}",
)
# An open block of another form, on one line.
SQUARE = chatml(generation="{{ '<|im_start|>assistant\n[THINK]' }}")
# Seed OSS: a budget of thinking tokens.
BUDGET = chatml(
    generation="{{ '<|im_start|>assistant\n' }}{% if thinking_budget is defined and "
    "thinking_budget == 0 %}{{ '<seed:think>none</seed:think>' }}{% endif %}"
)
# gpt-oss: no way to switch it off; a finished answer is in a channel of its own.
CHANNELS = chatml(
    "{{ 'Reasoning: ' + (reasoning_effort | default('medium')) + '\n' }}",
    "{{ '<|im_start|>assistant' }}",
    "{{ '<|im_start|>assistant<|channel|>final<|message|>' + m['content'] + '<|return|>' }}",
)
# Mistral Small 4: an effort, and one of its values is none.
EFFORT = chatml(
    "{% if reasoning_effort is not defined or reasoning_effort not in ['none', 'high'] %}"
    "{{ raise_exception('none or high') }}{% endif %}{{ '[EFFORT]' + reasoning_effort }}"
)
DEMANDS_SYSTEM = chatml(
    "{% if messages[0]['role'] != 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
)
DROPS_SYSTEM = chatml().replace(
    "{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"
)
# Qwen 2.5: a system turn of its own.
DEFAULT_SYSTEM = chatml(
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Q.<|im_end|>\n' }}"
    "{% endif %}"
)
# Llama 3.1 has a day of its own, Llama 3.2 asks the clock.
LLAMA31 = chatml(
    "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{{ 'Today Date: ' + date_string + '\n' }}"
)
LLAMA32 = chatml(
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{% endif %}"
    "{{ 'Today Date: ' + date_string + '\n' }}"
)
CLOCK = chatml(
    "\n  {% macro today(how) %}{{ strftime_now(how) }}{% endmacro %}\n"
    "{{ today('%A, %B %-d, %Y') }} {{ strftime_now('%Y-%m-%d %H:%M:%S') }}\n"
)
NO_GENERATION_PROMPT = chatml(generation="")
SHOUTS = chatml(answer="{{ '<|im_start|>assistant\n' + m['content'] | trim | upper }}")
# Templates of models for pictures: a turn is a list of parts.
PARTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
USER = f"<|im_start|>user\n{QUESTION}<|im_end|>\n"
EMPTY_BLOCK = "<think>\n\n</think>\n\n"
NAMED = {
    "thinking": (THINKING, USER + ASSISTANT + EMPTY_BLOCK, ""),
    "v3.1": (V31, USER + ASSISTANT + "</think>", ""),
    "r1": (R1, USER + ASSISTANT + EMPTY_BLOCK, ""),
    "always_thinking": (ALWAYS_THINKING, USER + ASSISTANT + "<think>\n\n</think>\n", ""),
    "square": (SQUARE, USER + ASSISTANT + "[THINK][/THINK]", ""),
    "budget": (BUDGET, USER + ASSISTANT + "<seed:think>none</seed:think>", ""),
    "channels": (
        CHANNELS,
        f"Reasoning: low\n{USER}<|im_start|>assistant<|channel|>final<|message|>",
        "",
    ),
    "effort": (EFFORT, "[EFFORT]none" + USER + ASSISTANT, ""),
    "demands_system": (
        DEMANDS_SYSTEM,
        "<|im_start|>system\n<|im_end|>\n" + USER + ASSISTANT,
        "",
    ),
    "default_system": (
        DEFAULT_SYSTEM,
        "<|im_start|>system\nYou are Q.<|im_end|>\n" + USER + ASSISTANT,
        "",
    ),
    "llama3.1": (LLAMA31, "Today Date: 26 Jul 2024\n" + USER + ASSISTANT, ""),
    "llama3.2": (LLAMA32, "Today Date: 26 Jul 2024\n" + USER + ASSISTANT, ""),
    "clock": (CLOCK, "\nFriday, July 26, 2024 2024-07-26 12:00:00\n" + USER + ASSISTANT, ""),
    "no_generation_prompt": (NO_GENERATION_PROMPT, USER + ASSISTANT, ""),
    "shouts": (SHOUTS, USER + ASSISTANT, ""),
    "parts": (PARTS, USER + ASSISTANT, ""),
    "chatml": (CHATML, USER + ASSISTANT, ""),
    "llama2": (LLAMA2, f"<s>[INST] {QUESTION} [/INST]", " "),
}
