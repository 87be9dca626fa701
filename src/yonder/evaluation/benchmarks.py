"""Answer a labeled data set and say how many answers are right, with intervals.

An answer counts only when it is fully right (`details["correct"]` of the verifier's score; never the mean reward, which
holds partial credit). A question that could not be scored (label "None" in GSM-Plus, sandbox down) is left out of n and
counted apart.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from yonder.core.statistics import wilson
from yonder.core.votes import Answer, majority
from yonder.protocols import Reward, Sampler
from yonder.schema import Interval, Prompt, Rollout, Score

_CALL = 2048  # completions asked of the sampler at a time


@dataclass(frozen=True, slots=True)
class VoteResult:
    """Majority votes over several samples a question."""

    accuracy: Interval
    samples: int  # a question
    temperature: float
    share: float | None  # mean share of the winning answer among all samples of its question; None without questions
    tied: int  # questions whose vote was a tie (the answer seen first was taken)
    unscored: int  # questions left out: none of their samples could be scored
    correct: tuple[bool | None, ...]  # per question, None: unscored


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What a policy scores on one data set."""

    accuracy: Interval  # greedy
    by_category: dict[str, Interval]  # greedy; empty when the prompts have no category
    correct: tuple[bool | None, ...]  # per question, in the order of the prompts; None: unscored
    unscored: int  # questions left out of n
    reasons: dict[str, int]  # why, with counts
    finished: float | None  # share of greedy completions that ended by themselves; None without questions
    seconds: float  # wall clock of sampling and scoring
    vote: VoteResult | None = None  # when asked

    def to_json(self) -> dict[str, Any]:
        """One record of `evaluations.jsonl`; numbers that are not known (n = 0) are null."""
        record = _interval(self.accuracy) | {
            "by_category": {name: _interval(value) for name, value in self.by_category.items()},
            "unscored": self.unscored,
            "reasons": self.reasons,
            "finished": self.finished,
            "seconds": self.seconds,
            "correct": list(self.correct),
        }
        if self.vote is not None:
            record["vote"] = asdict(self.vote) | _interval(self.vote.accuracy) | {"correct": list(self.vote.correct)}
        return record


def accuracy_text(figures: Mapping[str, Any]) -> str:
    """Accuracy with its interval, as in `to_json`; how many questions could not be scored; the vote's accuracy."""
    if figures["accuracy"] is None:
        return f"not measured, {figures['unscored']} unscored"
    text = f"{figures['accuracy']:.1%} [{figures['low']:.1%}, {figures['high']:.1%}]"
    if figures.get("unscored"):
        text += f" of {figures['n']}, {figures['unscored']} unscored"
    vote = figures.get("vote")
    return f"{text}  vote@{vote['samples']} {vote['accuracy']:.1%}" if vote and vote["accuracy"] is not None else text


def evaluate(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    verifier: Reward,
    *,
    votes: int = 0,
    vote_temperature: float = 1.0,
    tolerance: float = 1e-2,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> BenchmarkResult:
    """Greedy accuracy on `prompts`, and with `votes` > 0 that of the majority of so many samples ([J] uses 100).

    `tolerance` merges equal answers of a vote, as in `core.votes`. `progress(done, total)` counts completions.
    ValueError when the sampler does not return its rollouts in order.
    """
    start = time.perf_counter()
    total = len(prompts) * (1 + votes)

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    correct: list[bool | None] = []
    reasons: Counter[str] = Counter()
    finished = 0
    for rollouts, scores in _answered(prompts, sampler, verifier, 1, None, seed):
        finished += sum(rollout.completion.finished for rollout in rollouts)
        reasons.update(_reason(score) for score in scores if _correct(score) is None)
        correct += [_correct(score) for score in scores]
        report(len(correct))
    vote = None
    if votes:
        answered = _answered(prompts, sampler, verifier, votes, vote_temperature, seed)
        vote = _vote(answered, votes, vote_temperature, tolerance, lambda done: report(len(prompts) + done))
    return BenchmarkResult(
        accuracy=_accuracy(correct),
        by_category=_by_category(prompts, correct),
        correct=tuple(correct),
        unscored=correct.count(None),
        reasons=dict(reasons.most_common()),
        finished=finished / len(prompts) if prompts else None,
        seconds=time.perf_counter() - start,
        vote=vote,
    )


def _answered(
    prompts: Sequence[Prompt], sampler: Sampler, verifier: Reward, samples: int, temperature: float | None, seed: int
) -> Iterator[tuple[list[Rollout], list[Score]]]:
    """Rollouts and their scores, some prompts at a time; each call to the sampler has its own seed."""
    step = max(1, _CALL // samples)
    for begin in range(0, len(prompts), step):
        part = prompts[begin : begin + step]
        rollouts = sampler.sample(part, samples, temperature, seed + begin)
        expected = [prompt.id for prompt in part for _ in range(samples)]
        if [rollout.prompt.id for rollout in rollouts] != expected:
            raise ValueError(f"the sampler must return {samples} rollouts of each prompt, in the order of the prompts")
        yield rollouts, verifier.score(rollouts)


def _vote(
    answered: Iterator[tuple[list[Rollout], list[Score]]],
    samples: int,
    temperature: float,
    tolerance: float,
    report: Callable[[int], None],
) -> VoteResult:
    correct: list[bool | None] = []
    shares: list[float] = []
    tied = 0
    for _, scores in answered:
        for i in range(0, len(scores), samples):
            scored = [score for score in scores[i : i + samples] if _correct(score) is not None]
            if not scored:
                correct.append(None)
                continue
            answers = [cast("Answer | None", score.details.get("answer")) for score in scored]
            vote = majority(answers, tolerance)
            right = vote.answer is not None and _correct(scored[answers.index(vote.answer)])
            correct.append(right)
            shares.append(vote.share)
            tied += vote.ties
        report(len(correct) * samples)
    share = math.fsum(shares) / len(shares) if shares else None
    return VoteResult(_accuracy(correct), samples, temperature, share, tied, correct.count(None), tuple(correct))


def _correct(score: Score) -> bool | None:
    """The verifier's verdict; None when there is no score or the reward gives no verdict."""
    verdict = score.details.get("correct")
    return verdict if score.value is not None and isinstance(verdict, bool) else None


def _reason(score: Score) -> str:
    return score.reason if score.value is None else "the verifier gives no verdict"


def _accuracy(correct: Sequence[bool | None]) -> Interval:
    return wilson(correct.count(True), len(correct) - correct.count(None))


def _by_category(prompts: Sequence[Prompt], correct: Sequence[bool | None]) -> dict[str, Interval]:
    groups: dict[str, list[bool | None]] = {}
    for prompt, verdict in zip(prompts, correct, strict=True):
        if prompt.category:
            groups.setdefault(prompt.category, []).append(verdict)
    return {name: _accuracy(groups[name]) for name in sorted(groups)}


def _interval(interval: Interval) -> dict[str, Any]:
    value = None if math.isnan(interval.value) else interval.value
    return {"accuracy": value, "low": interval.low, "high": interval.high, "n": interval.n}
