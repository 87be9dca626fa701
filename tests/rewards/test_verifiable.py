from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from yonder.core.votes import majority
from yonder.recipe.data import TaskSettings
from yonder.recipe.rewards import VerifiableSettings
from yonder.rewards.verifiable import VerifiableReward
from yonder.schema import Completion, Prompt, Rollout


@dataclass
class Result:
    status: str
    value: float | None = None
    detail: str = ""


RESULTS = {
    "return 14": Result("ok", 14.0),
    "return 14.005": Result("ok", 14.005),
    "return 14.02": Result("ok", 14.02),
    "return 12": Result("ok", 12.0),
    "crash": Result("error", None, "ZeroDivisionError:  division\n by zero"),
    "loop": Result("timeout"),
    "eat": Result("memory", None, "MemoryError: 64 MB"),
    "down": Result("infrastructure", None, "no worker could be started"),
    "nan": Result("ok", float("nan")),
    "nothing": Result("ok", None),
}


class Sandbox:
    def __init__(self) -> None:
        self.ran: list[str] = []

    def __call__(self, programs: Sequence[str]) -> list[Result]:
        self.ran += programs
        return [RESULTS[program.removeprefix("def solution():\n")] for program in programs]


def rollout(text: str, answer: str | None, prefix: str = "", options: tuple[str, ...] = ()) -> Rollout:
    prompt = Prompt("1", "question", "text", prefix=prefix, answer=answer, options=options)
    return Rollout(prompt, (1,), Completion((2,), (0.0,), text, True))


def reward(**task: object) -> VerifiableReward:
    return VerifiableReward(VerifiableSettings(kind="verifiable"), TaskSettings.model_validate(task), Sandbox())


@pytest.mark.parametrize(
    ("program", "value", "reason", "answer", "correct", "status"),
    [
        ("return 14", 1.0, "returned 14, label 14", 14.0, True, "ok"),
        ("return 14.005", 1.0, "returned 14.005, label 14", 14.005, True, "ok"),
        ("return 14.02", 0.1, "returned 14.02, label 14", 14.02, False, "ok"),
        ("return 12", 0.1, "returned 12, label 14", 12.0, False, "ok"),
        ("crash", 0.0, "ZeroDivisionError: division by zero", None, False, "error"),
        ("loop", 0.0, "timed out", None, False, "timeout"),
        ("eat", 0.0, "MemoryError: 64 MB", None, False, "memory"),
        ("nan", 0.0, "returned no finite number", None, False, "error"),
        ("nothing", 0.0, "returned no finite number", None, False, "error"),
        ("down", None, "the program was not run: no worker could be started", None, None, "infrastructure"),
    ],
)
def test_programs(program: str, value: float | None, reason: str, answer: float | None, correct: bool, status: str):
    sandbox = Sandbox()
    verify = VerifiableReward(VerifiableSettings(kind="verifiable"), TaskSettings(), sandbox)
    (score,) = verify.score([rollout(program, "14", prefix="def solution():\n")])
    assert sandbox.ran == ["def solution():\n" + program]
    assert (score.value, score.reason) == (value, reason)
    assert score.details == {"answer": answer, "correct": correct, "status": status}


def test_scores_stay_in_order_and_only_labeled_programs_run():
    sandbox = Sandbox()
    verify = VerifiableReward(VerifiableSettings(kind="verifiable", partial=0.0), TaskSettings(), sandbox)
    labels = ["14", "None", "12", None]
    scores = verify.score([rollout("return 14", label) for label in labels])
    assert [score.value for score in scores] == [1.0, None, 0.0, None]
    assert [score.reason for score in scores][1::2] == ["label 'None' is not a number", "no label"]
    assert sandbox.ran == ["return 14"] * 2
    assert verify.score([]) == []


def test_tolerance_comes_from_the_task():
    # |14.02 - 14| = 0.02
    (score,) = reward(format="program", tolerance=0.05).score([rollout("return 14.02", "14")])
    assert score.value == 1.0
    # |0.3 - 0.29| is 0.010000000000000009 in floats: still within 0.01
    (score,) = reward(format="text").score([rollout("the answer is 0.29", "0.3")])
    assert score.value == 1.0


@pytest.mark.parametrize(
    ("text", "label", "value", "reason"),
    [
        ("The answer is $1,000.", "1000", 1.0, "answered 1000, label 1000"),
        ("So the answer is 72.0", "72", 1.0, "answered 72, label 72"),
        ("the answer is 1/2", "0.5", 1.0, "answered 0.5, label 0.5"),
        ("the answer is 0.5", "1/2", 1.0, "answered 0.5, label 0.5"),
        ("the answer is 12", "14", 0.1, "answered 12, label 14"),
        ("I cannot say", "14", 0.0, "no number"),
        ("the answer is 12", "None", None, "label 'None' is not a number"),
    ],
)
def test_text(text: str, label: str, value: float | None, reason: str):
    (score,) = reward(format="text").score([rollout(text, label)])
    assert (score.value, score.reason) == (value, reason)


@pytest.mark.parametrize(
    ("text", "label", "value", "reason"),
    [
        ("The answer is (B).", "b", 1.0, "answered B, label B"),
        ("The answer is (B).", "Oslo", 1.0, "answered B, label B"),
        ("The answer is (A).", "B", 0.1, "answered A, label B"),
        ("The answer is A, B or C.", "B", 0.0, "no single option letter"),
        ("The answer is (B).", "E", None, "label 'E' is not an option"),
    ],
)
def test_choice(text: str, label: str, value: float | None, reason: str):
    (score,) = reward(format="choice").score([rollout(text, label, options=("Rome", "Oslo", "Paris"))])
    assert (score.value, score.reason) == (value, reason)


def test_open_ended_is_never_scored():
    for label in ("Roses are red.", "14", None):
        (score,) = reward(format="open").score([rollout("The answer is 14", label)])
        assert (score.value, score.reason) == (None, "open-ended: no rule can verify it")
    assert reward(format="open").answers([rollout("Roses are red.", None)]) == [None]


def test_answers_need_no_label():
    programs = ["return 14", "return 12", "crash", "down", "return 14.005"]
    answers = reward(format="program").answers([rollout(program, None) for program in programs])
    assert answers == [14.0, 12.0, None, None, 14.005]
    assert majority(answers, 0.01).answer == 14.0
    assert reward(format="text").answers([rollout("the answer is 7", None)]) == [7.0]
    assert reward(format="choice").answers([rollout("the answer is C", None)]) == ["C"]
