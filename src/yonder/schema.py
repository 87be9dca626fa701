"""The nouns of Yonder: what travels from a data set through the policy, the rewards and the update. No torch here.

Shapes and letters used everywhere: B sequences, P prompts, G group size, T tokens, K terms, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question as the policy sees it.

    The policy reads `text + prefix` (or the chat template around `text`, then `prefix`) and writes the completion;
    `prefix + completion` is the whole response that verifier and judge read.
    """

    id: str  # unique within its data set
    question: str  # the question alone, as a judge reads it
    text: str  # what stands before the response
    prefix: str = ""  # beginning of the response that is given, not generated ("def solution():\n...")
    answer: str | None = None  # the label; None on unlabeled prompts
    solution: str | None = None  # a reference completion for SFT (continues `prefix`)
    options: tuple[str, ...] = ()  # multiple choice: option texts in order A, B, C...
    category: str = ""  # the source's own grouping (template, perturbation type, subject)
    reference: str | None = None  # what a judge may be shown beside the question; no label, kept on unlabeled prompts


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy wrote after one prompt."""

    token_ids: tuple[int, ...]  # generated tokens, the end token included when there is one
    logprobs: tuple[float, ...]  # `rollout_logprobs`: log-prob of each token when it was sampled, nats
    text: str  # decoded, without end token or stop string
    finished: bool  # ended by itself (end token or stop string), not cut at the length limit


@dataclass(frozen=True, slots=True)
class Rollout:
    """A prompt, the tokens that were fed for it, and one completion."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    completion: Completion
    group: int = 0  # rollouts of one prompt share this number within an iteration and stream

    @property
    def response(self) -> str:
        """The whole response: the given prefix and what the policy wrote."""
        return self.prompt.prefix + self.completion.text


@dataclass(frozen=True, slots=True)
class Score:
    """What a reward says of one rollout: a value, or None with the reason why there is none.

    Unscored is not zero: a None is left out of the loss and counted.
    """

    value: float | None
    reason: str = ""
    details: Mapping[str, float | str | bool | None] = field(default_factory=dict[str, float | str | bool | None])


@dataclass(frozen=True, slots=True)
class JudgeScore(Score):
    """A judge's score with everything that decided it."""

    logit_gap: float | None = None  # z_yes - z_no, nats
    mass: float | None = None  # P(yes) + P(no) under the judge, 0 to 1
    truncated: bool = False  # the student's text was cut to fit the judge's context
    missing_yes: bool = False  # the back end did not return the Yes token: its bound was used
    missing_no: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """Anyone's answer in collected data, with its label."""

    prompt_id: str
    question: str
    response: str  # prefix and completion
    correct: bool | None  # None: not labeled
    source: str  # the stage or model that wrote it, or the name of the negative
    answer: str | None = None
    temperature: float | None = None
    finished: bool = True
    detail: str = ""  # how the label came about ("returned 12", "ZeroDivisionError")
    reference: str | None = None  # of the question, for judges
    grade: float | None = None  # how good a judge finds it, 0 to 1; None: nobody was asked

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, one line of `responses.jsonl`; without a grade where there is none."""
        found = {name: getattr(self, name) for name in self.__slots__}
        if self.grade is None:
            del found["grade"]
        return found


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval; bounds that are NaN: the data say nothing of it, as where nothing varies."""

    value: float
    low: float
    high: float
    n: int

    @property
    def bounded(self) -> bool:
        """Whether there are bounds."""
        return not (math.isnan(self.low) or math.isnan(self.high))


@dataclass(frozen=True, slots=True)
class Trip:
    """A rule of the monitor that has begun to hold, and what made it."""

    rule: str
    reward: str
    stream: str
    message: str
    figures: Mapping[str, float]
    rollouts: Sequence[Mapping[str, Any]] = ()  # as in the rollout log

    @property
    def name(self) -> str:
        """What tells two trips apart."""
        return f"{self.rule} {self.reward}@{self.stream}"
