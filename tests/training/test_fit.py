"""Fitting a judge: balance, figures on held-out questions, adapters that go on exactly, and whole stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.pipeline.test_pipeline import write
from tests.training.test_supervised import EXAMPLES, dies_at, new_policy, plan, trainer
from yonder.judges.local import LocalJudge
from yonder.models.lora import Lora, add_lora
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.rewards.judge import JudgeRules, Verdict
from yonder.schema import Response
from yonder.training.fit import balanced, calibration, judge_quality, split_by_question
from yonder.training.sft_losses import LanguageLoss
from yonder.training.supervised import Example, Supervised

FIT = {
    "name": "judge", "kind": "fit-judge", "model": "yonder:judge", "data": ["train"],
    "negatives": {"wrong-operator": 1.0}, "held_out": 0.3, "epochs": 3, "batch_size": 8, "optimizer": {"lr": 1e-3},
}  # fmt: skip


def test_balanced_has_all_of_the_rarer_label_and_draws_the_rest_anew() -> None:
    examples = [Example((1, 2, i), target=2, label=int(i < 3)) for i in range(12)]
    epochs = [balanced(examples, seed=0, epoch=epoch) for epoch in range(6)]
    for found in epochs:
        assert [e.label for e in found].count(1) == [e.label for e in found].count(0) == 3
        assert found[:3] == examples[:3]
        assert [examples.index(e) for e in found] == sorted(examples.index(e) for e in found)
    assert balanced(examples, seed=0, epoch=2) == epochs[2]
    assert len({e for found in epochs for e in found}) > 8  # over epochs nearly all are seen


def test_a_question_under_two_ids_is_on_one_side() -> None:
    responses = [Response(f"{i}-{copy}", f"question {i}?", "r", True, "s") for i in range(200) for copy in "ab"]
    training, held_out = split_by_question(responses, 0.2, 7)
    assert 20 <= len({r.question for r in held_out}) <= 60 and len(training) + len(held_out) == 400
    assert not {r.question for r in training} & {r.question for r in held_out}
    assert split_by_question(responses[::-1], 0.2, 7)[1] == held_out[::-1]


def test_calibration_by_hand() -> None:
    # four scores, each its own bin: |1 - 0.9|, |0 - 0.6|, |0 - 0.2|, |1 - 0.5|, mean 0.35; 1 of 2 wrong ones is liked
    found = calibration([0.9, 0.6, 0.2, 0.5], [True, False, False, True])
    assert found == {"held_out/ece": pytest.approx(0.35), "held_out/false_positive_rate": 0.5}
    assert "held_out/false_positive_rate" not in calibration([0.9], [True])  # no wrong response: not measured
    assert calibration([], []) == {}


def test_what_the_judge_cannot_read_is_left_out_of_the_figures() -> None:
    class Reader(LocalJudge):
        def __init__(self) -> None:
            pass

        def verdicts(self, pairs: Any) -> list[Verdict]:
            return [Verdict(2.0, 1.0), Verdict(reason="too long", truncated=True), Verdict(1.0, 1.0)]

    responses = [Response(str(i), "q", "r", correct, "test") for i, correct in enumerate((True, True, False))]
    found = judge_quality(Reader(), responses, JudgeRules(program=False))()
    assert found["held_out/accuracy"] == 0.5
    # log sigmoid(2) = -0.126928, log sigmoid(-1) = -1.313262
    assert found["held_out/log_likelihood"] == pytest.approx((-0.126928 - 1.313262) / 2, abs=1e-5)


def adapted(folder: Path, **other: object) -> Supervised:
    policy = new_policy()
    add_lora(policy.model, Lora(rank=4, dropout=0.3), seed=0)
    return trainer(folder, policy, LanguageLoss(policy, 0.0), plan(), **other)


def test_an_adapter_resumed_equals_unbroken_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    whole = adapted(tmp_path / "whole")
    whole.run()
    broken = adapted(tmp_path / "broken", examples=dies_at(4))
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = adapted(tmp_path / "broken")
    resumed.run()
    assert resumed.store.latest() == tmp_path / "broken/c/step-00000006"
    first, second = whole.policy.model.state_dict(), resumed.policy.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    frozen, start = dict(new_policy().model.named_parameters()), dict(whole.policy.model.named_parameters())
    assert all(torch.equal(start[name], frozen[name]) for name in frozen if name in start)
    assert any("lora_B" in name and bool(p.any()) for name, p in start.items())
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("output", ["yes-no", "classifier"])
def test_a_stage_with_an_adapter_hands_on_plain_weights_and_says_how_good_they_are(tmp_path: Path, output: str) -> None:
    pytest.importorskip("peft")
    model = "yonder:judge" if output == "yes-no" else {"hidden_size": 32, "layers": 1, "heads": 2}
    stage = FIT | {"output": output, "model": model, "tokenizer": "yonder:tokenizer", "lora": {"rank": 4}}
    result = run(load_recipe(str(write(tmp_path, [stage]))))["stages"]["judge"]
    assert set(result["held_out_figures"]) == {"accuracy", "log_likelihood", "ece", "false_positive_rate", "brier"}
    rows = [json.loads(line) for line in (tmp_path / "run/stages/judge/metrics.jsonl").read_text().splitlines()]
    best = max(rows, key=lambda row: row["held_out/log_likelihood"])
    assert result["held_out_figures"]["ece"] == best["held_out/ece"]
    folder = tmp_path / "run/stages/judge" / result["checkpoint"]
    kind = AutoModelForCausalLM if output == "yes-no" else AutoModelForSequenceClassification
    loaded, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert not any("lora" in name for name in loaded.state_dict())
    assert not (folder / "adapter_config.json").exists()


def test_patience_ends_a_fit_and_balance_evens_the_labels(tmp_path: Path) -> None:
    stage = FIT | {"epochs": 9, "patience": 1, "balance": "undersample", "optimizer": {"lr": 0.3}}
    stage["negatives"] = {"wrong-operator": 0.5}
    result = run(load_recipe(str(write(tmp_path, [stage]))))["stages"]["judge"]
    assert result["epochs"] < 9
    assert result["epochs"] == result["chosen_step"] + 1
    rows = [json.loads(line) for line in (tmp_path / "run/stages/judge/metrics.jsonl").read_text().splitlines()]
    wrong = round(result["training"] * (1 - result["correct_share"]))
    assert {row["examples"] for row in rows} == {2 * wrong}
    assert wrong < result["training"] / 2
