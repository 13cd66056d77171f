"""HTML and SVG that cannot be broken out of: every text is escaped where it is put in."""

from __future__ import annotations

import html
from collections.abc import Iterable


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


def number(value: float) -> str:
    """A coordinate: one digit after the point, no more."""
    return f"{value:.1f}".removesuffix(".0")
