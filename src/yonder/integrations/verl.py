"""The judge, the verifiers and the classifier as verl's custom reward function (`compute_score`).

    # my_reward.py; verl: custom_reward_function.path=my_reward.py custom_reward_function.name=compute_score
    from yonder.integrations.verl import judge_score

    compute_score = judge_score({"model": "Qwen/Qwen3-8B", "prompt": "text"})

verl asks for one response at a time and takes a number; it has no "cannot say". A response without a score therefore
raises, which ends the run. `unscored="nan"` returns NaN instead: only for a trainer that drops groups whose rewards
have no positive standard deviation (DAPO's `filter_groups`); elsewhere NaN spreads to the whole group and the loss.
"""

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

from yonder.assembly.judges import load_judge
from yonder.assembly.workshop import load_correctness, load_verifier
from yonder.errors import DataError, RecipeError, TrainingError
from yonder.integrations.rollouts import build_rollout, read_label
from yonder.protocols import Reward
from yonder.recipe import parse_section
from yonder.recipe.data import TaskSettings
from yonder.recipe.rewards import ClassifierSettings, JudgeSettings
from yonder.rewards.judge import JudgeRolloutReward
from yonder.schema import Rollout

ComputeScore = Callable[..., float]
"""(data_source, solution_str, ground_truth, extra_info) -> a number."""
Unscored = Literal["raise", "nan"]


def judge_score(
    settings: JudgeSettings | Mapping[str, Any],
    *,
    question: str = "question",
    prefix: str | None = None,
    unscored: Unscored = "raise",
    name: str = "judge",
) -> ComputeScore:
    """A judge's Yes; `question` and `prefix` are keys of `extra_info`. `settings`: as of `yonder.load_judge`."""
    return _asking(name, JudgeRolloutReward(load_judge(settings)), question, prefix, unscored)


def classifier_score(
    settings: ClassifierSettings | Mapping[str, Any],
    *,
    question: str = "question",
    prefix: str | None = None,
    unscored: Unscored = "raise",
    name: str = "classifier",
) -> ComputeScore:
    """A classifier's P(correct); `settings` are those of a recipe's reward of this kind. The rest: `judge_score`."""
    return _asking(name, load_correctness(settings), question, prefix, unscored)


def verifiable_score(
    task: TaskSettings | Mapping[str, Any],
    *,
    options: str | None = None,
    prefix: str | None = None,
    partial: float = 0.1,
    sandbox: Mapping[str, Any] | None = None,
    unscored: Unscored = "raise",
    name: str = "verifiable",
) -> ComputeScore:
    """A rule check against `ground_truth`; `options` and `prefix` are keys of `extra_info`."""
    checked = task if isinstance(task, TaskSettings) else parse_section(TaskSettings, task, "task")

    def rollout(solution_str: str, ground_truth: object, extra: Mapping[str, Any]) -> Rollout:
        choices = None if options is None else _key(extra, options, "options", name)
        label = read_label(ground_truth, choices, checked, "ground_truth")
        head = None if prefix is None else _key(extra, prefix, "prefix", name)
        return build_rollout("", solution_str, prefix=head, label=label)

    return _function(name, load_verifier(checked, partial, sandbox or {}), rollout, unscored)


def _asking(name: str, reward: Reward, question: str, prefix: str | None, unscored: Unscored) -> ComputeScore:
    def rollout(solution_str: str, ground_truth: object, extra: Mapping[str, Any]) -> Rollout:
        head = None if prefix is None else _key(extra, prefix, "prefix", name)
        return build_rollout(_key(extra, question, "question", name), solution_str, prefix=head)

    return _function(name, reward, rollout, unscored)


def _function(
    name: str, reward: Reward, rollout: Callable[[str, object, Mapping[str, Any]], Rollout], unscored: Unscored
) -> ComputeScore:
    if unscored not in ("raise", "nan"):
        raise RecipeError(f"unscored={unscored!r}: write 'raise' or 'nan'; a number would be a reward")
    lock = threading.Lock()  # verl calls from several threads; tokenizers and models are not made for that

    def compute_score(
        data_source: object,
        solution_str: str,
        ground_truth: object,
        extra_info: Mapping[str, Any] | None = None,
        **others: object,
    ) -> float:
        asked = rollout(solution_str, ground_truth, extra_info or {})
        with lock:
            score = reward.score([asked])[0]
        if score.value is not None:
            return score.value
        if unscored == "nan":
            return math.nan
        mend = "mend the cause, or set unscored='nan' for a trainer that drops such groups"
        raise TrainingError(f"reward {name}: no score: {score.reason}; {mend}")

    compute_score.__name__ = compute_score.__qualname__ = name
    return compute_score


def _key(extra: Mapping[str, Any], key: str, field: str, name: str) -> object:
    if extra.get(key) is None:
        have = ", ".join(extra) or "nothing"
        raise DataError(f"reward {name}: extra_info has no `{key}`; it has {have}; give {field}='KEY'")
    return extra[key]
