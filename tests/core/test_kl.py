"""The two estimators of KL(policy || reference), by hand."""

import math

import pytest
import torch

from yonder.core.kl import k1, k3

POLICY = torch.tensor([[math.log(0.5), math.log(0.2)]])
REFERENCE = torch.tensor([[math.log(0.25), math.log(0.4)]])


def test_k1_is_the_log_ratio() -> None:
    assert k1(POLICY, REFERENCE)[0].tolist() == pytest.approx([math.log(2), -math.log(2)], abs=1e-6)


def test_k3_is_ratio_minus_one_minus_log_ratio() -> None:
    # q/p = 1/2: 0.5 - 1 + ln 2 = 0.1931472; q/p = 2: 2 - 1 - ln 2 = 0.3068528
    assert k3(POLICY, REFERENCE)[0].tolist() == pytest.approx([0.1931472, 0.3068528], abs=1e-6)


def test_both_have_the_expectation_kl() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    # KL = 0.5 ln(5/2) + 0 + 0.2 ln(2/5) = 0.3 ln 2.5 = 0.2748872
    assert (p * k1(p.log(), q.log())).sum().item() == pytest.approx(0.2748872, abs=1e-6)
    assert (p * k3(p.log(), q.log())).sum().item() == pytest.approx(0.2748872, abs=1e-6)


def test_k3_pulls_towards_the_reference() -> None:
    policy = POLICY.clone().requires_grad_()
    k3(policy, REFERENCE).sum().backward()
    # d/dlog p (q/p - 1 - log q + log p) = 1 - q/p: 1 - 1/2, 1 - 2
    assert policy.grad is not None
    assert policy.grad[0].tolist() == pytest.approx([0.5, -1.0], abs=1e-6)
