"""The stage `label` on responses with planted mistakes: votes, ties, floor, noise, judges, killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.test_pipeline import Heard, write
from yonder.data.datasets import load_data
from yonder.data.pseudo_labels import read_labels
from yonder.data.responses import append_responses, is_unread, read_lines, read_responses, unread
from yonder.errors import RecipeError, Stopped, StorageError
from yonder.pipeline.running import Runner, run
from yonder.recipe import Recipe, load_recipe
from yonder.recipe.answers import LabelStage
from yonder.recipe.data import TaskSettings
from yonder.recipe.references import votes_for_itself
from yonder.recipe.rewards import VerifiableSettings
from yonder.rewards.verifiable import VerifiableReward, written
from yonder.schema import Response
from yonder.signals import StopRequest
from yonder.stages import label
from yonder.stages.label import Row, by_vote, question_rows, votes_of
from yonder.storage import write_json

TEACHER = {"name": "teacher", "kind": "collect", "data": "train", "samples": 4}
STUDENT = {"name": "student", "kind": "collect", "data": "train", "samples": 2}
LABELS: dict[str, Any] = {"name": "labels", "kind": "label", "teacher": ["teacher"], "responses": ["student"]}
TEXT = {"format": "text"}


def planted(
    recipe: Recipe, stage: str, answers: Mapping[int, Sequence[object]], verified: bool = True, data: str = "train"
) -> None:
    """A finished collect stage: question i has these answers; "right" stands for the true one."""
    runner = Runner(recipe, Heard())
    folder = runner.stage_folder(stage)
    made = runner.made(recipe.stage(stage))
    prompts = load_data(data, recipe.data, recipe.task, recipe.seed)
    found: list[Response] = []
    for i, given in answers.items():
        for answer in given:
            truth = float(prompts[i].answer or 0)
            value = truth if answer == "right" else answer
            text = "I cannot say." if value is None else f"Let me see.\nThe answer is {value}."
            correct = value == truth if verified else None
            shown = prompts[i].answer if verified else None
            found.append(Response(prompts[i].id, prompts[i].question, text, correct, stage, shown, 1.0))
    folder.mkdir(parents=True)
    append_responses(folder / "responses.jsonl", found)
    record = {"name": stage, "kind": "collect", "hash": made.hash, "status": "done", "made_from": made.of, "result": {}}
    write_json(folder / "stage.json", record)


def recipe_of(folder: Path, *overrides: str, stages: Sequence[dict[str, Any]] = (), **sections: Any) -> Recipe:
    chosen = list(stages) or [TEACHER, STUDENT, LABELS]
    return load_recipe(str(write(folder, chosen, **({"task": TEXT} | sections))), overrides)


VOTES: dict[int, Sequence[object]] = {
    0: ["right", "right", 7001, None],  # half of the answers, the unreadable one among them
    1: ["right", 7001, 7002, None],  # every share is one quarter: a tie
    2: [None, None, None, None],
    3: [7001, 7001, 7001, "right"],  # the vote is wrong
    4: ["right", "right", "right", "right"],
    5: ["right", "right", 7001, 7002],  # share 0.5
}
STUDENTS: dict[int, Sequence[object]] = {
    0: ["right", 7001], 1: ["right", 5], 3: [7001, "right"], 4: [1, 2], 6: ["right", 3],
}  # fmt: skip


def labels_of(folder: Path) -> list[Response]:
    return read_responses(folder / "run/stages/labels/responses.jsonl")


def test_votes_ties_floor_and_the_students_part(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "labels.floor=0.5")
    planted(recipe, "teacher", VOTES)
    planted(recipe, "student", STUDENTS)
    heard = Heard()
    result = run(recipe, progress=heard)["stages"]["labels"]
    assert result["by"] == "vote"
    assert (result["questions"], result["kept"]) == (7, 4)
    assert result["dropped"] == {"tie": 1, "no answer": 1, "no response": 1}
    assert result["without_good_teacher_response"] == 3  # questions 1, 2 and 6; 3 has some, by the wrong vote
    assert result["share"] == pytest.approx((0.5 + 0.25 + 0.75 + 1.0 + 0.5) / 5)
    assert result["missing"] == 2 and result["unlabeled"] == 12  # 8 of the teacher's, 4 of the student's
    rows = read_lines(tmp_path / "run/stages/labels/questions.jsonl")
    assert [row["why"] for row in rows] == ["", "tie", "no answer", "", "", "", "no response"]
    assert [row["good"] for row in rows] == [2, 0, 0, 3, 4, 2, 0]
    assert rows[3]["answer"] == "7001" and rows[3]["votes"] == 3
    found = labels_of(tmp_path)
    teacher, student = found[:24], found[24:]
    assert [r.correct for r in teacher[:4]] == [True, True, False, False]
    assert [r.correct for r in teacher[12:16]] == [True, True, True, False]
    assert [r.correct for r in student] == [True, False, None, None, True, False, False, False, None, None]
    assert {r.source for r in student} == {"student"} and student[4].answer == "7001"
    assert teacher[0].detail.startswith("answered ") and teacher[4].detail == "no label: tie"
    # votes: 3 of 4 right; Wilson's interval of 3 in 4 is [0.301, 0.954]
    votes = result["accuracy"]["votes"]
    assert (votes["value"], votes["n"]) == (0.75, 4) and votes["low"] == pytest.approx(0.301, abs=1e-3)
    # the teacher's 16: all 4 of question 3 are wrong, 3 wrong ones called good; the student's 6 of 8 are right
    assert result["accuracy"]["teacher"]["value"] == 12 / 16
    assert result["accuracy"]["teacher"]["wrong_called_good"] == 3
    assert result["accuracy"]["teacher"]["right_called_bad"] == 1
    assert result["accuracy"]["others"]["value"] == pytest.approx(4 / 6)
    assert "labels: the policy itself answered in `teacher`: these votes are no teacher's" in heard.said
    assert any("4 of 7 questions have a label (dropped: 1 tie, 1 no answer, 1 no response)" in s for s in heard.said)


def test_a_cut_response_does_not_vote_and_one_out_of_form_stays_marked() -> None:
    def row(text: str, answer: float, finished: bool = True, problem: str = "") -> Row:
        response = Response("1", "q", text, None, "teacher", finished=finished)
        marked = unread(response, problem) if problem else response
        return Row(marked, True, {"answer": answer, "status": "ok", "detail": ""})

    rows = [row("a", 3), row("b", 5, finished=False), row("c", 5, finished=False), row("d", 3, problem="no formula")]
    labels = votes_of(rows, 0.01, 0.5)
    (given,) = labels.values()
    assert (given.answer, given.vote.count, given.vote.missing, given.vote.share) == (3, 2, 2, 0.5)
    verifier = VerifiableReward(VerifiableSettings(kind="verifiable"), TaskSettings(format="text"), lambda programs: [])
    found = by_vote(rows, labels, verifier)
    assert [r.correct for r in found] == [True, False, False, True]
    assert [is_unread(r) for r in found] == [False, False, False, True]
    assert found[3].detail == "unread: no formula; answered 3, label 3"
    assert question_rows(rows, found, labels)[0]["good"] == 1  # what is out of form is no solution


def test_a_higher_floor_drops_what_is_below_and_unverified_responses_measure_nothing(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "labels.floor=0.6", "data.train.labeled=false")
    planted(recipe, "teacher", VOTES, verified=False)
    planted(recipe, "student", STUDENTS, verified=False)
    result = run(recipe)["stages"]["labels"]
    assert result["kept"] == 2 and result["dropped"]["low share"] == 2
    assert result["accuracy"] == {"votes": None, "teacher": None, "others": None}


@pytest.mark.parametrize(("noise", "count"), [(0.1, 1), (0.2, 2), (0.3, 3)])
def test_noise_replaces_an_exact_share_of_the_votes(tmp_path: Path, noise: float, count: int) -> None:
    recipe = recipe_of(tmp_path, f"labels.noise={noise}")
    planted(recipe, "teacher", {i: ["right", "right", "right", 7001 if i % 2 else "right"] for i in range(10)})
    planted(recipe, "student", {i: ["right", 7001] for i in range(10)})
    result = run(recipe)["stages"]["labels"]
    assert result["noise"]["questions"] == count
    rows = read_lines(tmp_path / "run/stages/labels/questions.jsonl")
    assert [row["answer"] == "7001" for row in rows] == [row["planted"] for row in rows]
    assert sum(row["planted"] for row in rows) == count
    assert result["accuracy"]["votes"]["value"] == pytest.approx(1 - noise)
    flipped = [r.correct for r in labels_of(tmp_path)[40:] if r.answer == "7001"]
    assert flipped == [False, True] * count  # a wrong answer is now right, on the whole question
    # each such question: the teacher's four (all were right, or three and the new answer) and the student's two
    assert result["noise"]["labels"] == 6 * count


def test_the_same_noise_in_two_stages_replaces_the_same_votes(tmp_path: Path) -> None:
    first = {"name": "first", "kind": "label", "teacher": ["teacher"], "noise": 0.3}
    recipe = recipe_of(tmp_path, "labels.noise=0.3", stages=[TEACHER, STUDENT, first, LABELS])
    planted(recipe, "teacher", {i: ["right", "right", "right", 7001] for i in range(10)})
    planted(recipe, "student", {i: ["right", 7001] for i in range(10)})
    run(recipe)
    found = [read_lines(tmp_path / f"run/stages/{name}/questions.jsonl") for name in ("first", "labels")]
    chosen = [{row["prompt_id"] for row in rows if row["planted"]} for rows in found]
    assert chosen[0] == chosen[1] and len(chosen[0]) == 3


def test_a_judge_grades_and_its_noise_turns_single_grades(tmp_path: Path) -> None:
    judge = {"judge": {"kind": "judge", "model": "yonder:judge", "prompt": "text", "mass_floor": 0.0}}
    overrides = ["labels.by=judge", "labels.judge=judge", "labels.target=0.4"]
    answers = {i: ["right", 7001] for i in range(5)}
    results = []
    for name, noise in (("clean", 0.0), ("noisy", 0.3)):
        (tmp_path / name).mkdir()
        recipe = recipe_of(tmp_path / name, *overrides, f"labels.noise={noise}", rewards=judge)
        planted(recipe, "teacher", answers)
        planted(recipe, "student", answers)
        heard = Heard()
        results.append((run(recipe, progress=heard)["stages"]["labels"], labels_of(tmp_path / name)))
        assert "labels: no check-judge stage before this one has measured `judge`" in heard.said
    (clean, before), (noisy, after) = results
    assert clean["by"] == "judge" and clean["unlabeled"] == 0
    assert all(r.grade is not None and r.correct is (r.grade >= 0.4) and r.answer is None for r in before)
    assert any(0 < (r.grade or 0) < 0.5 for r in before)  # below the judge's delta, which makes a reward 0
    turned = [(a, b) for a, b in zip(before, after, strict=True) if a.grade != b.grade]
    assert len(turned) == noisy["noise"]["labels"] == 6  # of 20
    assert all(b.grade == pytest.approx(1 - (a.grade or 0)) and b.correct is not a.correct for a, b in turned)


def test_a_stopped_stage_goes_on_with_the_next_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label, "CHUNK", 5)
    recipe = recipe_of(tmp_path)
    planted(recipe, "teacher", VOTES)
    planted(recipe, "student", STUDENTS)

    class Once(StopRequest):
        def check(self, where: str) -> None:
            if "saved after 10" in where:
                raise Stopped(where)

    with pytest.raises(Stopped):
        run(recipe, stop=Once())
    path = tmp_path / "run/stages/labels/read.jsonl"
    assert len(read_lines(path)) == 10
    first = path.read_text()
    with path.open("a") as file:
        file.write('{"answer": 1')  # killed while it wrote
    run(recipe)
    assert path.read_text().startswith(first) and len(read_lines(path)) == 34
    (tmp_path / "whole").mkdir()
    whole = recipe_of(tmp_path / "whole")
    planted(whole, "teacher", VOTES)
    planted(whole, "student", STUDENTS)
    run(whole)
    assert labels_of(tmp_path / "whole") == labels_of(tmp_path)


SERVED = {"backend": "vllm", "model": "m", "server": {"urls": ["http://127.0.0.1:1"]}}


@pytest.mark.parametrize(
    ("answers", "own"),
    [
        ({}, True),
        ({"policy": "stage:sft"}, True),  # which the student's training goes on from
        ({"policy": "stage:made"}, False),
        ({"policy": {"layers": 1}}, False),
        ({"teacher": SERVED}, False),
    ],
)
def test_a_policy_that_votes_for_itself_is_seen(tmp_path: Path, answers: dict[str, Any], own: bool) -> None:
    sft = {"name": "sft", "kind": "warmup", "data": "train"}
    more = [sft | {"name": "made"}, sft | {"name": "on", "policy": "stage:sft"}]
    recipe = recipe_of(tmp_path, stages=[sft, *more, TEACHER | answers, STUDENT, LABELS])
    found = recipe.stage("labels")
    assert isinstance(found, LabelStage) and votes_for_itself(recipe, found) == (("teacher",) if own else ())


@pytest.mark.parametrize(
    ("name", "kept", "words"),
    [
        ("responses", 20, "has 20 of the 34 rows that its stage left; restore it from a copy, or move the folder"),
        ("responses", None, "is gone; restore it from a copy, or move the folder of the stage away and run it again"),
        ("questions", 3, "has 3 of the"),
        ("questions", None, "is gone; restore"),
    ],
)
def test_what_a_finished_stage_left_is_read_whole_or_not_at_all(
    tmp_path: Path, name: str, kept: int | None, words: str
) -> None:
    recipe = recipe_of(tmp_path)
    planted(recipe, "teacher", VOTES)
    planted(recipe, "student", STUDENTS)
    run(recipe)
    folder = tmp_path / "run/stages/labels"
    assert read_labels(folder, "labels", ["teacher"]).answers
    path = folder / f"{name}.jsonl"
    if kept is None:
        path.unlink()
    else:
        rows = path.read_bytes().split(b"\n")
        path.write_bytes(b"\n".join(rows[:kept]) + b"\n" + rows[kept][:9])  # as after a fault of the disk
    with pytest.raises(StorageError, match=rf"{name}.jsonl {words}"):
        read_labels(folder, "labels", ["teacher"])


def test_a_damaged_row_of_a_finished_stage_is_not_mended_by_deleting_it(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    planted(recipe, "teacher", VOTES)
    planted(recipe, "student", STUDENTS)
    path = tmp_path / "run/stages/student/responses.jsonl"
    path.write_text(path.read_text().replace("{", "", 1))
    with pytest.raises(StorageError, match=r"responses.jsonl, line 1: not a response .*; restore it from a copy"):
        run(recipe)


def test_a_judge_can_be_measured_against_votes_which_is_said(tmp_path: Path) -> None:
    check = {"name": "check", "kind": "check-judge", "reward": "judge", "responses": ["labels"], "stop": False}
    check |= {"attack_questions": 0, "likelihood_questions": 0}
    judge = {"judge": {"kind": "judge", "model": "yonder:judge", "prompt": "text", "mass_floor": 0.0}}
    recipe = recipe_of(tmp_path, stages=[TEACHER, LABELS | {"responses": []}, check], rewards=judge)
    planted(recipe, "teacher", {i: ["right", "right", 7001] for i in range(6)})
    heard = Heard()
    assert run(recipe, progress=heard)["stages"]["check"]["status"] == "done"
    assert "check: what is right is known from votes alone (stage `labels`)" in heard.said
    check_of = json.loads((tmp_path / "run/report.json").read_text())["judge_checks"][0]
    assert "What is right is known from votes alone (stage `labels`)." in check_of["counts"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"responses": ["teacher"]}, "`teacher` stands in `teacher` and in `responses`"),
        ({"teacher": ["nobody"]}, "there is no earlier stage `nobody`"),
        ({"by": "judge"}, "needs the name of a reward in `judge`"),
        ({"by": "judge", "judge": "correct"}, "a reward of kind verifiable judges nothing"),
        ({"by": "judge", "judge": "none"}, "there is no reward `none`"),
        ({"by": "vote", "judge": "correct"}, "`judge` says nothing with `by: vote`"),
    ],
)
def test_mistakes_in_a_label_stage(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe_of(tmp_path, stages=[TEACHER, STUDENT, LABELS | changes])


def test_open_answers_are_not_counted(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="are labeled by a judge; name a reward in `judge`"):
        recipe_of(tmp_path, task={"format": "open"})
    with pytest.raises(RecipeError, match="cannot be counted; write `by: judge`"):
        recipe_of(tmp_path, "labels.by=vote", task={"format": "open"})


@pytest.mark.parametrize(
    ("answer", "text"), [(3.0, "3"), (-0.5, "-0.5"), (1e20, "1e+20"), (0.1 + 0.2, "0.30000000000000004"), ("C", "C")]
)
def test_a_vote_as_written_reads_back(answer: float | str, text: str) -> None:
    from yonder.rewards.answers import read_letter, read_number

    assert written(answer) == text
    assert (read_letter(text) if isinstance(answer, str) else read_number(text)) == answer


def test_responses_without_a_grade_are_written_as_before() -> None:
    response = Response("1", "q", "r", True, "s")
    assert "grade" not in response.to_json()
    assert json.loads(json.dumps(Response("1", "q", "r", True, "s", grade=0.3).to_json()))["grade"] == 0.3
