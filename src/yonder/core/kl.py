"""KL(policy || reference): estimators from sampled tokens (Schulman 2020, "Approximating KL divergence"), the whole
distribution's, and the controller of its coefficient."""

import torch
from torch import Tensor


def k1(policy_logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """log p - log q: unbiased, of either sign. Used as the per-token penalty in the reward ([J] section 2.1,
    [ReFT]). As a loss its gradient on fresh samples is zero in the mean (Tang and Munos 2025). (B, T)."""
    return policy_logprobs - reference_logprobs


def k2(policy_logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """(log p - log q)^2 / 2: biased, never negative; as a loss its gradient is that of the KL (Schulman 2020; Hu et al.
    2025). (B, T)."""
    return 0.5 * (policy_logprobs - reference_logprobs) ** 2


def k3(policy_logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """q/p - 1 - log(q/p): unbiased and never negative. Used as a loss with GRPO (Shao et al. 2024, eq. 4). (B, T)."""
    log_ratio = reference_logprobs - policy_logprobs
    return log_ratio.exp() - 1 - log_ratio


def adapted(beta: float, kl_nats: float, target: float, gain: float = 0.1, bound: float = 0.2) -> float:
    """beta * (1 + gain * clip(KL / target - 1, -bound, bound)): the coefficient follows the KL (Ziegler et al. 2019,
    section 2.2)."""
    return beta * (1 + gain * max(-bound, min(bound, kl_nats / target - 1)))


def reverse_kl(policy_logits: Tensor, teacher_logits: Tensor, temperature: float, top_k: int = 0) -> Tensor:
    """Sum over tokens v of p(v) (log p(v) - log q(v)), p the policy's distribution, q the teacher's (Gu et al. 2024,
    MiniLLM, eq. 1; Agarwal et al. 2024, GKD, section 3). (N, V), (N, V) -> (N,).

    `top_k` > 0: over the policy's k likeliest tokens, with all others as one more token; that is a lower bound.
    """
    ours = torch.log_softmax(policy_logits.float() / temperature, -1)
    theirs = torch.log_softmax(teacher_logits.float() / temperature, -1)
    if 0 < top_k < ours.shape[-1]:
        kept = ours.topk(top_k, -1).indices
        ours, theirs = _with_rest(ours.gather(-1, kept)), _with_rest(theirs.gather(-1, kept))
    return (ours.exp() * (ours - theirs)).sum(-1)


def _with_rest(logp: Tensor) -> Tensor:
    """One more column: the log of the mass that the others leave."""
    rest = (1 - logp.exp().sum(-1, keepdim=True)).clamp(min=1e-7)
    return torch.cat([logp, rest.log()], -1)
