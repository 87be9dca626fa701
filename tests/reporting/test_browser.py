"""The page in a real browser: as a reader uses it, from disk, with no network."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.fixture import HOSTILE, build_run
from tests.reporting.test_stage_tables import build
from yonder.reporting import page
from yonder.reporting.page import write_report

PATIENCE_MS = 120_000  # a loaded machine draws a page slowly
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
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


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs the program chromium (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([build_run(tmp_path_factory.mktemp("runs") / "one", steps=120)])


@pytest.fixture
def reader(browser: Any, report: Path) -> Iterator[Reader]:
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE_MS)
    found = Reader(context.new_page())
    found.page.goto(report.as_uri())
    yield found
    assert found.trouble == []
    assert found.page.evaluate("window.hacked") is None
    context.close()


def test_sections_and_charts(reader: Reader) -> None:
    for name in ("results", "curves", "judge", "rollouts", "card"):
        reader.page.click(f"nav a[href='#{name}']")
        reader.page.locator(f"nav a[aria-current][href='#{name}']").wait_for()
    charts = reader.page.locator("#curves figure.chart canvas")
    shown = charts.count()
    assert shown >= 8
    reader.page.click("#curves summary:has-text('Optimisation')")
    charts.nth(shown).wait_for()
    reader.page.click("#any > summary")
    reader.page.select_option("#metric", "own/strange metric <b>")
    assert "own/strange metric <b>" in reader.text("#any-metric figcaption")
    assert HOSTILE.replace("\u2028", "").replace("\u2029", "")[:30] in reader.text("#overview .notes")


def test_ticks_of_small_shares_differ(reader: Reader) -> None:
    source = (Path(page.__file__).parent / "web/charts.js").read_text(encoding="utf-8")
    for ticks, texts in (
        ("[0, 0.0005, 0.001]", ["0 %", "0.05 %", "0.1 %"]),
        ("[0.0025, 0.005, null]", ["0.25 %", "0.5 %", ""]),
        ("[0.5]", ["50 %"]),
    ):
        assert reader.page.evaluate(f"() => {{ {source}\nreturn percents({ticks}); }}") == texts


def test_a_hidden_stage_leaves_the_charts_and_tables_say_the_same(reader: Reader) -> None:
    reward = reader.page.locator("#curves figure.chart", has_text="Mean reward of each term")
    assert reward.locator(".legend li").count() == 3
    reader.page.locator("#stage-chips label", has_text="distill-labeled").click()
    assert reward.locator(".legend li").count() == 2
    reward.locator("summary").click()
    assert reward.locator("tbody th").all_inner_texts() == ["correct@labeled", "judge@unlabeled"]


def test_liked_wrongly_and_hostile_text(reader: Reader) -> None:
    reader.page.locator("#kinds label", has_text="Liked wrongly").first.click()
    count = int(reader.text("#count-liked-wrongly"))
    assert 0 < count < int(reader.text("#count-all"))
    assert reader.text("#rollout .badges").split() == ["wrong", "liked", "wrongly"]
    reader.page.fill("#search", "onerror")
    assert "onerror" in reader.text("#rollout .question")
    assert HOSTILE in (reader.page.locator("#rollout .program").text_content() or "")
    assert reader.page.locator("#rollouts img, #rollouts b:not([id])").count() == 0
    reader.page.fill("#search", "no such words anywhere")
    assert "No rollout matches" in reader.text("#rollout")


def test_keyboard_and_filters(reader: Reader) -> None:
    reader.page.select_option("#rollout-stage", label="distill-judge")
    reader.page.select_option("#rollout-stream", "unlabeled")
    reader.page.fill("#step-from", "50")
    reader.page.press("#step-from", "Tab")
    assert "step 50" in reader.text("#rollout .where") and "unlabeled" in reader.text("#rollout .where")
    first = reader.text("#rollout .question")
    reader.page.focus("#rollout-list")
    reader.page.keyboard.press("ArrowDown")
    second = reader.text("#rollout .question")
    assert first != second
    reader.page.keyboard.press("k")
    assert reader.text("#rollout .question") == first
    reader.page.keyboard.press("PageDown")
    assert reader.text("#page-of").startswith("Page 2 of")
    reader.page.keyboard.press("/")
    reader.page.keyboard.type("jk")  # letters in a field are no commands
    assert reader.page.input_value("#search") == "jk"


def test_from_the_judge_panel_to_the_rollout(reader: Reader) -> None:
    sample = reader.page.locator("#liked-wrongly button").nth(2)
    score = float(sample.locator(".like").inner_text())
    question = sample.locator(".question-line").inner_text()
    sample.click()
    assert reader.text("#rollout .question") == question
    assert reader.page.locator("#rollout .scores tr", has_text="judge").locator(".num").inner_text() == f"{score:.3f}"


def test_theme_is_switched_and_remembered(reader: Reader) -> None:
    def background() -> str:
        return reader.page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background()
    reader.page.click("#theme")
    assert background() == light and reader.text("#theme") == "Theme: light"
    reader.page.click("#theme")
    assert background() != light and reader.text("#theme") == "Theme: dark"
    reader.page.reload()
    assert background() != light


def test_narrow_and_without_a_script(browser: Any, report: Path) -> None:
    for width, script in ((380, True), (380, False)):
        context = browser.new_context(viewport={"width": width, "height": 800}, java_script_enabled=script)
        context.set_default_timeout(PATIENCE_MS)
        found = Reader(context.new_page())
        found.page.goto(report.as_uri())
        assert "33.1" in found.text("#results table.results >> nth=0")
        if script:
            assert found.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            assert found.trouble == []
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_stages_found_is_read_by_rows_and_columns(browser: Any, tmp_path: Path, scheme: str) -> None:
    page = write_report([build(tmp_path / "one")])
    for width in (1200, 380):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE_MS)
        found = Reader(context.new_page())
        found.page.goto(page.as_uri())
        table = found.page.get_by_role("table", name="AlpacaEval · alpaca")
        row = table.get_by_role("row").filter(has=found.page.get_by_role("rowheader", name="sft"))
        assert row.get_by_role("cell").first.inner_text() == "41.2 % ± 1.3"
        assert table.get_by_role("columnheader", name="length-controlled ± s.e.").is_visible()
        assert found.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert found.trouble == []
        context.close()
