"""`yonder judge FILE`: what it writes, what it says, how it continues, what it refuses."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import yonder.commands.scoring
from yonder import load_judge
from yonder.commands.cli import app
from yonder.commands.endings import guarded
from yonder.commands.scoring import ADDED
from yonder.data.responses import read_lines
from yonder.evaluation.scored_file import one_line, summarise
from yonder.schema import JudgeScore, Response

QUESTION = "tom has n0 apples . he buys n1 apples . how many apples does he have now ?"
HEAD = "def solution():\n    n0 = {}\n    n1 = 30\n    return n0 {} n1"
ROWS = [
    {"question": QUESTION, "response": HEAD.format(n, sign), "correct": sign == "+", "note": n}
    for n in range(10, 40)
    for sign in "+-"
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `yonder judge`; returns the exit code, the last line of stdout and all of stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            words = ["judge", *map(str, arguments), "--model", "yonder:judge"]
            guarded(lambda: app(words, standalone_mode=False))
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, (said.out.splitlines() or [""])[-1], said.err

    return run


def test_every_line_gets_the_judges_score(file: Path, command: Any) -> None:
    code, said, progress = command(file, "--json")
    assert code == 0
    written = read_lines(file.with_name("answers.scored.jsonl"))
    assert [{name: row[name] for name in ROWS[0]} for row in written] == ROWS
    scores = load_judge({"model": "yonder:judge"}).score([(row["question"], row["response"]) for row in ROWS])
    for row, score in zip(written, scores, strict=True):
        assert list(row) == [*ROWS[0], *ADDED]
        assert row["value"] == pytest.approx(score.value, abs=1e-4)
        assert row["logit_gap"] == pytest.approx(score.logit_gap, abs=1e-3)
        assert (row["truncated"], row["missing_yes"], row["missing_no"]) == (False, False, False)
        assert row["mass"] > 0.9 and row["reason"].startswith("P(Yes)")
    summary = json.loads(said)
    assert (summary["n"], summary["unscored"], summary["labeled"]) == (60, 0, 60)
    assert summary["mean"] == pytest.approx(sum(row["value"] for row in written) / 60)
    agree = sum((row["value"] > 0) == row["correct"] for row in written)
    assert summary["accuracy"]["value"] == pytest.approx(agree / 60)
    assert summary["accuracy"]["low"] < agree / 60 <= summary["accuracy"]["high"]
    assert summary["auroc"]["value"] > 0.9 and summary["auroc"]["n"] == 60
    assert summary["pairwise"]["n"] == 1  # of one question
    assert "answers.scored.jsonl: 60/60" in progress


def test_without_labels_there_is_a_mean_alone_and_columns_have_names(tmp_path: Path, command: Any) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"q": "2 ?", "a": "return 2"}\n{"q": "3 ?", "a": "return 3"}\n')
    output = tmp_path / "out.jsonl"
    code, said, _ = command(file, "--question", "q", "--response", "a", "--output", output)
    assert code == 0
    assert said.startswith("2 responses: mean ")
    assert said.endswith(f", 0 unscored; {output}")
    assert len(read_lines(output)) == 2


def test_other_kinds_of_file_read_alike(file: Path, command: Any) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = ROWS[:4]
    folder = file.parent
    (folder / "a.json").write_text(json.dumps(rows))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "c.parquet")
    outputs = ["a.scored.jsonl", "b.scored.jsonl", "c.parquet.scored.jsonl"]
    for name, output in zip(("a.json", "b.jsonl.gz", "c.parquet"), outputs, strict=True):
        code, said, _ = command(folder / name, "--json")
        assert (code, json.loads(said)["labeled"], json.loads(said)["accuracy"]["value"]) == (0, 4, 1.0), name
        assert [row["note"] for row in read_lines(folder / output)] == [row["note"] for row in rows]


def test_a_judge_that_is_shown_references_reads_their_column(file: Path, command: Any) -> None:
    file.write_text("".join(json.dumps(row | {"reference": "41"}) + "\n" for row in ROWS[:4]), encoding="utf-8")
    code, _, _ = command(file, "--set", "show_reference=true")
    assert code == 0
    asked = [(f"{QUESTION}\n\nReference answer:\n41", row["response"]) for row in ROWS[:4]]
    expected = [score.logit_gap for score in load_judge({"model": "yonder:judge"}).score(asked)]
    written = read_lines(file.with_name("answers.scored.jsonl"))
    assert [row["logit_gap"] for row in written] == pytest.approx(expected, abs=1e-3)


def test_no_verdict_is_null_and_counted(file: Path, command: Any) -> None:
    code, said, _ = command(file, "--set", "max_tokens=20", "--json")
    assert code == 0
    row = read_lines(file.with_name("answers.scored.jsonl"))[0]
    assert (row["value"], row["logit_gap"], row["truncated"]) == (None, None, True)
    summary = json.loads(said)
    assert (summary["unscored"], summary["mean"], summary["accuracy"], summary["auroc"]) == (60, None, None, None)
    assert summary["reasons"] == {"the question alone fills the judge's 20 tokens; raise `max_tokens`": 60}
    assert "no mean, 60 unscored (60 times: the question alone" in one_line(summary)
    assert "; 60 labeled: accuracy not defined" in one_line(summary)


def test_an_interrupted_output_continues_after_its_last_whole_line(
    file: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yonder.commands.scoring, "CHUNK", 8)
    output = file.with_name("answers.scored.jsonl")
    command(file)
    whole = read_lines(output)
    text = output.read_text().splitlines(keepends=True)
    output.write_text("".join([json.dumps(whole[0] | {"mass": 0.5}) + "\n", *text[1:19]]) + text[19][:30])
    code, _, progress = command(file)
    assert code == 0
    assert "answers.scored.jsonl: 19/60" in progress
    again = read_lines(output)
    assert again[0]["mass"] == 0.5  # what was whole is kept
    assert [row["note"] for row in again] == [row["note"] for row in ROWS]
    assert [row["value"] for row in again] == pytest.approx([row["value"] for row in whole], abs=1e-4)


def test_an_interruption_says_how_to_go_on(file: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(settings: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(yonder.commands.scoring, "load_judge", interrupted)
        code, _, said = command(file)
    assert code == 130
    assert said.endswith(f"yonder: interrupted; the same command continues {file.with_name('answers.scored.jsonl')}\n")
    assert command(file)[0] == 0


def test_a_finished_output_asks_no_judge(file: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = command(file, "--json")
    monkeypatch.setattr(yonder.commands.scoring, "load_judge", None)
    assert command(file, "--json")[:2] == first[:2]


def test_an_output_of_another_judge_or_file_is_refused(file: Path, command: Any) -> None:
    command(file)
    output = file.with_name("answers.scored.jsonl")
    before = output.read_bytes()
    code, _, said = command(file, "--set", "tau=2")
    assert code == 2
    assert "answers.scored.jsonl is there already" in said and "give another --output" in said
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))
    code, _, said = command(file)
    assert code == 2
    assert "answers.scored.jsonl, line 2: not the same line as in the file to score" in said
    code, _, said = command(file, "--output", file)
    assert code == 2
    assert output.read_bytes() == before
    assert file.read_text().startswith(lines[0])


def test_a_line_that_is_not_ours_in_the_output(file: Path, command: Any) -> None:
    command(file)
    output = file.with_name("answers.scored.jsonl")
    output.write_text("no json\n")
    code, _, said = command(file)
    assert code == 2
    assert "answers.scored.jsonl, line 1: not JSON" in said
    assert said.endswith("; delete it or give another --output\n")


GOOD = '{"question": "q", "response": "a"}'
REFUSED = [  # lines, options, what the sentence says
    ([GOOD, '{"question": "q"'], [], ["answers.jsonl, line 2: not JSON", "mend or delete the line"]),
    ([GOOD, "[1]"], [], ["answers.jsonl, line 2: a list, not an object"]),
    ([GOOD, '{"question": "q"}'], [], ["answers.jsonl, line 2: `response` is missing; write a text or delete the row"]),
    ([GOOD, '{"question": 7, "response": "a"}'], [], ["answers.jsonl, line 2: `question` is a int, not a text"]),
    ([GOOD[:-1] + ', "correct": "so so"}'], [], ["line 1: `correct` is 'so so'; write true, false or null"]),
    ([GOOD], ["--question", "q"], ["no column `q`; it has question, response; give --question COLUMN"]),
    ([GOOD], ["--correct", "right"], ["no column `right`", "give --correct COLUMN"]),
    ([GOOD[:-1] + ', "mass": 1}'], [], ["has a column `mass` already"]),
    ([""], [], ["is empty; give a file with at least one response"]),
    ([GOOD], ["--set", "taux=1"], ["judge: unknown key `taux`; did you mean `tau`?"]),
    ([GOOD], ["--set", "tau"], ["override `tau`: write key.sub=value"]),
    ([GOOD], ["--set", "tau=0"], ["judge: tau: input should be greater than 0, not 0"]),
    ([GOOD], ["--prompt", "nope"], ["there is no judge prompt `nope`"]),
]


@pytest.mark.parametrize(("lines", "options", "words"), REFUSED, ids=[case[2][0][:40] for case in REFUSED])
def test_bad_input_is_one_sentence(
    lines: list[str], options: list[str], words: list[str], tmp_path: Path, command: Any
) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(lines))
    code, out, said = command(file, *options)
    assert (code, out) == (2, "")
    assert [line.startswith("yonder: ") for line in said.splitlines()] == [True]
    for word in words:
        assert word in said
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]


def test_a_missing_file_and_an_unknown_judge(tmp_path: Path, command: Any) -> None:
    good = tmp_path / "answers.jsonl"
    good.write_text(GOOD)
    code, _, said = command(tmp_path / "none.jsonl")
    assert code == 2
    assert "there is no file" in said and "answers.jsonl" in said
    code, _, said = command(good, "--set", "model=nobody/no-such-judge")
    assert code == 2
    assert "`nobody/no-such-judge` is neither a folder here nor to be had from the hub" in said
    assert list(tmp_path.iterdir()) == [good]


def test_references_may_be_numbers_and_are_missed_where_they_are_wanted(file: Path, command: Any) -> None:
    code, _, said = command(file, "--set", "show_reference=true")
    assert code != 0 and "has no column `reference` with a text" in said
    file.write_text("".join(json.dumps(row | {"reference": 41}) + "\n" for row in ROWS[:2]), encoding="utf-8")
    assert command(file, "--output", file.with_name("plain.jsonl"))[0] == 0
    assert command(file, "--set", "show_reference=true", "--output", file.with_name("shown.jsonl"))[0] == 0


def test_two_labeled_responses_give_no_interval_of_the_ranking() -> None:
    responses = [Response(name, QUESTION, "so it is", right, "mine") for name, right in (("a", True), ("b", False))]
    summary = summarise(responses, [JudgeScore(0.9), JudgeScore(0.1)], 0.5)
    assert summary["auroc"] == {"value": 1.0, "low": None, "high": None, "n": 2}
    assert "accuracy 1.000 (0.342 to 1.000), AUROC 1.000, pairwise" in one_line(summary)
