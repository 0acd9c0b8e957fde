"""A real browser for one test: what its page asked for, and what it complained of."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Request, expect, sync_playwright

# What a loaded machine may need; a test that passes waits for less.
PATIENCE_MS = 30_000
# Chromium's own talk with its maker, and what it cannot do as root or without a screen.
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Browser:
    """One page of a browser, and what it asked for and complained of."""

    page: Page
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) =>"
            " console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))"
        )

    def _note(self, kind: str, text: str) -> None:
        if kind == "error":
            self.complaints.append(text)

    @property
    def requested(self) -> list[str]:
        """Every address that was asked for."""
        return [request.url for request in self.requests]

    @property
    def hosts(self) -> set[str]:
        """Every host and port that was asked."""
        return {
            urlsplit(url).netloc for url in self.requested if not url.startswith(("data:", "blob:"))
        }


def require_chromium() -> str:
    """Find the browser's program, or skip the test where there is none."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on this machine (Debian: apt-get install chromium)")
    return chromium


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Open a browser of the test's own, or skip the test where there is none.

    Its loop runs until it ends, so nothing that is opened after it may need asyncio.
    """
    chromium = require_chromium()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        try:
            page = started.new_page()
            page.set_default_timeout(PATIENCE_MS)
            expect.set_options(timeout=PATIENCE_MS)
            yield Browser(page)
        finally:
            started.close()
