"""Estimators of KL(policy || reference) from sampled tokens (Schulman 2020, "Approximating KL divergence")."""

from torch import Tensor


def k1(policy_logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """log p - log q: unbiased, of either sign. Used as the per-token penalty in the reward ([J] section 2.1,
    [ReFT]). (B, T)."""
    return policy_logprobs - reference_logprobs


def k3(policy_logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """q/p - 1 - log(q/p): unbiased and never negative. Used as a loss with GRPO (Shao et al. 2024, eq. 4). (B, T)."""
    log_ratio = reference_logprobs - policy_logprobs
    return log_ratio.exp() - 1 - log_ratio
