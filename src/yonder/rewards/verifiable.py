"""The verifiable reward: eq. 1 of [J], a rule check of the completion's answer against the label."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from yonder.core.votes import Answer
from yonder.protocols import EarlyScorer
from yonder.recipe.data import TaskSettings
from yonder.recipe.rewards import VerifiableSettings
from yonder.rewards.answers import final_letter, final_number, read_letter, read_number
from yonder.rewards.early import Early
from yonder.schema import Rollout, Score

_AT_ONCE = 32  # programs begun early in one call: giving up waits for one call at most
_DETAIL = 160  # characters of a program's error that a reason keeps


class ProgramResultLike(Protocol):
    """What a sandbox says of one program (`yonder.sandbox.ProgramResult`)."""

    @property
    def status(self) -> str:
        """`ok`, `error`, `timeout`, `memory`, or `infrastructure` (ours, never the program's fault)."""
        ...

    @property
    def value(self) -> float | None:
        """What the program returned, a finite number; None unless ok."""
        ...

    @property
    def detail(self) -> str:
        """Class and message of the error."""
        ...


RunPrograms = Callable[[Sequence[str]], Sequence[ProgramResultLike]]
"""Runs programs: one result each, in order."""


class VerifiableReward:
    """1 for the right answer, `partial` for a wrong one of the right kind, 0 for none ([J] eq. 1).

    None (unscored): the prompt has no label or one that cannot be read, the sandbox could not run the program, or the
    format is `open`. `details` of a score: `answer` (number or letter, None without one), `correct`, `status` ("ok",
    "no answer", or the sandbox's). Numbers are equal when |answer - label| <= task.tolerance.
    """

    def __init__(self, settings: VerifiableSettings, task: TaskSettings, run_programs: RunPrograms) -> None:
        self.settings = settings
        self.task = task
        self.run_programs = run_programs
        self._programs = Early[str, ProgramResultLike](self._run, threads=1, at_once=_AT_ONCE)

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score a batch; programs without a readable label are not run."""
        labels = [self._label(rollout) for rollout in rollouts]
        readable = [rollout for rollout, label in zip(rollouts, labels, strict=True) if label is not None]
        found = iter(self.read(readable))
        return [
            self._unlabeled(rollout) if label is None else self.compared(label, *next(found))
            for rollout, label in zip(rollouts, labels, strict=True)
        ]

    def answers(self, rollouts: Sequence[Rollout]) -> list[Answer | None]:
        """What each rollout answers, whatever the label: what `core.votes.majority` counts. None: none, or not run."""
        return [answer for answer, _, _ in self.read(rollouts)]

    def runs(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Whether each rollout's program runs, whatever the label: 1, 0, or None where the sandbox failed. `status` as
        in `score`."""
        found = self.read(rollouts)
        values = [None if status == "infrastructure" else float(status == "ok") for _, status, _ in found]
        return [
            Score(value, detail or status, {"status": status})
            for value, (_, status, detail) in zip(values, found, strict=True)
        ]

    def early(self, kinds: Collection[str]) -> Sequence[EarlyScorer]:
        """Itself, where its answers are programs: the sandbox's processes run them."""
        return [self] if "programs" in kinds and self.task.format == "program" else []

    def anew(self) -> None:
        """Each rollout stands for itself: nothing is left of another batch."""

    def begin(self, rollouts: Sequence[Rollout]) -> None:
        """Run the programs of these."""
        self._programs.begin([rollout.response for rollout in rollouts if self._label(rollout) is not None])

    def drop(self) -> None:
        """Wait for programs that run: the sandbox may be closed next."""
        self._programs.drop(wait=True)

    def _run(self, programs: Sequence[str]) -> Sequence[ProgramResultLike]:
        return self.run_programs(programs)

    def read(self, rollouts: Sequence[Rollout]) -> list[tuple[Answer | None, str, str]]:
        """Answer, status (as in `score`) and detail of each rollout, whatever the label."""
        if self.task.format == "program":
            results = self._programs.take([rollout.response for rollout in rollouts]) if rollouts else []
            return [_program(result) for result in results]
        if self.task.format == "choice":
            answers = [final_letter(rollout.response, rollout.prompt.options) for rollout in rollouts]
            return [(a, "ok", "") if a else (None, "no answer", "no single option letter") for a in answers]
        if self.task.format == "text":
            numbers = [final_number(rollout.response) for rollout in rollouts]
            return [(n, "ok", "") if n is not None else (None, "no answer", "no number") for n in numbers]
        return [(None, "no answer", "open-ended") for _ in rollouts]

    def compared(self, label: Answer, answer: Answer | None, status: str, detail: str) -> Score:
        """The score of what `read` found, against any label."""
        if status == "infrastructure":
            return Score(
                None, f"the program was not run: {detail}", {"answer": None, "correct": None, "status": status}
            )
        correct = answer is not None and equal(answer, label, self.task.tolerance)
        details = {"answer": answer, "correct": correct, "status": status}
        if answer is None:
            return Score(0.0, detail, details)
        verb = "returned" if self.task.format == "program" else "answered"
        reason = f"{verb} {_shown(answer)}, label {_shown(label)}"
        return Score(1.0 if correct else self.settings.partial, reason, details)

    def _label(self, rollout: Rollout) -> Answer | None:
        label = rollout.prompt.answer
        if label is None or self.task.format == "open":
            return None
        return read_letter(label, rollout.prompt.options) if self.task.format == "choice" else read_number(label)

    def _unlabeled(self, rollout: Rollout) -> Score:
        if self.task.format == "open":
            return Score(None, "open-ended: no rule can verify it")
        if rollout.prompt.answer is None:
            return Score(None, "no label")
        kind = "an option" if self.task.format == "choice" else "a number"
        return Score(None, f"label {rollout.prompt.answer!r} is not {kind}")


def equal(answer: Answer, label: Answer, tolerance: float) -> bool:
    """The same letter, or numbers with |answer - label| <= tolerance ([ReFT]), rounding of the difference forgiven."""
    if isinstance(answer, str) or isinstance(label, str):
        return answer == label
    return abs(answer - label) <= tolerance + 4 * math.ulp(max(abs(answer), abs(label)))


def _program(result: ProgramResultLike) -> tuple[float | None, str, str]:
    detail = " ".join(result.detail.split())[:_DETAIL]
    if result.status == "ok":
        usable = result.value is not None and math.isfinite(result.value)
        return (result.value, "ok", "") if usable else (None, "error", "returned no finite number")
    return (
        None,
        result.status,
        detail or {"timeout": "timed out", "memory": "out of memory"}.get(result.status, "error"),
    )


def written(answer: Answer) -> str:
    """An answer as a label that reads back as itself: the letter, or the number in the fewest digits."""
    if isinstance(answer, str):
        return answer
    number = float(answer)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _shown(answer: Answer) -> str:
    return answer if isinstance(answer, str) else f"{answer:.10g}"
