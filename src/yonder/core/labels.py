"""Labels from a teacher's votes: which questions get one, and which are made wrong on purpose."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yonder.core.votes import Answer, Vote, majority, same

NO_RESPONSE, NO_ANSWER, TIE, LOW_SHARE = "no response", "no answer", "tie", "low share"
NO_PAIR = "no scored pair"  # of a teacher response with another one
ROUNDING = 4e-16  # of the larger number: answers that are one here are equal to the verifier too, also large ones


@dataclass(frozen=True, slots=True)
class Label:
    """What a teacher's answers to one question decide."""

    vote: Vote
    why: str = ""  # why the question has no label: one of the words above; empty where it has
    planted: bool = False  # the answer was put in the vote's place on purpose

    @property
    def answer(self) -> Answer | None:
        """The label; None without one."""
        return None if self.why else self.vote.answer


def label_of_votes(answers: Sequence[Answer | None], tolerance: float, floor: float) -> Label:
    """The vote as a label ([R]'s majority voting). A tie, no answer at all, and a share below `floor` give none;
    answers that could not be read count in the share's denominator."""
    vote = majority(answers, tolerance, ROUNDING)
    if vote.answer is None:
        return Label(vote, NO_ANSWER if answers else NO_RESPONSE)
    if vote.ties:
        return Label(vote, TIE)
    return Label(vote, LOW_SHARE if vote.share < floor else "")


def agree(a: Answer, b: Answer, tolerance: float) -> bool:
    """Whether two answers are one vote."""
    return same(a, b, tolerance, ROUNDING)


def other_answer(label: Answer, answers: Sequence[Answer | None], tolerance: float, options: int) -> Answer:
    """A wrong vote for a question: what was answered most often besides the label (first given wins a tie). Where all
    agree: the next of `options` letters, or a number one greater."""
    others = Counter(answer for answer in answers if answer is not None and not agree(answer, label, tolerance))
    if others:
        return others.most_common(1)[0][0]
    if isinstance(label, str):
        return chr(ord("A") + (ord(label) - ord("A") + 1) % max(2, options))
    return label + max(1.0, 2 * tolerance, 1e-5 * abs(label))


def drawn(keys: Sequence[str], share: float, seed: int) -> set[str]:
    """round(share * n) of the keys: those with the smallest hashes, so that a smaller share is part of a larger one."""
    order = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest())
    return set(order[: round(share * len(order))])


def histogram(shares: Sequence[float], bins: int = 10) -> list[int]:
    """How many shares lie in each of `bins` equal parts of 0 to 1; a bound belongs to the part above it, 1 to the
    last."""
    counts = [0] * bins
    for share in shares:
        counts[min(bins - 1, int(share * bins))] += 1
    return counts


def counted(labels: Sequence[Label]) -> Mapping[str, int]:
    """Why questions have no label: reason -> how many."""
    return dict(Counter(label.why for label in labels if label.why))
