"""A reward for verl: the verifier where a question has an answer, the judge where it has none.

Give this file to verl:

    custom_reward_function.path=examples/verl_reward.py custom_reward_function.name=compute_score

verl hands over `ground_truth` of each row's `reward_model` and its `extra_info`, which must have the `question` (and
here the `prefix`, the given beginning of the program). Run alone, it scores three responses as verl would.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from yonder.integrations.verl import ComputeScore, judge_score, verifiable_score


@cache
def judge() -> ComputeScore:
    """Loaded when first asked, once in each of verl's reward workers."""
    return judge_score({"model": "yonder:judge", "prompt": "program"}, prefix="prefix")


@cache
def right() -> ComputeScore:
    """Programs run in Yonder's sandbox."""
    return verifiable_score({"format": "program"}, prefix="prefix", sandbox={"workers": 1})


def compute_score(
    data_source: str, solution_str: str, ground_truth: str | None, extra_info: Mapping[str, Any] | None = None
) -> float:
    """One response's reward."""
    reward = right() if ground_truth else judge()
    return reward(data_source, solution_str, ground_truth, extra_info)


if __name__ == "__main__":
    extra = {
        "question": "tom has n0 apples . he buys n1 apples . how many apples does he have now ?",
        "prefix": "def solution():\n    n0 = 12\n    n1 = 30\n",
    }
    print("labeled, right    ", compute_score("word-problems", "    return n0 + n1", "42", extra))
    print("unlabeled, right  ", compute_score("word-problems", "    return n0 + n1", None, extra))
    print("unlabeled, wrong  ", compute_score("word-problems", "    return n0 - n1", None, extra))
