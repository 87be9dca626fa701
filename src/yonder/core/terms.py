"""The weighted sum that makes Yonder: L = sum over terms of weight * L(term) ([J] section 2.2.4)."""

from torch import Tensor


def term_loss(per_sequence: Tensor, scored: Tensor, normaliser: float) -> Tensor:
    """Sum over a term's scored sequences, divided by its own GLOBAL count. per_sequence, scored: (B,) -> scalar.

    The count is that of the whole rollout batch over all processes, not of this micro-batch, so that micro-batches
    add up and
    terms with few scored sequences are not diluted by others.
    """
    return (per_sequence * scored).sum() / max(normaliser, 1.0)


def normalisers(scored: Tensor, mask: Tensor, average: str) -> list[float]:
    """What each term is divided by: its scored sequences, or with token-mean their tokens. scored: (B, K), mask: (B,
    T)."""
    counted = scored * mask.sum(-1, keepdim=True) if average == "token-mean" else scored
    return counted.sum(0).tolist()


def weighted_sum(losses: list[Tensor], weights: list[float]) -> Tensor:
    """lambda * L_VR + mu * L_YoN + rho * L_Rerank, for any number of terms. Weights multiply losses, never rewards."""
    total = losses[0] * weights[0]
    for loss, weight in zip(losses[1:], weights[1:], strict=True):
        total = total + loss * weight
    return total
