"""What the browser tests share: a Chromium, a page that remembers trouble, the check of axe-core."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_MS = 120_000  # a loaded machine draws a page slowly
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Reader:
    """A page that remembers what a reader should never meet."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.trouble: list[str] = []
        page.on("console", lambda message: self.trouble.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("request", lambda request: self._request(request.url))

    def _request(self, url: str) -> None:
        if not url.startswith("file:") or not url.split("#")[0].endswith("report.html"):
            self.trouble.append(url)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def violations(self) -> list[str]:
        """Serious and critical ones of axe-core, with every fold open."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
        self.page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
        self.page.wait_for_timeout(500)
        found = axe.Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")
        ]


def start_browser() -> Iterator[Any]:
    """Chromium, closed at the end; skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs the program chromium (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


def open_page(browser: Any, report: Path, scheme: str = "light", width: int = 1200) -> Iterator[Reader]:
    """The page, read as from disk; at the end nothing must have gone wrong."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE_MS)
    found = Reader(context.new_page())
    found.page.goto(report.as_uri())
    yield found
    assert found.trouble == []
    assert found.page.evaluate("window.hacked") is None
    context.close()
