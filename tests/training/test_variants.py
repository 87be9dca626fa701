"""Every variant of the recipe learns the trivial task; each knob does what it says; all resume exactly."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.training.test_learning import rewards, weights
from tests.training.tools import LENIENT, WordReward, tiny_distiller, tiny_policy
from yonder.errors import ModelError, TrainingError
from yonder.models.loading import load_tokenizer
from yonder.models.teacher import Guide, Teacher
from yonder.recipe.stages import DistillStage
from yonder.schema import Rollout, Score
from yonder.stages.plans import estimator, kl_control, loss_settings
from yonder.training.distill import Distiller
from yonder.training.monitor import Monitor
from yonder.training.optimizer import build_optimizer
from yonder.training.rollout import Term
from yonder.training.signal import Refill

LIMIT = 4  # tokens a completion
VARIANTS: dict[str, dict[str, Any]] = {
    "ppo": {"algorithm": "ppo"},
    "head-warmup": {"ppo": {"head_warmup": 4, "value_lr": 0.02, "stop_gradient": True}},
    "grpo": {"algorithm": "grpo"},
    "dr-grpo": {"algorithm": "dr-grpo"},
    "dapo": {"algorithm": "dapo"},
    "gspo": {"algorithm": "gspo"},
    "cispo": {"algorithm": "cispo"},
    "rloo": {"algorithm": "rloo"},
    "reinforce++": {"algorithm": "reinforce++"},
    "reinforce++-baseline": {"algorithm": "reinforce++-baseline"},
    "dual-clip": {"algorithm": "grpo", "dual_clip": 3.0},
    "importance": {"algorithm": "grpo", "importance_cap": 2.0},
    "kl-k1": {"algorithm": "grpo", "kl": {"estimator": "k1", "beta": 0.001}},
    "adaptive": {"algorithm": "grpo", "kl": {"place": "reward", "beta": 0.001, "target": 0.5}},
}
OFF_POLICY: dict[str, dict[str, Any]] = {"dual-clip": {"epochs": 4}}  # a ratio of 3 takes more than two


def stage_of(**knobs: Any) -> DistillStage:
    tree = {
        "name": "tiny", "kind": "distill", "steps": 80, "prompts": {"s0": 4}, "group_size": 8,
        "ppo": {"value_coef": 0.5}, "kl": {"beta": 0.001}, "terms": [{"reward": "word", "data": "s0", "weight": 1.0}],
    }  # fmt: skip
    nested = {key: tree.get(key, {}) | knobs[key] if isinstance(knobs[key], dict) else knobs[key] for key in knobs}
    return DistillStage.model_validate(tree | nested)


def variant(folder: Path, steps: int, knobs: dict[str, Any], **plan: Any) -> Distiller:
    """The tiny task with the settings of a stage, as `run_distill` would make them."""
    stage = stage_of(**knobs)
    recipe: Any = SimpleNamespace(policy=SimpleNamespace(max_completion_tokens=LIMIT))
    made = tiny_distiller(
        folder, "ppo" if stage.algorithm == "ppo" else "grpo", steps,
        value_per_term=stage.ppo.value_per_term, value_lr=stage.ppo.value_lr,
        refill=Refill(stage.dynamic.refills, stage.dynamic.tolerance), **plan,
    )  # fmt: skip
    made.learner.estimator, made.learner.loss, made.learner.kl = (
        estimator(stage, recipe),
        loss_settings(stage, recipe, torch.device("cpu")),
        kl_control(stage),
    )
    return made


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", list(VARIANTS))
def test_learns_the_trivial_task(tmp_path: Path, name: str) -> None:
    made = variant(tmp_path, 120, VARIANTS[name], save_every=120, **OFF_POLICY.get(name, {}))
    if name == "importance":
        of_other_numbers(made)
    made.run()
    found = rewards(tmp_path)
    assert found[0] < 0.2
    assert sum(found[-5:]) / 5 > 0.9


def of_other_numbers(made: Distiller) -> None:
    """The sampler's log-probs differ from the trainer's by about half a nat, of either sign."""
    sample = made.sampler.sample
    made.sampler.sample = lambda *a, **k: [jittered(r) for r in sample(*a, **k)]  # type: ignore[method-assign]


def jittered(rollout: Rollout) -> Rollout:
    rng = random.Random(str(rollout.completion.token_ids))
    logprobs = tuple(x + rng.gauss(0, 0.5) for x in rollout.completion.logprobs)
    return replace(rollout, completion=replace(rollout.completion, logprobs=logprobs))


def test_what_the_variants_learn_from_is_not_what_grpo_does(tmp_path: Path) -> None:
    """Off their own policy, where it matters: in later epochs, or with rollouts of another program's numbers."""

    def learned(name: str, other: bool = False, **knobs: Any) -> dict[str, torch.Tensor]:
        made = variant(tmp_path / name, 24, {"algorithm": "grpo"} | knobs, epochs=4, save_every=24)
        if other:
            of_other_numbers(made)
        made.run()
        return weights(made)

    def differ(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
        return any(not torch.equal(first[name], second[name]) for name in first)

    assert differ(learned("grpo"), learned("dual", dual_clip=3.0))
    wide = learned("wide", True, importance_cap=100.0)
    assert differ(wide, learned("capped", True, importance_cap=2.0))
    shares = [row["policy/importance_capped"] for row in rows(tmp_path / "capped")]
    assert all(0 < share < 0.5 for share in shares)
    assert differ(wide, learned("same", importance_cap=100.0))


def test_bootstrap_learns_from_completions_that_end(tmp_path: Path) -> None:
    """A wanted token ends the completion here; what is cut has the value of its last state and no score."""
    made = variant(tmp_path, 100, {"truncated": "bootstrap", "kl": {"beta": 0.0}}, save_every=100)
    made.sampler.encoder.end_ids = tuple(range(0, 4096, 16))  # type: ignore[attr-defined]
    made.run()
    found = rewards(tmp_path)
    assert found[0] < 0.3
    assert sum(found[-5:]) / 5 > 0.9


class KindToTheCut(WordReward):
    """A completion that was cut has more than any that ended."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        pairs = zip(rollouts, super().score(rollouts), strict=True)
        return [Score(0.5 * (score.value or 0.0) if r.completion.finished else 1.0) for r, score in pairs]


def lengths(folder: Path) -> tuple[float, float]:
    """Tokens a completion at first and at last."""
    found = [row["rollouts/s0/length_mean"] for row in rows(folder)]
    return found[0], sum(found[-5:]) / 5


@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_masked_learns_from_completions_that_end(tmp_path: Path, algorithm: str) -> None:
    """A wanted token ends the completion here, best the first one; what is cut teaches nothing, whatever it scores."""
    made = variant(tmp_path, 120, {"algorithm": algorithm, "truncated": "mask"}, save_every=120)
    made.sampler.encoder.end_ids = tuple(range(0, 4096, 16))  # type: ignore[attr-defined]
    made.terms = [replace(made.terms[0], reward=KindToTheCut())]
    made.run()
    first, last = lengths(tmp_path)
    assert first > 3
    assert last < 1.2


def test_overlong_learns_to_end(tmp_path: Path) -> None:
    """What ends a completion here is not wanted, and costs less than each token more."""
    made = variant(tmp_path, 120, {"algorithm": "grpo", "overlong": {"margin": 3, "weight": 2.0}}, save_every=120)
    made.sampler.encoder.end_ids = tuple(range(8, 4096, 16))  # type: ignore[attr-defined]
    made.run()
    first, last = lengths(tmp_path)
    assert first > 3
    assert last < 1.2


def test_terms_that_share_one_output_of_the_value_head_learn(tmp_path: Path) -> None:
    made = variant(tmp_path, 120, {"ppo": {"value_per_term": False}}, terms=2, save_every=120)
    assert made.learner.policy.value_head is not None and made.learner.policy.value_head.out_features == 1
    made.run()
    found = rows(tmp_path)
    for term in ("word@s0", "word@s1"):
        assert found[0][f"terms/{term}/reward_mean"] < 0.2
        assert sum(row[f"terms/{term}/reward_mean"] for row in found[-5:]) / 5 > 0.9


@pytest.mark.parametrize(
    "knobs",
    [
        {"algorithm": "grpo", "dynamic": {"refills": 2}, "kl": {"target": 0.01}},
        {"ppo": {"head_warmup": 6, "value_lr": 0.02, "stop_gradient": True}, "truncated": "mask"},
    ],
)
def test_resumed_equals_unbroken(tmp_path: Path, knobs: dict[str, Any]) -> None:
    whole, broken = (variant(tmp_path / name, 12, knobs) for name in ("whole", "broken"))
    for made in (whole, broken):
        made.sampler.encoder.end_ids = tuple(range(0, 4096, 3))  # type: ignore[attr-defined]
    whole.run()
    broken._resume()
    for _ in range(3):
        metrics, _ = broken.iterate()
        broken.recorder.metrics(metrics)
        if broken.step == 4:
            broken.save()
    resumed = variant(tmp_path / "broken", 12, knobs)
    resumed.sampler.encoder.end_ids = tuple(range(0, 4096, 3))  # type: ignore[attr-defined]
    resumed.run()
    first, second = weights(whole), weights(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert resumed.learner.kl.scale == whole.learner.kl.scale
    if "kl" in knobs:
        assert whole.learner.kl.scale != 1.0


def test_the_policy_waits_while_the_value_head_warms_up(tmp_path: Path) -> None:
    made = variant(tmp_path, 8, {"ppo": {"head_warmup": 3}}, weight_decay=0.1)
    before = weights(made)
    made.iterate()  # updates 0 and 1
    after = weights(made)
    assert all(torch.equal(before[n], after[n]) for n in before if not n.startswith("value_head"))
    assert not torch.equal(before["value_head.weight"], after["value_head.weight"])
    made.iterate()  # 2 waits, 3 moves
    later = weights(made)
    assert any(not torch.equal(before[n], later[n]) for n in before if not n.startswith("value_head"))


def test_the_value_head_has_its_own_learning_rate_on_the_policys_schedule(tmp_path: Path) -> None:
    made = variant(tmp_path, 8, {"ppo": {"value_lr": 0.02}}, schedule="linear")
    made.iterate()
    made.iterate()  # its last update is number 3 of 8: 1 - 3 / 8 of the peak, 1e-2 and 2e-2
    policy, head = made.learner.optimizer.param_groups
    assert (policy["lr"], head["lr"]) == pytest.approx((0.00625, 0.0125))
    assert [p.shape for p in head["params"]] == [(1, 32), (1,)]
    assert len(build_optimizer(made.learner.policy, 0.1, None, 0.0).param_groups) == 1


@pytest.mark.parametrize("stop", [False, True])
def test_stop_gradient_keeps_the_value_loss_out_of_the_trunk(stop: bool) -> None:
    policy = tiny_policy(1)
    torch.nn.init.ones_(policy.value_head.weight)  # type: ignore[union-attr]
    ids, mask = torch.arange(5, 11).unsqueeze(0), torch.ones(1, 6).long()
    outputs = policy(ids, mask, torch.tensor([2]), torch.ones(1, 4), 1.0, (), stop)
    assert outputs.values is not None and outputs.values.abs().sum() > 0
    outputs.values.sum().backward()
    touched = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "value_head.weight" in touched
    assert any(name.startswith("model") for name in touched) is not stop


def test_the_value_head_is_float32_and_reads_the_state_after_the_last_token() -> None:
    policy = tiny_policy(1)
    policy.model.to(torch.bfloat16)
    torch.nn.init.ones_(policy.value_head.weight)  # type: ignore[union-attr]
    ids = torch.tensor([[5, 6, 7, 8, 0], [9, 10, 11, 12, 13]])
    attention = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    starts, mask = torch.tensor([2, 2]), torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    found = policy(ids, attention, starts, mask, 1.0)
    assert found.values is not None and found.values.dtype == torch.float32
    assert found.final_values is not None and not found.final_values.requires_grad
    hidden = policy.trunk.hidden(ids, attention).float().sum(-1)  # weights of one, no bias
    assert found.final_values[:, 0].tolist() == pytest.approx([hidden[0, 3].item(), hidden[1, 4].item()], rel=1e-4)
    assert found.values[1, :, 0].tolist() == pytest.approx(hidden[1, 1:4].tolist(), rel=1e-4)


def test_a_sampler_of_other_numbers_needs_a_correction(tmp_path: Path) -> None:
    for cap, name in ((None, "plain"), (2.0, "corrected")):
        made = variant(tmp_path / name, 2, {"algorithm": "grpo", "importance_cap": cap}, epochs=1)
        sample = made.sampler.sample
        made.sampler.sample = lambda *a, sample=sample, **k: [shifted(r) for r in sample(*a, **k)]  # type: ignore
        if cap is None:
            with pytest.raises(TrainingError, match=r"within 0\.1, or be corrected"):
                made.run()
        else:
            made.run()
            # every weight is exp(0.8) = 2.2, cut to 2
            assert [row["policy/importance_capped"] for row in rows(tmp_path / name)] == [1.0, 1.0]


def shifted(rollout: Rollout) -> Rollout:
    logprobs = tuple(x - 0.8 for x in rollout.completion.logprobs)
    return replace(rollout, completion=replace(rollout.completion, logprobs=logprobs))


# ----- teachers


def taught(folder: Path, steps: int, terms: list[tuple[str, float]], top_k: int = 0) -> Distiller:
    """The tiny task with a teacher of other weights on stream `s1`."""
    made = tiny_distiller(folder, "grpo", steps, terms=len(terms), save_every=steps, lr=1e-2)
    other = tiny_policy(seed=5)
    with torch.no_grad():
        other.trunk.head.weight.mul_(10)  # not near uniform
    teacher = Teacher(other.model, other.tokenizer, made.learner.policy.tokenizer, top_k)
    made.terms = [
        Term("teacher", t.stream, weight, None, teacher) if kind == "teacher" else replace(t, weight=weight)
        for t, (kind, weight) in zip(made.terms, terms, strict=True)
    ]
    made.monitor = Monitor(LENIENT, [t for t in made.terms if t.teacher is None], [], None)
    return made


@pytest.mark.parametrize("top_k", [0, 64])
def test_the_reverse_kl_to_a_teacher_falls(tmp_path: Path, top_k: int) -> None:
    made = taught(tmp_path, 40, [("teacher", 1.0)], top_k)
    made.run()
    found = [row["terms/teacher@s0/reverse_kl"] for row in rows(tmp_path)]
    assert found[0] > 0.05
    assert min(found) >= 0
    assert sum(found[-3:]) / 3 < 0.5 * found[0]


def test_a_teacher_beside_a_reward(tmp_path: Path) -> None:
    made = taught(tmp_path, 4, [("word", 0.5), ("teacher", 0.5)])
    result = made.run()
    assert result["weights"] == {"word@s0": 0.5, "teacher@s1": 0.5}
    for row in rows(tmp_path):
        assert {"terms/word@s0/policy_loss", "terms/word@s0/reward_mean"} <= set(row)
        assert "terms/teacher@s1/policy_loss" not in row
        assert row["terms/teacher@s1/reverse_kl"] > 0
        # L = 0.5 * (policy loss + KL of the reward's term) + 0.5 * reverse KL
        rest = row["loss"] - 0.5 * row["terms/teacher@s1/reverse_kl"] - 0.5 * row["terms/word@s0/policy_loss"]
        assert 0 <= rest < 0.01


def test_the_divergence_is_that_of_the_whole_models_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, other = tiny_policy(), tiny_policy(seed=5)
    teacher = Teacher(other.model, other.tokenizer, policy.tokenizer, 0)
    ids = torch.tensor([[5, 6, 7, 8, 0], [9, 10, 11, 12, 13], [1, 2, 3, 4, 5]])
    attention = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    starts, mask = torch.tensor([2, 2, 3]), torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    asked = mask * torch.tensor([1.0, 1.0, 0.0]).unsqueeze(-1)
    monkeypatch.setattr("yonder.models.policy.LOGITS_AT_ONCE", 2 * 4096)  # two tokens at a time
    (found,) = policy(ids, attention, starts, mask, 0.7, [Guide(teacher, asked)]).divergences
    ours = torch.log_softmax(policy.model(input_ids=ids).logits / 0.7, -1)
    theirs = torch.log_softmax(other.model(input_ids=ids).logits / 0.7, -1)
    kl = (ours.exp() * (ours - theirs)).sum(-1).detach()
    expected = [[kl[0, 1], kl[0, 2], 0], [kl[1, 1], kl[1, 2], kl[1, 3]], [0, 0, 0]]
    assert torch.allclose(found.detach(), torch.tensor(expected), atol=1e-6)
    found.sum().backward()
    assert all(p.grad is None for p in other.model.parameters())
    assert any(p.grad is not None for p in policy.model.parameters())


def test_a_teacher_with_another_tokenizer_is_refused() -> None:
    policy, other = tiny_policy(), load_tokenizer("yonder:tokenizer")
    other.add_tokens(["<one more>"])
    with pytest.raises(ModelError, match="different tokenizers"):
        Teacher(tiny_policy().model, other, policy.tokenizer, 0)
