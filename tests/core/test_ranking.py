"""Pairs and the Bradley-Terry loss, by hand."""

import math

import pytest
import torch

from yonder.core.ranking import bradley_terry_loss, centring_penalty, pair_figures, ranked_pairs


def test_the_loss_of_a_pair_by_hand() -> None:
    # -log sigmoid(d) = log(1 + e^-d): d = 1: log(1.367879) = 0.313262; d = 0: log 2 = 0.693147; d = -2: 2.126928
    better = torch.tensor([2.5, 0.0, -1.0], requires_grad=True)
    loss = bradley_terry_loss(better, torch.tensor([1.5, 0.0, 1.0]))
    assert loss.tolist() == pytest.approx([0.313262, 0.693147, 2.126928], abs=1e-6)
    loss.sum().backward()  # d loss / d s_better = sigmoid(d) - 1 = -sigmoid(-d)
    assert better.grad is not None
    assert better.grad.tolist() == pytest.approx([-0.268941, -0.5, -0.880797], abs=1e-6)
    assert math.isfinite(float(bradley_terry_loss(torch.tensor(-900.0), torch.tensor(900.0))))


def test_the_centring_penalty_by_hand() -> None:
    # 2.5 + 1.5 = 4: 16; 3 - 3 = 0: 0 however far apart they are; -1 + 0.5 = -0.5: 0.25
    found = centring_penalty(torch.tensor([2.5, 3.0, -1.0]), torch.tensor([1.5, -3.0, 0.5]))
    assert found.tolist() == [16.0, 0.0, 0.25]


@pytest.mark.parametrize(
    ("grades", "correct", "margin", "pairs"),
    [
        ([None, None, None], [True, False, True], 0.0, [(0, 1), (2, 1)]),
        ([None, None], [True, True], 0.0, []),
        ([None, None], [True, None], 0.0, []),  # without a label it is neither
        ([0.9, 0.6, 0.6], [True, True, True], 0.0, [(0, 1), (0, 2)]),  # equal grades are no pair
        ([0.9, 0.6, 0.5], [True, True, True], 0.3, [(0, 1), (0, 2)]),  # 0.9 - 0.6 is 0.30000000000000004
        ([0.9, 0.6, 0.5], [True, True, True], 0.35, [(0, 2)]),
        ([0.9, None], [True, False], 0.5, [(0, 1)]),  # one without a grade: right over wrong
        ([0.2, 0.8], [True, False], 0.0, [(1, 0)]),  # grades come before the label
    ],
)
def test_which_responses_are_a_pair(
    grades: list[float | None], correct: list[bool | None], margin: float, pairs: list[tuple[int, int]]
) -> None:
    assert ranked_pairs(grades, correct, margin) == pairs


def test_figures_of_pairs_by_hand() -> None:
    # differences 1, 0 and -2: one won, one tied, one lost; log-likelihoods -0.313262, -0.693147, -2.126928
    share, likelihood = pair_figures([(1.0, 0.0), (2.0, 2.0), (-1.0, 1.0)])
    assert share == 0.5
    assert likelihood == pytest.approx(-(0.313262 + 0.693147 + 2.126928) / 3, abs=1e-6)
