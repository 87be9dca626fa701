"""Labels by comparison: grades by hand, who is compared, killed and resumed, a reward model fitted on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.judges.faulty import serving
from tests.pipeline.test_pipeline import Heard
from tests.stages.test_label import LABELS, STUDENT, TEACHER, labels_of, planted, recipe_of
from yonder.assembly.judges import load_preference
from yonder.data.responses import read_lines
from yonder.errors import RecipeError, Stopped
from yonder.pipeline.running import run
from yonder.recipe.references import models_of
from yonder.schema import Response
from yonder.signals import StopRequest
from yonder.stages import pairwise
from yonder.stages.pairwise import comparison_sentence, figures, first_alike, graded, pairs_of

JUDGE: dict[str, Any] = {"model": "yonder:judge", "device": "cpu", "mass_floor": 0.0}
PAIRWISE = LABELS | {"by": "pairwise", "judge": JUDGE}
ANSWERS: dict[int, Sequence[object]] = {i: ["right", 7001, 7001] for i in range(6)}
STUDENTS: dict[int, Sequence[object]] = {i: [7002, "right"] for i in range(6)}


def response(question: str, text: str) -> Response:
    return Response(question, f"What is {question}?", text, None, "teacher")


def line(first: int, second: int, value: float | None, bias: float | None = None, reason: str = "") -> dict[str, Any]:
    return {"first": first, "second": second, "value": value, "bias": bias, "reason": reason, "truncated": False}


def test_equal_texts_are_compared_as_one_and_only_within_a_question() -> None:
    found = [response(question, text) for question, text in ("1a", "1b", "2a", "1a", "2c", "1c", "3a")]
    shown = [(one.question, one.response) for one in found]
    same = first_alike(found, shown)
    assert same == [0, 1, 2, 0, 4, 5, 6]
    pairs = pairs_of(found, same, 8, 7)
    assert {frozenset(pair) for pair in pairs} == {frozenset(p) for p in ((0, 1), (0, 5), (1, 5), (2, 4))}
    assert pairs == pairs_of(found, same, 8, 7)
    two = pairs_of(found, same, 2, 7)
    assert {i for pair in two for i in pair} == {0, 1, 5, 2, 4} and len(two) == 3
    draws = {tuple(pairs_of(found, same, 1, seed)) for seed in range(20)}
    assert len(draws) > 3  # the seed decides


def test_grades_and_figures_by_hand() -> None:
    lines = [line(0, 1, 0.75, 0.5), line(1, 3, 0.5, -0.2), line(0, 3, None, reason="the server is down")]
    found = graded(lines, [0, 1, 0, 3, 4])
    # 0: 0.75; 1: (0.25 + 0.5) / 2; 2 has the text of 0; 3: 0.5; 4 was compared with nobody
    assert [one["grade"] for one in found] == [0.75, 0.375, 0.75, 0.5, None]
    assert found[1]["detail"] == "preferred 0.375, pairs 2"
    assert found[4]["detail"] == "compared with no other response"
    assert graded(lines[2:], [0, 1, 0, 3])[3] == {"grade": None, "detail": "the server is down"}
    came = figures(lines, [0, 1, 0, 3, 4])
    assert came == {
        "pairs": 3, "unscored": 1, "reasons": ["the server is down"], "ties": 1, "equal": 1, "truncated": 0,
        "position_bias": pytest.approx(0.15),
    }  # fmt: skip
    assert comparison_sentence(came) == "; 3 pairs compared (1 without a verdict, 1 ties), position bias +0.15"
    assert comparison_sentence(figures(lines[2:], [0])) == "; 1 pairs compared (1 without a verdict)"


def test_a_judge_prefers_and_its_noise_turns_grades(tmp_path: Path) -> None:
    results = []
    for name, noise in (("clean", 0.0), ("noisy", 0.3)):
        (tmp_path / name).mkdir()
        recipe = recipe_of(tmp_path / name, f"labels.noise={noise}", stages=[TEACHER, STUDENT, PAIRWISE | {"pairs": 2}])
        planted(recipe, "teacher", ANSWERS)
        planted(recipe, "student", STUDENTS)
        heard = Heard()
        results.append((run(recipe, progress=heard)["stages"]["labels"], labels_of(tmp_path / name)))
        assert any(said.startswith("judge of labels: ") for said in heard.said)
        assert "; 12 pairs compared" in heard.said[-1] and "position bias" in heard.said[-1]
    (clean, before), (noisy, after) = results
    assert clean["by"] == "pairwise" and (clean["kept"], clean["unlabeled"]) == (6, 0)
    assert clean["comparisons"]["pairs"] == 12 and clean["comparisons"]["equal"] == 12
    lines = read_lines(tmp_path / "clean/run/stages/labels/read.jsonl")
    judge, _ = load_preference(JUDGE)
    asked = [(before[one["first"]], before[one["second"]]) for one in lines]
    again = judge.prefer([(a.question, a.response, b.response) for a, b in asked])
    assert [one["value"] for one in lines] == pytest.approx([one.value for one in again], abs=1e-5)
    assert clean["comparisons"]["position_bias"] == pytest.approx(sum(one.bias or 0 for one in again) / 12, abs=1e-5)
    for found in before:
        won = [one["value"] for one, (a, _) in zip(lines, asked, strict=True) if alike(a, found)]
        won += [1 - one["value"] for one, (_, b) in zip(lines, asked, strict=True) if alike(b, found)]
        assert found.grade == pytest.approx(sum(won) / len(won)) and 1 <= len(won) <= 2
        assert found.correct is (found.grade is not None and found.grade >= 0.5) and found.answer is None
    turned = [(a, b) for a, b in zip(before, after, strict=True) if a.correct != b.correct]
    assert len(turned) == noisy["noise"]["labels"] == 9  # of 30
    assert all(b.grade == pytest.approx(1 - (a.grade or 0)) for a, b in turned)


def alike(a: Response, b: Response) -> bool:
    return (a.prompt_id, a.response) == (b.prompt_id, b.response)


def test_without_a_scored_pair_there_is_no_label(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, stages=[TEACHER, PAIRWISE | {"responses": [], "judge": JUDGE | {"mass_floor": 1.0}}])
    planted(recipe, "teacher", {0: ["right", 7001], 1: ["right", "right"]})
    result = run(recipe)["stages"]["labels"]
    assert result["dropped"] == {"no scored pair": 2} and result["unlabeled"] == 4
    assert (result["comparisons"]["pairs"], result["comparisons"]["unscored"]) == (1, 1)
    assert result["comparisons"]["position_bias"] is None and result["good_teacher"] is None
    found = labels_of(tmp_path)
    assert found[0].detail.startswith("the judge gives its two labels only")
    assert [one.correct for one in found] == [None] * 4 and found[2].detail == "compared with no other response"


def test_a_stopped_stage_goes_on_with_the_next_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairwise, "CHUNK", 5)
    stages = [TEACHER, STUDENT, PAIRWISE]
    recipe = recipe_of(tmp_path, stages=stages)
    planted(recipe, "teacher", ANSWERS)
    planted(recipe, "student", STUDENTS)

    class Once(StopRequest):
        def check(self, where: str) -> None:
            if "saved after 10 pairs" in where:
                raise Stopped(where)

    with pytest.raises(Stopped):
        run(recipe, stop=Once())
    path = tmp_path / "run/stages/labels/read.jsonl"
    first = path.read_text()
    assert len(read_lines(path)) == 10
    with path.open("a") as file:
        file.write('{"first": 1')  # killed while it wrote
    run(recipe)
    assert path.read_text().startswith(first) and len(read_lines(path)) == 18
    (tmp_path / "whole").mkdir()
    whole = recipe_of(tmp_path / "whole", stages=stages)
    planted(whole, "teacher", ANSWERS)
    planted(whole, "student", STUDENTS)
    run(whole)
    assert labels_of(tmp_path / "whole") == labels_of(tmp_path)


def test_a_reward_model_is_fitted_on_comparisons_of_open_responses(tmp_path: Path) -> None:
    fit = {
        "name": "fit", "kind": "fit-judge", "model": {"hidden_size": 16, "layers": 1, "heads": 2}, "epochs": 1,
        "tokenizer": "yonder:tokenizer", "output": "classifier", "loss": "bradley-terry", "responses": ["labels"],
        "held_out": 0.3,
    }  # fmt: skip
    recipe = recipe_of(tmp_path, stages=[TEACHER, STUDENT, PAIRWISE, fit], task={"format": "open"})
    planted(recipe, "teacher", ANSWERS, verified=False)
    planted(recipe, "student", STUDENTS, verified=False)
    stages = run(recipe)["stages"]
    assert stages["labels"]["accuracy"] == {"votes": None, "teacher": None, "others": None}
    assert stages["fit"]["training"] + stages["fit"]["held_out"] == 18  # three texts a question
    assert 0 <= stages["fit"]["held_out_figures"]["pair_accuracy"] <= 1
    assert models_of(recipe, recipe.stage("labels")) == (("stages.labels.judge.model", "yonder:judge"),)


def test_a_served_judge_is_asked_in_both_orders_and_for_nothing_twice(tmp_path: Path) -> None:
    with serving() as server:
        judge = JUDGE | {"backend": "sglang", "server": {"urls": [server.url], "deadline_s": 20}}
        stages = [TEACHER, PAIRWISE | {"responses": [], "judge": judge}]
        recipe = recipe_of(tmp_path, stages=stages)
        planted(recipe, "teacher", {i: ["right", 7001, 7002] for i in range(4)})
        result = run(recipe)["stages"]["labels"]
        assert (result["comparisons"]["pairs"], result["comparisons"]["unscored"]) == (12, 0)
        asked = [str(item) for body in server.asked for item in body["items"]]
        probes = len(asked) - 24
        assert probes >= 0 and len(set(asked)) >= 24
        before = labels_of(tmp_path)
        again = recipe_of(tmp_path, "labels.target=0.6", stages=stages)
        assert run(again)["stages"]["labels"]["status"] == "done"
        assert sum(len(body["items"]) for body in server.asked) == len(asked) + probes
    assert [one.grade for one in labels_of(tmp_path)] == [one.grade for one in before]


def test_settings_of_comparisons_are_no_part_of_other_labels(tmp_path: Path) -> None:
    assert "pairs" not in recipe_of(tmp_path).stage("labels").decisive()
    assert recipe_of(tmp_path, stages=[TEACHER, STUDENT, PAIRWISE]).stage("labels").decisive()["pairs"] == 8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"by": "pairwise"},
            "stages.labels: `by: pairwise` needs a judge that prefers, by its keys; write `judge: {mo",
        ),
        ({"by": "pairwise", "judge": "correct"}, "`by: pairwise` needs a judge that prefers"),
        ({"by": "judge", "judge": JUDGE}, "`judge` has keys of a judge that prefers; write `by: pairwise`"),
        ({"judge": JUDGE}, "`judge` has keys of a judge that prefers; write `by: pairwise`"),
        ({"by": "judge", "judge": "correct", "pairs": 3}, "`pairs` is for `by: pairwise`"),
        (PAIRWISE | {"pairs": 0}, "stages.labels.pairs: input should be greater than 0, not 0"),
        (PAIRWISE | {"judge": {"prompt": "preference"}}, "missing key `stages.labels.judge.model`; add it$"),
        (PAIRWISE | {"judge": JUDGE | {"modle": 1}}, "unknown key `stages.labels.judge.modle`; did you mean `model`"),
        (PAIRWISE | {"judge": JUDGE | {"backend": "vllm"}}, "stages.labels.judge: give `server`.* served `backend`"),
        (PAIRWISE | {"judge": 5}, "stages.labels.judge: write a mapping of keys or text, not 5"),
        (PAIRWISE | {"judge": JUDGE | {"model": "stage:labels"}}, "stages.labels.judge.model: there is no earlier st"),
    ],
)
def test_mistakes_in_comparisons(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe_of(tmp_path, stages=[TEACHER, STUDENT, LABELS | changes])


def test_a_prompt_that_shows_one_response_is_refused(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, stages=[TEACHER, STUDENT, PAIRWISE | {"judge": JUDGE | {"prompt": "open"}}])
    with pytest.raises(RecipeError, match=r"nothing stands for"):
        run(recipe)
