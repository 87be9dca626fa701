"""Annotating a batch and updating the policy on it: one forward and one backward for all terms."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from yonder.core.kl import k1, k2, k3
from yonder.core.losses import (
    Clip,
    cispo_loss,
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
    importance_weights,
    sequence_policy_loss,
)
from yonder.core.masking import masked_mean, per_sequence
from yonder.core.terms import normalisers, term_loss, weighted_sum
from yonder.errors import NotFinite
from yonder.models.packing import kinds
from yonder.models.policy import Policy, SequenceOutputs
from yonder.models.teacher import Guide
from yonder.training.batch import Batch
from yonder.training.distributed import ALONE, World, clip_gradients
from yonder.training.rollout import Term

PER_TOKEN = ("policy/kl_nats", "policy/entropy_nats", "policy/approx_kl", "policy/clip_fraction")
SURROGATES = {"token": clipped_policy_loss, "sequence": sequence_policy_loss, "cispo": cispo_loss}
KL_ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}


@dataclass(frozen=True, slots=True)
class LossSettings:
    """The numbers of the loss; see `recipe.algorithms` for the meaning of each."""

    clip: float
    kl_in_loss: float  # beta; 0: none
    value_coef: float
    value_clip: float
    temperature: float
    grad_clip: float
    micro_batch_tokens: int
    shared_width: int = 0  # the trunk's, where rollouts are read as one that begin alike; 0: each by itself
    clip_high: float | None = None  # None: as `clip`
    dual_clip: float | None = None
    surrogate: str = "token"
    average: str = "sequence-mean"
    length: int = 1  # tokens, what "fixed-length" divides by
    kl_estimator: str = "k3"
    importance_cap: float | None = None
    stop_gradient: bool = False  # the value loss leaves the trunk alone
    head_warmup: int = 0  # updates of the value head alone before the policy's first
    value_only: bool = False  # this update is one of them

    def at(self, step: int, kl_scale: float) -> "LossSettings":
        """The settings of one update: beta as the controller has it, and whether the policy still waits."""
        return replace(self, kl_in_loss=self.kl_in_loss * kl_scale, value_only=step < self.head_warmup)


@torch.no_grad()
def annotate(
    batch: Batch,
    policy: Policy,
    reference: Callable[..., SequenceOutputs] | None,
    settings: LossSettings,
    value_outputs: Sequence[int],
    rollout_is_old: bool = False,
    world: World = ALONE,
) -> Batch:
    """Add old log-probs, values and reference log-probs. `value_outputs`: each term's output of the value head.

    With `rollout_is_old` the sampler's own log-probs serve as the old ones and the policy's forward is saved.
    """
    old, ref = batch.rollout_logprobs.clone(), torch.zeros_like(batch.old_logprobs)
    values, final = torch.zeros_like(batch.old_values), torch.zeros_like(batch.final_values)
    work = _work(batch, settings, world)
    for index, sizes, _ in work:
        part = batch.rows(index)
        tokens = part.completion_mask.shape[1]
        if not rollout_is_old:
            ours = _forward(policy, part, sizes, settings)
            old[index, :tokens] = ours.logprobs
            if ours.values is not None and ours.final_values is not None:
                values[index, :tokens] = ours.values[..., list(value_outputs)]
                final[index] = ours.final_values[..., list(value_outputs)]
        measured = None if reference is None else _forward(reference, part, sizes, settings).logprobs
        ref[index, :tokens] = old[index, :tokens] if measured is None else measured
    world.merge([row for index, _, counts in work if counts for row in index], [old, ref, values, final])
    return batch.with_(old_logprobs=old, reference_logprobs=ref, old_values=values, final_values=final)


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    terms: Sequence[Term],
    settings: LossSettings,
    value_outputs: Sequence[int],
    world: World = ALONE,
) -> dict[str, float]:
    """One optimizer step on the whole batch; gradients add up over micro-batches and processes. Returns metrics.

    Raises NotFinite when loss or gradient is not finite; the weights are then as before.
    """
    counts = normalisers(batch.scored, batch.completion_mask, settings.average)  # each term's own, global
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, float] = {}
    for index, sizes, counted in _work(batch, settings, world):
        part = batch.rows(index)
        if not (bool(part.scored.any()) or world.sharded):
            continue
        outputs = _forward(policy, part, sizes, settings, guides_of(part, terms))
        loss, metrics = loss_of(part, outputs, terms, counts, settings, value_outputs)
        (loss if counted else 0.0 * loss).backward()
        for name, value in metrics.items() if counted else ():
            sums[name] = sums.get(name, 0.0) + value
    world.sum_gradients(policy.parameters())
    sums = world.add(sums)
    tokens = sums.pop("tokens", 0.0)
    norm = clip_gradients(policy.parameters(), settings.grad_clip)
    if not (math.isfinite(norm) and math.isfinite(sums.get("loss", 0.0))):
        optimizer.zero_grad(set_to_none=True)
        raise NotFinite(sums.get("loss", 0.0), norm)
    optimizer.step()
    for name in (*PER_TOKEN, *(("policy/importance_capped",) if settings.importance_cap is not None else ())):
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
    divergences = dict(zip(_guided(terms), outputs.divergences, strict=True))
    kl = KL_ESTIMATORS[settings.kl_estimator](outputs.logprobs, part.reference_logprobs)
    kl_loss = settings.kl_in_loss * per_sequence(kl, mask, settings.average, settings.length)
    metrics: dict[str, float] = {}
    losses: list[Tensor] = []
    clipped = torch.zeros_like(mask)
    for k, term in enumerate(terms):
        parts: dict[str, Tensor] = {}
        if k in divergences:
            parts["reverse_kl"] = divergences[k]
        else:
            parts["policy_loss"], active = _surrogate(part, outputs, k, settings)
            clipped = torch.maximum(clipped, active * part.scored[:, k].unsqueeze(-1))
            if outputs.values is not None:
                values, old = outputs.values[..., value_outputs[k]], part.old_values[..., k]
                parts["value_loss"] = clipped_value_loss(values, old, part.returns[..., k], settings.value_clip)
        rows = {name: per_sequence(x, mask, settings.average, settings.length) for name, x in parts.items()}
        for name, x in rows.items():
            metrics[f"terms/{term.name}/{name}"] = float(term_loss(x.detach(), part.scored[:, k], counts[k]))
        losses.append(term_loss(_joined(rows, kl_loss, settings), part.scored[:, k], counts[k]))
    loss = weighted_sum(losses, [term.weight for term in terms])
    with torch.no_grad():
        read = mask * part.scored.amax(-1, keepdim=True)  # rows with a score of some term
        metrics |= {
            "tokens": float(read.sum()),
            "loss": float(loss.detach()),
            "policy/kl_nats": float((k1(outputs.logprobs, part.reference_logprobs) * read).sum()),
            "policy/entropy_nats": float((outputs.entropy * read).sum()),
            "policy/approx_kl": float((k3(part.old_logprobs, outputs.logprobs) * read).sum()),
            "policy/clip_fraction": float(clipped.sum()),
        }
        if settings.importance_cap is not None:
            capped = (part.old_logprobs - part.rollout_logprobs) > math.log(settings.importance_cap)
            metrics["policy/importance_capped"] = float((capped * read).sum())
    return loss, metrics


def guides_of(part: Batch, terms: Sequence[Term]) -> list[Guide]:
    """The teachers of the terms that have one, each with the completion tokens of its rows."""
    masks = {k: part.completion_mask * part.scored[:, k].unsqueeze(-1) for k in _guided(terms)}
    return [Guide(term.teacher, masks[k]) for k, term in enumerate(terms) if term.teacher is not None]


def _guided(terms: Sequence[Term]) -> list[int]:
    return [k for k, term in enumerate(terms) if term.teacher is not None]


def _surrogate(part: Batch, outputs: SequenceOutputs, k: int, settings: LossSettings) -> tuple[Tensor, Tensor]:
    """A term's loss of each token, and where its clip was active."""
    high = settings.clip if settings.clip_high is None else settings.clip_high
    clip = Clip(settings.clip, high, settings.dual_clip)
    surrogate = SURROGATES[settings.surrogate]
    found = surrogate(outputs.logprobs, part.old_logprobs, part.advantages[..., k], part.completion_mask, clip)
    if settings.importance_cap is None:
        return found.per_token, found.clipped
    weights = importance_weights(part.old_logprobs, part.rollout_logprobs, settings.importance_cap)
    return found.per_token * weights, found.clipped


