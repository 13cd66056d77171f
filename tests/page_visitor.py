"""Someone at the server's page: what they do there, and what they see."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from browser import Visit, Visitor
from playwright.sync_api import Locator, Page, Route, expect

SIGNS = (-1, 0, 1)


class PageVisitor:
    """A page that is opened, beside what it has asked and got.

    Attributes:
        visit: with what went wrong.
        asked: bodies of the chats that it asked for, as they went out.
    """

    def __init__(self, visit: Visitor, url: str, link: dict[str, Any] | None = None) -> None:
        clipboard = ["clipboard-read", "clipboard-write"]
        self.visit: Visit = visit(
            url + ("#" + urlencode(link) if link else ""), permissions=clipboard
        )
        self.page: Page = self.visit.page
        self.asked: list[dict[str, Any]] = []
        self.page.on("request", self._sent)

    def _sent(self, request: Any) -> None:
        if request.url.endswith("/chat/completions"):
            self.asked.append(json.loads(request.post_data))

    def find(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def ready(self) -> PageVisitor:
        expect(self.find("h1.known")).to_be_visible()
        return self

    def send(self, text: str) -> None:
        self.page.fill("#message", text)
        self.page.press("#message", "Enter")

    def finished(self) -> None:
        expect(self.find("#send")).to_be_visible()

    def ask(self, text: str) -> list[str]:
        """Send a message; the three answers when they have ended."""
        turns = self.find(".turn").count()
        self.send(text)
        expect(self.find(".turn")).to_have_count(turns + 1)
        self.finished()
        return self.answers()

    def overheard(self) -> list[tuple[dict[str, Any], str]]:
        """Chats that it asks for from now on, each with its reply, which comes in one piece.

        The browser keeps no stream that has been read.
        """
        heard: list[tuple[dict[str, Any], str]] = []

        def pass_on(route: Route) -> None:
            reply = route.fetch()
            heard.append((json.loads(str(route.request.post_data)), reply.text()))
            route.fulfill(response=reply)

        self.page.route("**/chat/completions", pass_on)
        return heard

    def answers(self, turn: int = -1) -> list[str]:
        """The texts of a turn's panes."""
        found = self.find(".turn").nth(turn) if turn >= 0 else self.find(".turn").last
        return found.locator(".text").all_text_contents()

    def feet(self) -> list[str]:
        return self.find(".turn").last.locator(".foot").all_text_contents()

    def copied(self, button: str) -> str:
        """What a button puts on the clipboard."""
        self.page.evaluate("navigator.clipboard.writeText('nothing')")
        self.page.click(button)
        expect(self.find("#status")).to_contain_text("Copied")
        return str(self.page.evaluate("navigator.clipboard.readText()"))
