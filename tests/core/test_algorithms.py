"""The formulas of the algorithms beyond PPO and GRPO, by hand."""

import math

import pytest
import torch

from yonder.core.advantages import gae, leave_one_out, overlong_penalty
from yonder.core.kl import adapted, k2, reverse_kl
from yonder.core.losses import Clip, cispo_loss, clipped_policy_loss, importance_weights, sequence_policy_loss
from yonder.core.masking import per_sequence
from yonder.core.terms import normalisers


def one_token(loss, ratio: float, advantage: float, clip: Clip) -> tuple[float, float, float]:
    """The loss of one token, whether it was clipped, and the gradient with respect to its log-prob."""
    logprob = torch.tensor([[math.log(ratio)]], requires_grad=True)
    found = loss(logprob, torch.zeros(1, 1), torch.tensor([[advantage]]), torch.ones(1, 1), clip)
    (gradient,) = torch.autograd.grad(found.per_token.sum(), logprob)
    return found.per_token.item(), found.clipped.item(), gradient.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "clip", "loss", "clipped", "gradient"),
    [
        (1.25, 2.0, Clip(0.2, 0.28), -2.5, 0.0, -2.5),  # clip-higher: 1.25 < 1.28 is inside
        (1.5, 2.0, Clip(0.2, 0.28), -2.56, 1.0, 0.0),  # 2 * 1.28
        (0.5, -2.0, Clip(0.2, 0.28), 1.6, 1.0, 0.0),  # the lower half stays 1 - 0.2
        (5.0, -2.0, Clip(0.2, 0.2), 10.0, 0.0, 10.0),  # without dual clip nothing bounds this
        (5.0, -2.0, Clip(0.2, 0.2, 3.0), 6.0, 1.0, 0.0),  # dual clip: 2 * 3
        (2.0, -2.0, Clip(0.2, 0.2, 3.0), 4.0, 0.0, 4.0),  # below its bound
        (5.0, 2.0, Clip(0.2, 0.2, 3.0), -2.4, 1.0, 0.0),  # A > 0: the plain clip only
    ],
)
def test_clip_higher_and_dual_clip(
    ratio: float, advantage: float, clip: Clip, loss: float, clipped: float, gradient: float
) -> None:
    assert one_token(clipped_policy_loss, ratio, advantage, clip) == pytest.approx((loss, clipped, gradient), abs=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped", "gradient"),
    [
        # -clamp(ratio) * A * log ratio; the gradient is -clamp(ratio) * A also where it is cut
        (1.5, 2.0, -1.5 * 2 * math.log(1.5), 0.0, -3.0),
        (8.0, 2.0, -5.0 * 2 * math.log(8), 1.0, -10.0),
        (0.01, -2.0, 0.01 * 2 * math.log(0.01), 0.0, 0.02),  # no lower bound with low = 1
    ],
)
def test_cispo_cuts_the_weight_and_keeps_the_gradient(
    ratio: float, advantage: float, loss: float, clipped: float, gradient: float
) -> None:
    assert one_token(cispo_loss, ratio, advantage, Clip(1.0, 4.0)) == pytest.approx((loss, clipped, gradient), abs=1e-5)


def test_gspo_has_one_ratio_for_a_sequence() -> None:
    # row 0: log ratios 0.2, 0.4 (and junk): s = exp(0.3) = 1.3498588; A = 1: clipped at 1.2: -1.2, no gradient
    # row 1: log ratios -0.1, 0.3: s = exp(0.1) = 1.1051709; A = -2: 2.2103418; mean over 2 tokens: each gets half of it
    policy = torch.tensor([[0.2, 0.4, 9.0], [-0.1, 0.3, 9.0]], requires_grad=True)
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    advantages = torch.tensor([[1.0] * 3, [-2.0] * 3])
    found = sequence_policy_loss(policy, torch.zeros(2, 3), advantages, mask, Clip(0.2, 0.2))
    rows = per_sequence(found.per_token, mask, "sequence-mean", 1)
    assert rows.tolist() == pytest.approx([-1.2, 2.2103418], abs=1e-6)
    assert found.clipped.tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    (gradient,) = torch.autograd.grad(rows.sum(), policy)
    assert gradient.flatten().tolist() == pytest.approx([0, 0, 0, 1.1051709, 1.1051709, 0], abs=1e-6)


