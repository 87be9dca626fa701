"""Labels of a label stage as data: warm-up, pseudo-label reward, judges fitted on them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.test_pipeline import Heard, write
from tests.stages.test_label import LABELS, STUDENT, TEACHER, TEXT, VOTES, planted
from yonder.data.datasets import load_data
from yonder.data.pseudo_labels import LabelStages, PseudoLabels, read_labels, solved, voted
from yonder.data.responses import append_lines, append_responses, unread
from yonder.data.streams import build_stream
from yonder.errors import DataError, RecipeError
from yonder.pipeline.running import Runner, closure, run
from yonder.recipe import Recipe, load_recipe
from yonder.recipe.data import DataSettings
from yonder.recipe.references import stage_inputs
from yonder.schema import Prompt, Response

SOURCE: dict[str, Any] = {"source": "word-problems", "options": {"count": 12, "seed": 1}}
VOTED = SOURCE | {"labeled": False, "labels": "stage:labels"}
WARMUP = {"name": "warmup", "kind": "warmup", "data": "voted", "epochs": 2}


def recipe_of(folder: Path, *stages: dict[str, Any], voted: dict[str, Any] = VOTED, **sections: Any) -> Recipe:
    chosen = [TEACHER, LABELS | {"responses": []}, *stages]
    data = {"train": SOURCE, "voted": voted} | sections.pop("data", {})
    return load_recipe(str(write(folder, chosen, data=data, task=TEXT, **sections)))


def test_good_teacher_responses_are_examples_and_the_rest_is_left_out(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, WARMUP)
    planted(recipe, "teacher", VOTES)
    result = run(recipe)["stages"]["warmup"]
    # questions 0, 3, 4 and 5 have a label; each one's good responses are all the same text: 4 examples
    assert (result["examples"], result["without_solution"]) == (4, 0)
    folders = {"labels": Runner(recipe, Heard()).stage_folder("labels")}
    stages = LabelStages(recipe, folders)
    found = load_data("voted", recipe.data, recipe.task, recipe.seed, stages.solved)
    assert [prompt.solution for prompt in found][1] == "Let me see.\nThe answer is 7001."
    assert found[1].answer == "7001"  # the vote is wrong, and nothing else is known
    hidden = load_data("voted", recipe.data, recipe.task, recipe.seed)
    assert {prompt.answer for prompt in hidden} == {None}
    streamed = load_data("voted", recipe.data, recipe.task, recipe.seed, stages.voted)
    assert [prompt.id for prompt in streamed] == [f"word-problems-1-{i}" for i in (0, 3, 4, 5)]


def test_nobody_learns_from_the_students_answers_or_from_what_was_cut(tmp_path: Path) -> None:
    question = {"prompt_id": "1", "question": "q", "kept": True, "answer": "3"}
    append_lines(tmp_path / "questions.jsonl", [question, question | {"prompt_id": "2", "kept": False}])
    given = [("teacher", "a", True, True), ("student", "b", True, True), ("teacher", "c", True, False),
             ("teacher", "d", False, True), ("teacher", "a", True, True)]  # fmt: skip
    responses = [Response("1", "q", text, right, source, finished=ended) for source, text, right, ended in given]
    responses.append(unread(Response("1", "q", "e", True, "teacher"), "no formula"))
    append_responses(tmp_path / "responses.jsonl", responses)
    found = read_labels(tmp_path, "labels", ["teacher"])
    assert found.answers == {("1", "q"): "3"}
    assert found.good == {("1", "q"): ("a",)} and found.all == {("1", "q"): ("a", "d")}


def test_all_solutions_are_learned_without_the_filter(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, WARMUP, voted=VOTED | {"solutions": "all"})
    planted(recipe, "teacher", VOTES)
    # distinct texts of questions 0 to 5: right, 7001, None; right, 7001, 7002, None; None; 7001, right; right; 3
    assert run(recipe)["stages"]["warmup"]["examples"] == 3 + 4 + 1 + 2 + 1 + 3


def test_a_few_solutions_are_drawn_by_the_seed() -> None:
    prompts = [Prompt(str(i), f"q{i}", "", prefix="def f():\n") for i in range(3)]
    texts = tuple(f"def f():\n    return {i}" for i in range(9))
    keys = [(prompt.id, prompt.question) for prompt in prompts]
    labels = PseudoLabels("l", {keys[0]: "1", keys[1]: None}, {keys[0]: (*texts, "other form")}, {keys[2]: texts})
    settings = DataSettings(source="svamp", labeled=False, labels="stage:l", most_solutions=3)
    found = solved("d", prompts, labels, settings, seed=0)
    assert [prompt.id for prompt in found] == ["0", "0", "0", "1"]  # a label and no solution: once, without one
    drawn = [prompt.solution for prompt in found[:3]]
    assert len(set(drawn)) == 3 and all(text and text.startswith("    return ") for text in drawn)
    assert drawn == sorted(str(text) for text in drawn)
    assert [solved("d", prompts, labels, settings, seed=0)[i].solution for i in range(3)] == drawn
    assert len({tuple(p.solution for p in solved("d", prompts, labels, settings, seed=i)[:3]) for i in range(5)}) > 1
    everything = settings.model_copy(update={"solutions": "all", "most_solutions": 20})
    assert [prompt.id for prompt in solved("d", prompts, labels, everything, 0)] == ["0", "1", *["2"] * 9]
    assert [prompt.answer for prompt in voted("d", prompts, labels)] == ["1", None]
    with pytest.raises(DataError, match="none of its 1 questions has a label in stage `l`"):
        voted("d", prompts[2:], labels)
    with pytest.raises(DataError, match="has no good teacher response to any of its 2 questions"):
        solved("d", prompts[1:], labels, settings, 0)


def test_the_vote_is_the_label_of_the_verifiable_reward_and_judges_are_fitted_on_it(tmp_path: Path) -> None:
    distill = {
        "name": "rl", "kind": "distill", "policy": "stage:warmup", "steps": 2, "prompts": {"voted": 2},
        "terms": [{"reward": "correct", "data": "voted", "weight": 1.0}],
    }  # fmt: skip
    model = {"hidden_size": 16, "layers": 1, "heads": 2}
    fit = {
        "name": "fit", "kind": "fit-judge", "model": model, "tokenizer": "yonder:tokenizer", "output": "classifier",
        "responses": ["labels"], "data": ["voted"], "held_out": 0.3, "epochs": 1,
    }  # fmt: skip
    recipe = recipe_of(tmp_path, WARMUP, distill, fit)
    assert closure(recipe, ["rl"]) == {"teacher", "labels", "warmup", "rl"}
    planted(recipe, "teacher", {i: ["right", "right", 7001] for i in range(12)})
    result = run(recipe)["stages"]
    assert result["rl"]["status"] == "done"
    # 12 right texts and 12 wrong ones; the data's own solutions are the same texts
    assert result["fit"]["training"] + result["fit"]["held_out"] == 24
    heard = Heard()
    changed = load_recipe(str(tmp_path / "small.yaml"), ["labels.floor=0.7"])
    with pytest.raises(DataError, match="no good teacher response to any of its 12 questions"):
        run(changed, progress=heard)
    assert any(line.startswith("labels: configuration or inputs changed") for line in heard.said)


def test_a_mixture_has_the_votes_of_its_parts_and_may_hide_them(tmp_path: Path) -> None:
    mixed = {"mixture": {"voted": 0.5, "train": 0.5}}
    recipe = recipe_of(tmp_path, WARMUP, data={"mixed": mixed, "hidden": mixed | {"labeled": False}})
    planted(recipe, "teacher", VOTES)
    run(recipe, ["labels"])
    stages = LabelStages(recipe, {"labels": Runner(recipe, Heard()).stage_folder("labels")})
    found = {name: load_data(name, recipe.data, recipe.task, recipe.seed, stages.voted) for name in ("mixed", "hidden")}
    # 4 of the 12 questions have a vote, so that half and half are 4 and 4
    answers = {prompt.id: prompt.answer for prompt in found["mixed"]}
    assert [sum(name.startswith(part) for name in answers) for part in ("voted/", "train/")] == [4, 4]
    assert answers["voted/word-problems-1-3"] == "7001" and all(answers.values())
    assert {prompt.answer for prompt in found["hidden"]} == {None}
    assert build_stream("mixed", recipe.data, recipe.task, 0, stages.voted).next(2)[0].answer
    assert stage_inputs(recipe, recipe.stage("warmup")) == ("labels",)


def test_a_development_split_has_votes_where_it_was_answered(tmp_path: Path) -> None:
    apart = {"name": "apart", "kind": "collect", "data": "train.development", "samples": 1}
    train = SOURCE | {"development": 3}
    stages = [TEACHER, apart, LABELS | {"responses": []}, LABELS | {"name": "both", "teacher": ["teacher", "apart"]}]
    stages[3]["responses"] = []
    data = {"train": train, "voted": VOTED | {"development": 3}}
    recipe = load_recipe(str(write(tmp_path, stages, data=data, task=TEXT)))
    planted(recipe, "teacher", {i: ["right"] for i in range(9)})
    planted(recipe, "apart", {i: ["right", "right"] for i in range(3)}, data="train.development")
    run(recipe)
    runner = Runner(recipe, Heard())
    folders = {name: runner.stage_folder(name) for name in ("labels", "both")}
    with pytest.raises(DataError, match=r"data.voted.development: none of its 3 questions has a label"):
        load_data("voted.development", recipe.data, recipe.task, 0, LabelStages(recipe, folders).voted)
    both = LabelStages(recipe, {"labels": folders["both"]})
    found = load_data("voted.development", recipe.data, recipe.task, 0, both.voted)
    assert [prompt.answer for prompt in found] == [
        p.answer for p in load_data("train.development", recipe.data, recipe.task, 0)
    ]


@pytest.mark.parametrize(
    ("voted", "more", "words"),
    [
        (VOTED | {"labels": "stage:nothing"}, {}, "there is no label stage `nothing`"),
        (VOTED | {"labels": "stage:teacher"}, {}, "stage `teacher` is of kind collect; name one of kind label"),
        (VOTED | {"labels": "labels"}, {}, "data.voted.labels"),
        (VOTED | {"labeled": True}, {}, "give `source` and `labeled: false` beside it"),
        (SOURCE | {"solutions": "all"}, {}, "`solutions: all` is for data with `labels`"),
        (VOTED, {"benchmarks": {"b": {"data": "voted"}}}, "votes are no test labels"),
        (
            VOTED,
            {"data": {"mixed": {"mixture": {"voted": 0.5, "train": 0.5}}}, "benchmarks": {"b": {"data": "mixed"}}},
            "votes are no test labels",
        ),
    ],
)
def test_mistakes_in_data_with_labels(tmp_path: Path, voted: dict[str, Any], more: Any, words: str) -> None:
    end = {"name": "end", "kind": "evaluate", "checkpoints": ["base"], "benchmarks": ["b"]}
    with pytest.raises(RecipeError, match=words):
        recipe_of(tmp_path, *([end] if "benchmarks" in more else []), voted=voted, **more)


def test_labels_must_be_made_before_they_are_read(tmp_path: Path) -> None:
    early = STUDENT | {"data": "voted"}
    with pytest.raises(RecipeError, match=r"stages\.student: there is no earlier stage `labels`"):
        stages = [TEACHER, early, LABELS]
        load_recipe(str(write(tmp_path, stages, data={"train": SOURCE, "voted": VOTED}, task=TEXT)))
    fit = {"name": "fit", "kind": "fit-judge", "model": "yonder:judge", "data": ["voted"]}
    with pytest.raises(RecipeError, match=r"stages.fit.data: `voted` has `solutions: all`, which may be wrong"):
        recipe_of(tmp_path, fit, voted=VOTED | {"solutions": "all"})
