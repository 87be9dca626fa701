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


def per_sequence(x: Tensor, mask: Tensor, average: str, length: int) -> Tensor:
    """One number a row, to be summed over rows and divided by `core.terms.normalisers`. x, mask: (B, T) -> (B,).

    sequence-mean: the mean over the row's tokens, as Shao et al. 2024, eq. 3; token-mean: their sum, so that every
    token of the batch counts the same (Yu et al. 2025, DAPO, eq. 8); fixed-length: their sum / `length`, a constant
    (Liu et al. 2025, Dr. GRPO, section 3.2).
    """
    if average == "sequence-mean":
        return sequence_mean(x, mask)
    total = (x * mask).sum(-1)
    return total / length if average == "fixed-length" else total
