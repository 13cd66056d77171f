"""Real pages in a real browser: Debian's or another's Chromium, without a window."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Visit:
    """A page in a context of its own, and all that went wrong on it.

    Attributes:
        page: Playwright's page.
        faults: Errors and warnings of the console, and exceptions that nobody caught.
        requests: Address of everything the page asked for, itself included.
    """

    def __init__(self, browser: Browser, address: str | Path, **options: Any) -> None:
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.set_default_timeout(10_000)
        self.page.goto(address.as_uri() if isinstance(address, Path) else address)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def overflow(self) -> int:
        """CSS pixels by which the page is wider than its window."""
        found = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return int(found)

    def barriers(self) -> list[str]:
        """What axe-core finds serious or critical: a rule, and the elements that break it."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{each['id']}: {[(n['target'], n['failureSummary']) for n in each['nodes'][:4]]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]


Visitor = Callable[..., Visit]
"""``visit(address, **options of playwright's new_context) -> Visit``."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for the tests of a file; skipped by name where there is none.

    No longer: while Playwright runs, so does its event loop, and nothing else in this process may
    have one.
    """
    place = next(filter(None, map(shutil.which, NAMES)), None)
    if place is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visitor]:
    """Opens pages, each in a fresh context that ends with the test."""
    visits: list[Visit] = []

    def opened(address: str | Path, **options: Any) -> Visit:
        visits.append(Visit(chromium, address, **options))
        return visits[-1]

    yield opened
    for each in visits:
        each.context.close()
