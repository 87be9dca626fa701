"""The local judge against the whole model's logits."""

import math

import pytest
import torch

from tests.models.tiny import FAMILIES, causal_lm, tokenizer
from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt, read_judge_prompt
from yonder.rewards.judge import JudgeReward, JudgeRules

LABELS = ("Yes", "No")
PAIRS = [
    ("What is 2 + 3?", "def solution():\n    return 2 + 3"),
    ("A farmer has 12 sheep and buys 30 more. How many?", "def solution():\n    a = 12\n    return a + 30"),
    ("1?", "1"),
]


def judge(family: str = "llama", max_tokens: int = 120, batch_tokens: int = 10_000) -> LocalJudge:
    prompt = JudgePrompt(tokenizer(), read_judge_prompt("program"), "auto", LABELS)
    return LocalJudge(causal_lm(family), prompt, max_tokens, batch_tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_verdict_equals_the_whole_models_logits(family: str) -> None:
    scored = judge(family)
    for pair, verdict in zip(PAIRS, scored.verdicts(PAIRS), strict=True):
        ids, truncated = scored.prompt.tokens(*pair, 120)
        with torch.no_grad():
            logits = causal_lm(family)(torch.tensor([ids])).logits[0, -1].float()
        yes, no = tokenizer()(" Yes")["input_ids"][0], tokenizer()(" No")["input_ids"][0]
        assert verdict.logit_gap == pytest.approx((logits[yes] - logits[no]).item(), abs=1e-4)
        probabilities = logits.softmax(-1)
        assert verdict.mass == pytest.approx((probabilities[yes] + probabilities[no]).item(), rel=1e-3)
        assert (verdict.truncated, truncated) == (False, False)


def test_an_output_bias_counts() -> None:
    scored = judge("codegen")  # the family whose output head has a bias
    bias = scored.trunk.head.bias
    before = scored.verdicts(PAIRS[:1])[0].logit_gap
    with torch.no_grad():
        bias[scored.prompt.labels.yes_ids[0]] += 2.0
    try:
        assert scored.verdicts(PAIRS[:1])[0].logit_gap == pytest.approx(before + 2.0, abs=1e-4)
    finally:
        with torch.no_grad():
            bias[scored.prompt.labels.yes_ids[0]] -= 2.0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_verdict_does_not_depend_on_its_batch(family: str) -> None:
    together = [verdict.logit_gap for verdict in judge(family).verdicts(PAIRS)]
    backwards = [verdict.logit_gap for verdict in judge(family).verdicts(PAIRS[::-1])][::-1]
    alone = [verdict.logit_gap for verdict in judge(family, batch_tokens=1).verdicts(PAIRS)]
    assert together == pytest.approx(alone, abs=1e-3)
    assert backwards == pytest.approx(alone, abs=1e-3)
    assert max(alone) - min(alone) > 0.1  # and they are not all the same


def test_a_verdict_that_is_not_finite_has_no_mass(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = judge()
    numbers = torch.tensor([0.5]), torch.tensor([float("nan")])
    monkeypatch.setattr(scored, "_forward", lambda sequences: numbers)
    assert scored.verdicts(PAIRS[:1])[0].mass == 0.0
    assert JudgeReward(scored, JudgeRules()).score(PAIRS[:1])[0].value is None


def test_a_long_response_is_cut_and_flagged_and_the_prompts_end_stays() -> None:
    scored = judge(max_tokens=60)
    long = ("2?", "return 1 + 1\n" * 30)
    ids, truncated = scored.prompt.tokens(*long, 60)
    assert truncated
    assert len(ids) == 60
    assert ids[-len(scored.prompt.tail) :] == scored.prompt.tail
    verdicts = scored.verdicts([long, ("2?", "return 2")])
    assert [verdict.truncated for verdict in verdicts] == [True, False]


def test_a_question_that_fills_the_judges_room_is_unscored() -> None:
    scored = judge(max_tokens=60)
    long = ("How many sheep? " * 30, "return 1")
    verdicts = scored.verdicts([long, PAIRS[2]])
    assert math.isnan(verdicts[0].logit_gap)
    first, second = JudgeReward(scored, JudgeRules(mass_floor=0.0)).score([long, PAIRS[2]])
    assert (first.value, first.truncated) == (None, True)
    assert first.reason == "the question alone fills the judge's 60 tokens; raise `max_tokens`"
    assert "reason" not in first.details
    assert second.value is not None
    assert second.logit_gap == pytest.approx(judge().verdicts([PAIRS[2]])[0].logit_gap, abs=1e-4)