def _joined(rows: Mapping[str, Tensor], kl_loss: Tensor, settings: LossSettings) -> Tensor:
    """What one term adds up: policy loss, KL, value loss; in the head's warm-up the value loss alone; or the distance
    to its teacher."""
    value = settings.value_coef * rows["value_loss"] if "value_loss" in rows else None
    if settings.value_only:
        return torch.zeros_like(kl_loss) if value is None else value
    if "reverse_kl" in rows:
        return rows["reverse_kl"]
    total = rows["policy_loss"] + kl_loss if settings.kl_in_loss else rows["policy_loss"]
    return total if value is None else total + value


def rollout_gap(batch: Batch) -> float:
    """Mean |rollout_logprobs - old_logprobs|, nats a token: the sampler and the trainer must agree (near 0)."""
    return float(masked_mean((batch.rollout_logprobs - batch.old_logprobs).abs(), batch.completion_mask))


def _variance(batch: Batch, terms: Sequence[Term], settings: LossSettings) -> dict[str, float]:
    if not settings.value_coef:
        return {}
    found: dict[str, float] = {}
    for k, term in enumerate(terms):
        if term.teacher is not None:
            continue
        mask = batch.completion_mask * batch.scored[:, k].unsqueeze(-1)
        found[f"terms/{term.name}/explained_variance"] = float(
            explained_variance(batch.old_values[..., k], batch.returns[..., k], mask)
        )
    return found


class _Part(NamedTuple):
    """A micro-batch."""

    rows: list[int]
    sizes: list[int] | None  # how many of them, one after the other, are read as one; None: each by itself
    counted: bool


def _work(batch: Batch, settings: LossSettings, world: World) -> list[_Part]:
    """This process's micro-batches."""
    budget = settings.micro_batch_tokens
    found = batch.bundles(settings.shared_width, budget, world.size)
    work: list[_Part] = []
    for numbers in kinds(found):
        for picked, counted in world.micro_batches([found[number].tokens for number in numbers], budget):
            rows = [row for i in picked for row in found[numbers[i]].rows]
            sizes = [len(found[numbers[i]].rows) for i in picked] if len(picked) < len(rows) else None
            work.append(_Part(rows, sizes, counted))
    return work


def _forward(
    policy: Callable[..., SequenceOutputs],
    part: Batch,
    sizes: Sequence[int] | None,
    settings: LossSettings,
    guides: Sequence[Guide] = (),
) -> SequenceOutputs:
    return policy(
        part.input_ids,
        part.attention_mask,
        part.completion_starts,
        part.completion_mask,
        settings.temperature,
        guides,
        settings.stop_gradient or settings.value_only,
        sizes,
    )