def test_averages_of_a_batch() -> None:
    # two rows of losses 1, 2 and 6; sequence-mean (1.5 + 6) / 2, token-mean 9 / 3, fixed-length (3 / 4 + 6 / 4) / 2
    x, mask = torch.tensor([[1.0, 2.0], [6.0, 50.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    scored = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    expected = {"sequence-mean": 3.75, "token-mean": 3.0, "fixed-length": 1.125}
    counts = {"sequence-mean": [2, 1], "token-mean": [3, 1], "fixed-length": [2, 1]}
    for average, value in expected.items():
        count = normalisers(scored, mask, average)
        assert count == counts[average]
        assert per_sequence(x, mask, average, 4).sum().item() / count[0] == pytest.approx(value)


def test_leave_one_out_compares_with_the_others() -> None:
    # group 3: 1, 0, 0.5 and one unscored: 1 - 0.25, 0 - 0.75, 0.5 - 0.5; group 7: one scored member alone
    scores = torch.tensor([1.0, 0.0, 0.8, 0.5, 9.0])
    groups, scored = torch.tensor([3, 3, 7, 3, 3]), torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    assert leave_one_out(scores, groups, scored).tolist() == pytest.approx([0.75, -0.75, 0.0, 0.0, 0.0], abs=1e-6)


def test_overlong_penalty() -> None:
    # limit 10, margin 4: nothing up to 6, then a quarter a token
    found = overlong_penalty(torch.tensor([3.0, 6.0, 7.0, 9.0, 10.0]), 10, 4)
    assert found.tolist() == pytest.approx([0.0, 0.0, -0.25, -0.75, -1.0])


def test_gae_of_a_completion_that_was_cut() -> None:
    # gamma 0.9, lambda 0.5, no rewards. Row 0 ends after 2 tokens at a state worth 0.6:
    #   delta_1 = 0.9 * 0.6 - 0.4 = 0.14; delta_0 = 0.9 * 0.4 - 0.2 = 0.16; A_0 = 0.16 + 0.45 * 0.14 = 0.223
    # row 1 ended itself with reward 1 after 3: final 0, as without
    rewards = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    values = torch.tensor([[0.2, 0.4, 9.0], [0.1, 0.2, 0.3]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    found = gae(rewards, values, mask, 0.9, 0.5, torch.tensor([0.6, 0.0]))
    assert found.advantages[0].tolist() == pytest.approx([0.223, 0.14, 0.0], abs=1e-6)
    assert found.returns[0].tolist() == pytest.approx([0.423, 0.54, 0.0], abs=1e-6)
    plain = gae(rewards, values, mask, 0.9, 0.5)
    assert torch.equal(found.advantages[1], plain.advantages[1])


def test_importance_weights_are_cut() -> None:
    # exp(-1 + 1.5) = 1.6487213, exp(-1 + 3) = 7.39 -> 2, exp(-2 + 1) = 0.3678794
    found = importance_weights(torch.tensor([-1.0, -1.0, -2.0]), torch.tensor([-1.5, -3.0, -1.0]), 2.0)
    assert found.tolist() == pytest.approx([1.6487213, 2.0, 0.3678794], abs=1e-6)


def test_k2_is_half_the_squared_log_ratio() -> None:
    found = k2(torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -1.5]))
    assert found.tolist() == pytest.approx([0.5, 0.125])


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(0.1, 0.05), (0.11, 0.0505), (0.3, 0.051), (0.0, 0.049)],  # at the target; 10 % above; both bounds of 0.2
)
def test_the_coefficient_follows_its_target(kl: float, expected: float) -> None:
    assert adapted(0.05, kl, target=0.1) == pytest.approx(expected)


def test_reverse_kl_of_whole_distributions() -> None:
    # p = (0.5, 0.25, 0.25), q = (0.25, 0.25, 0.5): 0.5 ln 2 + 0 + 0.25 ln 0.5 = 0.25 ln 2
    # top 1: p = (0.5, rest 0.5), q = (0.25, rest 0.75): 0.5 ln 2 + 0.5 ln (2/3) = 0.5 ln (4/3) = 0.1438410
    p, q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    assert reverse_kl(p.log(), q.log() + 7, 1.0).item() == pytest.approx(0.25 * math.log(2), abs=1e-6)
    assert reverse_kl(p.log(), q.log(), 1.0, top_k=1).item() == pytest.approx(0.1438410, abs=1e-6)
    assert reverse_kl(p.log(), q.log(), 1.0, top_k=3).item() == pytest.approx(0.25 * math.log(2), abs=1e-6)
    assert reverse_kl(p.log(), p.log(), 1.0, top_k=2).item() == pytest.approx(0.0, abs=1e-6)
    # logits at twice the temperature are the same distributions
    assert reverse_kl(2 * p.log(), 2 * q.log(), 2.0).item() == pytest.approx(0.25 * math.log(2), abs=1e-6)
