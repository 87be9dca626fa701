"""Ensembles by hand: mean, min, mean - k std; one member without a score."""

from collections.abc import Sequence

import pytest
import yaml

from tests.test_errors import tree
from yonder.errors import RecipeError
from yonder.recipe import load_recipe
from yonder.recipe.references import rewards_of
from yonder.rewards.ensemble import EnsembleReward
from yonder.schema import Completion, Prompt, Rollout, Score

ROLLOUTS = [Rollout(Prompt(str(i), "q", "q"), (1,), Completion((2,), (-1.0,), "a", True)) for i in range(2)]


class Given:
    """Scores written down."""

    def __init__(self, *values: float | None) -> None:
        self.values = values

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(value, "it is late" if value is None else "fine") for value in self.values]


@pytest.mark.parametrize(
    ("combine", "k", "expected"),
    [
        ("mean", 1.0, 0.6),  # (0.9 + 0.3) / 2
        ("min", 1.0, 0.3),
        ("mean-kstd", 1.0, 0.3),  # std of (0.9, 0.3) over 2: 0.3
        ("mean-kstd", 0.5, 0.45),
        ("mean-kstd", 3.0, 0.0),  # 0.6 - 0.9 is not a reward
    ],
)
def test_by_hand(combine: str, k: float, expected: float) -> None:
    reward = EnsembleReward([("a", Given(0.9, 1.0)), ("b", Given(0.3, 1.0))], combine, k)  # type: ignore[arg-type]
    first, second = reward.score(ROLLOUTS)
    assert first.value == pytest.approx(expected)
    assert second.value == pytest.approx(1.0)
    assert first.details == {"a": 0.9, "b": 0.3}


def test_one_member_without_a_score_leaves_the_rollout_unscored() -> None:
    first, second = EnsembleReward([("a", Given(0.9, 0.5)), ("b", Given(None, 0.5))], "mean").score(ROLLOUTS)
    assert (first.value, first.reason) == (None, "unscored by b: it is late")
    assert second.value == 0.5


def test_a_recipe_brings_the_members(tmp_path) -> None:
    judge = {"kind": "judge", "model": "yonder:judge"}
    ensemble = {"kind": "ensemble", "rewards": ["one", "two"]}
    rewards = {"correct": {"kind": "verifiable"}, "one": judge, "two": judge | {"tau": 2.0}, "both": ensemble}
    source = tree(tmp_path) | {"rewards": rewards}
    source["stages"][1]["terms"] = [{"reward": "both", "data": "train", "weight": 1.0}]
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(source))
    recipe = load_recipe(path)
    assert rewards_of(recipe, recipe.stage("rl")) == ("both", "one", "two")
    with pytest.raises(RecipeError, match=r"rewards.both: there is no reward `three`"):
        load_recipe(path, ["rewards.both.rewards=[one, three]"])
    with pytest.raises(RecipeError, match=r"rewards.both: there is no reward `both`"):
        load_recipe(path, ["rewards.both.rewards=[one, both]"])
