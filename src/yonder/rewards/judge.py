"""The judge's reward: guards, the judge's verdict, sigmoid and threshold."""

import ast
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from yonder.core.judging import judge_value
from yonder.core.syntax import parses, syntax_tree
from yonder.protocols import EarlyScorer
from yonder.schema import JudgeScore, Response, Rollout, Score


class Verdict(NamedTuple):
    """What a judge back end returns for one pair."""

    logit_gap: float = math.nan  # z_yes - z_no, nats
    mass: float = 0.0  # P(yes) + P(no)
    truncated: bool = False
    missing_yes: bool = False
    missing_no: bool = False
    reason: str = ""  # why there is no verdict

    @property
    def sound(self) -> bool:
        """Whether the gap is a number."""
        return math.isfinite(self.logit_gap)

    def cut(self, truncated: bool) -> "Verdict":
        """The same of a response that was cut, or was not."""
        return self._replace(truncated=truncated)


class YesNoModel(Protocol):
    """A judge back end."""

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """One verdict for each (question, response), in order."""
        ...


@runtime_checkable
class BeginsEarly(Protocol):
    """A judge back end that waits for others and can do so in the background."""

    def begin(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Ask for these, unless that was done; returns at once. Who asks for them then takes the answers."""
        ...

    def drop(self) -> None:
        """Give up what was begun and not taken."""
        ...


@dataclass(frozen=True, slots=True)
class JudgeRules:
    """What turns a verdict into a reward; see `recipe.rewards.JudgeSettings` for the meaning of each."""

    tau: float = 1.0
    delta: float = 0.5
    mass_floor: float = 0.1
    program: bool = True
    keep_docstring: bool = False
    show_reference: bool = False
    guards: tuple[str, ...] = ("empty", "cut")
    min_code_lines: int = 0


class JudgeReward:
    """Eq. 2 of [J] for rollouts and for plain (question, response) pairs; equal pairs are judged once."""

    def __init__(self, model: YesNoModel, rules: JudgeRules) -> None:
        self.model = model
        self.rules = rules

    def score_rollouts(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score rollouts: what a guard catches is 0 without asking the judge, and says so in `details["guard"]`."""
        gated = [self._gate(rollout) for rollout in rollouts]
        asked = [rollout for rollout, gate in zip(rollouts, gated, strict=True) if gate is None]
        answers = iter(self._judge([shown_pair(rollout, self.rules) for rollout in asked]))
        return [gate if gate is not None else next(answers) for gate in gated]

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[JudgeScore]:
        """Score (question, response) pairs."""
        return self._judge([(question, shown_response(response, self.rules)) for question, response in pairs])

    def _judge(self, shown: Sequence[tuple[str, str]]) -> list[JudgeScore]:
        distinct = list(dict.fromkeys(shown))
        verdicts = dict(zip(distinct, self.model.verdicts(distinct), strict=True)) if distinct else {}
        return [self._score(verdicts[pair]) for pair in shown]

    def _gate(self, rollout: Rollout) -> JudgeScore | None:
        found = guarded(rollout, self.rules)
        return None if found is None else JudgeScore(0.0, f"{found[1]}: not judged", {"guard": found[0]})

    def _score(self, verdict: Verdict) -> JudgeScore:
        facts = verdict._asdict()
        why = facts.pop("reason")
        if not why and verdict.mass < self.rules.mass_floor:
            why = f"the judge gives Yes and No only {verdict.mass:.3f} of its probability"
        if not why and not (math.isfinite(verdict.logit_gap) and math.isfinite(verdict.mass)):
            why = "the judge's verdict is not a number"
        if why:
            return JudgeScore(None, why, facts, *verdict[:-1])
        value = judge_value(verdict.logit_gap, self.rules.tau, self.rules.delta)
        probability = judge_value(verdict.logit_gap, self.rules.tau, 0.0)
        reason = f"P(Yes) {probability:.3f}" + ("" if value else f", below delta {self.rules.delta:g}")
        return JudgeScore(value, reason, facts | {"probability": probability}, *verdict[:-1])


class EarlyJudging:
    """What rewards over judges begin early: the questions to a server."""

    def __init__(self, model: object, rules: JudgeRules) -> None:
        self._model = model
        self._rules = rules

    def early(self, kinds: Collection[str]) -> Sequence[EarlyScorer]:
        """Itself, over a server; of a judge in this process see `judges.grouped`."""
        return [self] if "served" in kinds and isinstance(self._model, BeginsEarly) else []

    def anew(self) -> None:
        """Each rollout stands for itself: nothing is left of another batch."""

    def begin(self, rollouts: Sequence[Rollout]) -> None:
        """Ask about these."""
        if isinstance(self._model, BeginsEarly):
            asked = [rollout for rollout in rollouts if guarded(rollout, self._rules) is None]
            self._model.begin([shown_pair(rollout, self._rules) for rollout in asked])

    def drop(self) -> None:
        """Give up answers that were asked for and not taken."""
        if isinstance(self._model, BeginsEarly):
            self._model.drop()


class JudgeRolloutReward(EarlyJudging):
    """A `Reward` over a `JudgeReward`."""

    def __init__(self, judge: JudgeReward) -> None:
        super().__init__(judge.model, judge.rules)
        self.judge = judge

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score a batch of rollouts."""
        return self.judge.score_rollouts(rollouts)


def shown_pair(given: Rollout | Response, rules: JudgeRules) -> tuple[str, str]:
    """The question and the response as the judge reads them."""
    of = given.prompt if isinstance(given, Rollout) else given
    question = with_reference(of.question, of.reference) if rules.show_reference else of.question
    return question, shown_response(given.response, rules)


def shown_response(response: str, rules: JudgeRules) -> str:
    """A response as the judge reads it: of a program, without comments and docstrings."""
    return strip_commentary(response) if rules.program and not rules.keep_docstring else response


def with_reference(question: str, reference: str | None) -> str:
    """A question as a judge reads it that is shown references; the same where there is none."""
    return question if reference is None else f"{question}\n\nReference answer:\n{reference}"


def guarded(rollout: Rollout, rules: JudgeRules) -> tuple[str, str] | None:
    """The first guard that catches a rollout, and why; None: the judge may be asked."""
    text = rollout.completion.text
    lines = sum(1 for line in text.splitlines() if line.strip())
    if "empty" in rules.guards and not text.strip():
        return "empty", "empty completion"
    if "cut" in rules.guards and not rollout.completion.finished:
        return "cut", "completion cut at the length limit"
    if "unparsable" in rules.guards and not parses(rollout.response):
        return "unparsable", "no Python program"
    if lines < rules.min_code_lines:
        return "few-lines", f"{lines} code lines, fewer than {rules.min_code_lines}"
    return None


def strip_commentary(program: str) -> str:
    """A program without comments and strings that stand alone, the channels by which its text could talk to the judge.

    A program that has none of them, or does not parse, is returned as it is.
    """
    tree = syntax_tree(program)
    if tree is None:
        return program
    texts = [node for node in ast.walk(tree) if _is_text(node)]
    if "#" not in program and not texts:
        return program
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block:
                setattr(node, name, [line for line in block if not _is_text(line)] or [ast.Pass()])
    return ast.unparse(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
