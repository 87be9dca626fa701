"""The loss of a batch made by hand, micro-batches, unscored rows, and one optimizer step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.tiny import CPU, causal_lm, policy, prompts, sampler, tokenizer
from yonder.errors import TrainingError
from yonder.models.policy import Policy, SequenceOutputs
from yonder.training.batch import Batch, pack
from yonder.training.rollout import Term
from yonder.training.update import PER_TOKEN, LossSettings, annotate, loss_of, rollout_gap, update

TERMS = [Term("verifiable", "labeled", 0.75, None), Term("judge", "unlabeled", 0.25, None)]  # type: ignore[arg-type]


def batch_of(**tensors: Tensor) -> Batch:
    """Two rows: a completion of two tokens of term 0, and one of one token of term 1."""
    rows = 2
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    given = {
        "input_ids": torch.ones(rows, 3).long(),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "completion_starts": torch.ones(rows).long(),
        "completion_mask": mask,
        "rollout_logprobs": torch.zeros(rows, 2),
        "groups": torch.arange(rows),
        "scores": torch.zeros(rows, 2),
        "scored": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        "old_logprobs": torch.zeros(rows, 2),
        "reference_logprobs": torch.zeros(rows, 2),
        "old_values": torch.zeros(rows, 2, 2),
        "advantages": torch.zeros(rows, 2, 2),
        "returns": torch.zeros(rows, 2, 2),
        "truncated": torch.zeros(rows),
        "final_values": torch.zeros(rows, 2),
    }
    return Batch(**given | tensors)


def column(first: list[float], second: list[float]) -> Tensor:
    """(2, 2, 2): term 0's column on row 0, term 1's on row 1, junk everywhere else."""
    return torch.tensor([[[first[0], 9.0], [first[1], 9.0]], [[9.0, second[0]], [9.0, 9.0]]])


RATIOS = torch.tensor([[1.5, 0.5], [0.5, 7.0]]).log()  # of policy to old, as old_logprobs are 0
ADVANTAGES = column([1.0, 2.0], [-1.0])
# term 0: max(-1.5, -1.2) = -1.2 (clipped), max(-2 * 0.5, -2 * 0.8) = -1.0; mean -1.1
# term 1: max(0.5, 0.8) = 0.8 (clipped)
POLICY = 0.75 * -1.1 + 0.25 * 0.8  # -0.625


def test_ppo_total_by_hand() -> None:
    # values: V_old 0 everywhere, clip 0.2, coefficient 0.5
    # term 0: V = 0.1, R = 1: 0.81; V = 0.6, R = 1: max(0.16, (0.2 - 1)^2 = 0.64); 0.5 * (0.81 + 0.64) / 2 = 0.3625
    # term 1: V = -0.5, R = 0: max(0.25, 0.04) = 0.25; 0.5 * 0.25 = 0.125
    # total: 0.75 * (-1.1 + 0.5 * 0.3625) + 0.25 * (0.8 + 0.5 * 0.125) = -0.6890625 + 0.215625 = -0.4734375
    batch = batch_of(advantages=ADVANTAGES, returns=column([1.0, 1.0], [0.0]))
    outputs = SequenceOutputs(RATIOS, torch.full((2, 2), 0.7), column([0.1, 0.6], [-0.5]))
    settings = LossSettings(0.2, 0.0, 0.5, 0.2, 1.0, 1.0, 1000)
    loss, metrics = loss_of(batch, outputs, TERMS, [1.0, 1.0], settings, [0, 1])
    assert loss.item() == pytest.approx(-0.4734375, abs=1e-6)
    assert metrics["terms/verifiable@labeled/policy_loss"] == pytest.approx(-1.1, abs=1e-6)
    assert metrics["terms/judge@unlabeled/policy_loss"] == pytest.approx(0.8, abs=1e-6)
    assert metrics["terms/verifiable@labeled/value_loss"] == pytest.approx(0.3625, abs=1e-6)
    assert metrics["terms/judge@unlabeled/value_loss"] == pytest.approx(0.125, abs=1e-6)
    assert metrics["policy/clip_fraction"] == 2.0  # sums over tokens; `update` divides by their number
    assert metrics["policy/entropy_nats"] == pytest.approx(2.1, abs=1e-6)
    # k1 to a reference of 0: ln 1.5 + ln 0.5 + ln 0.5 = -0.9808293
    # k3 of old against policy, each token ratio - 1 - ln ratio:
    #   0.5 - 0.4054651 = 0.0945349, -0.5 + 0.6931472 = 0.1931472 twice
    assert metrics["policy/kl_nats"] == pytest.approx(-0.9808293, abs=1e-6)
    assert metrics["policy/approx_kl"] == pytest.approx(0.4808293, abs=1e-6)


def test_grpo_total_by_hand() -> None:
    # k3 to a reference of 0, q/p = 1/ratio: 2/3 - 1 + ln 1.5 = 0.0721318, 2 - 1 + ln 0.5 = 0.3068528 (twice)
    # rows: (0.0721318 + 0.3068528) / 2 = 0.1894923, 0.3068528; beta 0.1, once for each scored term, weighted with it
    # total: -0.625 + 0.1 * (0.75 * 0.1894923 + 0.25 * 0.3068528) = -0.625 + 0.0218832 = -0.6031168
    settings = LossSettings(0.2, 0.1, 0.0, 0.2, 1.0, 1.0, 1000)
    outputs = SequenceOutputs(RATIOS, torch.zeros(2, 2), None)
    loss, metrics = loss_of(batch_of(advantages=ADVANTAGES), outputs, TERMS, [1.0, 1.0], settings, [])
    assert loss.item() == pytest.approx(-0.6031168, abs=1e-6)
    assert metrics["terms/judge@unlabeled/policy_loss"] == pytest.approx(0.8, abs=1e-6)  # without the KL
    assert not any("value_loss" in name for name in metrics)


def test_k1_as_a_loss_by_hand() -> None:
    # rows: (ln 1.5 + ln 0.5) / 2 = -0.1438410, ln 0.5 = -0.6931472
    # total: -0.625 + 0.1 * (0.75 * -0.1438410 + 0.25 * -0.6931472) = -0.625 - 0.0281168 = -0.6531168
    settings = LossSettings(0.2, 0.1, 0.0, 0.2, 1.0, 1.0, 1000, kl_estimator="k1")
    outputs = SequenceOutputs(RATIOS, torch.zeros(2, 2), None)
    loss, _ = loss_of(batch_of(advantages=ADVANTAGES), outputs, TERMS, [1.0, 1.0], settings, [])
    assert loss.item() == pytest.approx(-0.6531168, abs=1e-6)


def test_a_term_is_divided_by_the_count_of_the_whole_batch() -> None:
    outputs = SequenceOutputs(RATIOS, torch.zeros(2, 2), None)
    settings = LossSettings(0.2, 0.0, 0.0, 0.2, 1.0, 1.0, 1000)
    loss, _ = loss_of(batch_of(advantages=ADVANTAGES), outputs, TERMS, [4.0, 2.0], settings, [])
    assert loss.item() == pytest.approx(0.75 * -1.1 / 4 + 0.25 * 0.8 / 2, abs=1e-6)


def test_terms_may_share_an_output_of_the_value_head() -> None:
    batch = batch_of(advantages=ADVANTAGES, returns=column([1.0, 1.0], [0.0]))
    shared = torch.tensor([[[0.1], [0.6]], [[-0.5], [9.0]]])  # (2, 2, 1)
    settings = LossSettings(0.2, 0.0, 0.5, 0.2, 1.0, 1.0, 1000)
    loss, _ = loss_of(batch, SequenceOutputs(RATIOS, torch.zeros(2, 2), shared), TERMS, [1.0, 1.0], settings, [0, 0])
    assert loss.item() == pytest.approx(-0.4734375, abs=1e-6)  # the same values as in the PPO case


# ----- importance weights, token-mean and KL together


class Table(torch.nn.Module):
    """A policy whose log-probs are its weights; a sequence's first token is the number of its row."""

    def __init__(self, logprobs: Tensor) -> None:
        super().__init__()
        self.logprobs = torch.nn.Parameter(logprobs)

    def forward(self, ids: Tensor, attention: Tensor, starts: Tensor, mask: Tensor, *_: object) -> SequenceOutputs:
        found = self.logprobs[ids[:, 0], : mask.shape[1]]
        return SequenceOutputs(found, torch.full_like(found, 0.7), None)


