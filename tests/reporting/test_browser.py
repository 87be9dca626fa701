"""The page in a real browser: as a reader uses it, from disk, with no network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.browsing import PATIENCE_MS, Reader, open_page, start_browser
from tests.reporting.fixture import HOSTILE, build_run, write
from tests.reporting.test_stage_tables import build
from yonder.reporting import page
from yonder.reporting.page import write_report

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from start_browser()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([build_run(tmp_path_factory.mktemp("runs") / "one", steps=120)])


@pytest.fixture
def reader(browser: Any, report: Path) -> Iterator[Reader]:
    yield from open_page(browser, report)


def test_sections_and_charts(reader: Reader) -> None:
    for name in ("results", "curves", "judge", "rollouts", "card"):
        reader.page.click(f"nav a[href='#{name}']")
        reader.page.locator(f"nav a[aria-current][href='#{name}']").wait_for()
    reader.page.click("nav a[href='#curves']")
    reader.page.locator("#curves figure.chart canvas").nth(7).wait_for()
    reader.page.click("#curves summary:has-text('Optimisation')")
    reader.page.locator("[data-group='optimisation'] canvas").first.wait_for()
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


def test_ticks_of_numbers_differ(reader: Reader) -> None:
    web = Path(page.__file__).parent / "web"
    source = "".join((web / name).read_text(encoding="utf-8") for name in ("dom.js", "charts.js"))
    for ticks, texts in (
        ("[10.75, 10.8, 10.85]", ["10.75", "10.8", "10.85"]),
        ("[10.802, 10.804, null]", ["10.802", "10.804", ""]),
        ("[1000, 1000.5, 1001]", ["1,000", "1,000.5", "1,001"]),
        ("[-0.25, 0, 0.25]", ["-0.25", "0", "0.25"]),
        ("[0, 500, 1000, 1500]", ["0", "500", "1,000", "1,500"]),
        ("[10000, 20000]", ["10,000", "20,000"]),
        ("[0, 0.0001, 0.0002]", ["0", "1.0e-4", "2.0e-4"]),
        ("[0.0001, 0.000125, 0.00015]", ["1.00e-4", "1.25e-4", "1.50e-4"]),
        ("[7]", ["7"]),
    ):
        assert reader.page.evaluate(f"() => {{ {source}\nreturn numbers({ticks}); }}") == texts


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


def test_terms_are_told_apart_from_streams(reader: Reader) -> None:
    terms = reader.page.locator("#rollout-term option").all_inner_texts()
    assert terms == ["All", "correct@labeled", "judge@labeled", "judge@unlabeled"]
    reader.page.select_option("#rollout-term", "judge@unlabeled")
    assert "unlabeled" in reader.text("#rollout .where")
    assert reader.page.locator("#rollout .scores tbody th").all_inner_texts() == ["judge"]


def test_one_question_side_by_side_over_its_steps(reader: Reader) -> None:
    reader.page.locator("#kinds label", has_text="At several steps").click()
    assert int(reader.text("#count-several-steps")) >= 8
    marks = reader.page.locator("#rollout .step-mark")
    assert marks.count() == 8 and reader.page.locator("#rollout .step-mark[aria-current]").count() == 1
    reader.page.click("#beside-open")
    heads = reader.page.locator("#beside-columns h4").all_inner_texts()
    assert heads == ["step 2", "step 30", "step 60", "step 120"] * 2
    assert reader.page.locator("#beside-columns ins").count() > 0
    assert reader.page.locator("#beside-columns img").count() == 0
    reader.page.keyboard.press("Escape")
    assert reader.page.locator("#beside").is_hidden()
    marks.nth(2).click()
    assert reader.page.locator("#rollout .step-mark").nth(2).get_attribute("aria-current") == "true"


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, report: Path, scheme: str) -> None:
    for found in open_page(browser, report, scheme):
        found.page.locator("#kinds label", has_text="At several steps").click()
        found.page.click("#beside-open")
        assert found.violations() == []


def test_two_runs_are_compared(browser: Any, tmp_path: Path) -> None:
    runs = [build_run(tmp_path / name, seed, steps=60) for seed, name in enumerate(("first", "second"))]
    for seed, run in enumerate(runs):
        write(run / "recipe.yaml", f"seed: {seed}\nsteps: 60\n")
    report = write_report(runs)
    for found in open_page(browser, report):
        assert found.page.locator("#group-chips label").all_inner_texts() == ["first", "second"]
        reward = found.page.locator("#curves figure.chart", has_text="Reward · judge@unlabeled")
        assert reward.locator(".legend li > span:nth-child(2)").all_inner_texts() == ["first", "second"]
        found.page.locator("#group-chips label", has_text="first").click()
        assert reward.locator(".legend li > span:nth-child(2)").all_inner_texts() == ["second"]
        found.page.select_option("#rollout-run", label="second")
        assert found.text("#rollout .where").startswith("second · ")
        assert found.page.locator(".differences tbody tr").all_inner_texts() == ["seed\t0\t1"]
