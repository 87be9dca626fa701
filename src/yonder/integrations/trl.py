"""The judge, the verifiers and the classifier as reward functions of TRL's trainers (`reward_funcs`).

    from yonder.integrations.trl import judge_reward, verifiable_reward

    judge = judge_reward({"model": "Qwen/Qwen3-8B", "prompt": "text"}, question="question")
    right = verifiable_reward({"format": "text"}, answer="answer")
    settings = GRPOConfig(multi_objective_aggregation="normalize_then_sum", ...)
    trainer = GRPOTrainer(model, reward_funcs=[judge, right], args=settings, ...)

A function returns one number from 0 to 1 for each completion, or None for "cannot say". TRL leaves that out, but beside
a second function it takes None for 0 by default: give GRPOConfig `multi_objective_aggregation="normalize_then_sum"`.
Columns of the data set are named by `question`, `answer`, `options` and `prefix` (a column with the given beginning of
the response, where the prompt ends with it). Prompts and completions may be plain texts or lists of messages.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from yonder.assembly.judges import load_judge
from yonder.assembly.workshop import load_correctness, load_verifier
from yonder.errors import DataError
from yonder.integrations.rollouts import Text, build_rollout, question_of, read_label
from yonder.protocols import Reward
from yonder.recipe import parse_section
from yonder.recipe.data import TaskSettings
from yonder.recipe.rewards import ClassifierSettings, JudgeSettings
from yonder.rewards.judge import JudgeRolloutReward
from yonder.schema import Rollout

RewardFunction = Callable[..., list[float | None]]
"""(prompts=, completions=, completion_ids=, **columns) -> a number or None for each completion."""


def judge_reward(
    settings: JudgeSettings | Mapping[str, Any],
    *,
    question: str = "question",
    prefix: str | None = None,
    end_token_ids: Collection[int] | None = None,
    name: str = "judge",
) -> RewardFunction:
    """A judge's Yes. `question="prompt"`: the prompt itself is the question (of messages: what the user said last).

    Given `end_token_ids`, a completion that ends with none of them was cut at the length limit and scores 0; without,
    every completion counts as finished. `settings`: as of `yonder.load_judge`. RecipeError for wrong settings,
    ModelError when the model cannot be had.
    """
    return _function(name, JudgeRolloutReward(load_judge(settings)), question, prefix, end_token_ids)


def classifier_reward(
    settings: ClassifierSettings | Mapping[str, Any],
    *,
    question: str = "question",
    prefix: str | None = None,
    end_token_ids: Collection[int] | None = None,
    name: str = "classifier",
) -> RewardFunction:
    """A classifier's P(correct); `settings` are those of a recipe's reward of this kind. The rest: `judge_reward`."""
    return _function(name, load_correctness(settings), question, prefix, end_token_ids)


def verifiable_reward(
    task: TaskSettings | Mapping[str, Any],
    *,
    answer: str = "answer",
    options: str | None = None,
    prefix: str | None = None,
    partial: float = 0.1,
    sandbox: Mapping[str, Any] | None = None,
    name: str = "verifiable",
) -> RewardFunction:
    """A rule check against the column `answer`; rows without an answer are None.

    `task`, `partial` and `sandbox` are a recipe's settings (`{"format": "text"}`, `{"workers": 2}`). Answers are read
    as from a data file: numbers, texts, GSM8K's `#### 72`. RecipeError for wrong settings.
    """
    checked = task if isinstance(task, TaskSettings) else parse_section(TaskSettings, task, "task")
    reward = load_verifier(checked, partial, sandbox or {})

    def function(prompts: Sequence[Text], completions: Sequence[Text], **columns: Any) -> list[float | None]:
        answers = _column(columns, answer, "answer", name)
        offered = _cells(columns, options, "options", name, len(completions))
        given = _cells(columns, prefix, "prefix", name, len(completions))
        rollouts: list[Rollout | None] = [
            build_rollout("", text, prefix=head, label=read_label(raw, choices, checked, f"column `{answer}`"))
            for text, head, raw, choices in zip(completions, given, answers, offered, strict=True)
        ]
        return _values(reward, rollouts, columns, name)

    function.__name__ = function.__qualname__ = name
    return function


def _function(
    name: str, reward: Reward, question: str, prefix: str | None, end_token_ids: Collection[int] | None
) -> RewardFunction:
    def function(
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        own = question == "prompt"
        questions = [question_of(one) for one in prompts] if own else _column(columns, question, "question", name)
        given = _cells(columns, prefix, "prefix", name, len(completions))
        ended = _ended(len(completions), completion_ids, end_token_ids)
        rollouts = [
            None if asked is None else build_rollout(asked, text, prefix=head, finished=finished)
            for asked, text, head, finished in zip(questions, completions, given, ended, strict=True)
        ]
        return _values(reward, rollouts, columns, name)

    function.__name__ = function.__qualname__ = name
    return function


def _values(
    reward: Reward, rollouts: Sequence[Rollout | None], columns: Mapping[str, Any], name: str
) -> list[float | None]:
    """The values of the rollouts; the share without one goes to TRL's log where it offers one."""
    scores = iter(reward.score([rollout for rollout in rollouts if rollout is not None]))
    values = [None if rollout is None else next(scores).value for rollout in rollouts]
    log = columns.get("log_metric")
    if callable(log) and values:
        log(f"rewards/{name}/unscored", values.count(None) / len(values))
    return values


def _ended(
    count: int, completion_ids: Sequence[Sequence[int]] | None, end_token_ids: Collection[int] | None
) -> list[bool]:
    if completion_ids is None or end_token_ids is None:
        return [True] * count
    return [bool(len(ids)) and int(ids[-1]) in end_token_ids for ids in completion_ids]


def _cells(columns: Mapping[str, Any], column: str | None, field: str, name: str, count: int) -> Sequence[object]:
    return [None] * count if column is None else _column(columns, column, field, name)


def _column(columns: Mapping[str, Any], column: str, field: str, name: str) -> Sequence[object]:
    found = columns.get(column)
    if isinstance(found, list | tuple):
        return cast(Sequence[object], found)
    have = ", ".join(key for key, value in columns.items() if isinstance(value, list | tuple)) or "none"
    raise DataError(
        f"reward {name}: the data set has no column `{column}`; its columns are {have}; give {field}='COLUMN'"
    )
