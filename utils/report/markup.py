"""HTML and SVG that cannot be broken out of: every text is escaped where it is put in."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from pathlib import Path

from utils.drawing.palette import COLORS

ASSETS = Path(__file__).resolve().parent
STYLE, SCRIPT = ASSETS / "page.css", ASSETS / "page.js"


class Html(str):
    """Markup that is safe as it is; any other text is escaped."""


VOID = frozenset({"br", "hr", "input", "meta", "line", "circle", "path", "rect", "col"})


def joined(*children: object) -> Html:
    """Markup and texts in a row; ``None`` is nothing, a list its items."""
    return Html("".join(_flat(children)))


def _flat(children: Iterable[object]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Html):
            yield child
        elif isinstance(child, str):
            yield html.escape(child, quote=False)
        elif isinstance(child, Iterable):
            yield from _flat(child)
        elif child is not None:
            yield html.escape(str(child), quote=False)


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element.

    Args:
        name: of the element.
        children: its content, see :func:`joined`.
        attributes: ``class_`` for class, ``aria_label`` for aria-label; ``None`` and ``False``
            are left out, ``True`` stands without a value.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        # SVG's own names have capitals; underlines stand for hyphens
        written = key.rstrip("_").replace("_", "-")
        parts.append(written if value is True else f'{written}="{html.escape(str(value))}"')
    opened = f"<{' '.join(parts)}>"
    if name in VOID and not children:
        return Html(opened if name in ("br", "hr", "input", "meta", "col") else opened[:-1] + "/>")
    return Html(f"{opened}{joined(*children)}</{name}>")


def data_table(
    head: Iterable[object],
    body: Iterable[Html],
    *,
    label: str,
    caption: str | None = None,
    **attributes: object,
) -> Html:
    """A table that scrolls within itself where it is wider than the window.

    Args:
        head: headings of the columns.
        body: its rows.
        label: what it is called by who does not see it.
        caption: stands above.
        attributes: of the table.
    """
    table = tag(
        "table",
        None if caption is None else tag("caption", caption),
        tag("thead", tag("tr", [tag("th", each, scope="col") for each in head])),
        tag("tbody", body),
        **attributes,
    )
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)


def number(value: float) -> str:
    """A coordinate: one digit after the point, no more."""
    return f"{value:.1f}".removesuffix(".0")


def safe_json(value: object) -> Html:
    """JSON within a script element: a text in it cannot end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Html(text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026"))


def document(title: str, body: Html) -> bytes:
    """Everything in one file, under a policy by which nothing but its own script ever runs."""
    script = SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    colours = (
        f":root {{ --neg-dark: {COLORS[0]}; --pos-dark: {COLORS[1]}; --neg-bright: {COLORS[5]}; "
        f"--pos-bright: {COLORS[4]}; --mark: {COLORS[4]}; }}\n"
    )
    style = colours + STYLE.read_text(encoding="utf-8")
    head = joined(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(style)),
    )
    run = tag("script", Html(script))
    whole = f"<!doctype html>\n{tag('html', tag('head', head), tag('body', body, run), lang='en')}"
    return f"{whole}\n".encode()


def assets_digest() -> str:
    """Hash of the style and the script, which are part of what a page is made from."""
    return hashlib.sha256(STYLE.read_bytes() + SCRIPT.read_bytes()).hexdigest()[:16]