OLD = torch.tensor([[-3.0, -2.0], [-4.0, 5.0]])
# term 0 has both rows, term 1 the second; policy / old as in RATIOS, old / rollout 3, 0.5 and 0.8, junk outside
CORRECTED = batch_of(
    input_ids=torch.tensor([[0, 1, 1], [1, 1, 0]]),
    scored=torch.tensor([[1.0, 0.0], [1.0, 1.0]]),
    old_logprobs=OLD,
    rollout_logprobs=OLD - torch.tensor([[3.0, 0.5], [0.8, 9.0]]).log(),
    reference_logprobs=OLD + RATIOS - torch.tensor([[1.0, 2.0], [3.0, 7.0]]),
    advantages=torch.tensor([[[1.0, 9.0], [2.0, 9.0]], [[-2.0, -1.0], [9.0, 9.0]]]),
)


@pytest.mark.parametrize("budget", [1, 1000])
def test_truncated_importance_weights_with_the_mean_over_tokens_and_a_kl_by_hand(budget: int) -> None:
    # weights: min(3, 2) = 2, 0.5, 0.8
    # term 0: 2 * max(-1.5, -1.2) = -2.4 (clipped), 0.5 * max(-1, -1.6) = -0.5, 0.8 * max(1, 1.6) = 1.28 (clipped);
    #   over its 3 tokens -0.54; KL (k2) 1 / 2, 4 / 2, 9 / 2: 7 / 3
    # term 1: 0.8 * max(0.5, 0.8) = 0.64 (clipped), over its one token; KL 4.5
    # total: 0.75 * (-0.54 + 0.1 * 7 / 3) + 0.25 * (0.64 + 0.1 * 4.5) = -0.23 + 0.2725
    settings = LossSettings(
        0.2, 0.1, 0.0, 0.2, 1.0, 1e9, budget, average="token-mean", kl_estimator="k2", importance_cap=2.0
    )
    model: Any = Table(OLD + RATIOS)
    metrics = update(model, torch.optim.SGD(model.parameters(), lr=0.0), CORRECTED, TERMS, settings, [])
    assert metrics["loss"] == pytest.approx(0.0425, abs=1e-6)
    assert metrics["terms/verifiable@labeled/policy_loss"] == pytest.approx(-0.54, abs=1e-6)
    assert metrics["terms/judge@unlabeled/policy_loss"] == pytest.approx(0.64, abs=1e-6)
    assert metrics["policy/importance_capped"] == pytest.approx(1 / 3, abs=1e-6)
    assert metrics["policy/clip_fraction"] == pytest.approx(2 / 3, abs=1e-6)
    # gradients: of the KL alone where the clip is active, 0.75 * 0.1 * 1 / 3 and (0.75 / 3 + 0.25) * 0.1 * 3;
    #   else with 0.75 * -2 * 0.5 * 0.5 / 3 of the policy loss, 0.05 - 0.125
    expected = torch.tensor([[0.025, -0.075], [0.15, 0.0]])
    assert torch.allclose(model.logprobs.grad, expected, atol=1e-6)


