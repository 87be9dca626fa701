"""Token rewards, GAE and group advantages, by hand."""

import pytest
import torch

from yonder.core.advantages import gae, group_advantages, last_token, token_rewards

MASK = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])


def test_last_token_of_full_short_and_empty_rows() -> None:
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert last_token(mask).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_kl_is_charged_on_every_token_and_the_score_paid_on_the_last() -> None:
    kl = torch.tensor([[0.5, -1.0, 2.0], [1.0, 3.0, 100.0]])
    # row 0: -0.1 * 0.5, -0.1 * -1, -0.1 * 2 + 0.8; row 1: -0.1 * 1, -0.1 * 3 + 0.4, and nothing past its end
    found = token_rewards(torch.tensor([0.8, 0.4]), kl, MASK, beta=0.1)
    assert found.flatten().tolist() == pytest.approx([-0.05, 0.1, 0.6, -0.1, 0.1, 0.0], abs=1e-6)


def test_gae_of_rows_of_different_length() -> None:
    # gamma 0.9, lambda 0.8: decay 0.72. Row 0: r = 0.1, 0.2, 1.0; V = 0.5, 0.4, 0.3.
    #   delta_2 = 1.0 + 0.9 * 0.0 - 0.3 = 0.70                       A_2 = 0.70
    #   delta_1 = 0.2 + 0.9 * 0.3 - 0.4 = 0.07                       A_1 = 0.07 + 0.72 * 0.70  = 0.574
    #   delta_0 = 0.1 + 0.9 * 0.4 - 0.5 = -0.04                      A_0 = -0.04 + 0.72 * 0.574 = 0.37328
    # Row 1 (two tokens; the third value and reward are junk): r = 0.0, 0.5; V = 0.2, 0.6.
    #   delta_1 = 0.5 + 0.9 * 0.0 - 0.6 = -0.10                      A_1 = -0.10
    #   delta_0 = 0.0 + 0.9 * 0.6 - 0.2 = 0.34                       A_0 = 0.34 + 0.72 * -0.10 = 0.268
    rewards = torch.tensor([[0.1, 0.2, 1.0], [0.0, 0.5, 7.0]])
    values = torch.tensor([[0.5, 0.4, 0.3], [0.2, 0.6, 9.0]])
    found = gae(rewards, values, MASK, gamma=0.9, lam=0.8)
    assert found.advantages.flatten().tolist() == pytest.approx([0.37328, 0.574, 0.7, 0.268, -0.1, 0.0], abs=1e-6)
    # returns = advantage + value
    assert found.returns.flatten().tolist() == pytest.approx([0.87328, 0.974, 1.0, 0.468, 0.5, 0.0], abs=1e-6)


def test_gae_with_lambda_one_is_the_discounted_return_minus_the_value() -> None:
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.3, -0.2, 0.9]])
    found = gae(rewards, values, torch.ones(1, 3), gamma=0.5, lam=1.0)
    assert found.returns[0].tolist() == pytest.approx([0.25, 0.5, 1.0], abs=1e-6)  # 0.5^2, 0.5, 1
    assert found.advantages[0].tolist() == pytest.approx([-0.05, 0.7, 0.1], abs=1e-6)


def test_an_unscored_row_has_no_advantage_and_no_return() -> None:
    found = gae(torch.ones(1, 3), torch.ones(1, 3), torch.zeros(1, 3), gamma=0.9, lam=0.8)
    assert found.advantages.tolist() == [[0.0, 0.0, 0.0]]
    assert found.returns.tolist() == [[0.0, 0.0, 0.0]]


# group 7: scores 1, 0, 0.5 (mean 0.5); group 2: 0.2 and an unscored 0.9 (one scored member); group 4: 1, 0
SCORES = torch.tensor([1.0, 0.2, 0.0, 0.9, 0.5, 1.0, 0.0])
GROUPS = torch.tensor([7, 2, 7, 2, 7, 4, 4])
SCORED = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0])


def test_group_advantages_without_std() -> None:
    expected = [0.5, 0.0, -0.5, 0.0, 0.0, 0.5, -0.5]
    assert group_advantages(SCORES, GROUPS, SCORED, divide_by_std=False).tolist() == pytest.approx(expected, abs=1e-6)


def test_group_advantages_divide_by_the_population_std() -> None:
    # group 7: variance (0.25 + 0.25 + 0) / 3 = 1/6, std 0.4082483; 0.5 / (0.4082483 + 0.0001) = 1.2244450
    # group 4: std 0.5; 0.5 / 0.5001 = 0.9998000. The singleton of group 2: (0.2 - 0.2) / 0.0001 = 0
    expected = [1.2244450, 0.0, -1.2244450, 0.0, 0.0, 0.9998000, -0.9998000]
    assert group_advantages(SCORES, GROUPS, SCORED, divide_by_std=True).tolist() == pytest.approx(expected, abs=1e-6)


def test_an_unscored_member_is_not_a_zero() -> None:
    # scored 1 and 0.6, one unscored (its stored 0 must not pull the mean): mean 0.8, not 0.5333
    found = group_advantages(torch.tensor([1.0, 0.6, 0.0]), torch.zeros(3).long(), torch.tensor([1.0, 1.0, 0.0]), False)
    assert found.tolist() == pytest.approx([0.2, -0.2, 0.0], abs=1e-6)


def test_equal_scores_give_zero_and_nothing_scored_gives_zero() -> None:
    one_group = torch.zeros(3).long()
    assert group_advantages(torch.ones(3), one_group, torch.ones(3), True).tolist() == [0.0, 0.0, 0.0]
    assert group_advantages(torch.ones(3), one_group, torch.zeros(3), True).tolist() == [0.0, 0.0, 0.0]
