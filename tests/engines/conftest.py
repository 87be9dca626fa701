"""A policy for tests of rollouts by other programs."""

from __future__ import annotations

import pytest
import torch

from tests.training.tools import tiny_policy
from yonder.models.policy import Policy


@pytest.fixture
def policy() -> Policy:
    found = tiny_policy()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for parameter in found.model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return found
