"""The page of a sweep: what is read of its folder, what is said and drawn, and what is missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.fixture import SECRET, build_run, judge_check, write_json
from tests.reporting.sweep_fixture import NAMES, build_sweep
from yonder.errors import StorageError
from yonder.reporting.page import report_facts, write_report
from yonder.reporting.records import read_run
from yonder.reporting.rollout_sample import PLACES, Sighting, series
from yonder.reporting.run_facts import tiles
from yonder.reporting.sweep_view import (
    difference_text,
    sweep_chart,
    sweep_facts,
    sweep_notices,
    sweep_verdicts,
    unbroken,
)
from yonder.reporting.sweeps import Difference, is_sweep, read_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sweep(tmp_path_factory.mktemp("sweeps") / "weights", rows=2, seeds=2, steps=12)


def text_of(folder: Path) -> str:
    """The page; where its lines may break is not looked at."""
    return write_report([folder]).read_text(encoding="utf-8").replace("\u00a0", " ")


def test_the_runs_are_read_and_named_by_row_and_seed(sweep: Path) -> None:
    record, runs = read_sweep(sweep)
    assert is_sweep(sweep) and not is_sweep(sweep / "runs/0-0")
    assert [run.name for run in runs] == [f"{name}, seed {seed}" for name in NAMES[:2] for seed in (0, 1)]
    assert [record.row_of(index) for index in range(5)] == [0, 0, 1, 1, None]


def test_the_page_and_its_twin_stand_in_the_sweeps_folder(sweep: Path) -> None:
    page = write_report([sweep])
    twin = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert page == sweep / "report.html"
    assert twin["groups"] == list(NAMES[:2]) and twin["group_of"] == [0, 0, 1, 1]
    assert (twin["sweep"]["done"], twin["sweep"]["total"]) == (4, 4)
    assert [line["checkpoint"] for line in twin["sweep"]["table"]] == ["distill-judge"] * 2
    assert [line["checkpoint"] for line in twin["sweep"]["others"]] == ["warm-up"] * 2
    text = page.read_text(encoding="utf-8")
    assert SECRET not in text + json.dumps(twin)
    assert "+4.0 points (-1.0 to +9.0), p = 0.11" in text and "Mean accuracy over the seeds" in text


def test_the_verdict_tells_a_difference_from_chance(sweep: Path) -> None:
    """Row two has 0.34 and 0.35, row one 0.30 and 0.31: means 34.5 and 30.5; 4 - 5 < 0 < 4 + 5."""
    (verdict,) = sweep_verdicts(read_sweep(sweep)[0])
    assert verdict["sentence"] == (
        "three to one is best on gsm8k with 34.5 % (mean of 2 seeds, 95 % interval 32.5–36.5); the baseline, "
        "verifier only, has 30.5 %. The paired difference is +4.0 points (-1.0 to +9.0), p = 0.11: its interval "
        "includes zero, so the difference may be chance."
    )
    assert verdict["clear"] is False


def test_a_difference_is_bold_only_where_its_interval_leaves_out_zero(tmp_path: Path) -> None:
    folder = build_sweep(tmp_path, rows=3, seeds=1, steps=6)  # +4.0 (-1.0 to +9.0) and +8.0 (+3.0 to +13.0)
    page = text_of(folder)
    assert '<span class="vote">+4.0 points' in page and '<span class="vote clear">+8.0 points' in page


def test_a_difference_to_another_row_is_never_told_as_one_to_the_baseline(tmp_path: Path) -> None:
    folder = build_sweep(tmp_path, rows=3, seeds=2, steps=6)
    told = json.loads((folder / "sweep.json").read_text())
    told["table"]["cells"][5]["difference"]["against"] = NAMES[1]
    write_json(folder / "sweep.json", told)
    (verdict,) = sweep_verdicts(read_sweep(folder)[0])
    assert verdict["row"] == NAMES[2] and "paired" not in verdict["sentence"] and not verdict["clear"]
    assert verdict["points"] == pytest.approx(8.0)  # of the means
    assert "+8.0 points (+3.0 to +13.0), p &lt; 0.001, against three to one" in text_of(folder)


def test_a_row_of_one_seed_is_not_the_best_beside_rows_of_several(tmp_path: Path) -> None:
    folder = build_sweep(tmp_path, rows=3, seeds=2, steps=6)
    told = json.loads((folder / "sweep.json").read_text())
    for key in ("values", "seeds"):
        told["table"]["cells"][5][key] = told["table"]["cells"][5][key][:1]
    write_json(folder / "sweep.json", told)
    (verdict,) = sweep_verdicts(read_sweep(folder)[0])
    assert verdict["row"] == NAMES[1]
    assert verdict["sentence"].startswith("three to one is best of the 2 rows with 2 seeds on gsm8k")


def test_what_all_rows_share_is_told_once_and_what_the_sweep_does_itself_never(tmp_path: Path) -> None:
    folder = build_sweep(tmp_path, rows=2, seeds=1, steps=6)
    told = json.loads((folder / "sweep.json").read_text())
    for row in told["rows"]:
        row["overrides"] += ["policy.threads=<1>", "stages.end.checkpoints=[warm-up]"]
    write_json(folder / "sweep.json", told)
    page = write_report([folder])
    facts = json.loads(page.with_suffix(".json").read_text())["sweep"]
    assert facts["common"] == ["policy.threads=<1>"]
    assert [line["overrides"] for line in facts["table"]] == [
        ["distill.terms.0.weight=1.0"],
        ["distill.terms.0.weight=0.75"],
    ]
    text = page.read_text(encoding="utf-8")
    assert text.count("In every row: <code>policy.threads=&lt;1&gt;</code>") == 1


def test_what_a_reader_of_the_numbers_must_know_stands_below_the_table(tmp_path: Path) -> None:
    folder = build_sweep(tmp_path, rows=2, seeds=1, steps=6)
    told = json.loads((folder / "sweep.json").read_text())
    for one in told["table"]["cells"]:
        one["warnings"] = ["contaminated: <all>"]
    write_json(folder / "sweep.json", told)
    page = write_report([folder]).read_text(encoding="utf-8")
    said = f"<b>gsm8k</b> ({NAMES[0]}, {NAMES[1]}): contaminated: &lt;all&gt;."
    assert page.count(said) == 1 and page.index("sweep-table") < page.index(said)


def test_seeds_are_points_on_a_scale_of_round_ticks(sweep: Path) -> None:
    """From 28.5 % (30.5 - 2) to 36.5 %: a scale of 28 to 38 in steps of 2, so 30 % is at (30 - 28) / 10 = 20 %."""
    record, _ = read_sweep(sweep)
    main = [(cell.row, cell.checkpoint, {"gsm8k": cell}) for cell in record.cells if cell.checkpoint == "distill-judge"]
    chart = sweep_chart(record, main, "gsm8k")
    assert [tick["label"] for tick in chart["ticks"]] == ["28", "30", "32", "34", "36", "38"]
    assert chart["lines"][0]["dots"][0] == {"at": 20.0, "seed": 0, "text": "30.0"}
    assert (chart["first"], chart["lines"][1]["best"]) == (25.0, True)


def test_a_stage_that_rows_share_is_counted_and_warned_of_once(tmp_path: Path) -> None:
    runs: list[Path] = []
    for name in ("a", "b", "c"):
        begun = "2026-11-22T04:00:00" if name != "c" else "2026-11-22T05:00:00"  # c made its own
        shared = {"kind": "check-judge", "hash": "1" * 12, "status": "done", "begun": begun, "seconds": 3600.0}
        write_json(tmp_path / name / "stages/check/stage.json", shared)
        write_json(tmp_path / name / "stages/check/judge_check.json", judge_check())
        own = {"kind": "distill", "hash": "2" * 12, "status": "done", "begun": f"2026-11-22T0{name}", "seconds": 60.0}
        write_json(tmp_path / name / "stages/rl/stage.json", own)
        runs.append(tmp_path / name)
    facts = report_facts([read_run(path) for path in runs])
    assert tiles(facts)[-1] == {"value": "2 h 03 min", "label": "of work", "note": "5 stages, shared ones once"}
    warned = [notice["where"] for notice in facts["notices"] if "check" in notice["where"]]
    assert warned == ["a · check (shared with 1 more run)", "c · check"]


def test_what_failed_or_is_missing_is_told_and_the_rest_shown(tmp_path: Path) -> None:
    build_run(tmp_path / "a", steps=12)
    runs: list[dict[str, Any]] = [
        {"seed": 0, "folder": "a", "status": "done", "error": None},
        {"seed": 1, "folder": "b", "status": "failed", "error": "the judge was away"},
        {"seed": 2, "folder": "gone", "status": "done", "error": None},
        {"seed": 3, "folder": "c", "status": "pending", "error": None},
    ]
    cell = {"row": "one", "benchmark": "b", "checkpoint": "c", "values": [0.5, None], "seeds": [0, 1], "mean": 0.5}
    table = {"benchmarks": ["b"], "cells": [cell, {"row": "one", "benchmark": "b", "checkpoint": "c", "mean": None}]}
    write_json(tmp_path / "sweep.json", {"rows": [{"name": "one", "runs": runs}, "no row"], "table": table})
    record, found = read_sweep(tmp_path)
    assert len(found) == 1 and record.cells[0].values == (0.5,) and record.cells[0].seeds == (0,)
    told = [(notice.level, notice.where, notice.message) for notice in sweep_notices(record)]
    assert told == [
        ("stop", "one, seed 1", "This run failed: the judge was away."),
        ("warn", "one, seed 3", "This run is pending; the table is without it."),
        ("note", "sweep", "one, seed 2: the folder gone is missing."),
    ]
    assert "1 of 4" not in json.dumps(sweep_facts(record)["charts"])
    assert "This run failed: the judge was away." in write_report([tmp_path]).read_text(encoding="utf-8")


def test_a_sweep_without_any_run_has_a_page(tmp_path: Path) -> None:
    write_json(tmp_path / "sweep.json", {"title": "Nothing yet", "rows": [{"name": "one", "runs": []}]})
    text = write_report([tmp_path]).read_text(encoding="utf-8")
    assert "No run of the sweep has results yet." in text and "Nothing yet" in text


def test_errors_are_one_sentence(tmp_path: Path, sweep: Path) -> None:
    (tmp_path / "sweep.json").write_text("{half", encoding="utf-8")
    with pytest.raises(StorageError, match="holds no sweep that can be read; run `yonder sweep` again"):
        write_report([tmp_path])
    with pytest.raises(StorageError, match="is a sweep; give it alone"):
        write_report([sweep, sweep / "runs/0-0"])


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (Difference(3.14, 0.4, 5.81, 0.0211), "+3.1 points (+0.4 to +5.8), p = 0.021"),
        (Difference(-2.0, -3.0, -1.0, 0.00001), "-2.0 points (-3.0 to -1.0), p < 0.001"),
        (Difference(1.0, None, None, None), "+1.0 points"),
    ],
)
def test_a_difference_in_words(difference: Difference, text: str) -> None:
    assert difference_text(difference) == text


def sighting(run: int, prompt: str, step: int, verdict: str = "wrong") -> Sighting:
    return Sighting(run, 0, Path(f"log{run}"), step, step, "labeled", prompt, verdict, "", False, 0.1)


def test_the_parts_of_a_difference_do_not_break() -> None:
    text = "+3.1 points (+0.4 to +5.8), p < 0.001, against 1 to 3 points"
    assert unbroken(text).split(" ") == [
        "+3.1\u00a0points",
        "(+0.4\u00a0to\u00a0+5.8),",
        "p\u00a0<\u00a00.001,",
        *("against", "1", "to", "3\u00a0points"),
    ]


def test_questions_at_several_steps_are_kept_and_shared_by_the_runs() -> None:
    """Run 0: only q1 changes from wrong to right, q2 has more steps. Run 1 takes q1 first because run 0 shows it."""
    seen = [sighting(0, "q1", 1), sighting(0, "q1", 5, "right"), *(sighting(0, "q2", step) for step in range(30))]
    seen += [sighting(0, "once", 3)]
    seen += [*(sighting(1, "q3", step, "right" if step else "wrong") for step in range(4)), sighting(1, "q1", 2)]
    seen += [sighting(1, "q1", 2), sighting(1, "q1", 9)]  # the second of one step is left out
    found = [(one.run, one.prompt, one.step) for one in series(seen, 100)]
    assert found[:2] == [(0, "q1", 1), (0, "q1", 5)]
    assert [(run, prompt) for run, prompt, _ in found[2 : 2 + PLACES]] == [(0, "q2")] * PLACES
    assert found[2 + PLACES : 4 + PLACES] == [(1, "q1", 2), (1, "q1", 9)]
    assert {prompt for run, prompt, _ in found if run == 1} == {"q1", "q3"}
    assert len(series(seen, 8)) <= 8
