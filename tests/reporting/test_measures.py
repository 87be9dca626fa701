"""What evaluations may hold beside a greedy accuracy, and in which settings runs differ."""

import json
from pathlib import Path
from typing import Any

from tests.reporting.fixture import SECRET, write, write_json
from yonder.reporting.charts import group_table
from yonder.reporting.differences import differences
from yonder.reporting.page import write_report
from yonder.reporting.records import read_run
from yonder.reporting.tables import contaminated, more_of, result_rows, results_table, to_csv
from yonder.reporting.verdict import notices

ROW: dict[str, Any] = {
    "accuracy": 0.5,
    "low": 0.4,
    "high": 0.6,
    "n": 100,
    "vote": {"accuracy": 0.55, "low": None, "high": None, "n": 100, "samples": 8},
    "pass_at_k": {"8": {"accuracy": 0.8, "n": 100}, "1": {"accuracy": 0.45, "low": 0.4, "high": 0.5, "n": 100}},
    "subsets": {"without None": {"accuracy": 0.625, "n": 80}},
    "by_group": {"10": {"accuracy": 0.4, "n": 50}, "2": {"accuracy": 0.6, "n": 50}, "bad": {"accuracy": None}},
    "group_spread": {"mean": 0.5, "std": 0.1414, "n": 2, "low": 0.3, "high": 0.7},
    "seeds": {"0": 0.44, "1": 0.48},
    "seed_spread": {"mean": 0.46, "std": 0.0283, "n": 2, "low": 0.37, "high": 0.55},
    "contamination": {
        "checked_against": ["gsm8k"],
        "exact": 12,
        "near": 0,
        "perturbed": 1200,
        "note": "contaminated: of 2,400 test questions 12 stand in it; 1,200 perturb it",
    },
    "cached": True,
}


def run_with(path: Path, row: dict[str, Any], recipe: str = "seed: 1") -> Path:
    write_json(path / "summary.json", {"results": {"distill": {"gsm_plus": row}}})
    write(path / "recipe.yaml", recipe)
    return path


def test_everything_that_was_measured_is_listed_in_order(tmp_path: Path) -> None:
    (row,) = result_rows([read_run(run_with(tmp_path, ROW))])
    lines = [(line["label"], round(line["accuracy"], 9), line["note"]) for line in more_of(row.cells["gsm_plus"])]
    assert [line["high"] for line in more_of(row.cells["gsm_plus"])][-2:] == [0.55, 0.7]
    assert lines == [
        ("vote@8", 0.55, ""),
        ("pass@1", 0.45, ""),
        ("pass@8", 0.8, ""),
        ("without None", 0.625, ""),
        ("sampled, mean of 2 seeds", 0.46, "± 2.8"),
        ("mean of 2 instances", 0.5, "± 14.1"),
    ]


def test_instances_that_agree_have_no_interval(tmp_path: Path) -> None:
    same = ROW | {"group_spread": {"mean": 0.5, "std": 0.0, "n": 2, "low": 0.5, "high": 0.5}}
    (row,) = result_rows([read_run(run_with(tmp_path, same))])
    spread = more_of(row.cells["gsm_plus"])[-1]
    assert (spread["accuracy"], spread["low"], spread["high"]) == (0.5, None, None)


def test_contamination_is_beside_the_number_and_said_once(tmp_path: Path) -> None:
    runs = [read_run(run_with(tmp_path / name, ROW)) for name in ("a", "b")]
    said = "contaminated: of 2,400 test questions 12 stand in it; 1,200 perturb it"
    assert contaminated(result_rows(runs)) == [{"benchmark": "gsm_plus", "text": said}]
    page = write_report([tmp_path / "a"]).read_text(encoding="utf-8")
    assert page.count("meets training data</span>") == 1 and page.count(f"</b> {said}</p>") == 1
    assert [(one.level, one.where, one.message) for one in notices(runs)] == [("warn", "gsm_plus", f"{said}.")]
    assert "from the cache" in page


def test_a_row_without_them_has_none(tmp_path: Path) -> None:
    (row,) = result_rows([read_run(run_with(tmp_path, {"accuracy": 0.5, "contamination": {"exact": 0}}))])
    assert more_of(row.cells["gsm_plus"]) == [] and contaminated([row]) == []
    assert "meets training data" not in write_report([tmp_path]).read_text(encoding="utf-8")
    unread = {"accuracy": 0.5, "contamination": {"exact": 0, "note": "not checked against x, which could not be read"}}
    page = write_report([run_with(tmp_path / "unread", unread)]).read_text(encoding="utf-8")
    assert "meets training data" not in page and page.count("not compared with all training data</span>") == 1


def test_instances_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    table = group_table(result_rows([read_run(run_with(tmp_path, ROW))]), "gsm_plus")
    assert table is not None
    assert [(line["name"], line["cells"][0]["text"]) for line in table["lines"]] == [("2", "60.0"), ("10", "40.0")]


def test_markdown_and_csv_have_all_of_them(tmp_path: Path) -> None:
    run = read_run(run_with(tmp_path, ROW))
    assert results_table([run]).rows[0][1] == (
        "50.0 [40.0–60.0]; vote@8 55.0; pass@1 45.0 [40.0–50.0]; pass@8 80.0; without None 62.5"
    )
    lines = to_csv([run]).splitlines()
    assert f'{run.name},distill,"gsm_plus, without None",greedy,0.625,,,80' in lines
    assert f'{run.name},distill,gsm_plus,"sampled, seed 1",0.48,,,' in lines


def test_settings_that_differ_are_named_by_key_and_stage(tmp_path: Path) -> None:
    first = "seed: 1\noutput_dir: a\nstages:\n- {name: rl, steps: 100, terms: [{weight: 0.3}]}\napi_key: " + SECRET
    second = (
        "seed: 2\noutput_dir: b\nstages:\n- {name: rl, steps: 100, terms: [{weight: 0.5}]}\napi_key: other-" + SECRET
    )
    runs = [read_run(run_with(tmp_path / name, ROW, text)) for name, text in (("a", first), ("b", second))]
    found = differences(runs)
    assert found == {
        "columns": ["key", "a", "b"],
        "rows": [["seed", "1", "2"], ["stages.rl.terms.0.weight", "0.3", "0.5"]],
        "more": 0,
    }
    assert differences(runs[:1]) is None
    twin = write_report([tmp_path / "a", tmp_path / "b"]).with_suffix(".json").read_text(encoding="utf-8")
    assert json.loads(twin)["differences"]["rows"] == found["rows"] and SECRET not in twin
