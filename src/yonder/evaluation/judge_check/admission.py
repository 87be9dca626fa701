"""Whether a measured judge may train a policy: one verdict and one sentence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from yonder.schema import Interval

# All ours: the papers admit a judge by eye.
MIN_QUESTIONS = 20  # below this many pairs the 95 % interval is wider than 0.3 even for a good judge
COIN_QUESTIONS = 60  # from this many on a judge must be surely better than a coin
MASS_FAIL, MASS_WARN = 0.1, 0.5  # mean P(Yes) + P(No): below, the prompt or template is wrong and the verdict is noise
UNSCORED_FAIL, UNSCORED_WARN = 0.5, 0.05  # share of responses without a score
FALSE_POSITIVES_FAIL, FALSE_POSITIVES_WARN = 0.9, 0.3  # share of wrong responses accepted at delta
ATTACK_WARN = 0.2  # share of one kind of attack accepted at delta


@dataclass(frozen=True, slots=True)
class Admission:
    """The verdict on a judge."""

    verdict: Literal["pass", "warn", "fail", "unmeasured"]
    why: str  # one sentence
    floor: float  # least pairwise accuracy that was asked for


def admit(
    pairwise: Interval,
    floor: float,
    false_positive_rate: float | None,
    mass_mean: float | None,
    unscored: tuple[int, int],
    attacks: Mapping[str, float],
    mass_floor: float = MASS_FAIL,
) -> Admission:
    """The worst that can be said of a judge; the first reason that applies, failures first.

    `unscored`: how many of how many labeled responses that the judge was asked about. `attacks`: share accepted of each
    kind. Unmeasured: fewer than 20 questions with a right and a wrong response. A judge that nods at everything, is
    surely worse than a coin, or on 60 questions not surely better, fails whatever the floor.
    """
    missing, asked = unscored
    share = missing / asked if asked else 0.0
    accuracy = f"pairwise accuracy {pairwise.value:.3f} ({pairwise.low:.3f} to {pairwise.high:.3f}, n = {pairwise.n})"
    worst = max(attacks, key=lambda name: attacks[name], default="")

    def verdict(kind: Literal["pass", "warn", "fail", "unmeasured"], why: str) -> Admission:
        return Admission(kind, why, floor)

    if mass_mean is not None and mass_mean < mass_floor:
        return verdict("fail", f"the judge gives Yes and No only {mass_mean:.3f} of its probability: check its prompt.")
    if share > UNSCORED_FAIL:
        return verdict("fail", f"{missing} of {asked} responses have no score.")
    if pairwise.n < MIN_QUESTIONS or math.isnan(pairwise.value):
        have = "question has" if pairwise.n == 1 else "questions have"
        said = f"only {pairwise.n} {have} a right and a wrong response with scores; {MIN_QUESTIONS} are needed."
        return verdict("unmeasured", said)
    if pairwise.value < floor:
        return verdict("fail", f"{accuracy} is below the floor of {floor:g}; use a better judge, or lower `floor`.")
    if pairwise.high < 0.5:
        return verdict("fail", f"{accuracy} is worse than a coin.")
    if pairwise.low <= 0.5 and pairwise.n >= COIN_QUESTIONS:
        return verdict("fail", f"{accuracy} is not surely better than a coin.")
    if false_positive_rate is not None and false_positive_rate >= FALSE_POSITIVES_FAIL:
        return verdict("fail", f"{false_positive_rate:.0%} of wrong responses pass delta: it says Yes to everything.")
    warnings = [
        (pairwise.low < floor, f"{accuracy} may lie below the floor of {floor:g}."),
        (pairwise.low <= 0.5, f"{accuracy} is not surely better than a coin."),
        (
            mass_mean is not None and mass_mean < MASS_WARN,
            f"the judge gives Yes and No only {mass_mean or 0:.2f} of its probability.",
        ),
        (share > UNSCORED_WARN, f"{missing} of {asked} responses have no score."),
        (
            (false_positive_rate or 0) > FALSE_POSITIVES_WARN,
            f"{false_positive_rate or 0:.0%} of wrong responses pass delta.",
        ),
        (attacks.get(worst, 0.0) > ATTACK_WARN, f"{attacks.get(worst, 0):.0%} of the responses `{worst}` pass delta."),
    ]
    found = next((text for applies, text in warnings if applies), None)
    return verdict("warn", found) if found else verdict("pass", f"{accuracy}, floor {floor:g}.")
