"""The contract of verl's custom reward function; verl itself is not run."""

import math
import runpy
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integrations.test_trl import JUDGE, PREFIX, QUESTION, RIGHT, WRONG
from tests.models.tiny import classifier, tokenizer
from yonder import load_judge
from yonder.errors import DataError, RecipeError, TrainingError
from yonder.integrations import verl
from yonder.integrations.verl import ComputeScore, classifier_score, judge_score, verifiable_score
from yonder.models.classifier import LocalClassifier
from yonder.rewards.judge import JudgeReward, JudgeRules, Verdict

EXAMPLE = Path(__file__).parents[2] / "examples" / "verl_reward.py"
EXTRA = {"question": QUESTION, "prefix": PREFIX, "index": 3, "num_turns": None}


def call(reward: ComputeScore, solution: str, truth: Any = "42", extra: Any = None, **others: Any) -> float:
    """As verl's reward managers do: all by keyword."""
    return reward(data_source="x", solution_str=solution, ground_truth=truth, extra_info=extra or EXTRA, **others)


def test_the_judges_number() -> None:
    reward = judge_score(JUDGE, prefix="prefix")
    value = call(reward, RIGHT, truth=None, reward_router_address=None)
    assert isinstance(value, float)
    assert value == pytest.approx(load_judge(JUDGE).score([(QUESTION, PREFIX + RIGHT)])[0].value, abs=1e-4)
    assert call(reward, WRONG) == 0.0
    assert reward.__name__ == "judge"


class OneAtATime:
    """A judge back end that notices a second call before the first has returned."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.01)
        self.inside -= 1
        return [Verdict(logit_gap=float(response), mass=1.0) for _, response in pairs]


def test_threads_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    back_end = OneAtATime()
    rules = JudgeRules(program=False, delta=0.0)
    monkeypatch.setattr(verl, "load_judge", lambda settings: JudgeReward(back_end, rules))
    reward = judge_score({})
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: call(reward, str(number)), range(8)))
    assert back_end.most == 1
    assert found == pytest.approx([1 / (1 + math.exp(-number)) for number in range(8)])


TRUTHS = [("42", 1.0), (41, 0.1), (np.float64(42.0), 1.0), ("6 * 7\n#### 42", 1.0)]


@pytest.mark.parametrize(("truth", "value"), TRUTHS)
def test_the_verifier_reads_the_ground_truth(truth: Any, value: float) -> None:
    assert call(verifiable_score({"format": "text"}), "So it is 42.", truth) == value


def test_options_come_as_numpy_arrays() -> None:
    reward = verifiable_score({"format": "choice"}, options="options")
    assert call(reward, "The answer is B", "B", {"options": np.array(["12", "42", "18"])}) == 1.0


def test_the_classifiers_number(tmp_path: Path) -> None:
    classifier("llama").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    model = LocalClassifier(classifier("llama"), tokenizer(), 1, 700, 1000)
    reward = classifier_score({"model": str(tmp_path)}, prefix="prefix")
    assert call(reward, RIGHT) == pytest.approx(model.probabilities([(QUESTION, PREFIX + RIGHT)])[0], abs=1e-5)


def test_no_score_raises_and_is_never_zero() -> None:
    with pytest.raises(TrainingError, match=r"reward verifiable: no score: no label; .*unscored='nan'"):
        call(verifiable_score({"format": "text"}), "It is 42.", truth="")
    small = judge_score(JUDGE | {"max_tokens": 10}, name="small")
    with pytest.raises(TrainingError, match="reward small: no score: the question alone fills"):
        call(small, RIGHT)


def test_no_score_is_nan_where_asked_for() -> None:
    assert math.isnan(call(judge_score(JUDGE | {"max_tokens": 10}, unscored="nan"), RIGHT))
    assert math.isnan(call(verifiable_score({"format": "text"}, unscored="nan"), "42", truth=None))
    with pytest.raises(RecipeError, match="write 'raise' or 'nan'"):
        judge_score(JUDGE, unscored=0.0)  # type: ignore[arg-type]


def test_a_missing_key_is_named() -> None:
    reward = judge_score(JUDGE, question="problem")
    with pytest.raises(DataError, match="reward judge: extra_info has no `problem`; it has question, prefix, index, "):
        call(reward, RIGHT)
    with pytest.raises(DataError, match="it has nothing"):
        reward("x", RIGHT, None)


def test_the_example_scores_as_verl_calls_it() -> None:
    compute_score = runpy.run_path(str(EXAMPLE))["compute_score"]
    assert call(compute_score, RIGHT) == 1.0
    assert call(compute_score, WRONG) == pytest.approx(0.1)
    assert call(compute_score, RIGHT, truth=None) > 0.9
    assert call(compute_score, WRONG, truth=None) == 0.0
