"""The local judge against the whole model's logits."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.tiny import FAMILIES, causal_lm, tokenizer
from yonder.assembly.judges import load_judge
from yonder.errors import ModelError, RecipeError
from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt, read_judge_prompt
from yonder.judges.replicas import Replicas, deal
from yonder.models import packing
from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.recipe.models import FreshModel
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
    monkeypatch.setattr(scored, "_read", lambda last: numbers)
    assert scored.verdicts(PAIRS[:1])[0].mass == 0.0
    assert JudgeReward(scored, JudgeRules()).score(PAIRS[:1])[0].value is None


def test_a_long_response_is_cut_and_flagged_and_the_prompts_end_stays() -> None:
    scored = judge(max_tokens=60)
    long = ("2?", "return 1 + 1\n" * 30)
    ids, truncated = scored.prompt.tokens(*long, 60)
    assert truncated
    assert len(ids) == 60
    assert tokenizer().decode(ids).endswith("Is the solution correct? Answer only Yes or No.\nAnswer:")
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


GROUPED = [(question, f"{response}\n# {i} tries" + " and more" * i) for question, response in PAIRS for i in range(3)]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "codegen"])  # which has no fused kernel
def test_a_shared_prefix_gives_the_same_verdicts(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "HIDDEN", 0.0)  # in models so narrow it would not pay
    pairs = [*GROUPED, ("Only once?", "def solution():\n    return 1")]
    plain = [verdict.logit_gap for verdict in judge(family).verdicts(pairs)]
    assert max(plain) - min(plain) > 0.1
    for budget in (10_000, 300, 1):  # all groups at once, a few, groups cut into single rows
        shared = LocalJudge(causal_lm(family), judge(family).prompt, 120, budget, share_prefix=True)
        assert [verdict.logit_gap for verdict in shared.verdicts(pairs)] == pytest.approx(plain, abs=1e-4)


def test_a_shared_prefix_saves_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "HIDDEN", 0.0)
    fed = [0, 0]
    for i, share in enumerate((False, True)):
        scored = LocalJudge(causal_lm("llama"), judge().prompt, 120, 10_000, share)
        body = scored.trunk.body.forward

        def counted(*args: Any, input_ids: torch.Tensor, body: Any = body, i: int = i, **options: Any) -> Any:
            fed[i] += input_ids.numel()
            return body(*args, input_ids=input_ids, **options)

        with monkeypatch.context() as patch:
            patch.setattr(scored.trunk.body, "forward", counted)
            scored.verdicts(GROUPED)
    assert fed[1] < 0.7 * fed[0]


def test_a_model_that_slides_its_window_shares_no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    model = causal_lm("llama")
    monkeypatch.setattr(model.config, "sliding_window", 16, raising=False)
    for one in (model, causal_lm("codegen")):
        with pytest.raises(ModelError, match="leave the judge's `share_prefix` out"):
            LocalJudge(one, judge().prompt, 120, 10_000, share_prefix=True)
        assert not LocalJudge(one, judge().prompt, 120, 10_000, share_prefix="auto").share_prefix
    assert LocalJudge(causal_lm("qwen3"), judge().prompt, 120, 10_000, share_prefix="auto").share_prefix


def test_copies_on_several_devices_give_one_judges_verdicts() -> None:
    one, pairs = judge(), [*GROUPED, *GROUPED[:1]]
    copies = Replicas([judge(), judge()])
    expected = [verdict.logit_gap for verdict in one.verdicts(pairs)]
    assert [verdict.logit_gap for verdict in copies.verdicts(pairs)] == pytest.approx(expected, abs=1e-4)
    assert copies.verdicts([]) == []
    assert all(copy.tokens_read for copy in copies.copies)
    assert copies.tokens_read == one.tokens_read


def test_questions_are_dealt_out_whole_and_evenly() -> None:
    pairs = [("long", "x" * 90), ("a", "x" * 20), ("long", "y"), ("b", "x" * 30), ("c", "x" * 40)]
    assert deal(pairs, 2) == [[0, 2], [4, 3, 1]]
    assert deal(pairs[:1], 2) == [[0], []]


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_packed_weights(bits: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("accelerate")
    tokens = load_tokenizer("yonder:tokenizer")
    model = load_causal_lm(
        FreshModel(hidden_size=192, layers=2, heads=2, seed=0), tokens, "float32", torch.device("cpu")
    )
    model.save_pretrained(tmp_path)
    tokens.save_pretrained(tmp_path)
    settings = {"model": str(tmp_path), "device": "cpu", "mass_floor": 0.0}
    exact, packed = (load_judge(settings | {"quantize": kind}) for kind in ("none", bits))
    full, small = (judge.score(PAIRS)[1].logit_gap for judge in (exact, packed))
    kinds = {type(module).__name__ for module in packed.model.trunk.body.modules()}
    assert {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}[bits] in kinds
    assert full != small
    assert small == pytest.approx(full, abs=0.3)


def test_layers_spread_over_devices() -> None:
    pytest.importorskip("accelerate")
    alone, spread = (load_judge({"model": "yonder:judge", "device": name}) for name in ("cpu", "spread"))
    assert spread.score(PAIRS)[0].logit_gap == pytest.approx(alone.score(PAIRS)[0].logit_gap, abs=1e-3)


def test_a_served_judge_has_no_weights_to_pack() -> None:
    with pytest.raises(RecipeError, match="backend: local"):
        load_judge({"model": "x", "backend": "vllm", "server": {"urls": ["http://h"]}, "quantize": "4bit"})


def test_weights_that_cannot_be_packed_are_refused_in_one_sentence() -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("accelerate")
    try:
        load_judge({"model": "yonder:judge", "device": "cpu", "quantize": "4bit"})  # 352 columns: no multiple of 64
    except ModelError as error:
        assert "cannot be run on cpu as configured" in str(error)  # on some processors
        assert str(error).endswith("`quantize` may not take layers of these shapes here: leave it out, or use a GPU")


def test_packing_is_silent_about_a_kernel_that_nobody_asked_for() -> None:
    pytest.importorskip("bitsandbytes")
    code = (
        "import logging; logging.basicConfig(level=0); import yonder.models.loading; import bitsandbytes; "
        "logging.getLogger('bitsandbytes.backends.cpu.ops').warning('something else')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gemm_4bit_forward" not in done.stderr
    assert "something else" in done.stderr
