"""The controller of the KL's coefficient, by hand, and that the learner asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_learning import weights
from tests.training.test_update import batch_of
from tests.training.test_variants import variant
from yonder.training.advantages import Estimator, estimate_advantages
from yonder.training.kl_control import KLControl

# log-ratios 0.30, 0.10 | 0.26 and junk outside the mask: 0.22 nats a token
BATCH = batch_of(
    old_logprobs=torch.tensor([[-1.0, -2.0], [-3.0, 50.0]]),
    reference_logprobs=torch.tensor([[-1.3, -2.1], [-3.26, 0.0]]),
    scores=torch.tensor([[1.0, 9.0], [9.0, -1.0]]),
)


def test_the_scale_follows_the_kl_of_the_sampled_tokens() -> None:
    control = KLControl(target=0.2, gain=0.5, scale=2.0)
    # 0.22 / 0.2 - 1 = 0.1, within the bound of 0.2: 2 * (1 + 0.5 * 0.1)
    assert control.observe(BATCH)["policy/kl_scale"] == pytest.approx(2.1, abs=1e-5)
    assert control.scale == pytest.approx(2.1, abs=1e-5)
    low = KLControl(target=0.25, gain=0.5)  # 0.22 / 0.25 - 1 = -0.12
    assert low.observe(BATCH)["policy/kl_scale"] == pytest.approx(0.94, abs=1e-5)


def test_without_a_target_it_stays() -> None:
    control = KLControl(None, scale=3.0)
    assert (control.observe(BATCH), control.scale) == ({}, 3.0)


def test_the_scale_multiplies_the_kl_in_the_reward() -> None:
    made = KLControl(0.2, scale=3.0).estimator(Estimator("none", 0.1, "none"))
    assert made.kl_in_reward == pytest.approx(0.3)
    # a score less 0.3 times the KL that is still to come: 1 - 0.3 * 0.4, 1 - 0.3 * 0.1 | -1 - 0.3 * 0.26
    found = estimate_advantages(BATCH, made).advantages
    assert found[0, :, 0].tolist() == pytest.approx([0.88, 0.97], abs=1e-5)
    assert found[1, 0, 1].item() == pytest.approx(-1.078, abs=1e-5)


@pytest.mark.parametrize("place", ["reward", "loss"])
def test_the_learner_has_the_coefficient_as_the_controller_has_it(tmp_path: Path, place: str) -> None:
    def after(beta: float, scale: float) -> dict[str, torch.Tensor]:
        knobs: dict[str, Any] = {"algorithm": "grpo", "kl": {"beta": beta, "place": place}}
        made = variant(tmp_path / f"{beta}-{scale}", 8, knobs)
        made.learner.kl.scale = scale
        made.iterate()
        made.iterate()
        return weights(made)

    scaled, plain, other = after(0.125, 4.0), after(0.5, 1.0), after(0.125, 1.0)
    assert all(torch.equal(scaled[name], plain[name]) for name in plain)
    assert any(not torch.equal(scaled[name], other[name]) for name in other)
