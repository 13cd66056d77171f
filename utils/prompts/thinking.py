"""How models mark what they think aloud: one list, for chat templates and for replies.

Reasoning models write their thinking before the answer, between marks that differ from family to
family. A template leaves such a block open; a judge's reply holds one, often without its opening
mark, which stood in the prompt.
"""

from __future__ import annotations

import re

# Opening marks of another form than <think>, and what closes them.
MARKS = {
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "◁think▷": "◁/think▷",
}
_TAG_AT_END = re.compile(r"<([\w:]{0,40}(?:think|thought|reason)[\w:]{0,40})>$")
_LONGEST_TAG = 90

# Marks without a word that says so: Apertus, MedGemma, Gemma 4.
_OPENING = {"inner_prefix", "unused94", "|channel"}
_CLOSING = {"inner_suffix", "unused95", "channel|"}
# Thinking in plain text: how it begins, and what the answer begins with. The first is what is left
# of gpt-oss's channels where special tokens are skipped.
_PLAIN = (
    ("analysis", "assistantfinal"),
    ("here is my thought process", "here is my response:"),
)
_THOUGHT = ("think", "thought", "scratchpad", "monologue")
# Blocks that some judges put behind their verdict: left out, without what stands before them.
_REASON = ("reason", "reflect", "rationale", "justification", "explanation", "analysis")
_ENDINGS = {"end", "stop", "close"}
_ANSWERS = ("response", "solution", "answer")
_MARK = re.compile(
    r"<\|channel\|>\s{0,4}(?P<channel>\w{1,20})[^<]{0,60}<\|message\|>"
    r"|<(?P<tag>\|?/?[\w:.|-]{1,40})(?:\s[^<>\n]{0,40})?>"
    r"|\[(?P<square>/?THINK)\]|◁(?P<arrow>/?think)▷",
    re.IGNORECASE,
)


def closing_mark(text: str) -> str | None:
    """What closes the thinking block that ``text`` ends in the opening of; ``None`` if none."""
    for opening, closing in MARKS.items():
        if text.endswith(opening):
            return closing
    tag = _TAG_AT_END.search(text[-_LONGEST_TAG:])
    return f"</{tag[1]}>" if tag else None


def without_thinking(reply: str) -> str:
    """What a reply says when it has thought: nothing if it has not come to an end of thinking.

    What stands before the last closing mark is thinking, with or without an opening one, and so
    is what stands behind an opening mark that is never closed. A block of reasons (``<reason>``)
    is left out by itself. Other special tokens become blanks. Time linear in the reply's length.
    """
    text = _behind_plain_thinking(reply.replace("&lt;", "<").replace("&gt;", ">"))
    kept: list[str] = []
    place, opened = 0, ""
    for match in _MARK.finditer(text):
        kind, closes = _classified(match)
        if not kind or (opened == "thought" and kind != "thought"):
            continue
        if closes:
            kept = kept if kind == opened == "reason" else []
            opened = ""
        else:
            if not opened:
                kept.append(text[place : match.start()] + " ")
            opened = opened if kind == "token" else kind
        place = match.end()
    if opened == "thought":
        return ""
    return "".join(kept) + ("" if opened else text[place:])


def _classified(match: re.Match[str]) -> tuple[str, bool]:
    """What a mark is of (``"thought"``, ``"reason"``, ``"token"``), and whether it closes it.

    A tag of another meaning belongs to the text: ``""``.
    """
    if match["channel"]:
        return "thought", match["channel"].lower() == "final"
    name = (match["tag"] or match["square"] or match["arrow"]).lower()
    if name in _OPENING or name in _CLOSING:
        return "thought", name in _CLOSING
    bare = name.strip("|/")
    if bare in _OPENING or bare in _CLOSING:
        return "thought", bare in _CLOSING
    closes = "/" in name or not _ENDINGS.isdisjoint(re.split(r"[^a-z]", bare))
    if any(word in bare for word in _THOUGHT):
        return "thought", closes
    if any(word in bare for word in _REASON):
        return "reason", closes
    if not (name.startswith("|") and name.endswith("|")):
        return "", False
    # where the answer begins, the thinking has ended
    begins = not closes and any(word in bare for word in _ANSWERS)
    return ("thought", True) if begins else ("token", False)


def _behind_plain_thinking(text: str) -> str:
    """The text behind thinking that is marked by plain words; nothing if it never ends."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters grow; places would not fit
        return text
    for beginning, answer in _PLAIN:
        place = lowered.rfind(answer)
        if lowered.lstrip().startswith(beginning) and place >= 0:
            return text[place + len(answer) :]
    return text