def test_the_controllers_scale_multiplies_the_kl_in_the_loss() -> None:
    # KL of term 0: 7 / 3, of term 1: 4.5; 0.75 * 7 / 3 + 0.25 * 4.5 = 2.875, times beta 0.1, times the scale
    plain = LossSettings(0.2, 0.1, 0.0, 0.2, 1.0, 1e9, 1000, average="token-mean", kl_estimator="k2")
    outputs = SequenceOutputs(OLD + RATIOS, torch.zeros(2, 2), None)
    one, three = (
        loss_of(CORRECTED, outputs, TERMS, [3.0, 1.0], plain.at(0, scale), [])[0].item() for scale in (1.0, 3.0)
    )
    assert three - one == pytest.approx(2 * 0.2875, abs=1e-6)


# ----- on a model


def learner(outputs: int = 2) -> Policy:
    """A copy that may be trained, its value head off zero."""
    from copy import deepcopy

    made = Policy(deepcopy(causal_lm("llama")), tokenizer(), outputs)
    if made.value_head is not None:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            made.value_head.weight.copy_(0.1 * torch.randn_like(made.value_head.weight))
    return made


PPO = LossSettings(0.2, 0.01, 0.5, 0.2, 1.0, 1e9, 100_000)


def sampled(count: int = 6) -> Batch:
    """Rollouts of unequal length of both terms, with advantages at random; row 0 is unscored."""
    model = sampler("llama", 8)
    model.encoder.end_ids = tuple(range(0, 4096, 5))
    rollouts = model.sample(prompts(), count // 3, 1.0, seed=2)
    batch = pack(rollouts, range(count), 2, CPU)
    generator = torch.Generator().manual_seed(1)
    scored = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    shape = (*batch.completion_mask.shape, 2)
    batch = batch.with_(
        scored=scored,
        advantages=torch.randn(shape, generator=generator),
        returns=torch.randn(shape, generator=generator),
    )
    batch = annotate(batch, learner(), policy("gpt2"), PPO, [0, 1])
    noise = 0.3 * torch.randn(batch.old_logprobs.shape, generator=generator)
    return batch.with_(old_logprobs=batch.old_logprobs + noise)


def gradients(batch: Batch, budget: int, cap: float | None = None) -> tuple[list[Tensor], dict[str, float]]:
    model = learner()
    settings = LossSettings(0.2, 0.01, 0.5, 0.2, 1.0, 1e9, budget, importance_cap=cap)
    metrics = update(model, torch.optim.SGD(model.parameters(), lr=0.0), batch, TERMS, settings, [0, 1])
    return [p.grad.clone() for p in model.parameters() if p.grad is not None], metrics


def test_micro_batches_give_the_gradient_of_the_whole_batch() -> None:
    batch = sampled()
    assert len(set(batch.lengths)) > 3
    (whole, ours), (parts, theirs) = gradients(batch, 100_000), gradients(batch, 1)
    assert sum(float((g**2).sum()) for g in whole) > 1e-3
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, parts, strict=True))
    for name in ("loss", "grad_norm", "terms/judge@unlabeled/policy_loss", "terms/verifiable@labeled/value_loss"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-5)


