"""Reductions over completion tokens."""

from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of `x` where `mask` is 1, over all elements; 0 where the mask is empty. x, mask: (B, T) -> scalar."""
    return (x * mask).sum() / mask.sum().clamp(min=1)


def sequence_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over each row's own tokens; 0 for an empty row. x, mask: (B, T) -> (B,)."""
    return (x * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def whiten(x: Tensor, mask: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Subtract the mean and divide by the standard deviation over all masked tokens; zero elsewhere ([ReFT]: mean
    removed).

    The variance is the unbiased one, as in the code that [J] builds on. x, mask: (B, T) -> (B, T).
    """
    count = mask.sum()
    mean = masked_mean(x, mask)
    variance = (((x - mean) ** 2) * mask).sum() / (count - 1).clamp(min=1)
    return (x - mean) * (variance + epsilon).rsqrt() * mask
