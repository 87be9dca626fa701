"""Majority vote over answers that may be the same number written differently."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Answer = str | float
RELATIVE = 1e-6  # ours: large numbers that differ by rounding only


@dataclass(frozen=True, slots=True)
class Vote:
    """What a list of answers says together."""

    answer: Answer | None  # None: no answer at all
    count: int  # answers that agree with it
    share: float  # count / all answers, the missing ones included
    entropy: float  # of the merged answers, nats; missing ones left out
    ties: bool  # another answer had as many votes
    missing: int  # None, NaN and infinite answers: they vote for nothing


def same(a: Answer, b: Answer, tolerance: float, relative: float = RELATIVE) -> bool:
    """Equal strings, or numbers with |a - b| <= max(tolerance, relative * max(|a|, |b|)); a string is no number."""
    if isinstance(a, str) or isinstance(b, str):
        return a == b and isinstance(a, str) == isinstance(b, str)
    return math.isclose(a, b, rel_tol=relative, abs_tol=tolerance)


def majority(answers: Sequence[Answer | None], tolerance: float, relative: float = RELATIVE) -> Vote:
    """The answer most often given, after equal answers are merged ([R]; self-consistency, Wang et al. 2022, section 2).

    Merging: distinct answers are taken from the most to the least frequent (then by first appearance); each joins the
    closest leader that is `same`, or becomes a leader. So a group is never wider than the tolerance on either side of
    its leader (no chains), and the leader, its most frequent spelling, is the answer returned.
    Ties: of groups with equal counts, the one whose first member appeared first wins.
    """
    given = [answer for answer in answers if answer is not None and (isinstance(answer, str) or math.isfinite(answer))]
    missing = len(answers) - len(given)
    if not given:
        return Vote(None, 0, 0.0, 0.0, False, missing)
    first = {answer: i for i, answer in reversed(list(enumerate(given)))}
    counts = Counter(given)
    members: dict[Answer, list[Answer]] = {}
    for answer in sorted(counts, key=lambda a: (-counts[a], first[a])):
        near = [leader for leader in members if same(leader, answer, tolerance, relative)]
        leader = min(near, key=lambda a: _distance(a, answer), default=answer)
        members.setdefault(leader, []).append(answer)
    totals = {leader: sum(counts[a] for a in group) for leader, group in members.items()}
    seen = {leader: min(first[a] for a in group) for leader, group in members.items()}
    best = min(totals, key=lambda a: (-totals[a], seen[a]))
    shares = [total / len(given) for total in totals.values()]
    return Vote(
        answer=best,
        count=totals[best],
        share=totals[best] / len(answers),
        entropy=-sum(share * math.log(share) for share in shares) + 0.0,
        ties=sum(total == totals[best] for total in totals.values()) > 1,
        missing=missing,
    )


def _distance(a: Answer, b: Answer) -> float:
    return 0.0 if isinstance(a, str) or isinstance(b, str) else abs(a - b)