def test_unscored_rows_change_nothing() -> None:
    batch = sampled()
    alone = batch.rows(range(1, 6))
    wild = batch.advantages.clone()
    wild[0] = 1e3
    (with_row, ours), (without, theirs) = gradients(batch.with_(advantages=wild), 100_000), gradients(alone, 100_000)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(with_row, without, strict=True))
    for name in ("loss", "terms/verifiable@labeled/policy_loss", "terms/verifiable@labeled/explained_variance"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-5)


@pytest.mark.parametrize("budget", [1, 100, 100_000])
def test_means_over_tokens_count_only_scored_rows_however_they_are_divided(budget: int) -> None:
    batch = sampled()  # row 0 has no score, and numbers of its own
    odd = {name: getattr(batch, name).clone() for name in ("old_logprobs", "rollout_logprobs", "reference_logprobs")}
    odd["old_logprobs"][0] += 3.0
    odd["rollout_logprobs"][0] -= 3.0
    odd["reference_logprobs"][0] -= 3.0
    _, ours = gradients(batch.with_(**odd), budget, 1.2)
    _, theirs = gradients(batch.rows(range(1, 6)), 100_000, 1.2)
    assert theirs["policy/entropy_nats"] > 0.1
    assert theirs["policy/clip_fraction"] > 0.1
    assert theirs["policy/importance_capped"] > 0.1
    for name in (*PER_TOKEN, "policy/importance_capped"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_positive_advantage_makes_its_tokens_likelier_and_a_negative_one_less(sign: float) -> None:
    one = sampled().rows([2])
    one = one.with_(scored=torch.ones(1, 2), advantages=torch.full_like(one.advantages, sign))
    model = learner()
    settings = LossSettings(0.2, 0.0, 0.0, 0.2, 1.0, 1.0, 100_000)
    before = annotate(one, model, None, settings, [0, 1])
    update(model, torch.optim.SGD(model.parameters(), lr=0.01), before, TERMS, settings, [0, 1])
    after = annotate(one, model, None, settings, [0, 1])
    assert sign * ((after.old_logprobs - before.old_logprobs) * one.completion_mask).sum() > 1e-3


def test_the_gradient_is_clipped_to_its_norm() -> None:
    model = learner()
    settings = LossSettings(0.2, 0.0, 0.5, 0.2, 1.0, 1e-3, 100_000)
    metrics = update(model, torch.optim.SGD(model.parameters(), lr=0.0), sampled(), TERMS, settings, [0, 1])
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None))
    assert metrics["grad_norm"] > 0.1  # as it was
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_a_loss_that_is_not_finite_leaves_the_weights_as_they_were() -> None:
    model = learner()
    before = [p.clone() for p in model.parameters()]
    batch = sampled()
    broken = batch.with_(advantages=torch.full_like(batch.advantages, math.nan))
    with pytest.raises(TrainingError, match="not finite"):
        update(model, torch.optim.AdamW(model.parameters(), lr=0.1), broken, TERMS, PPO, [0, 1])
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


