"""The table of a sweep: numbers by hand, states, formats."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps.test_settings import small_recipe
from yonder.core.statistics import wilson
from yonder.errors import DataError
from yonder.sweeps.command import Asked
from yonder.sweeps.formats import _tex, accuracy, as_csv, grid_of, latex, legend, markdown, points
from yonder.sweeps.state import state_of
from yonder.sweeps.table import OTHERS, Found, Key, cell, paired, read_results

KEY = Key("r", "rl", "held")


def found(text: str, questions: str | None = "", warning: str = "") -> Found:
    """`+` right, `-` wrong, `?` unscored; answers of one length are to the same questions."""
    correct = tuple({"+": True, "-": False, "?": None}[letter] for letter in text)
    scored = len(correct) - correct.count(None)
    interval = wilson(correct.count(True), scored)
    return Found(correct.count(True) / scored if scored else None, interval.low, interval.high, correct,
                 f"{questions}{len(correct)}" if questions is not None else None, warning)  # fmt: skip


def test_one_seed_has_the_benchmarks_own_interval_and_no_spread() -> None:
    made = cell(KEY, {3: found("++-?")}, None)
    assert (made["values"], made["seeds"], made["std"], made["n"]) == ([2 / 3], [3], None, 3)
    assert (made["low"], made["high"]) == (wilson(2, 3).low, wilson(2, 3).high)
    assert made["difference"] is None


def test_two_seeds_have_mean_spread_and_an_interval_over_both() -> None:
    made = cell(KEY, {1: found("++++++--"), 0: found("++++----")}, None)
    assert made["seeds"] == [0, 1]
    assert made["values"] == [0.5, 0.75]
    assert made["mean"] == 0.625
    assert made["std"] == pytest.approx(0.25 / 2**0.5)
    assert made["low"] < 0.5 and made["high"] > 0.75


def test_a_seed_without_a_number_is_left_out_and_never_zero() -> None:
    made = cell(KEY, {0: found("++--"), 1: found("????")}, {0: found("+---"), 1: found("----")})
    assert (made["values"], made["seeds"], made["mean"]) == ([0.5], [0], 0.5)
    assert made["difference"]["seeds"] == [0]
    nothing = cell(KEY, {1: found("????")}, None)
    assert (nothing["values"], nothing["mean"], nothing["low"], nothing["n"]) == ([], None, None, 0)
    assert accuracy(nothing) == ""


def test_a_difference_of_one_seed_is_mcnemars() -> None:
    # of 10 questions the row alone has 5, the baseline alone none: p = 2 / 2^5; mean 0.5
    made = paired({0: found("+++++++---")}, {0: found("++--------")})
    assert made is not None
    assert made["points"] == 50
    assert made["p"] == pytest.approx(2 / 2**5)
    # as `yonder compare`: 5 of 12 with half a question in each cell, 1.959964 * sqrt((6 / 12 - (5 / 12)^2) / 12)
    assert made["low"] == pytest.approx(100 * (5 / 12 - 1.959964 * ((6 / 12 - (5 / 12) ** 2) / 12) ** 0.5), abs=1e-3)
    assert made["p_by_seed"] == [made["p"]]


def test_a_difference_over_seeds_is_paired_over_questions_and_seeds() -> None:
    # differences seed 0: 1 0 0, seed 1: 1 1 0; mean 0.5, seeds 1/3, 2/3, questions 1, 0.5, 0.
    # MS_s = 3 * 2 * (1/6)^2 = 1/6; MS_q = 2 * 2 * 0.25 / 2 = 1/2; left 1/6, -1/3, 1/6 twice: MS_e = 2 * (1/6) / 2 = 1/6
    # Var = (1/6 + 1/2 - 1/6) / 6 = 1/12 with the questions' 2 degrees of freedom: quantile 4.302653
    row = {0: found("++-"), 1: found("++-")}
    base = {0: found("-+-"), 1: found("---")}
    made = paired(row, base)
    assert made is not None
    assert made["points"] == pytest.approx(50)
    assert made["high"] == 100  # 0.5 + 4.302653 * 0.288675 is beyond 1
    t = 0.5 / (1 / 12) ** 0.5
    assert made["p"] == pytest.approx(1 - t / (2 + t**2) ** 0.5)  # Student's tail at 2 degrees of freedom
    assert made["p_by_seed"] == [1.0, 0.5]


def test_a_pair_counts_where_both_are_scored() -> None:
    made = paired({0: found("+?+-")}, {0: found("-+?-")})
    assert made is not None
    assert (made["points"], made["n"]) == (50, 2)
    assert paired({0: found("+-")}, {1: found("--")}) is None
    assert paired({0: found("+-+")}, {0: found("--")}) is None


def test_seeds_with_questions_of_their_own_are_not_crossed() -> None:
    # seed means of the differences 0.5 and 1: mean 0.75, error 0.25, one degree of freedom, t = 3: p = 0.2048
    row, base = {0: found("++"), 1: found("+++")}, {0: found("+-"), 1: found("---")}
    assert not cell(KEY, row, None)["same_questions"] and cell(KEY, {0: row[0], 1: base[0]}, None)["same_questions"]
    made = paired(row, base)
    assert made is not None
    assert made["points"] == 75
    assert made["p"] == pytest.approx(0.2048, abs=1e-4)


def test_answers_to_other_questions_are_not_paired() -> None:
    made = cell(KEY, {0: found("++-", "a")}, {0: found("+--", "b")})
    assert (made["difference"], made["warnings"]) == (None, [OTHERS])
    assert cell(KEY, {0: found("++-", "a")}, {0: found("+--", "a")})["warnings"] == []
    unknown = paired({0: found("++", None), 1: found("+-", None)}, {0: found("+-", None), 1: found("--", None)})
    assert unknown is not None and unknown["points"] == 50  # nothing says that they are others


def test_what_a_checkpoint_was_trained_on_is_said_once_beside_the_table() -> None:
    said = "contaminated: of 2 test questions 1 stand in the training data word for word (t)"
    made = cell(KEY, {0: found("+-", warning=said), 1: found("++", warning=said)}, None)
    assert made["warnings"] == [said]
    shown = sweep()
    for one in shown["table"]["cells"]:
        one["warnings"] = [said]
    assert legend(shown)[-4] == f"a_b (base, x & y): {said}."
    assert said in markdown(shown) and said in latex(shown)


def test_what_was_asked_and_what_was_trained_on_are_read_from_the_runs_rows(tmp_path: Path) -> None:
    plan = Asked(small_recipe(tmp_path), folder=tmp_path / "out").plan()
    (run,) = plan.runs
    (run.folder / "stages/end").mkdir(parents=True)
    row = {"stage": "warmup", "benchmark": "a", "accuracy": 0.5, "low": 0.1, "high": 0.9, "correct": [True, False]}
    text = json.dumps(row | {"questions": "abc", "contamination": {"note": "N"}})
    (run.folder / "stages/end/evaluations.jsonl").write_text(text)
    (one,) = read_results(plan, plan.runs).values()
    assert one == {0: Found(0.5, 0.1, 0.9, (True, False), "abc", "N")}
    (run.folder / "evaluations.jsonl").write_text(f"{text}\nno")
    with pytest.raises(DataError, match=r"evaluations.jsonl, line 2: no evaluation .*; delete the line"):
        read_results(plan, plan.runs)
    (run.folder / "sweep_run.json").write_text("{}")
    assert state_of(run) == "pending"
    (run.folder / "sweep_run.json").write_text('{"seconds": 3}')
    assert state_of(run) == "pending"


def sweep(**changes: Any) -> dict[str, Any]:
    difference = {"points": 4.125, "low": 1.0, "high": 7.25, "p": 0.0002, "against": "base"}
    cells = [
        {"row": "base", "benchmark": "a_b", "checkpoint": "rl", "values": [0.5, 0.6], "seeds": [0, 1], "mean": 0.55,
         "std": 0.0707, "low": 0.4, "high": 0.7, "n": 10, "same_questions": True, "difference": None, "warnings": []},
        {"row": "x & y", "benchmark": "a_b", "checkpoint": "rl", "values": [0.6], "seeds": [0], "mean": 0.6,
         "std": None, "low": 0.5, "high": 0.7, "n": 10, "same_questions": True, "difference": difference,
         "warnings": []},
    ]  # fmt: skip
    runs = [{"seed": seed, "folder": f"f/{seed}", "status": "done", "error": None} for seed in (0, 1)]
    rows = [
        {"name": "base", "overrides": [], "runs": runs},
        {
            "name": "x & y",
            "overrides": [],
            "runs": [runs[0], runs[1] | {"status": "failed"}],
            "reported": {"a_b": 61.5},
        },
        {"name": "none", "overrides": [], "runs": [run | {"status": "pending"} for run in runs]},
    ]
    table = {"benchmarks": ["a_b"], "cells": cells}
    return {"title": "T", "recipe": "r", "notes": ["N"], "rows": rows, "baseline": "base", "table": table} | changes


def test_the_table_as_people_read_it() -> None:
    head, rows = grid_of(sweep())
    assert head == ["row", "seeds", "a_b", "difference"]
    assert rows == [
        ["base", "2", "55.0 ± 7.1 (40.0 to 70.0)", ""],
        ["x & y", "1 of 2", "60.0 (50.0 to 70.0) [61.50]", "+4.1 (+1.0 to +7.2), p < 0.001"],
        ["none", "0 of 2", "", ""],
    ]
    assert legend(sweep())[-3:] == ["N", "Failed: x & y, seed 1.", "Pending: none, seed 0; none, seed 1."]
    assert points(None, "base") == ""
    assert points(sweep()["table"]["cells"][1], "other") == "+4.1 (+1.0 to +7.2), p < 0.001, against base"
    assert "Rows of one seed have intervals over questions alone" in "".join(legend(sweep()))
    shown = sweep()
    assert "of its own" not in "".join(legend(shown))
    shown["table"]["cells"][0]["same_questions"] = False
    assert "a_b: each seed asks questions of its own" in "".join(legend(shown))


def test_markdown_latex_and_csv_hold_the_same() -> None:
    text = markdown(sweep())
    assert "| base | 2 | 55.0 ± 7.1 (40.0 to 70.0) |  |" in text
    assert "Difference in points to base, paired" in text
    tex = latex(sweep())
    assert "x \\& y & 1 of 2 & 60.0 (50.0 to 70.0) [61.50] & +4.1 (+1.0 to +7.2), p $<$ 0.001 \\\\" in tex
    assert "55.0 $\\pm$ 7.1" in tex and "a\\_b" in tex and "\\begin{tabular}{lrrr}" in tex
    first, second = csv.DictReader(as_csv(sweep()).splitlines())
    assert (json.loads(first["values"]), first["difference_p"]) == ([0.5, 0.6], "")
    assert (second["row"], second["std"], second["difference_points"]) == ("x & y", "", "4.125")
    assert second["difference_against"] == "base"
    odd = latex(sweep(title="one\n\\two"))
    assert odd.startswith("% one\n% \\two\n\\begin")
    assert _tex("x^2 ~ $5 \\a") == "x\\textasciicircum{}2 \\textasciitilde{} \\$5 \\textbackslash{}a"


def test_rows_with_several_checkpoints_have_a_line_each() -> None:
    changed = sweep()
    changed["table"]["cells"][1] |= {"row": "base", "checkpoint": "warmup"}
    head, rows = grid_of(changed)
    assert head[:3] == ["row", "checkpoint", "seeds"]
    assert [row[:2] for row in rows] == [["base", "rl"], ["base", "warmup"], ["x & y", ""], ["none", ""]]


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    from yonder.sweeps.formats import write_tables

    write_tables(tmp_path, sweep())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "table.md", "table.tex"]
