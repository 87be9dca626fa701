"""A judge that prefers: which of two responses to a question is better, asked in both orders."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from yonder.core.preference import preference
from yonder.rewards.judge import Verdict, YesNoModel


@dataclass(frozen=True, slots=True)
class Preference:
    """What the judge says of one pair."""

    value: float | None  # P(the first response is better), mean of both orders; None: no verdict
    reason: str  # why there is none
    bias: float | None  # of its places: 0 none, 1 always what stands first, -1 always what stands second
    mass: float  # least P(both labels) of the two orders
    truncated: bool  # a response was cut to fit the judge's context
    bounded: bool  # a label was not among the returned log-probs: its bound was used


def pair_text(first: str, second: str) -> str:
    """Two responses as one text, for back ends that take (question, response)."""
    return json.dumps([first, second], ensure_ascii=False)


def pair_of(text: str) -> tuple[str, str]:
    """The two responses of `pair_text`."""
    first, second = json.loads(text)
    return first, second


class PreferenceJudge:
    """Asks a one-token judge with two labels; its prompt shows both responses."""

    def __init__(self, model: YesNoModel, mass_floor: float) -> None:
        self.model = model
        self.mass_floor = mass_floor

    def prefer(self, cases: Sequence[tuple[str, str, str]]) -> list[Preference]:
        """One preference for each (question, first response, second response), in order.

        Equal responses are a tie, 0.5, and the judge is not asked.
        """
        asked = [case for case in dict.fromkeys(cases) if case[1] != case[2]]
        pairs = [(question, pair_text(*texts)) for question, a, b in asked for texts in ((a, b), (b, a))]
        verdicts = self.model.verdicts(pairs) if pairs else []
        found = {case: self._preference(*verdicts[2 * i : 2 * i + 2]) for i, case in enumerate(asked)}
        return [found.get(case, Preference(0.5, "", None, 1.0, False, False)) for case in cases]

    def _preference(self, given: Verdict, swapped: Verdict) -> Preference:
        both = (given, swapped)
        mass, cut = min(verdict.mass for verdict in both), any(verdict.truncated for verdict in both)
        bounded = any(verdict.missing_yes or verdict.missing_no for verdict in both)
        reason = given.reason or swapped.reason
        if not reason and mass < self.mass_floor:
            reason = f"the judge gives its two labels only {mass:.3f} of its probability"
        if not reason and not all(math.isfinite(verdict.logit_gap) for verdict in both):
            reason = "the judge's verdict is not a number"
        if reason:
            return Preference(None, reason, None, mass, cut, bounded)
        value, bias = preference(given.logit_gap, swapped.logit_gap)
        return Preference(value, "", bias, mass, cut, bounded)
