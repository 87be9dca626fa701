"""Questions that have no answer (GSM-Plus's "critical thinking", label "None"): right is a response that says so."""

import re
from collections.abc import Sequence

from yonder.rewards.verifiable import VerifiableReward
from yonder.schema import Rollout, Score

NONE = "None"  # the label of such a question

_UNKNOWN = (
    r"(?:none\b|unknown\b|undetermined\b|indeterminate\b|n/a\b|not\s+(?:known|given|stated|provided|specified|"
    r"determinable|enough\b)|insufficient\b|(?:can\s?not|can['’]t|could\s+not)\s+be\s+(?:determined|calculated|"
    r"answered|found|known)|impossible\b)"
)
_SAID = re.compile(
    rf"(?:\banswer\b[\s*_]*(?:is|:|=)|####|\\boxed\s*\{{)[\s:*_\"'`(\[<{{$]*(?:\\text\s*\{{)?{_UNKNOWN}", re.IGNORECASE
)
_ANCHOR = re.compile(r"\banswer\b[\s*_]*(?:is|:|=)|####|\\boxed\s*\{", re.IGNORECASE)
_CANNOT = re.compile(
    r"\b(?:can\s?not|can['’]t)\s+be\s+(?:determined|calculated|answered)\b|\bnot\s+enough\s+information\b"
    r"|\binsufficient\s+information\b|\b(?:we|i)\s+(?:do\s+not|don['’]t|can\s?not|can['’]t)\s+(?:know|determine|calculate)\b",
    re.IGNORECASE,
)
_AFTER_ALL = re.compile(  # "cannot be calculated directly, but 3 + 2 = 5"
    r"(?:=|\b(?:other\s+than|gets?|gives?|obtain|have|is|are))\s*[-$€£]?\s?\d", re.IGNORECASE
)
_RETURNS_NONE = re.compile(r"^\s*return\s+None\s*(?:#.*)?$", re.MULTILINE)


class UnanswerableToo:
    """A verifier that also grades questions with the label "None" (ours; GSM-Plus's own grader is a model).

    Right: a program that returns None by an explicit `return None`; a text that `declines`; a choice of no letter is
    wrong. Any other question is graded by the verifier as it is.
    """

    def __init__(self, verifier: VerifiableReward) -> None:
        self.verifier = verifier

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score a batch; `details` as in `VerifiableReward`, with the answer "None" where the response declines."""
        without = [rollout for rollout in rollouts if rollout.prompt.answer == NONE]
        found = iter(self.verifier.read(without))
        scores = iter(self.verifier.score([rollout for rollout in rollouts if rollout.prompt.answer != NONE]))
        return [
            self._graded(rollout, *next(found)) if rollout.prompt.answer == NONE else next(scores)
            for rollout in rollouts
        ]

    def _graded(self, rollout: Rollout, answer: float | str | None, status: str, detail: str) -> Score:
        if status == "infrastructure":
            details = {"answer": None, "correct": None, "status": status}
            return Score(None, f"the program was not run: {detail}", details)
        text = self.verifier.task.format == "text"
        right = declines(rollout.response) if text else returned_none(rollout.response, detail)
        said = "says that there is no answer" if right else "gives an answer where there is none"
        return Score(float(right), said, {"answer": NONE if right else answer, "correct": right, "status": status})


def declines(text: str) -> bool:
    """Whether a text says that the question has no answer: behind its last "the answer is" (or ####, or boxed) stands
    none, unknown, cannot be determined...; without such an anchor, its last sentence says so."""
    anchors = list(_ANCHOR.finditer(text))
    if anchors:
        said = _SAID.match(text, anchors[-1].start())
        return said is not None and not _AFTER_ALL.search(text, said.end())
    sentences = [part for part in re.split(r"(?<=[.!?])\s+|\n", text) if part.strip()]
    cannot = _CANNOT.search(sentences[-1]) if sentences else None
    return cannot is not None and not _AFTER_ALL.search(sentences[-1], cannot.end())


def returned_none(program: str, detail: str) -> bool:
    """Whether a program gave None because it says so, not because it forgot to return; `detail` is the sandbox's."""
    return detail.startswith("returned a NoneType") and _RETURNS_NONE.search(program) is not None