# ----- annotation


def test_annotate_takes_each_terms_value_from_its_own_output() -> None:
    batch, model = sampled(), learner(3)
    assert model.value_head is not None
    with torch.no_grad():
        model.value_head.weight.zero_()
        model.value_head.bias.copy_(torch.tensor([10.0, 20.0, 30.0]))
    found = annotate(batch, model, None, PPO, [2, 0])
    mask = batch.completion_mask
    assert torch.equal(found.old_values[..., 0], 30 * mask)
    assert torch.equal(found.old_values[..., 1], 10 * mask)
    assert found.old_values.requires_grad is False


def test_annotate_reads_the_reference_and_without_one_there_is_no_kl() -> None:
    batch = sampled()
    ours = annotate(batch, policy("llama"), None, PPO, [])
    assert torch.equal(ours.reference_logprobs, ours.old_logprobs)
    other = annotate(batch, policy("llama"), policy("gpt2"), PPO, [])
    assert torch.equal(other.old_logprobs, ours.old_logprobs)
    expected = annotate(batch, policy("gpt2"), None, PPO, [])
    assert torch.allclose(other.reference_logprobs, expected.old_logprobs)
    assert (other.reference_logprobs - other.old_logprobs).abs().max() > 0.1


def test_rollout_gap_is_a_mean_over_tokens() -> None:
    # |0.5| and |-0.25| on row 0, |1.0| on row 1, junk outside the mask: 1.75 / 3
    gap = torch.tensor([[0.5, -0.25], [1.0, 50.0]])
    assert rollout_gap(batch_of(rollout_logprobs=gap)) == pytest.approx(1.75 / 3, abs=1e-6)


def test_pack_and_rows_keep_each_sequence() -> None:
    rollouts = sampler("llama", 3).sample(prompts(), 1, 1.0, seed=2)
    batch = pack(rollouts, [4, 5, 6], 2, CPU)
    assert batch.completion_starts.tolist() == [len(r.prompt_ids) for r in rollouts]
    for picked in ([0, 1, 2], [0], [2, 0]):
        part = batch.rows(picked)
        assert part.groups.tolist() == [4 + i for i in picked]
        for row, i in enumerate(picked):
            whole = [*rollouts[i].prompt_ids, *rollouts[i].completion.token_ids]
            assert part.input_ids[row][part.attention_mask[row] == 1].tolist() == whole
            assert part.rollout_logprobs[row][part.completion_mask[row] == 1].tolist() == pytest.approx(
                rollouts[i].completion.logprobs, abs=1e-6
            )
        assert part.input_ids.shape[1] == max(part.lengths)
