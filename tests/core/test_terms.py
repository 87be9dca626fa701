"""The weighted terms: own normalisers, micro-batches that add up, weights on losses."""

import pytest
import torch

from yonder.core.advantages import group_advantages
from yonder.core.terms import term_loss, weighted_sum

# four sequences; term 0 scored rows 0, 1, 2, term 1 row 3 only
LOSSES = torch.tensor([1.0, 2.0, 6.0, 10.0])
FIRST, SECOND = torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 0.0, 1.0])


def total(rows: slice) -> torch.Tensor:
    parts = [term_loss(LOSSES[rows], FIRST[rows], 3.0), term_loss(LOSSES[rows], SECOND[rows], 1.0)]
    return weighted_sum(parts, [0.75, 0.25])


def test_each_term_is_divided_by_its_own_count() -> None:
    # term 0: (1 + 2 + 6) / 3 = 3, term 1: 10 / 1; not diluted by the other's rows: 0.75 * 3 + 0.25 * 10 = 4.75
    assert total(slice(None)).item() == pytest.approx(4.75, abs=1e-6)


def test_micro_batches_add_up_to_the_whole() -> None:
    # rows 0 and 1: 0.75 * 3/3 + 0 = 0.75; rows 2 and 3: 0.75 * 6/3 + 0.25 * 10 = 4.0
    first, second = total(slice(0, 2)), total(slice(2, 4))
    assert first.item() == pytest.approx(0.75, abs=1e-6)
    assert second.item() == pytest.approx(4.0, abs=1e-6)
    assert (first + second).item() == pytest.approx(4.75, abs=1e-6)


def test_a_term_without_scored_rows_is_zero() -> None:
    assert term_loss(LOSSES, torch.zeros(4), 0.0).item() == 0.0


def test_weights_multiply_losses_where_a_reward_weight_would_vanish() -> None:
    scores, groups, scored = torch.tensor([1.0, 0.0]), torch.zeros(2).long(), torch.ones(2)
    once = group_advantages(scores, groups, scored, True)
    weighted = group_advantages(0.25 * scores, groups, scored, True)
    assert weighted.tolist() == pytest.approx(once.tolist(), abs=1e-3)  # the group's std cancels a weight on the reward
    loss = weighted_sum([term_loss(-once[:1], scored[:1], 1.0)], [0.25])
    assert loss.item() == pytest.approx(-0.25 * 0.9998, abs=1e-6)  # 0.25 * 0.5 / 0.5001


def test_as_many_weights_as_terms() -> None:
    with pytest.raises(ValueError, match="zip"):
        weighted_sum([torch.tensor(1.0), torch.tensor(2.0)], [1.0])
