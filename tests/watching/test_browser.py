"""The live page in a real browser: it grows while the reader's place stays."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.browsing import FLAGS
from tests.reporting.fixture import build_run, distill_row, rollout_rows, write_frames
from tests.running import running
from yonder.watching.live import Live
from yonder.watching.server import Server

PATIENCE_MS = 60_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
POINTS = (
    "figure.chart:has-text('Distance from the reference') table.small tbody tr:has-text('distill-judge') td:last-child"
)


class Reader:
    """The frame and the page in it; what a reader should never meet is remembered."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.trouble = page, list[str]()
        page.on("console", lambda message: self.trouble.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(url) else self.trouble.append(request.url))
        page.goto(url)

    @property
    def inner(self) -> Any:
        self.page.wait_for_selector("iframe:not(.coming)")
        return self.page.query_selector("iframe:not(.coming)").content_frame()

    def text(self, selector: str) -> str:
        return self.inner.locator(selector).inner_text()

    def newer(self, old: str) -> str:
        """Wait until a page of another version than `old` is shown; returns which."""
        script = (
            "old => { const f = document.querySelector('iframe:not(.coming)'); return f && f.src !== old && f.src; }"
        )
        return self.page.wait_for_function(script, arg=old).json_value()

    def top(self, selector: str) -> float:
        return self.inner.locator(selector).evaluate("node => node.getBoundingClientRect().top")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return build_run(tmp_path / "one", steps=60)


def grow(run: Path, steps: range) -> None:
    """As a training that goes on: more metrics, and rollouts in a new log."""
    rng, stage = random.Random(5), run / "stages/distill-judge"
    with (stage / "metrics.jsonl").open("a", encoding="utf-8") as file:
        for step in steps:
            file.write(json.dumps(distill_row(step, 200, rng, judged=True)) + "\n")
        file.write('{"step": 9')  # a torn last line
    write_frames(
        stage / f"rollouts-{steps[0]:08d}.jsonl.zst", [r for s in steps for r in rollout_rows(s, 200, rng, True)]
    )


@pytest.fixture
def reader(run_dir: Path) -> Iterator[Reader]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs the program chromium (apt-get install chromium)")
    live = Live([run_dir.parent], every_s=0.2, used=lambda: 0.0)
    with running(Server(live)) as server, playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=FLAGS)
        context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light")
        context.set_default_timeout(PATIENCE_MS)
        found = Reader(context.new_page(), server.url)
        yield found
        assert found.trouble == []
        assert found.inner.evaluate("window.hacked") is None
        browser.close()


def test_a_curve_grows_while_the_page_stays_where_it_was(reader: Reader, run_dir: Path) -> None:
    inner = reader.inner
    first = reader.newer("")
    inner.click("#theme")
    inner.click("#theme")  # dark
    inner.locator("#stage-chips label", has_text="distill-labeled").click()
    inner.select_option("#smoothing", "1")
    inner.locator("#curves summary:has-text('Optimisation')").click()
    inner.locator("figure.chart:has-text('Distance from the reference') details.data summary").click()
    inner.fill("#search", "bags")
    inner.locator("#kinds label", has_text="Wrong").last.click()
    inner.select_option(
        "#rollout-stage",
        label="one · distill-judge"
        if inner.locator("#rollout-stage option:has-text('one ·')").count()
        else "distill-judge",
    )
    inner.locator("#rollout-list li").nth(3).click()
    chosen, marked = reader.text("#rollout .question"), reader.text("#rollout .where")
    inner.focus("#search")
    inner.evaluate("document.getElementById('search').setSelectionRange(1, 3)")
    inner.evaluate("document.getElementById('rollouts').scrollIntoView({behavior: 'instant'})")
    inner.evaluate("document.getElementById('rollout-list').scrollTop = 40")
    inner.evaluate("scrollBy({top: 57, behavior: 'instant'})")
    place, before = reader.top("#rollouts h2"), int(inner.locator(POINTS).first.text_content() or 0)
    count = int(reader.text("#count-all"))
    grow(run_dir, range(62, 120, 2))
    reader.newer(first)
    assert reader.top("#rollouts h2") == pytest.approx(place, abs=2)
    inner = reader.inner
    assert int(inner.locator(POINTS).first.text_content() or 0) == before + 29
    assert int(reader.text("#count-all")) > count
    assert (reader.text("#rollout .question"), reader.text("#rollout .where")) == (chosen, marked)
    assert inner.locator("#search").input_value() == "bags"
    assert inner.locator("#kind-wrong").is_checked()
    assert inner.locator("#smoothing").input_value() == "1"
    assert not inner.locator("#stage-chips label", has_text="distill-labeled").locator("input").is_checked()
    assert inner.locator("#curves details:has-text('Optimisation')").first.evaluate("node => node.open")
    assert inner.evaluate("document.documentElement.dataset.theme") == "dark"
    assert reader.page.evaluate("document.documentElement.dataset.theme") == "dark"
    focus = "[document.activeElement.id, document.activeElement.selectionStart, document.activeElement.selectionEnd]"
    assert inner.evaluate(focus) == ["search", 1, 3]
    assert reader.page.evaluate("document.activeElement.tagName") == "IFRAME"
    inner.locator("#curves details:has-text('Optimisation')").first.scroll_into_view_if_needed()
    inner.locator("#curves details:has-text('Optimisation') canvas").nth(2).wait_for()  # drawn when they come near


def test_a_chart_looked_at_closely_stays_so(reader: Reader, run_dir: Path) -> None:
    first = reader.newer("")
    reader.inner.locator("figure.chart:has-text('Entropy')").first.scroll_into_view_if_needed()
    chart = reader.inner.locator("figure.chart:has-text('Entropy') .u-over").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    reader.page.mouse.move(box["x"] + 60, box["y"] + 50)
    reader.page.mouse.down()
    reader.page.mouse.move(box["x"] + 160, box["y"] + 50, steps=4)
    reader.page.mouse.up()
    event = "document.dispatchEvent(new CustomEvent('yonder:keep', {detail}))"
    keep = f"() => {{ const detail = {{}}; {event}; return detail.ranges; }}"
    closely = reader.inner.evaluate(keep)
    assert "Entropy" in [name for name, _ in closely]  # the charts are linked: others are looked at as closely
    grow(run_dir, range(62, 90, 2))
    reader.newer(first)
    assert reader.inner.evaluate(keep) == closely


def test_it_waits_holds_still_and_says_when_it_is_over(reader: Reader, run_dir: Path) -> None:
    first = reader.newer("")
    reader.page.wait_for_selector("#state[data-state='done']")
    reader.page.click("#pause")
    (run_dir / "summary.json").unlink()
    reader.page.wait_for_selector("#state[data-state='running']")
    grow(run_dir, range(62, 70, 2))
    reader.page.wait_for_timeout(5000)
    assert reader.page.evaluate("document.querySelectorAll('iframe').length") == 1
    assert reader.newer("") == first
    reader.page.click("#pause")
    assert reader.newer(first) != first
    assert "● " in reader.page.title()
    reader.inner.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")  # words to be copied
    now = reader.newer("")
    grow(run_dir, range(70, 80, 2))
    reader.page.wait_for_timeout(5000)
    assert reader.newer("") == now
    reader.inner.evaluate("getSelection().removeAllRanges()")
    reader.newer(now)
