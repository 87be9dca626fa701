"""Reductions over completion tokens, by hand."""

import pytest
import torch

from yonder.core.masking import masked_mean, sequence_mean, whiten

X = torch.tensor([[1.0, 2.0, 100.0], [4.0, 100.0, 100.0]])
MASK = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def test_masked_mean_is_over_all_masked_elements() -> None:
    assert masked_mean(X, MASK).item() == pytest.approx(7 / 3, abs=1e-6)  # (1 + 2 + 4) / 3


def test_sequence_mean_is_over_each_row() -> None:
    assert sequence_mean(X, MASK).tolist() == pytest.approx([1.5, 4.0], abs=1e-6)  # (1 + 2) / 2, 4 / 1


def test_an_empty_mask_gives_zero_not_nan() -> None:
    nothing = torch.zeros_like(MASK)
    assert masked_mean(X, nothing).item() == 0.0
    assert sequence_mean(X, nothing).tolist() == [0.0, 0.0]
    assert whiten(X, nothing).tolist() == nothing.tolist()


def test_whiten_uses_the_unbiased_variance_and_zeroes_the_rest() -> None:
    # mean 7/3; deviations -4/3, -1/3, 5/3; squares 16/9 + 1/9 + 25/9 = 42/9
    # unbiased variance 42/9 / 2 = 7/3, std 1.5275252
    # -4/3 / 1.5275252 = -0.8728716, -1/3 / 1.5275252 = -0.2182179, 5/3 / 1.5275252 = 1.0910895
    expected = [-0.8728716, -0.2182179, 0.0, 1.0910895, 0.0, 0.0]
    assert whiten(X, MASK).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_whitening_one_token_gives_zero() -> None:
    mask = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert whiten(X, mask).tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
