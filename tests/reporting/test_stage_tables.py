"""What stages of reward distillation found, on the page, in its JSON twin and in the terminal."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.fixture import HOSTILE, build_run, write_json
from tests.reporting.test_page import Page
from yonder.commands.terminal import print_results
from yonder.reporting.page import write_report
from yonder.reporting.stage_tables import Found, StageTable, stage_tables


def win_rate(**changes: Any) -> dict[str, Any]:
    """As `evaluation.alpaca_eval.figures` writes it."""
    found: dict[str, Any] = {
        "win_rate": 41.234, "standard_error": 1.26, "wins": 330, "losses": 1470, "draws": 3, "n": 1803,
        "length_controlled": 38.04, "model": "length_controlled_v1", "length_controlled_error": 0.84,
        "instructions": 1805, "unjudged": 2, "reasons": ["the judge server is down"], "position_bias": -0.07,
        "length": 1523.6, "baseline_length": 2049.2,
    }  # fmt: skip
    return found | changes


NOT_JUDGED = win_rate(
    win_rate=None, standard_error=None, wins=None, losses=None, draws=None, n=None, length_controlled=None, model=None,
    length_controlled_error=None, unjudged=1805, reasons=["A and B hold 0.01", "0 judgements; at least 5 are needed"],
    position_bias=None,
)  # fmt: skip


def voted(**changes: Any) -> dict[str, Any]:
    """As a label stage that votes writes it."""
    verified = {"value": 0.9, "low": 0.85, "high": 0.94, "n": 160}
    found: dict[str, Any] = {
        "questions": 200, "kept": 180, "dropped": {"tie": 12, "low share": 8}, "without_good_teacher_response": 21,
        "responses": 1800, "unlabeled": 140, "good_teacher": 0.72, "good_others": 0.31, "share": 0.805,
        "share_histogram": [0, 1], "entropy": 0.412, "missing": 17, "by": "vote",
        "accuracy": {
            "votes": verified, "teacher": {**verified, "wrong_called_good": 5, "right_called_bad": 11}, "others": None,
        },
        "noise": {"share": 0.2, "labels": 310, "questions": 36}, "sentence": "180 of 200 questions have a label",
    }  # fmt: skip
    return found | changes


def graded() -> dict[str, Any]:
    """As a label stage with a judge writes it, where no answer is known and no other stage is labeled."""
    found = voted(by="judge", good_others=None, accuracy={"votes": None, "teacher": None, "others": None})
    return {key: value for key, value in found.items() if key not in ("noise", "share", "entropy", "missing")}


def fit(**changes: Any) -> dict[str, Any]:
    """As `stages.fit_judge` writes it."""
    found: dict[str, Any] = {
        "training": 1400, "held_out": 40, "correct_share": 0.5,
        "held_out_figures": {"accuracy": 0.75, "log_likelihood": -0.5, "ece": 0.0832, "brier": 0.1912,
                             "false_positive_rate": 0.25, "pair_accuracy": 0.8},
        "by_source": {"teacher": {"accuracy": 0.9, "n": 20, "low": 0.6990, "high": 0.9721},
                      "student": {"accuracy": 0.6, "n": 20, "low": 0.3866, "high": 0.7812}},
        "by_length": {"short": {"accuracy": 0.75, "n": 40, "low": 0.598, "high": 0.8581}},
        "sentence": "held-out accuracy 75.0%",
    }  # fmt: skip
    return found | changes


def asked(**changes: Any) -> dict[str, Any]:
    """As a collect stage with a teacher writes it."""
    found: dict[str, Any] = {
        "responses": 1990, "unlabeled": 0, "correct": 0.8125, "finished": 0.99, "unread": 31, "unanswered": 10,
        "prompt_tokens": 240100, "completion_tokens": 1034567, "tokens_counted": True, "teacher_usage": {},
    }  # fmt: skip
    return found | changes


def tables(kind: str, **results: dict[str, Any]) -> tuple[StageTable, ...]:
    return stage_tables([Found(name, kind, result) for name, result in results.items()])


def row(table: StageTable, name: str) -> tuple[str, ...]:
    (found,) = (cells[1:] for cells in table.rows if cells[0] == name)
    return found


def test_win_rates() -> None:
    (table,) = tables("alpaca-eval", alpaca={"win_rates": {"sft": win_rate(), "rl": NOT_JUDGED}})
    assert row(table, "sft") == (
        "41.2 % ± 1.3", "38.0 % ± 0.8", "330, 1,470, 3", "1,803", "2", "-0.07", "1,524", "2,049",
    )  # fmt: skip
    assert row(table, "rl") == ("–", "–", "–", "–", "1,805", "–", "1,524", "2,049")
    assert {len(cells) for cells in table.rows} == {len(table.columns)}
    assert [note.partition(" (")[0] for note in table.notes] == [
        "Length-controlled as by AlpacaEval 2, with the gamed baselines",
        "sft: 2 of 1,805 not judged: the judge server is down",
        "rl: 1,805 of 1,805 not judged: A and B hold 0.01; 0 judgements; at least 5 are needed",
    ]
    (minimal,) = tables("alpaca-eval", a={"win_rates": {"x": win_rate(model="length_controlled_minimal", reasons=[])}})
    assert minimal.notes[0].startswith("Length-controlled without the gamed baselines") and len(minimal.notes) == 1
    assert row(minimal, "x")[1] == "38.0 %"  # every instruction is predicted alike


def test_labels_by_vote() -> None:
    (table,) = tables("label", votes=voted())
    assert table.lead == "180 of 200 questions have a label."
    assert row(table, "questions") == ("200", "", "") and row(table, "with a label") == ("180", "", "")
    assert row(table, "dropped: tie")[0] == "12" and row(table, "dropped: low share")[0] == "8"
    assert row(table, "without a good teacher response")[0] == "21"
    assert row(table, "good, of the others")[0] == "31.0 %"
    assert row(table, "mean share of the vote")[0] == "80.5 %"
    assert row(table, "mean entropy of the answers, nats")[0] == "0.412"
    assert row(table, "votes that are right") == ("90.0 %", "85.0–94.0", "160")
    assert row(table, "right labels, of the teacher's responses: wrong called good")[0] == "5"
    assert row(table, "wrong on purpose (noise)")[0] == "20.0 %"
    assert row(table, "noise: questions with another vote")[0] == "36"
    assert row(table, "noise: labels that changed")[0] == "310"
    assert not any("right labels, of the others" in cells[0] for cells in table.rows)


def test_labels_that_nothing_measured_are_not_zero() -> None:
    (table,) = tables("label", judged=graded())
    assert row(table, "right labels: no answer is known") == ("not measured", "", "")
    names = " ".join(cells[0] for cells in table.rows)
    assert not any(word in names for word in ("noise", "mean share", "entropy", "of the others", "votes"))


def test_labels_by_comparison() -> None:
    counts = {"pairs": 1480, "unscored": 12, "reasons": ["down"], "ties": 3, "equal": 40, "truncated": 0}
    (table,) = tables("label", labels=graded() | {"comparisons": counts | {"position_bias": 0.083}})
    assert row(table, "pairs compared, in both orders")[0] == "1,480"
    assert row(table, "pairs without a verdict")[0] == "12" and row(table, "ties")[0] == "3"
    assert row(table, "pairs cut to fit the judge")[0] == "0"
    assert row(table, "responses with the text of another")[0] == "40"
    assert row(table, "position bias") == ("+0.08", "", "")
    (table,) = tables("label", labels=graded() | {"comparisons": counts | {"position_bias": None}})
    assert row(table, "position bias") == ("–", "", "")
    (table,) = tables("label", labels=graded())
    assert not any("pair" in cells[0] or "bias" in cells[0] for cells in table.rows)


def test_a_fit_with_its_slices() -> None:
    whole, source, length = tables("fit-judge", rm=fit())
    # 30 of 40 by hand: Wilson (0.75 + 0.04802 -+ 1.96 * sqrt(0.75 * 0.25 / 40 + 0.0006003)) / 1.09604
    assert row(whole, "accuracy") == ("75.0 %", "59.8–85.8", "40")
    assert row(whole, "pairs in the right order") == ("80.0 %", "", "")
    assert row(whole, "calibration error (ECE)")[0] == "0.0832" and row(whole, "Brier score")[0] == "0.191"
    assert source.rows == (("teacher", "90.0 %", "69.9–97.2", "20"), ("student", "60.0 %", "38.7–78.1", "20"))
    assert length.rows == (("short", "75.0 %", "59.8–85.8", "40"),)
    assert not whole.part and source.part and length.part


def test_a_fit_that_could_read_nothing_has_no_accuracy() -> None:
    (whole,) = tables("fit-judge", rm=fit(held_out_figures={"accuracy": 0.0}, by_source={}, by_length={}))
    assert row(whole, "accuracy") == ("not measured", "", "")
    assert "Brier score" not in [cells[0] for cells in whole.rows]


def test_what_a_teacher_was_asked() -> None:
    local = {"responses": 8, "unlabeled": 0, "correct": 0.5, "finished": 1.0}
    unknown = asked(unlabeled=1990, correct=None, cost=0.0, tokens_counted=False)
    (table,) = tables("collect", teacher=asked(cost=1.5129), open=unknown, policy=local)
    assert table.rows == (
        ("teacher", "1,990", "10", "31", "81.2 %", "240,100", "1,034,567", "1.51"),
        ("open", "1,990", "10", "31", "–", "240,100", "1,034,567", "0"),
    )
    assert [note.partition(":")[0] for note in table.notes] == ["open"]
    (free,) = tables("collect", teacher=asked())
    assert free.rows[0][-1] == "–"


@pytest.mark.parametrize("kind", ["alpaca-eval", "label", "fit-judge", "collect", "warmup"])
@pytest.mark.parametrize("result", [{}, {"win_rates": 3, "accuracy": "x", "by_source": [1], "held_out_figures": None}])
def test_a_result_of_another_shape_is_no_trouble(kind: str, result: dict[str, Any]) -> None:
    found = tables(kind, stage=result)
    assert len(found) == (kind == "label")
    assert not any(cells[1] == "0" for table in found for cells in table.rows)


def build(path: Path) -> Path:
    """The synthetic run with a stage of each kind besides."""
    build_run(path, steps=60)
    results = {
        "teacher": ("collect", asked(cost=1.5)), "labels": ("label", voted(dropped={HOSTILE: 20})),
        "reward-model": ("fit-judge", fit()),
        "alpaca": ("alpaca-eval", {"win_rates": {"sft": win_rate(reasons=[HOSTILE]), HOSTILE: NOT_JUDGED}}),
    }  # fmt: skip
    for name, (kind, result) in results.items():
        record = {"name": name, "kind": kind, "status": "done", "seconds": 3.0, "result": result}
        write_json(path / "stages" / name / "stage.json", record)
    return path


def test_the_page_and_its_twin_have_the_tables(tmp_path: Path) -> None:
    page = write_report([build(tmp_path / "one")])
    twin = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["stage_tables"]
    titles = ["AlpacaEval · alpaca", "What the teacher was asked", "Labels · labels", "Fitted · reward-model"]
    slices = [f"Fitted · reward-model: held-out accuracy by {of}" for of in ("source", "length (thirds by characters)")]
    assert [table["title"] for table in twin] == [*titles, *slices]
    text = page.read_text(encoding="utf-8")
    for table in twin:
        assert f'<caption class="hidden">{table["title"]}</caption>' in text
    assert "<h3>AlpacaEval · alpaca</h3>" in text and "1,803" in text and "180 of 200 questions have a label." in text
    assert [tag for tag, _ in Page(text).tags if tag in ("img", "iframe")] == []
    caption = re.escape('<caption class="hidden">AlpacaEval · alpaca</caption>')
    table = re.search(rf"{caption}.*?</table>", text, re.DOTALL)
    assert table and table[0].count('scope="col"') == 9 and table[0].count('scope="row"') == 2


def test_a_run_without_such_stages_has_no_tables(tmp_path: Path) -> None:
    page = write_report([build_run(tmp_path / "one", steps=60)])
    assert json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["stage_tables"] == []
    assert "AlpacaEval" not in page.read_text(encoding="utf-8")


def test_several_runs_are_told_apart(tmp_path: Path) -> None:
    page = write_report([build(tmp_path / "one"), build(tmp_path / "two")])
    twin = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["stage_tables"]
    assert [table["title"] for table in twin][:2] == ["AlpacaEval · one · alpaca", "AlpacaEval · two · alpaca"]
    (teacher,) = (table for table in twin if table["title"] == "What the teacher was asked")
    assert [cells[0] for cells in teacher["rows"]] == ["one · teacher", "two · teacher"]


def test_the_terminal_says_it_at_the_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    stages = {
        "alpaca": {"kind": "alpaca-eval", "status": "done", "win_rates": {"sft[b]": win_rate(reasons=[])}},
        "teacher": {"kind": "collect", "status": "done", **asked()},
        "labels": {"kind": "label", "status": "done", **voted()},
        "rm": {"kind": "fit-judge", "status": "done", **fit()},
    }
    print_results({"run_dir": "runs/x", "title": "", "stages": stages, "results": {}, "notes": []})
    said = capsys.readouterr().out
    assert "AlpacaEval · alpaca" in said and "sft[b]" in said and "41.2 %" in said and "1,034,567" in said
    assert "position bias" not in said
    assert "Labels · labels: 180 of 200 questions have a label." in said
    assert "Fitted · rm: Held-out accuracy 75.0%." in said and "by source" not in said
