"""Responses to questions that have no answer."""

import pytest

from yonder.recipe.data import TaskSettings
from yonder.recipe.rewards import VerifiableSettings
from yonder.rewards.unanswerable import UnanswerableToo, declines
from yonder.rewards.verifiable import VerifiableReward
from yonder.sandbox import ProgramResult, Sandbox
from yonder.schema import Completion, Prompt, Rollout


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("We don't know how many red cars there are.\n#### None", True),
        ("Therefore, the answer is: None", True),
        ("The answer is: cannot be determined.", True),
        ("**Answer:** not enough information", True),
        (r"\boxed{\text{unknown}}", True),
        ("There are 12 cars. It cannot be determined how many are red.", True),
        ("We can't determine it. Assume 12. The answer is: 12", False),
        ("The answer is: None. Wait, 3 + 4 = 7. The answer is: 7", False),
        ("None of the cars is red, so 12 are left.\n#### 12", False),
        ("The answer is none other than 5.", False),
        ("The cost of the pen cannot be calculated directly, but 3 + 2 = 5.", False),
        ("The answer is not given directly; adding 2 and 3 we get 5.", False),
        ("The answer cannot be determined since 3 of the people left.", True),
        ("12", False),
        ("", False),
    ],
)
def test_a_text_declines(text: str, right: bool):
    assert declines(text) is right


def rollout(body: str, answer: str = "None") -> Rollout:
    prompt = Prompt("q", "", "", prefix="def solution():\n", answer=answer)
    return Rollout(prompt, (1,), Completion((2,), (0.0,), body, finished=True))


def test_a_program_returns_none_on_purpose():
    with Sandbox(workers=1) as sandbox:
        verifier = VerifiableReward(VerifiableSettings(kind="verifiable"), TaskSettings(), sandbox.run)
        scores = UnanswerableToo(verifier).score(
            [rollout("    return None"), rollout("    x = 4"), rollout("    return 4"), rollout("    return 4", "4")]
        )
    assert [score.details["correct"] for score in scores] == [True, False, False, True]
    assert scores[0].details["answer"] == "None" and scores[2].details["answer"] == 4.0


def test_an_outage_is_not_an_answer():
    def down(programs: object) -> list[ProgramResult]:
        return [ProgramResult("infrastructure", None, "no sandbox", "", 0.0, "monty")]

    verifier = VerifiableReward(VerifiableSettings(kind="verifiable"), TaskSettings(), down)
    (score,) = UnanswerableToo(verifier).score([rollout("    return None")])
    assert score.value is None and score.details["correct"] is None
