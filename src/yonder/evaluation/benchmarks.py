"""Answer a labeled data set and say how many answers are right, with intervals.

An answer counts only when it is fully right (`details["correct"]` of the verifier's score; never the mean reward, which
holds partial credit). A question that could not be scored (label "None" in GSM-Plus, sandbox down) is left out of n and
counted apart.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from yonder.core.statistics import clustered_share, mean_pass_at_k, mean_std, t_interval, wilson
from yonder.core.votes import Answer, majority
from yonder.protocols import Reward, Sampler
from yonder.rewards.unanswerable import NONE
from yonder.schema import Interval, Prompt, Rollout, Score

_CALL = 2048  # completions asked of the sampler at a time
WITHOUT_NONE = "without None"  # the subset of questions that have an answer


@dataclass(frozen=True, slots=True)
class Samples:
    """What is sampled besides the greedy answer."""

    votes: int = 0  # a question, for the majority ([J] uses 100) and pass@k
    pass_at: tuple[int, ...] = ()  # every k of pass@k, at most `votes`
    seeds: tuple[int, ...] = ()  # one sample of each question with each of them
    temperature: float = 1.0
    tolerance: float = 1e-2  # merges equal answers of a vote, as in `core.votes`

    @property
    def each(self) -> int:
        """Completions of a question, the greedy one included."""
        return 1 + self.votes + len(self.seeds)


@dataclass(frozen=True, slots=True)
class Spread:
    """Accuracies of the same benchmark measured several times."""

    mean: Interval  # n: how many times
    std: float | None  # the sample's; None below two
    values: dict[str, Interval]  # by name of the group or number of the seed

    def to_json(self) -> dict[str, Any]:
        """Mean, std and n, and the interval of the mean."""
        mean = _interval(self.mean)
        return {"mean": mean["accuracy"], "std": self.std} | {key: mean[key] for key in ("n", "low", "high")}


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
    pass_at: Mapping[int, Interval] | None = None  # k -> pass@k, when asked
    seeds: Spread | None = None  # sampled accuracy by seed, when asked
    groups: Spread | None = None  # greedy accuracy by group, where the categories are groups
    subsets: Mapping[str, Interval] = field(default_factory=dict[str, Interval])  # greedy, of a part of the questions

    def to_json(self) -> dict[str, Any]:
        """One record of `evaluations.jsonl`; numbers that are not known (n = 0) are null, what was not asked is not
        there."""
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
        if self.pass_at is not None:
            record["pass_at_k"] = {str(k): _interval(value) for k, value in self.pass_at.items()}
        if self.seeds is not None:
            record["seeds"] = {name: _interval(value)["accuracy"] for name, value in self.seeds.values.items()}
            record["seed_spread"] = self.seeds.to_json()
        if self.groups is not None:
            record["by_group"] = {name: _interval(value) for name, value in self.groups.values.items()}
            record["group_spread"] = self.groups.to_json()
        if self.subsets:
            record["subsets"] = {name: _interval(value) for name, value in self.subsets.items()}
        return record


def accuracy_text(figures: Mapping[str, Any]) -> str:
    """Accuracy with its interval, as in `to_json`; how many questions could not be scored; what was sampled besides;
    whether the policy was trained on such questions."""
    if figures["accuracy"] is None:
        return f"not measured, {figures['unscored']} unscored"
    text = f"{figures['accuracy']:.1%} [{figures['low']:.1%}, {figures['high']:.1%}]"
    if figures.get("unscored"):
        text += f" of {figures['n']}, {figures['unscored']} unscored"
    vote = figures.get("vote")
    if vote and vote["accuracy"] is not None:
        text += f"  vote@{vote['samples']} {vote['accuracy']:.1%}"
    text += "".join(
        f"  pass@{k} {found['accuracy']:.1%}"
        for k, found in (figures.get("pass_at_k") or {}).items()
        if found["accuracy"] is not None
    )
    spread = figures.get("seed_spread")
    if spread and spread["mean"] is not None:
        text += f"  mean@{spread['n']} {spread['mean']:.1%}"
    found = figures.get("contamination") or {}
    known, near = max(found.get("exact", 0) + found.get("perturbed", 0), found.get("chosen", 0)), found.get("near", 0)
    text += f"  CONTAMINATED: {known:,} questions" if known else ""
    return f"{text}  {near:,} questions nearly in the training data" if near else text


def evaluate(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    verifier: Reward,
    samples: Samples = Samples(),
    *,
    groups: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> BenchmarkResult:
    """Greedy accuracy on `prompts`, and what `samples` asks for besides.

    `groups`: the categories are repetitions of one test, so the result is their mean and spread. `progress(done,
    total)` counts completions. ValueError when the sampler does not return its rollouts in order.
    """
    start = time.perf_counter()
    total = len(prompts) * samples.each

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
    vote, counts = None, list[tuple[int, int]]()
    if samples.votes:
        answered = _answered(prompts, sampler, verifier, samples.votes, samples.temperature, seed)
        vote, counts = _vote(answered, samples, lambda done: report(len(prompts) + done))
    before = len(prompts) * (1 + samples.votes)
    seeds = _by_seed(prompts, sampler, verifier, samples, lambda done: report(before + done)) if samples.seeds else None
    by_category = _by_category(prompts, correct)
    return BenchmarkResult(
        accuracy=_accuracy(correct),
        by_category={} if groups else by_category,
        correct=tuple(correct),
        unscored=correct.count(None),
        reasons=dict(reasons.most_common()),
        finished=finished / len(prompts) if prompts else None,
        seconds=time.perf_counter() - start,
        vote=vote,
        pass_at={k: _pass_at(counts, k, seed) for k in samples.pass_at} if samples.pass_at else None,
        seeds=seeds,
        groups=_spread(by_category) if groups else None,
        subsets=_subsets(prompts, correct),
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
    answered: Iterator[tuple[list[Rollout], list[Score]]], asked: Samples, report: Callable[[int], None]
) -> tuple[VoteResult, list[tuple[int, int]]]:
    """The majority's result, and (scored samples, right ones) of each question."""
    correct: list[bool | None] = []
    counts: list[tuple[int, int]] = []
    shares: list[float] = []
    tied, samples = 0, asked.votes
    for _, scores in answered:
        for i in range(0, len(scores), samples):
            scored = [score for score in scores[i : i + samples] if _correct(score) is not None]
            counts.append((len(scored), sum(_correct(score) is True for score in scored)))
            if not scored:
                correct.append(None)
                continue
            answers = [cast("Answer | None", score.details.get("answer")) for score in scored]
            vote = majority(answers, asked.tolerance)
            right = vote.answer is not None and _correct(scored[answers.index(vote.answer)])
            correct.append(right)
            shares.append(vote.share)
            tied += vote.ties
        report(len(correct) * samples)
    share = math.fsum(shares) / len(shares) if shares else None
    unscored, verdicts = correct.count(None), tuple(correct)
    return VoteResult(_accuracy(correct), samples, asked.temperature, share, tied, unscored, verdicts), counts


