"""Annotating a batch and updating the policy on it: one forward and one backward for all terms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yonder.core.kl import k1, k3
from yonder.core.losses import clipped_policy_loss, clipped_value_loss, explained_variance
from yonder.core.masking import masked_mean, sequence_mean
from yonder.core.terms import term_loss, weighted_sum
from yonder.errors import NotFinite
from yonder.models.padding import token_batches
from yonder.models.policy import Policy, SequenceOutputs
from yonder.training.batch import Batch
from yonder.training.rollout import Term


@dataclass(frozen=True, slots=True)
class LossSettings:
    """The numbers of the loss; see `recipe.stages` for the meaning of each."""

    clip: float
    kl_in_loss: float  # beta of k3; 0: none
    value_coef: float
    value_clip: float
    temperature: float
    grad_clip: float
    micro_batch_tokens: int


@torch.no_grad()
def annotate(
    batch: Batch,
    policy: Policy,
    reference: Policy | None,
    settings: LossSettings,
    value_outputs: Sequence[int],
    rollout_is_old: bool = False,
) -> Batch:
    """Add old log-probs, values and reference log-probs. `value_outputs`: each term's output of the value head.

    With `rollout_is_old` the sampler's own log-probs serve as the old ones and the policy's forward is saved.
    """
    old, ref = batch.rollout_logprobs.clone(), torch.zeros_like(batch.old_logprobs)
    values = torch.zeros_like(batch.old_values)
    for index in token_batches(batch.lengths, settings.micro_batch_tokens):
        part = batch.rows(index)
        tokens = part.completion_mask.shape[1]
        if not rollout_is_old:
            ours = _forward(policy, part, settings)
            old[index, :tokens] = ours.logprobs
            if ours.values is not None:
                values[index, :tokens] = ours.values[..., list(value_outputs)]
        ref[index, :tokens] = old[index, :tokens] if reference is None else _forward(reference, part, settings).logprobs
    return batch.with_(old_logprobs=old, reference_logprobs=ref, old_values=values)


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    terms: Sequence[Term],
    settings: LossSettings,
    value_outputs: Sequence[int],
) -> dict[str, float]:
    """One optimizer step on the whole batch; gradients add up over micro-batches. Returns metrics.

    Raises NotFinite when loss or gradient is not finite; the weights are then as before.
    """
    counts = batch.scored.sum(0).tolist()  # each term's own global normaliser
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, float] = {}
    tokens = 0.0  # read by the loss: micro-batches without a score are skipped
    for index in token_batches(batch.lengths, settings.micro_batch_tokens):
        part = batch.rows(index)
        if not bool(part.scored.any()):
            continue
        tokens += float(part.completion_mask.sum())
        outputs = _forward(policy, part, settings)
        loss, metrics = loss_of(part, outputs, terms, counts, settings, value_outputs)
        loss.backward()
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + value
    norm = float(torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.grad_clip))
    if not (math.isfinite(norm) and math.isfinite(sums.get("loss", 0.0))):
        optimizer.zero_grad(set_to_none=True)
        raise NotFinite(sums.get("loss", 0.0), norm)
    optimizer.step()
    for name in ("policy/kl_nats", "policy/entropy_nats", "policy/approx_kl", "policy/clip_fraction"):
        sums[name] = sums.get(name, 0.0) / max(1.0, tokens)
    return sums | {"grad_norm": norm} | _variance(batch, terms, settings)


def loss_of(
    part: Batch,
    outputs: SequenceOutputs,
    terms: Sequence[Term],
    counts: Sequence[float],
    settings: LossSettings,
    value_outputs: Sequence[int],
) -> tuple[Tensor, dict[str, float]]:
    """The weighted loss of some rows, and sums for the metrics."""
    mask = part.completion_mask
    metrics: dict[str, float] = {}
    losses: list[Tensor] = []
    kl_loss = settings.kl_in_loss * sequence_mean(k3(outputs.logprobs, part.reference_logprobs), mask)
    clipped = torch.zeros_like(mask)
    for k, term in enumerate(terms):
        surrogate = clipped_policy_loss(
            outputs.logprobs, part.old_logprobs, part.advantages[..., k], mask, settings.clip
        )
        per_sequence = surrogate.per_sequence
        metrics[f"terms/{term.name}/policy_loss"] = float(
            term_loss(per_sequence.detach(), part.scored[:, k], counts[k])
        )
        if settings.kl_in_loss:
            per_sequence = per_sequence + kl_loss
        if outputs.values is not None:
            value = clipped_value_loss(
                outputs.values[..., value_outputs[k]],
                part.old_values[..., k],
                part.returns[..., k],
                mask,
                settings.value_clip,
            )
            metrics[f"terms/{term.name}/value_loss"] = float(term_loss(value.detach(), part.scored[:, k], counts[k]))
            per_sequence = per_sequence + settings.value_coef * value
        losses.append(term_loss(per_sequence, part.scored[:, k], counts[k]))
        clipped = torch.maximum(clipped, surrogate.clipped * part.scored[:, k].unsqueeze(-1))
    loss = weighted_sum(losses, [term.weight for term in terms])
    with torch.no_grad():
        metrics |= {
            "loss": float(loss.detach()),
            "policy/kl_nats": float((k1(outputs.logprobs, part.reference_logprobs) * mask).sum()),
            "policy/entropy_nats": float((outputs.entropy * mask).sum()),
            "policy/approx_kl": float((k3(part.old_logprobs, outputs.logprobs) * mask).sum()),
            "policy/clip_fraction": float(clipped.sum()),
        }
    return loss, metrics


def rollout_gap(batch: Batch) -> float:
    """Mean |rollout_logprobs - old_logprobs|, nats a token: the sampler and the trainer must agree (near 0)."""
    return float(masked_mean((batch.rollout_logprobs - batch.old_logprobs).abs(), batch.completion_mask))


def _variance(batch: Batch, terms: Sequence[Term], settings: LossSettings) -> dict[str, float]:
    if not settings.value_coef:
        return {}
    found: dict[str, float] = {}
    for k, term in enumerate(terms):
        mask = batch.completion_mask * batch.scored[:, k].unsqueeze(-1)
        found[f"terms/{term.name}/explained_variance"] = float(
            explained_variance(batch.old_values[..., k], batch.returns[..., k], mask)
        )
    return found


def _forward(policy: Policy, part: Batch, settings: LossSettings) -> SequenceOutputs:
    return policy(
        part.input_ids, part.attention_mask, part.completion_starts, part.completion_mask, settings.temperature
    )
