"""Tables, verdict and notices from hand-made results."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.fixture import HOSTILE, build_run, judge_check, write_json, write_lines
from yonder.core.statistics import wilson
from yonder.reporting.charts import scale
from yonder.reporting.judge_view import admission, judge_view
from yonder.reporting.records import RunRecord, StageRecord, read_run
from yonder.reporting.tables import Table, duration, results_table, to_csv, to_markdown
from yonder.reporting.verdict import notices, verdicts


def run_with(path: Path, results: dict[str, Any], **stages: Any) -> RunRecord:
    write_json(path / "summary.json", {"results": results, "stages": stages})
    return read_run(path)


def gsm8k(accuracy: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"gsm8k": {"accuracy": accuracy, "low": low, "high": high, "n": 100}}


def test_cells_and_markdown(tmp_path: Path) -> None:
    results = {
        "sft": gsm8k(0.2183, 0.196, 0.241),
        "rl|x": {"svamp": {"accuracy": 0.5, "vote": {"samples": 8, "accuracy": 0.55}}},
    }
    table = results_table([run_with(tmp_path, results)])
    assert table == Table(
        header=("stage", "gsm8k", "svamp"),
        rows=(("sft", "21.8 [19.6–24.1]", "–"), ("rl|x", "–", "50.0; vote@8 55.0")),
    )
    assert to_markdown(table).splitlines() == [
        "| stage | gsm8k | svamp |",
        "| :--- | ---: | ---: |",
        "| sft | 21.8 [19.6–24.1] | – |",
        "| rl\\|x | – | 50.0; vote@8 55.0 |",
    ]


def test_csv_is_tidy_and_unrounded(tmp_path: Path) -> None:
    vote = {"accuracy": 1 / 3, "n": 3, "vote": {"samples": 8, "accuracy": 0.5, "low": 0.1, "high": 0.9, "n": 2}}
    rows = list(csv.DictReader(io.StringIO(to_csv([run_with(tmp_path / "r", {"sft": {"a,b": vote}})]))))
    assert rows[0] == {
        "run": "r", "stage": "sft", "benchmark": "a,b", "decoding": "greedy",
        "accuracy": "0.3333333333333333", "low": "", "high": "", "n": "3",
    }  # fmt: skip
    assert (rows[1]["decoding"], rows[1]["low"], rows[1]["n"]) == ("vote@8", "0.1", "2")


def test_several_runs_have_a_column_and_different_names(tmp_path: Path) -> None:
    runs = [run_with(tmp_path / parent / "same", {"sft": gsm8k(0.2)}) for parent in ("a", "b")]
    assert [row[:2] for row in results_table(runs).rows] == [("same", "sft"), ("same (2)", "sft")]


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ({"sft": gsm8k(0.2, 0.18, 0.22), "rl": gsm8k(0.3, 0.28, 0.32)}, "do not overlap"),
        ({"sft": gsm8k(0.2, 0.15, 0.26), "rl": gsm8k(0.3, 0.25, 0.35)}, "overlap, so the difference may be chance"),
        ({"sft": gsm8k(0.3, 0.28, 0.32), "rl": gsm8k(0.2, 0.18, 0.22)}, "No stage is better than the first row"),
        ({"sft": gsm8k(0.2)}, "no other row"),
    ],
)
def test_verdict(tmp_path: Path, results: dict[str, Any], said: str) -> None:
    (verdict,) = verdicts([run_with(tmp_path, results)])
    assert said in verdict.sentence


def test_the_verdict_is_paired_where_the_questions_are_the_same(tmp_path: Path) -> None:
    """Ten flips one way: the intervals of 50 and 60 of 100 overlap, the paired one lies above zero."""

    def answered(right: int, questions: str = "q") -> dict[str, Any]:
        found = wilson(right, 100)
        return {"accuracy": right / 100, "low": found.low, "high": found.high, "n": 100, "questions": questions}

    def lines(run: RunRecord, **right: int) -> RunRecord:
        rows = [
            {"stage": stage, "benchmark": "gsm8k", "correct": [1] * n + [0] * (100 - n), **answered(n)}
            for stage, n in right.items()
        ]
        (run.path / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_run(run.path)

    run = run_with(tmp_path / "a", {"sft": {"gsm8k": answered(50)}, "rl": {"gsm8k": answered(60)}})
    (before,), (verdict,) = verdicts([run]), verdicts([lines(run, sft=50, rl=60)])
    assert before.difference is None and "intervals overlap" in before.sentence
    assert verdict.overlap and verdict.difference == pytest.approx((10, 3.72, 15.89), abs=0.01)
    assert verdict.sentence.endswith("; question by question the difference is +10.0 points (3.7 to 15.9).")
    (stale,) = verdicts([lines(run, sft=51, rl=60)])
    assert stale.difference is None  # other numbers than the summary's: not these answers
    other = run_with(tmp_path / "b", {"sft": {"gsm8k": answered(50)}, "rl": {"gsm8k": answered(60, "other")}})
    assert verdicts([lines(other, sft=50, rl=60)])[0].difference is None


def test_verdict_counts_points_against_the_first_row(tmp_path: Path) -> None:
    results = {"sft": gsm8k(0.25, 0.24, 0.26), "a": gsm8k(0.5, 0.4, 0.6), "b": gsm8k(0.3, 0.2, 0.4)}
    (verdict,) = verdicts([run_with(tmp_path, results)])
    assert (verdict.stage, verdict.first_stage, verdict.points, verdict.overlap) == ("a", "sft", 25.0, False)


def test_notices_of_the_synthetic_run(tmp_path: Path) -> None:
    found = [(notice.level, notice.where) for notice in notices([read_run(build_run(tmp_path, steps=120))])]
    # the judge check warns; the monitor's alarm repeats with other figures from step 110 on and is said once
    assert found == [("warn", "check"), ("warn", "distill-judge, step 110")]


def test_notices_from_figures_alone(tmp_path: Path) -> None:
    rows = [
        {"step": i, "monitor/judge/gap": 0.1 if i < 10 else 0.4, "terms/judge@u/scored": 1.0 if i < 10 else 0.3}
        for i in range(20)
    ]
    write_lines(tmp_path / "stages/rl/metrics.jsonl", rows)
    run = run_with(tmp_path, {}, rl={"status": "failed"}, fit={"status": "done"})
    found = notices([run])
    assert [notice.level for notice in found] == ["stop", "warn", "warn"]
    assert "failed" in found[0].message and "+0.10 to +0.40" in found[1].message and "30 %" in found[2].message


def test_a_change_in_mid_stage_is_told(tmp_path: Path) -> None:
    changes = [{"stages.rl.optimizer.lr": [0.001, 0.0005], "data.train.limit": ["(none)", 3]}, {}, "?"]
    run = run_with(tmp_path, {}, rl={"status": "done", "changes": changes}, fit={"status": "done", "changes": 3})
    begun = "It went on with another recipe or data than it was begun with"
    assert [(notice.level, notice.where, notice.message) for notice in notices([run])] == [
        ("warn", "rl", f"{begun} (stages.rl.optimizer.lr: 0.001 -> 0.0005; data.train.limit: (none) -> 3)."),
        ("warn", "rl", f"{begun} (in a secret)."),
    ]


def test_judge_view_and_its_absence() -> None:
    view = judge_view(StageRecord("check", "check-judge", "done", 1.0, {}, judge_check=judge_check()))
    assert view["figures"][0] == {"label": "right one preferred, of pairs", "text": "87.4 %", "interval": "85.1–89.5"}
    figures = {figure["label"]: (figure["text"], figure["interval"]) for figure in view["figures"]}
    assert "AUPRC" not in figures  # null in the file
    assert figures["AUROC"] == ("0.874", "0.854–0.894")
    assert figures["right one preferred by likelihood (LL)"] == ("81.5 %", "79.5–83.5")
    assert figures["right, of the best liked of 4; 81.0 % have a right one"] == ("69.8 %", "67.8–71.8")
    assert figures["lift, best of 4"] == ("+21.3 points", "+19.3 to +23.3")
    assert figures["wrong ones liked at fitted delta"] == ("11.0 %", "9.0–13.0")
    assert [figures[name][0] for name in ("fitted tau", "tokens a second", "cost")] == ["1.7", "80,000", "0.42"]
    assert view["fitted"] == (
        "Tau and delta are fitted on 160 questions (delta: the best that accepts at most 10.0 % of the wrong "
        "ones); their figures are of the other 160."
    )
    tables = {table["title"]: table for table in view["tables"]}
    assert tables["Wrong responses by outcome"]["columns"] == ["outcome", "n", "wrong ones liked", "95 %"]
    assert tables["Wrong responses by outcome"]["rows"][0] == ["wrong answer", "500", "25.0 %", "23.0–27.0"]
    assert tables["Wrong responses by length"]["rows"][1] == ["141–420", "160", "–", "–"]
    assert view["counts"] == "Measured on 1,200 labeled responses, 582 of them right; left out: 14 unscored."
    assert len(view["reliability"]) == 10 and view["reliability"][0]["y"] == 0.12
    assert view["histogram"][9] == {
        "from": 0.9, "to": 1.0, "right": 301, "wrong": 40, "right_height": 100.0, "wrong_height": round(4000 / 301, 2),
    }  # fmt: skip
    assert view["tables"][0]["rows"][1] == ["wrong-operator", "120", "0", "0.4", "71.0 %", "29.0 %", "–", "2"]
    kinds, worst = view["tables"][1], view["tables"][2]
    assert (kinds["title"], worst["title"]) == ("Attacks by kind", "Attacks that pass most")
    assert kinds["columns"] == ["kind", "in fitting", "n", "passed", "share passed", "95 %", "unscored"]
    assert kinds["rows"] == [
        ["mistake", "allowed", "700", "203", "29.0 %", "0.0–50.0", "3"],
        ["injection", "withheld", "1,300", "13", "1.0 %", "0.0–50.0", "3"],
        ["all kinds", "–", "2,000", "216", "10.8 %", "0.0–50.0", "3"],
        ["withheld kinds", "–", "1,300", "13", "1.0 %", "0.0–50.0", "3"],
    ]
    assert [row[:2] for row in worst["rows"]] == [["mistake", "wrong-operator"], ["injection", HOSTILE]]
    bare = judge_view(StageRecord("check", "check-judge", "done", 1.0, {}, judge_check={"pairwise": {"value": None}}))
    assert bare["figures"] == [] and bare["tables"] == [] and bare["headline"] is None
    served = {"baseline": {"questions": 0, "likelihood": None, "note": "not measured: why"}}
    shown = judge_view(StageRecord("check", "check-judge", "done", 1.0, {}, judge_check=served))
    assert shown["figures"] == [{"label": "likelihood (LL): why", "text": "not measured", "interval": ""}]
    assert shown["fitted"] == ""


def test_admission_becomes_a_sentence() -> None:
    assert admission({"admission": {"verdict": "fail", "why": "the mass is 0.02."}}) == ("fail", "The mass is 0.02.")


@pytest.mark.parametrize(
    "seconds,said", [(None, "–"), (3.2, "3.2 s"), (88, "88 s"), (600, "10 min"), (7500, "2 h 05 min")]
)
def test_duration(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize("low,high", [(0.19, 0.39), (0, 0), (1, 1), (0, 1), (0.5, 0.5), (0.996, 1.0), (0.3313, 0.3314)])
def test_scale_holds_its_values_between_round_ticks(low: float, high: float) -> None:
    start, end, ticks = scale(low, high)
    assert 0 <= start <= low <= high <= end <= 1 and start < end and 2 <= len(ticks) <= 9
    assert (start, end) == (ticks[0], ticks[-1])
