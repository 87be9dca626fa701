"""Supervised training on token sequences: what warm-up and the fitting of judges share."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from yonder.core.schedules import learning_rate
from yonder.errors import TrainingError
from yonder.models.lora import adapter_state, dropping, has_adapter, load_adapter_state, trainable
from yonder.models.padding import token_batches
from yonder.training.checkpoint import CheckpointStore, Trainable, load_policy_weights, load_state
from yonder.training.progress import Progress
from yonder.training.records import Recorder
from yonder.training.rollout import derived_seed
from yonder.training.selection import Selection


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence. The loss reads tokens from `target` on, and tokens before it with the loss's `context_weight`."""

    ids: tuple[int, ...]
    target: int  # index of the first target token (>= 1)
    label: int = 0  # class, for classifiers
    context: bool = True  # whether its context tokens count in the context loss


@dataclass(frozen=True, slots=True)
class SupervisedPlan:
    """The numbers of a run; see `recipe.stages` for the meaning of each."""

    name: str
    seed: int
    epochs: int
    batch_size: int
    lr: float
    schedule: str
    warmup_fraction: float
    weight_decay: float
    grad_clip: float
    micro_batch_tokens: int
    evaluate_every: int  # epochs
    patience: int


BatchLoss = Callable[
    [list[Example], list[Example]], Tensor
]  # (micro-batch, whole batch) -> its share of the batch's loss


@dataclass(slots=True)
class Supervised:
    """One supervised run, resumable at every epoch. `examples(epoch)` may differ between epochs (augmentation)."""

    plan: SupervisedPlan
    policy: Trainable
    examples: Callable[[int], Sequence[Example]]
    loss: BatchLoss
    recorder: Recorder
    store: CheckpointStore
    progress: Progress
    evaluate: Callable[[], dict[str, float]] | None = None
    metric: str = (
        "development/accuracy"  # of those that `evaluate` measures: the checkpoint with the highest is handed on
    )
    epoch: int = 0
    optimizer: torch.optim.Optimizer = field(init=False)
    selection: Selection = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(
            trainable(self.policy.model), lr=self.plan.lr, weight_decay=self.plan.weight_decay
        )
        self.selection = Selection(self.plan.patience)

    def run(self) -> dict[str, Any]:
        """Train all epochs, or until patience runs out. Raises TrainingError on a loss that is not finite."""
        self._resume()
        self.progress.start(self.plan.name, self.plan.epochs, self.epoch)
        while self.epoch < self.plan.epochs and not self.selection.exhausted:
            metrics = self._one_epoch()
            self.epoch += 1
            last = self.epoch == self.plan.epochs
            if self.evaluate and self.plan.evaluate_every and (last or self.epoch % self.plan.evaluate_every == 0):
                metrics |= self.evaluate()
                self.selection.observe(self.epoch, metrics[self.metric])
            self.recorder.metrics(metrics)  # before the checkpoint, beyond which resuming drops rows
            self._save_when_due(last)
            shown = {key: f"{metrics[key]:.3f}" for key in ("loss", self.metric) if key in metrics}
            self.progress.advance(self.epoch, shown | {"tokens/s": f"{metrics['tokens_per_s']:.0f}"})
        self.progress.finish()
        return {"epochs": self.epoch, **self.selection.summary(self.epoch)}

    def _one_epoch(self) -> dict[str, Any]:
        examples = list(self.examples(self.epoch))
        if not examples:
            raise TrainingError(f"{self.plan.name}: there is no example to train on; check its data and token limits")
        order = torch.randperm(
            len(examples),
            generator=torch.Generator().manual_seed(derived_seed(self.plan.seed, self.plan.name, self.epoch)),
        ).tolist()
        batches = [order[i : i + self.plan.batch_size] for i in range(0, len(order), self.plan.batch_size)]
        total = len(batches) * self.plan.epochs
        start, losses, tokens, norm, lr = time.perf_counter(), [], 0, 0.0, 0.0
        with dropping(self.policy.model, derived_seed(self.plan.seed, self.plan.name, self.epoch, "dropout")):
            for number, batch in enumerate(batches):
                done = self.epoch * len(batches) + number
                lr = learning_rate(done, total, self.plan.lr, self.plan.schedule, self.plan.warmup_fraction)
                loss, norm = self._step([examples[i] for i in batch], lr)
                losses.append(loss)
                tokens += sum(len(examples[i].ids) for i in batch)
        return {
            "step": self.epoch + 1, "epoch": self.epoch + 1, "time_s": time.time(), "loss": sum(losses) / len(losses),
            "lr": lr, "grad_norm": norm, "examples": len(examples), "tokens_per_s": tokens / (time.perf_counter() -
            start),
        }  # fmt: skip

    def _step(self, batch: list[Example], lr: float) -> tuple[float, float]:
        plan = self.plan
        return supervised_step(
            self.policy.model, self.optimizer, self.loss, batch, lr, plan.grad_clip, plan.micro_batch_tokens, plan.name
        )

    def _save_when_due(self, last: bool) -> None:
        best = self.selection.best_step == self.epoch
        every = max(1, self.plan.epochs // 10)
        if last or best or self.epoch % every == 0 or self.selection.exhausted:
            state = {
                "epoch": self.epoch,
                "optimizer": self.optimizer.state_dict(),
                "selection": self.selection.state(),
            } | ({"adapter": adapter_state(self.policy.model)} if has_adapter(self.policy.model) else {})
            self.store.save(self.epoch, self.policy, state, self.selection.best_step)

    def _resume(self) -> None:
        checkpoint = self.store.latest()
        if checkpoint is not None:
            state = load_state(checkpoint)
            if "adapter" in state:
                load_adapter_state(self.policy.model, state["adapter"])
            else:
                load_policy_weights(checkpoint, self.policy)
            self.optimizer.load_state_dict(state["optimizer"])
            self.selection.load_state(state["selection"])
            self.epoch = int(state["epoch"])
            self.progress.say(f"{self.plan.name}: resumed at epoch {self.epoch}")
        self.recorder.begin(self.epoch)


def supervised_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: BatchLoss,
    batch: list[Example],
    lr: float,
    grad_clip: float,
    micro_batch_tokens: int,
    name: str,
) -> tuple[float, float]:
    """One optimizer step, its micro-batches sharing the batch's normalisers; returns loss and gradient norm.

    Raises TrainingError when one of them is not finite; the weights are then as before.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    value = 0.0
    for index in token_batches([len(example.ids) for example in batch], micro_batch_tokens):
        part = loss([batch[i] for i in index], batch)
        part.backward()
        value += float(part.detach())
    norm = float(nn.utils.clip_grad_norm_(trainable(model), grad_clip))
    if not (math.isfinite(norm) and math.isfinite(value)):
        raise TrainingError(f"{name}: loss {value:g} is not finite; lower its `lr` or use float32")
    optimizer.step()
    return value, norm
