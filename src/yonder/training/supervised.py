"""Supervised training on token sequences: what warm-up and the fitting of judges share."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from yonder.core.schedules import learning_rate
from yonder.errors import NotFinite, TrainingError
from yonder.models.lora import (
    adapter_parameters,
    adapter_state,
    dropout_state,
    dropping,
    has_adapter,
    load_adapter_state,
)
from yonder.signals import StopRequest
from yonder.training.checkpoint import CheckpointStore, load_policy_weights, load_state
from yonder.training.distributed import ALONE, World, clip_gradients
from yonder.training.divided import divided, gathered
from yonder.training.optimizer import adamw, load_optimizer, trainable
from yonder.training.parts import Trainable
from yonder.training.progress import Progress
from yonder.training.records import Recorder
from yonder.training.rollout import derived_seed
from yonder.training.selection import Selection
from yonder.training.skipping import Skips, give_up


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
    max_skipped: int


BatchLoss = Callable[
    [list[Example], list[Example]], Tensor
]  # (micro-batch, whole batch) -> its share of the batch's loss


@dataclass(slots=True)
class Begun:
    """How far an epoch has come; an epoch that a signal ended goes on from here."""

    batches: int = 0
    losses: list[float] = field(default_factory=list[float])
    tokens: int = 0
    seconds: float = 0.0
    dropout: list[Tensor] | None = None  # the state of its random numbers, where there is any


@dataclass(slots=True)
class Supervised:
    """One supervised run, resumable at every epoch, and at every step where a signal ends it. `examples(epoch)` may
    differ between epochs (augmentation)."""

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
    stop: StopRequest = field(default_factory=StopRequest)
    world: World = ALONE
    epoch: int = 0
    begun: Begun = field(default_factory=Begun)
    skips: Skips = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    selection: Selection = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer = adamw(trainable(self.policy.model), self.plan.lr, self.plan.weight_decay)
        self.selection = Selection(self.plan.patience)
        self.skips = Skips(self.plan.max_skipped)

    def run(self) -> dict[str, Any]:
        """Train all epochs, or until patience runs out.

        Raises TrainingError after several steps in a row whose loss is not finite, Stopped where a signal asked for it.
        """
        self._resume()
        self.progress.start(self.plan.name, self.plan.epochs, self.epoch)
        while self.epoch < self.plan.epochs and not self.selection.exhausted:
            metrics = self._one_epoch()
            self.epoch += 1
            last = self.epoch == self.plan.epochs
            if self.evaluate and self.plan.evaluate_every and (last or self.epoch % self.plan.evaluate_every == 0):
                metrics |= self.world.agreed(self.evaluate())
                self.selection.observe(self.epoch, metrics[self.metric])
            self.recorder.metrics(metrics)  # before the checkpoint, beyond which resuming drops rows
            self._save_when_due(last)
            shown = {key: f"{metrics[key]:.3f}" for key in ("loss", self.metric) if key in metrics}
            self.progress.advance(self.epoch, shown | {"tokens/s": f"{metrics['tokens_per_s']:.0f}"})
            if self.world.stopping(self.stop) and not last:
                self._stop()
        self.progress.finish()
        return {"epochs": self.epoch, "skipped_steps": self.skips.total, **self.selection.summary(self.epoch)}

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
        norm, lr, begun = 0.0, 0.0, self.begun
        start = time.perf_counter() - begun.seconds
        seed = derived_seed(self.plan.seed, self.plan.name, self.epoch, "dropout")
        with dropping(self.policy.model, seed, begun.dropout):
            while begun.batches < len(batches):
                batch = [examples[i] for i in batches[begun.batches]]
                done = self.epoch * len(batches) + begun.batches
                lr = learning_rate(done, total, self.plan.lr, self.plan.schedule, self.plan.warmup_fraction)
                loss, norm = self._step(batch, lr, done)
                begun.losses += [loss] if math.isfinite(loss) else []
                begun.tokens += sum(len(example.ids) for example in batch)
                begun.batches += 1
                begun.seconds = time.perf_counter() - start
                if self.world.stopping(self.stop) and begun.batches < len(batches):
                    begun.dropout = dropout_state(self.policy.model)
                    self._stop()
        self.begun = Begun()
        return {
            "step": self.epoch + 1, "epoch": self.epoch + 1, "time_s": time.time(),
            "loss": sum(begun.losses) / len(begun.losses) if begun.losses else math.nan, "lr": lr, "grad_norm": norm,
            "examples": len(examples), "skipped_steps": self.skips.total,
            "tokens_per_s": begun.tokens / max(begun.seconds, 1e-9),
        }  # fmt: skip

    def _step(self, batch: list[Example], lr: float, number: int) -> tuple[float, float]:
        """One step; one that is skipped has a loss that is not finite."""
        plan = self.plan
        try:
            found = supervised_step(
                self.policy.model, self.optimizer, self.loss, batch, lr, plan.grad_clip, plan.micro_batch_tokens,
                self.world,
            )  # fmt: skip
        except NotFinite as error:
            if self.skips.skipped():
                give_up(plan.name, number, self.skips, error, self.recorder, self._batch_facts(batch, lr))
            self.progress.say(f"{plan.name}, step {number}: {error}; the step is skipped")
            return math.nan, error.norm
        self.skips.made()
        return found

    def _batch_facts(self, batch: list[Example], lr: float) -> dict[str, Any]:
        """What a step was made from, for the dump."""
        texts = [self.policy.tokenizer.decode(list(example.ids)) for example in batch]
        rows = [
            {"text": text, "target": example.target, "label": example.label, "tokens": len(example.ids)}
            for text, example in zip(texts, batch, strict=True)
        ]
        return {"epoch": self.epoch, "lr": lr, "examples": rows}

    def _save_when_due(self, last: bool) -> None:
        best = self.selection.best_step == self.epoch
        every = max(1, self.plan.epochs // 10)
        if last or best or self.epoch % every == 0 or self.selection.exhausted:
            self._save()

    def _save(self) -> None:
        begun = asdict(self.begun) if self.begun.batches else None
        if begun is not None and self.begun.dropout is not None:
            begun["dropout"] = self.world.gather([self.begun.dropout])
        model = self.policy.model
        state = {
            "epoch": self.epoch,
            "begun": begun,
            "optimizer": self.optimizer.state_dict(),
            "selection": self.selection.state(),
            "skips": self.skips.state(),
        }
        if has_adapter(model):
            state["adapter"] = adapter_state(model, gathered(adapter_parameters(model), self.world))
        self.store.save(self.epoch, self.policy, state, self.selection.best_step, part=self.begun.batches)

    def _stop(self) -> None:
        """Save where it stands, between epochs or in one, and raise Stopped."""
        if not self.world.agreed(self.store.path(self.epoch, self.begun.batches).is_dir()):
            self._save()
        self.progress.finish()
        within = f" and {self.begun.batches} steps" if self.begun.batches else ""
        self.stop.check(f"{self.plan.name}: saved after {self.epoch} epochs{within}")

    def _resume(self) -> None:
        checkpoint = self.store.latest()
        if checkpoint is not None:
            state = load_state(checkpoint)
            if "adapter" in state:
                load_adapter_state(self.policy.model, divided(self.policy.model, state["adapter"]))
            else:
                load_policy_weights(checkpoint, self.policy)
            load_optimizer(self.optimizer, state["optimizer"])
            self.selection.load_state(state["selection"])
            self.skips.load_state(state["skips"])
            self.epoch = int(state["epoch"])
            self.begun = Begun(**(state["begun"] or {}))
            if self.begun.dropout is not None:  # of each process
                self.begun.dropout = state["begun"]["dropout"][self.world.rank % len(state["begun"]["dropout"])]
            within = f", step {self.begun.batches}" if self.begun.batches else ""
            self.progress.say(f"{self.plan.name}: resumed at epoch {self.epoch}{within}")
        self.recorder.begin(self.epoch)


def supervised_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: BatchLoss,
    batch: list[Example],
    lr: float,
    grad_clip: float,
    micro_batch_tokens: int,
    world: World = ALONE,
) -> tuple[float, float]:
    """One optimizer step, micro-batches and processes sharing the batch's normalisers; returns loss and gradient norm.

    Raises NotFinite when one of them is not finite; the weights are then as before.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    value = 0.0
    for index, counted in world.micro_batches([len(example.ids) for example in batch], micro_batch_tokens):
        part = loss([batch[i] for i in index], batch)
        (part if counted else 0.0 * part).backward()
        value += float(part.detach()) * counted
    world.sum_gradients(trainable(model))
    value = world.add({"loss": value})["loss"]
    norm = clip_gradients(trainable(model), grad_clip)
    if not (math.isfinite(norm) and math.isfinite(value)):
        optimizer.zero_grad(set_to_none=True)
        raise NotFinite(value, norm)
    optimizer.step()
    return value, norm
