"""Ratings: the weighted mean by hand, a 10 of two tokens, the local judge against the whole model's logits."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import PreTrainedTokenizerFast

from tests.models.tiny import causal_lm, prompts, tokenizer
from tests.test_errors import tree
from yonder.core.judging import rating_mean, split_rating
from yonder.errors import RecipeError
from yonder.evaluation.judge_check.check import CheckPlan, check_judge
from yonder.judges.rating import LocalRater, RatingPrompt, read_rating_prompt
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.rewards.judge import JudgeRules
from yonder.rewards.rating import RatingReward, Ratings
from yonder.schema import Completion, JudgeScore, Response, Rollout

FOLDER = Path(__file__).parents[2].parent / "shared" / "tokenizers"


def test_the_mean_by_hand() -> None:
    # (1 * 0.1 + 2 * 0.1 + 3 * 0.2 + 4 * 0.1) / 0.5 = 1.3 / 0.5 = 2.6
    assert rating_mean([0.1, 0.1, 0.2, 0.1]) == pytest.approx((2.6, 0.5))
    mean, mass = rating_mean([0.0, 0.0])
    assert math.isnan(mean) and mass == 0


def test_a_ten_of_two_tokens_is_part_of_the_one() -> None:
    # P("1") = 0.4, P("0" | "1") = 0.75: P(10) = 0.3, and 0.1 are left for the rating 1
    assert split_rating(0.4, 0.75) == pytest.approx((0.1, 0.3))


class Table:
    """A back end that rates by a table and remembers what it was asked."""

    def __init__(self, **ratings: Ratings) -> None:
        self.known = ratings
        self.asked: list[tuple[str, str]] = []

    def ratings(self, pairs: Sequence[tuple[str, str]]) -> list[Ratings]:
        self.asked += pairs
        return [self.known[response] for _, response in pairs]


def rollout(text: str, finished: bool = True) -> Rollout:
    return Rollout(prompts("How many?")[0], (5,), Completion((6,), (-1.0,), text, finished))


RULES = JudgeRules(delta=0.0, mass_floor=0.1, program=False)


def test_scores_by_hand() -> None:
    model = Table(
        a=Ratings((0.1, 0.1, 0.2, 0.1)),  # mean 2.6 of 4: (2.6 - 1) / 3
        b=Ratings((0.02, 0.01, 0.0, 0.0)),  # mass 0.03
        c=Ratings((0.0, 0.0, 0.0, 0.9), truncated=True),
        d=Ratings(reason="too long"),
        e=Ratings((math.nan,) * 4),
    )
    texts = ["a", "b", "c", "d", "e", "a", " "]
    scores = RatingReward(model, RULES, 4).score([*map(rollout, texts), rollout("a", finished=False)])
    rated = pytest.approx(1.6 / 3)
    assert [score.value for score in scores] == [rated, None, 1.0, None, None, rated, 0.0, 0.0]
    assert [response for _, response in model.asked] == ["a", "b", "c", "d", "e"]  # equal ones once, none that is gated
    assert scores[0].details["rating"] == pytest.approx(2.6) and scores[0].reason == "rated 2.60 of 4"
    assert "only 0.030 of its probability" in scores[1].reason and scores[3].reason == "too long"
    assert scores[6].details == {"guard": "empty"} and scores[7].details == {"guard": "cut"}
    first = scores[0]
    assert isinstance(first, JudgeScore) and first.mass == pytest.approx(0.5)
    cut = RatingReward(model, replace(RULES, delta=0.6), 4).score([rollout("a")])[0]
    assert cut.value == 0.0 and cut.details["probability"] == pytest.approx(1.6 / 3)


@pytest.mark.parametrize("scale", [5, 9, 10])
def test_a_local_rater_gives_the_whole_models_probabilities(scale: int) -> None:
    prompt = RatingPrompt(tokenizer(), read_rating_prompt("rating", scale), "auto", scale)
    rater = LocalRater(causal_lm("llama"), prompt, 400, 10_000)
    pairs = [("What is 2 + 3?", "It is 5."), ("1?", "one, I think"), ("2?", "x " * 600)]
    found = rater.ratings(pairs)
    assert [one.truncated for one in found] == [False, False, True]
    ids, _ = prompt.tokens(*pairs[0], 400)

    def after(tokens: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return causal_lm("llama")(torch.tensor([tokens])).logits[0, -1].float().softmax(-1)

    def written(rating: int) -> list[int]:
        whole = tokenizer()(f"Rating: {rating}", add_special_tokens=False)["input_ids"]
        return whole[len(tokenizer()("Rating:", add_special_tokens=False)["input_ids"]) :]

    lead = len(prompt.lead)
    assert [tuple(written(rating)[lead : lead + 1]) for rating in range(1, min(scale, 9) + 1)] == [
        (token,) for token in prompt.first[:9]
    ]
    ids = [*ids, *prompt.lead]
    expected = [after(ids)[token].item() for token in prompt.first]
    if prompt.goes_on is not None:
        ten = after([*ids, prompt.first[0]])[prompt.goes_on].item() * expected[0]
        expected = [expected[0] - ten, *expected[1:], ten]
    assert found[0].probabilities == pytest.approx(expected, abs=1e-5) and len(expected) == scale
    assert found[1].probabilities == pytest.approx(rater.ratings(pairs[1:2])[0].probabilities, abs=1e-5)


def test_a_check_measures_a_rating() -> None:
    texts = {"good": Ratings((0.1, 0.0, 0.8)), "bad": Ratings((0.6, 0.3, 0.0))}
    given = [("good", True), ("bad", False)] * 2
    responses = [Response(f"q{i // 2}", "How many?", text, right, "s") for i, (text, right) in enumerate(given)]
    scores = RatingReward(Table(**texts), RULES, 3).score([rollout(text) for text, _ in given])
    check = check_judge(responses, scores, CheckPlan(delta=0.5))
    assert check.auroc is not None and check.auroc.value == 1.0 and check.pairwise.value == 1.0
    assert check.mass_mean == pytest.approx(0.9)


def test_the_prompt_names_the_scale(tmp_path: Path) -> None:
    assert "from 1 (worst) to 7 (best)" in read_rating_prompt("rating", 7)
    path = tmp_path / "p.txt"
    path.write_text("{question} {wrong} {response}")
    with pytest.raises(RecipeError, match=r"nothing stands for \{wrong\}"):
        read_rating_prompt(str(path), 7)


@pytest.mark.shared
@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the real tokenizers, which are not part of the project")
@pytest.mark.parametrize(
    ("name", "template", "lead", "split"),
    [
        ("qwen", None, " ", True),  # digits apart: a space of its own, and 10 is 1 and 0
        ("qwen", "{{ messages[0].content }}\nASSISTANT:\n", "", True),
        ("llama3", None, " ", False),  # up to three digits are one token
        ("llama3", "{{ messages[0].content }}\nASSISTANT:\n", "", False),
        ("gpt2", None, "", False),  # " 7" and " 10" are one token
        ("codegen", None, "", False),
        ("opt", None, "", False),
    ],
)
def test_which_ratings_are_one_token(name: str, template: str | None, lead: str, split: bool) -> None:
    loaded = PreTrainedTokenizerFast.from_pretrained(FOLDER / name)
    loaded.chat_template = template
    prompt = RatingPrompt(loaded, read_rating_prompt("rating", 10), "auto", 10)
    assert loaded.decode(list(prompt.lead)) == lead
    assert [loaded.decode([token]).strip() for token in prompt.first] == [str(n) for n in range(1, 10 if split else 11)]
    assert (prompt.goes_on is not None) == split
    if prompt.goes_on is not None:
        assert loaded.decode([prompt.goes_on]) == "0"
    nine = RatingPrompt(loaded, read_rating_prompt("rating", 9), "auto", 9)
    assert nine.goes_on is None and len(nine.first) == 9


def test_a_rating_trains_with_consent_alone(tmp_path: Path) -> None:
    small = tree(tmp_path)
    terms = [{"reward": "helpful", "data": "train", "weight": 1.0}]
    rating = {"kind": "rating", "model": "yonder:judge", "scale": 5, "mass_floor": 0.0, "device": "cpu"}
    small["rewards"] = {"helpful": rating}
    small["stages"] = [{"name": "rl", "kind": "distill", "steps": 2, "prompts": {"train": 2}, "terms": terms}]
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small))
    with pytest.raises(RecipeError, match="nothing has measured it"):
        run(load_recipe(str(path)))
    rating["allow_unmeasured"] = True
    rating["guards"] = []
    path.write_text(yaml.safe_dump(small))
    assert run(load_recipe(str(path)))["stages"]["rl"]["status"] == "done"
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert "from 1 (worst) to 5 (best)" in card["ratings"]["helpful"]["text"]


def test_the_check_stage_measures_a_rating(tmp_path: Path) -> None:
    small = tree(tmp_path)
    small["rewards"] = {"helpful": {"kind": "rating", "model": "yonder:judge", "mass_floor": 0.0, "guards": []}}
    small["stages"] = [
        {"name": "answers", "kind": "collect", "data": "train", "samples": 2},
        {"name": "check", "kind": "check-judge", "reward": "helpful", "responses": ["answers"], "stop": False},
    ]
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small))
    assert run(load_recipe(str(path)))["stages"]["check"]["status"] == "done"
    found = json.loads(next((tmp_path / "run").rglob("judge_check.json")).read_text())
    assert (found["unscored"], found["n"]) == (0, 24) and 0 < found["mass_mean"] <= 1
