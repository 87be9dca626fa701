"""Dynamic sampling, by hand."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from yonder.schema import Completion, Prompt, Rollout, Score
from yonder.training.rollout import StreamRollouts, StreamScores, Term
from yonder.training.signal import Gathered, Refill, gather, with_signal

TERM = Term("r", "s", 1.0, None)


def group(number: int, *texts: str) -> list[Rollout]:
    """Rollouts of one prompt; the text is the score, `-` stands for unscored."""
    prompt = Prompt(id="p", question="q", text="q")
    return [Rollout(prompt, (5,), Completion((6,), (-1.0,), text, True), group=number) for text in texts]


def score(rollouts: StreamRollouts, refill: int = 0) -> StreamScores:
    def one(rollout: Rollout) -> Score:
        text = rollout.completion.text
        return Score(None, "none") if text == "-" else Score(float(text))

    return {("r", stream): [one(rollout) for rollout in members] for stream, members in rollouts.items()}


class Drawn:
    """Hands out what a test put in, one list of groups a refill."""

    def __init__(self, *batches: list[Rollout]) -> None:
        self.batches = list(batches)
        self.asked: list[tuple[Mapping[str, int], int]] = []

    def __call__(self, prompts: Mapping[str, int], refill: int) -> dict[str, list[Rollout]]:
        self.asked.append((dict(prompts), refill))
        return dict.fromkeys(prompts, self.batches.pop(0))


def gathered(rollouts: list[Rollout], draw: Drawn, rule: Refill, term: Term = TERM) -> Gathered:
    streams = {"s": rollouts}
    return gather(streams, score(streams), [term], rule, draw, score)


def test_without_refills_everything_is_taken() -> None:
    draw = Drawn()
    found = gathered([*group(0, "1", "1"), *group(1, "0", "1")], draw, Refill())
    assert (found.kept["s"], found.metrics, draw.asked) == ([0, 1, 2, 3], {}, [])


def test_groups_without_signal_are_drawn_anew_until_the_batch_is_full() -> None:
    draw = Drawn([*group(0, "1", "1"), *group(1, "0", "1")], group(0, "0.5", "0"), group(0, "9", "0"))
    found = gathered([*group(0, "1", "1"), *group(1, "0", "1"), *group(2, "0", "0")], draw, Refill(3))
    assert draw.asked == [({"s": 2}, 1), ({"s": 1}, 2)]  # two are missing, then one; then none
    # groups: 0 none, 1 signal, 2 none | 3 none, 4 signal | 5 signal
    assert [rollout.group for rollout in found.rollouts["s"]] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    rollouts, scores = found.chosen()
    assert [rollout.group for rollout in rollouts["s"]] == [1, 1, 4, 4, 5, 5]
    assert [s.value for s in scores["r", "s"]] == [0.0, 1.0, 0.0, 1.0, 0.5, 0.0]
    assert found.metrics == {"rollouts/s/groups_drawn": 6, "rollouts/s/groups_without_signal": 3}


def test_refills_are_bounded_and_the_batch_is_filled_up() -> None:
    draw = Drawn(group(0, "1", "1"), group(0, "0", "0"))
    found = gathered([*group(0, "1", "1"), *group(1, "0", "1")], draw, Refill(2))
    assert len(draw.asked) == 2
    assert found.kept["s"] == [0, 1, 2, 3]  # as many groups as were asked for


@pytest.mark.parametrize(
    ("texts", "tolerance", "signal"),
    [
        (("0.5", "0.5000001"), 1e-6, False),  # floats of equal verdicts
        (("0.5", "0.51"), 1e-6, True),
        (("0.5", "0.51"), 0.1, False),
        (("-", "1"), 1e-6, False),  # one score alone says nothing
        (("-", "-"), 1e-6, False),
        (("-", "1", "0"), 1e-6, True),
    ],
)
def test_signal(texts: tuple[str, ...], tolerance: float, signal: bool) -> None:
    streams = {"s": group(0, *texts)}
    assert with_signal("s", streams, score(streams), [TERM], tolerance) == ([0] if signal else [])


def test_a_term_without_weight_gives_no_signal_and_a_teacher_needs_none() -> None:
    streams = {"s": [*group(0, "0", "1"), *group(1, "1", "1")]}
    idle = Term("r", "s", 0.0, None)
    other = Term("r", "other", 1.0, None)
    assert with_signal("s", streams, score(streams), [idle, TERM], 0.0) == [0]
    teacher = Term("t", "s", 0.5, None, object())  # type: ignore[arg-type]
    assert with_signal("s", streams, score(streams), [TERM, teacher], 0.0) == [0, 1]
    assert with_signal("s", streams, score(streams), [idle, other], 0.0) == [0, 1]  # nothing is learned from it
