"""The clipped losses, by hand."""

import math

import pytest
import torch

from yonder.core.losses import Clip, clipped_policy_loss, clipped_value_loss, explained_variance
from yonder.core.masking import sequence_mean

PLAIN = Clip(0.2, 0.2)


def surrogate(ratio: float, advantage: float) -> tuple[float, float, float]:
    """The loss of one token, whether it was clipped, and the gradient with respect to its log-prob."""
    logprob = torch.tensor([[math.log(ratio)]], requires_grad=True)
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    found = clipped_policy_loss(logprob, zero, torch.tensor([[advantage]]), one, PLAIN)
    (gradient,) = torch.autograd.grad(found.per_token.sum(), logprob)
    return found.per_token.item(), found.clipped.item(), gradient.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped", "gradient"),
    [
        (1.1, 2.0, -2.2, 0.0, -2.2),  # inside: -A * ratio, gradient -A * ratio
        (1.5, 2.0, -2.4, 1.0, 0.0),  # above, A > 0: -2 * 1.2, nothing more to gain
        (0.5, 2.0, -1.0, 0.0, -1.0),  # below, A > 0: max(-1.0, -1.6), the way back stays open
        (0.9, -2.0, 1.8, 0.0, 1.8),  # inside
        (0.5, -2.0, 1.6, 1.0, 0.0),  # below, A < 0: 2 * 0.8
        (1.5, -2.0, 3.0, 0.0, 3.0),  # above, A < 0: max(3.0, 2.4)
    ],
)
def test_policy_loss_at_both_bounds_and_signs(
    ratio: float, advantage: float, loss: float, clipped: float, gradient: float
) -> None:
    assert surrogate(ratio, advantage) == pytest.approx((loss, clipped, gradient), abs=1e-6)


def test_policy_loss_is_the_mean_over_each_rows_tokens() -> None:
    # row 0: ratios 1, 1.5, A = 1, -1: losses -1, 1.5, mean 0.25
    # row 1: one token, ratio 2, A = 3: -3 * 1.2 = -3.6, clipped
    policy = torch.tensor([[0.0, math.log(1.5)], [math.log(2.0), 50.0]])
    advantages = torch.tensor([[1.0, -1.0], [3.0, 9.0]])
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    found = clipped_policy_loss(policy, torch.zeros(2, 2), advantages, mask, PLAIN)
    assert sequence_mean(found.per_token, mask).tolist() == pytest.approx([0.25, -3.6], abs=1e-6)
    assert found.clipped.tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_value_loss_takes_the_worse_of_plain_and_clipped() -> None:
    # clip 0.2, V_old = 1.0
    # token 0: V = 1.1, R = 2.0: inside; (1.1 - 2)^2 = 0.81
    # token 1: V = 1.9, R = 2.0: plain 0.01, clipped (1.2 - 2)^2 = 0.64 -> 0.64
    # token 2: V = 0.1, R = 2.0: plain 3.61, clipped (0.8 - 2)^2 = 1.44 -> 3.61
    # row 0: 0.5 * (0.81 + 0.64 + 3.61) / 3 = 0.8433333; row 1: V = 0.5, R = 0.0: plain 0.25, clipped 0.64 -> 0.5 * 0.64
    values = torch.tensor([[1.1, 1.9, 0.1], [0.5, 70.0, 70.0]])
    returns = torch.tensor([[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    found = sequence_mean(clipped_value_loss(values, torch.ones(2, 3), returns, clip=0.2), mask)
    assert found.tolist() == pytest.approx([0.8433333, 0.32], abs=1e-6)


def test_explained_variance() -> None:
    # returns 1, 2, 4: mean 7/3, deviations -4/3, -1/3, 5/3, sum of squares 42/9
    # errors R - V = 1, 0, 2: mean 1, deviations 0, -1, 1, sum of squares 2; 1 - 2 / (42/9) = 1 - 3/7 = 0.5714286
    returns = torch.tensor([[1.0, 2.0, 4.0, 50.0]])
    values = torch.tensor([[0.0, 2.0, 2.0, -50.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    assert explained_variance(values, returns, mask).item() == pytest.approx(0.5714286, abs=1e-6)
    assert explained_variance(returns, returns, mask).item() == pytest.approx(1.0, abs=1e-6)
    assert explained_variance(torch.full_like(returns, 3.0), returns, mask).item() == pytest.approx(0.0, abs=1e-6)