def _pass_at(counts: Sequence[tuple[int, int]], k: int, seed: int) -> Interval:
    """Over the questions of which at least k samples could be scored."""
    return mean_pass_at_k([(n, c) for n, c in counts if n >= k], k, seed)


def _by_seed(
    prompts: Sequence[Prompt], sampler: Sampler, verifier: Reward, asked: Samples, report: Callable[[int], None]
) -> Spread:
    """Accuracy of one sample of each question with each seed. The interval of the mean is over questions: the samples
    of one are alike."""
    values: dict[str, Interval] = {}
    scored: list[tuple[float, str]] = []
    for number, seed in enumerate(asked.seeds):
        correct: list[bool | None] = []
        for _, scores in _answered(prompts, sampler, verifier, 1, asked.temperature, seed):
            correct += [_correct(score) for score in scores]
            report(number * len(prompts) + len(correct))
        values[str(number)] = _accuracy(correct)
        scored += [(float(c), prompt.id) for prompt, c in zip(prompts, correct, strict=True) if c is not None]
    mean = clustered_share([value for value, _ in scored], [name for _, name in scored])
    known = [interval.value for interval in values.values() if interval.n]
    return Spread(replace(mean, n=len(known)), mean_std(known).std, values)


def _spread(groups: Mapping[str, Interval]) -> Spread:
    """Mean and spread over groups, each counted once."""
    known = [interval.value for interval in groups.values() if interval.n]
    return Spread(t_interval(known), mean_std(known).std, dict(groups))


def _subsets(prompts: Sequence[Prompt], correct: Sequence[bool | None]) -> dict[str, Interval]:
    """Accuracy without the questions whose label is "None", where such questions were graded."""
    graded = any(prompt.answer == NONE and c is not None for prompt, c in zip(prompts, correct, strict=True))
    rest = [c for prompt, c in zip(prompts, correct, strict=True) if prompt.answer != NONE]
    return {WITHOUT_NONE: _accuracy(rest)} if graded else {}


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
    value, low, high = (None if math.isnan(x) else x for x in (interval.value, interval.low, interval.high))
    return {"accuracy": value, "low": low, "high": high, "n": interval.n}
