"""Score labeled responses and attacks with a reward, timed; then measure it, its model's likelihood beside it."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from yonder.data.responses import as_rollout
from yonder.evaluation.judge_check.check import CheckPlan, JudgeCheck, Speed, check_judge, judged_rows
from yonder.evaluation.judge_check.rows import drawn_pairs
from yonder.judges.likelihood import Written, mean_loglikelihoods
from yonder.judges.local import LocalJudge
from yonder.judges.replicas import Replicas
from yonder.protocols import Reward
from yonder.rewards.judge import JudgeRolloutReward
from yonder.schema import Response, Score

Usage = Callable[[], Mapping[str, Mapping[str, Any]]]  # reward -> what its server was asked so far


def measure_judge(reward: Reward, responses: Sequence[Response], plan: CheckPlan, usage: Usage) -> JudgeCheck:
    """Everything about a judge on these responses, attacks among them."""
    local, before = local_judge(reward), tokens_read(reward)
    start = time.perf_counter()
    scores = reward.score([as_rollout(response) for response in responses]) if responses else []
    seconds, after = time.perf_counter() - start, tokens_read(reward)
    read = None if before is None or after is None else after - before
    speed = speed_of(scores, seconds, read, usage()) if scores else None
    return check_judge(responses, scores, plan, likelihoods(local, responses, scores, plan), speed)


def local_judge(reward: Reward) -> LocalJudge | None:
    """The judge in this process behind a reward, if there is one; of several copies the first."""
    model = reward.judge.model if isinstance(reward, JudgeRolloutReward) else None
    model = model.copies[0] if isinstance(model, Replicas) else model
    return model if isinstance(model, LocalJudge) else None


def tokens_read(reward: Reward) -> int | None:
    """Tokens that a judge in this process has read so far; None of others."""
    model = reward.judge.model if isinstance(reward, JudgeRolloutReward) else None
    return model.tokens_read if isinstance(model, LocalJudge | Replicas) else None


def likelihoods(
    judge: LocalJudge | None, responses: Sequence[Response], scores: Sequence[Score], plan: CheckPlan
) -> list[float | None] | str:
    """Mean token log-likelihood of the responses of [J]'s protocol under the judge's model, or why there are none."""
    if not plan.likelihood_questions:
        return "not measured: likelihood_questions is 0"
    if judge is None:
        return "not measured: only a judge in this process tells its likelihoods"
    rows, places = judged_rows(responses, scores, plan.attacks)
    drawn = [places[i] for pair in drawn_pairs(rows)[: plan.likelihood_questions] for i in pair]
    rollouts = [as_rollout(responses[i]) for i in drawn]
    parts = [Written(r.prompt.question, r.prompt.prefix, r.completion.text) for r in rollouts]
    found: list[float | None] = [None] * len(responses)
    for i, value in zip(drawn, mean_loglikelihoods(judge, parts), strict=True):
        found[i] = value
    return found


def speed_of(
    scores: Sequence[Score], seconds: float, read: int | None, usage: Mapping[str, Mapping[str, Any]]
) -> Speed:
    """Throughput of one scoring call; tokens and cost where a judge counts them or servers say so."""
    caught = sum(score.reason.endswith((": not judged", ": not scored")) for score in scores)  # by a guard
    verdicts = len(scores) - caught
    served = sum(int(one["prompt_tokens"]) + int(one["completion_tokens"]) for one in usage.values())
    tokens = read if read is not None else served or None
    costs = [float(one["cost"]) for one in usage.values() if "cost" in one]
    return Speed(
        responses=len(scores),
        verdicts=verdicts,
        seconds=seconds,
        verdicts_per_s=verdicts / seconds if seconds else 0.0,
        tokens=tokens,
        tokens_per_s=tokens / seconds if tokens is not None and seconds else None,
        cost=sum(costs) if costs else None,
    )
