"""Fitting a reward model on pairs, figures by source and length, and negatives of open tasks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from tests.pipeline.test_pipeline import Heard, write
from tests.stages.test_label import TEACHER, TEXT, planted
from yonder.assembly.workshop import load_correctness
from yonder.data.negatives import make_negatives
from yonder.errors import DataError, RecipeError
from yonder.models.classifier import Classifier, LocalClassifier, classifier_logits
from yonder.models.loading import load_classifier, load_tokenizer
from yonder.pipeline.running import run
from yonder.recipe import Recipe, load_recipe
from yonder.recipe.data import TaskSettings
from yonder.recipe.models import FreshModel
from yonder.recipe.rewards import VerifiableSettings
from yonder.rewards.verifiable import VerifiableReward
from yonder.schema import Response
from yonder.stages.context import StageContext, still_wrong
from yonder.stages.fit_judge import distinct
from yonder.training.fit import probability_figures
from yonder.training.ranking import PAIR_ACCURACY, Pairs, RankingLoss, grouped, pair_examples, ranking_quality
from yonder.training.supervised import Example

MODEL = {"hidden_size": 16, "layers": 1, "heads": 2}
FIT: dict[str, Any] = {
    "name": "fit", "kind": "fit-judge", "model": MODEL, "tokenizer": "yonder:tokenizer", "output": "classifier",
    "loss": "bradley-terry", "responses": ["teacher"], "held_out": 0.3, "epochs": 4, "optimizer": {"lr": 0.01},
}  # fmt: skip


def scorer(max_tokens: int = 200) -> LocalClassifier:
    tokenizer = load_tokenizer("yonder:tokenizer")
    torch.manual_seed(0)
    network = load_classifier(FreshModel(**MODEL, seed=0), tokenizer, "float32", torch.device("cpu"), 0)
    return LocalClassifier(network, tokenizer, 1, max_tokens, 4096)


def response(question: str, text: str, correct: bool, grade: float | None = None, source: str = "t") -> Response:
    return Response(question, question, text, correct, source, grade=grade)


def test_the_loss_is_that_of_the_logit_difference_and_micro_batches_add_up() -> None:
    model = scorer()
    loss = RankingLoss(Classifier(model.model, model.tokenizer), model, centre=0.5)
    pairs = [([5, 6, 7, 8], [9, 10]), ([11, 12], [5, 6, 13, 14, 15]), ([7, 7, 7], [8, 8, 8])]
    examples = [Example((*better, *worse), target=len(better)) for better, worse in pairs]
    expected = 0.0
    for better, worse in pairs:
        a, b = (classifier_logits(model.model, [ids], torch.device("cpu"))[0].tolist() for ids in (better, worse))
        expected += math.log1p(math.exp(-((a[1] - a[0]) - (b[1] - b[0])))) / 3
        expected += 0.5 * (a[1] - a[0] + b[1] - b[0]) ** 2 / 3
    assert loss(examples, examples).item() == pytest.approx(expected, abs=1e-5)
    parts = loss(examples[:1], examples).item() + loss(examples[1:], examples).item()
    assert parts == pytest.approx(expected, abs=1e-5)


def test_pairs_stay_within_a_question_and_are_drawn_anew_where_there_are_many() -> None:
    many = [response("q", f"good {i}", True) for i in range(4)] + [response("q", f"bad {i}", False) for i in range(4)]
    others = [response("one", "good", True), response("two", "bad", False)]
    found = grouped([*others, *many], 0.0)
    assert set(found) == {"q"} and len(found["q"]) == 16
    assert all(2 <= i < 6 <= j < 10 for i, j in found["q"])
    model = scorer()
    epochs = pair_examples([*others, *many], model, Pairs(0.0, 5, seed=0))
    assert [len(epochs(i)) for i in range(3)] == [5, 5, 5]
    assert epochs(1) == epochs(1) and epochs(0) != epochs(1)
    assert len(pair_examples(many, model, Pairs(0.0, 99, seed=0))(0)) == 16
    long = [response("q", "x " * 300, True), response("q", "y", False)]
    assert pair_examples(long, model, Pairs(0.0, 5, seed=0))(0) == []  # a text that is too long makes no pair


def test_quality_counts_pairs_and_chooses_by_them() -> None:
    class Fixed(LocalClassifier):
        def __init__(self) -> None:
            pass

        def gaps(self, pairs: Any) -> list[float | None]:
            return [{"a": 2.0, "b": 1.0, "c": 2.5, "long": None}[text] for _, text in pairs]

    responses = [response("q", text, text == "a") for text in ("a", "b", "c", "long")]
    found = ranking_quality(Fixed(), responses, Pairs(0.0, 9, 0), sliced=False)()
    assert found[PAIR_ACCURACY] == 0.5  # a over b, not over c; the one that cannot be read is no pair
    # differences 1 and -0.5: -log(1 + e^-1) = -0.313262, -log(1 + e^0.5) = -0.974077
    assert found["held_out/log_likelihood"] == pytest.approx(-(0.313262 + 0.974077) / 2, abs=1e-6)
    assert found["held_out/accuracy"] == pytest.approx(1 / 3)  # all three are liked, one is right
    alone = ranking_quality(Fixed(), responses[:1], Pairs(0.0, 9, 0), sliced=False)()
    assert alone["held_out/log_likelihood"] == pytest.approx(-0.126928, abs=1e-6) and PAIR_ACCURACY not in alone


def test_figures_by_source_and_by_length_by_hand() -> None:
    texts = [("a" * n, n % 2 == 0, "teacher" if n < 4 else "student") for n in range(1, 7)]
    responses = [response("q", text, right, source=source) for text, right, source in texts]
    # right ones: lengths 2, 4, 6; the probabilities are wrong about lengths 1 and 6
    order = [3, 0, 5, 1, 4, 2]
    probabilities = [[0.9, 0.8, 0.2, 0.7, 0.1, 0.4][i] for i in order]
    found = probability_figures(probabilities, [responses[i] for i in order], sliced=True)
    assert found["held_out/source/teacher/accuracy"] == pytest.approx(2 / 3)
    assert found["held_out/source/student/accuracy"] == pytest.approx(2 / 3)
    assert [found[f"held_out/length/{name}/accuracy"] for name in ("short", "middle", "long")] == [0.5, 1.0, 0.5]
    assert found["held_out/length/long/n"] == 2.0
    # 0.81 + 0.04 + 0.04 + 0.09 + 0.01 + 0.36 = 1.35, over 6
    assert found["held_out/brier"] == pytest.approx(1.35 / 6)
    assert "held_out/brier" not in probability_figures([0.9], responses[:1], sliced=False)


def test_of_equal_responses_the_first_stays_unless_the_label_changed() -> None:
    rows = [response("q", text, right, source=source) for text, right, source in
            (("a", True, "1"), ("b", False, "2"), ("a", True, "3"), ("b", True, "4"))]  # fmt: skip
    assert [(r.response, r.correct, r.source) for r in distinct(rows)] == [("a", True, "1"), ("b", True, "4")]


def recipe_of(folder: Path, *stages: dict[str, Any], **sections: Any) -> Recipe:
    return load_recipe(str(write(folder, [*stages], task=TEXT, **sections)))


def test_a_reward_model_is_fitted_on_pairs_from_the_students_own_checkpoint(tmp_path: Path) -> None:
    """Right answers are hedged by no "maybe": easy to learn, so pairs are put in order on questions held out."""
    warmup = {"name": "warmup", "kind": "warmup", "data": "voted", "epochs": 1}
    labels = {"name": "labels", "kind": "label", "teacher": ["teacher"]}
    voted = {"source": "word-problems", "options": {"count": 12, "seed": 1}, "labeled": False, "labels": "stage:labels"}
    data = {"train": {"source": "word-problems", "options": {"count": 12, "seed": 1}}, "voted": voted}
    fit = FIT | {"model": "stage:warmup", "tokenizer": None, "responses": ["labels"]}
    recipe = recipe_of(tmp_path, TEACHER, labels, warmup, fit, data=data)
    planted(recipe, "teacher", {i: ["right", "right", "nothing like it", "a guess, a mere guess"] for i in range(12)})
    heard = Heard()
    result = run(recipe, progress=heard)["stages"]["fit"]
    assert result["held_out_figures"]["pair_accuracy"] == 1.0
    assert set(result["by_source"]) == {"teacher"}
    assert set(result["by_length"]) == {"short", "middle", "long"}
    cell = result["by_length"]["short"]
    assert cell["low"] <= cell["accuracy"] <= cell["high"] and isinstance(cell["n"], int)
    assert any(s.startswith("fit: held-out accuracy ") and "pairs in order 100.0%" in s for s in heard.said)
    reward = load_correctness({"model": str(tmp_path / "run/stages/fit" / result["checkpoint"])})
    question = "How many?"
    good, bad = reward.score_pairs(
        [(question, "The answer is 12."), (question, "The answer is a guess, a mere guess.")]
    )
    assert good.value is not None and bad.value is not None and good.value > bad.value


def test_a_fit_on_pairs_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    class Dies(Heard):
        def advance(self, done: int, facts: dict[str, str]) -> None:
            if done == 2 and "loss" in facts:
                raise KeyboardInterrupt

    rows: list[str] = []
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
        recipe = recipe_of(tmp_path / name, TEACHER, FIT)
        planted(recipe, "teacher", {i: ["right", "right", 7001, 7002, None] for i in range(12)})
        if name == "broken":
            with pytest.raises(KeyboardInterrupt):
                run(recipe, progress=Dies())
        run(recipe)
        lines = (tmp_path / name / "run/stages/fit/metrics.jsonl").read_text().splitlines()
        rows.append(json.dumps([[json.loads(line)[key] for key in ("loss", "held_out/accuracy")] for line in lines]))
    assert rows[0] == rows[1] and rows[0].count("[") == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output": "yes-no"}, "`loss: bradley-terry` is for `output: classifier`"),
        ({"balance": "undersample"}, "`balance` says nothing of pairs"),
        ({"loss": "cross-entropy", "margin": 0.2}, "`margin` is for `loss: bradley-terry`"),
        ({"loss": "cross-entropy", "centre": 0.2}, "`centre` is for `loss: bradley-terry`"),
    ],
)
def test_mistakes_in_a_fit_on_pairs(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe_of(tmp_path, TEACHER, FIT | changes)


def test_without_a_pair_nothing_is_fitted(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, TEACHER, FIT)
    planted(recipe, "teacher", {i: ["right", "right"] if i % 2 else [7001] for i in range(12)})
    with pytest.raises(DataError, match="no question has a better and a worse one, so there is no pair"):
        run(recipe)


def test_negatives_of_open_tasks_are_kept_where_they_are_wrong_whatever_was_asked() -> None:
    task = TaskSettings(format="open")
    verifier = VerifiableReward(VerifiableSettings(kind="verifiable"), task, lambda programs: [])
    context = cast(
        StageContext,
        SimpleNamespace(shop=SimpleNamespace(verifier=lambda task: verifier, together=lambda reward: reward)),
    )
    texts = [f"Whales are large, and number {i} is the {i}th of them. They swim." for i in range(20)]
    good = [response(f"Tell me of whale {i}?", text, True, grade=0.9) for i, text in enumerate(texts)]
    shares = {"empty": 0.5, "other-question": 1.0, "truncated": 1.0, "echo": 0.5, "wrong-number": 1.0, "disguise": 1.0}
    made = make_negatives(good, shares, seed=0)
    kept = still_wrong(made, task, context)
    assert {r.source for r in kept} == {"empty", "other-question", "truncated", "echo"}
    assert "wrong-number" in {r.source for r in made}
    assert all(r.correct is False and r.grade is None for r in kept)
    assert len(grouped([*good, *kept], 0.2)) > 10  # a made one has no grade: it is below any good one
