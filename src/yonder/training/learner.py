"""What learns: a policy with its optimizer, from scored rollouts to steps."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from yonder.core.schedules import learning_rate
from yonder.errors import LogprobsApart, NotFinite, TrainingError
from yonder.models.policy import Policy, SequenceOutputs
from yonder.training.advantages import Estimator, estimate_advantages, place_scores
from yonder.training.batch import Batch, flatten, pack
from yonder.training.distributed import ALONE, World
from yonder.training.kl_control import KLControl
from yonder.training.optimizer import build_optimizer, load_optimizer, set_rate
from yonder.training.parts import Records
from yonder.training.plan import Plan
from yonder.training.progress import Progress
from yonder.training.rollout import StreamRollouts, StreamScores, Term
from yonder.training.skipping import Skips, batch_facts, give_up
from yonder.training.update import LossSettings, annotate, rollout_gap, update

log = logging.getLogger("yonder")
MOST_APART = 0.1  # nats a token between sampler and trainer


@dataclass(slots=True)
class Learner:
    """Makes batches of rollouts and steps of batches. Resumable."""

    plan: Plan
    policy: Policy
    reference: Callable[..., SequenceOutputs] | None  # as the policy; None: no KL anywhere
    value_outputs: Sequence[int]  # each term's output of the value head
    estimator: Estimator
    loss: LossSettings
    recorder: Records
    progress: Progress
    kl: KLControl = field(default_factory=KLControl)
    sampler_apart: bool = False  # another program samples: its log-probs are compared at every step, never reused
    world: World = ALONE
    learned: bool = False  # some step had a gradient
    rollout_is_old: bool = False  # the sampler's log-probs serve as the old ones: nothing needs the extra forward
    rollout_gap_nats: float = 0.0  # measured at the first step, or at every one
    optimizer: torch.optim.Optimizer = field(init=False)
    skips: Skips = field(init=False)

    def __post_init__(self) -> None:
        plan = self.plan
        self.optimizer = build_optimizer(self.policy, plan.lr, plan.value_lr, plan.weight_decay)
        self.skips = Skips(plan.max_skipped)

    def prepare(self, rollouts: StreamRollouts, scores: StreamScores, terms: Sequence[Term], step: int) -> Batch:
        """Scored rollouts as one batch, with log-probs, values and each term's advantages."""
        batch = pack(*flatten(rollouts), len(terms), self.policy.device)
        batch = place_scores(batch, rollouts, scores, terms)
        settings, known = (self.loss, self.value_outputs), self.rollout_is_old
        batch = annotate(batch, self.policy, self.reference, *settings, known, self.world)
        batch = estimate_advantages(batch, self.kl.estimator(self.estimator))
        if step == 0 or self.sampler_apart:
            self._compare_with_sampler(batch)
        return batch

    def learn(
        self, batch: Batch, rollouts: StreamRollouts, scores: StreamScores, terms: Sequence[Term], begin: int
    ) -> dict[str, float]:
        """One optimizer step for each epoch over the batch, from step `begin` on; nothing when no rollout of any term
        has a score. A step whose loss or gradient is not finite is skipped. Returns metrics."""
        plan, stats = self.plan, dict[str, float]()
        if not bool(batch.scored.any()):
            log.warning("%s, step %d: no rollout has a score; nothing is learned", plan.name, begin)
            return stats
        for step in range(begin, begin + plan.epochs):
            lr = learning_rate(step, plan.steps, plan.lr, plan.schedule, plan.warmup_fraction)
            set_rate(self.optimizer, lr)
            loss = self.loss.at(step, self.kl.scale)
            try:
                made = update(self.policy, self.optimizer, batch, terms, loss, self.value_outputs, self.world)
            except NotFinite as error:
                if self.skips.skipped():
                    facts = {"lr": lr} | batch_facts(batch, rollouts, scores, terms, step)
                    give_up(plan.name, step, self.skips, error, self.recorder, facts)
                self.progress.say(f"{plan.name}, step {step}: {error}; the step is skipped")
                continue
            self.skips.made()
            stats = made | {"lr": lr}
            self.learned |= stats["grad_norm"] > 0
        return stats

    def metrics(self, stats: Mapping[str, float], batch: Batch) -> dict[str, float]:
        """Of the steps on a batch; once for each, since an adaptive KL follows it. No reference: none."""
        nothing = {"policy/kl_nats"} if self.reference is None else set[str]()
        return {
            "policy/rollout_gap_nats": self.rollout_gap_nats,
            **{name: value for name, value in stats.items() if name not in nothing},
            "skipped_steps": self.skips.total,
            **self.kl.observe(batch),
        }

    def state(self) -> dict[str, Any]:
        """Plain values and tensors for a checkpoint, without the policy's weights; what is divided is so in it too."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "kl": self.kl.state(),
            "skips": self.skips.state(),
            "learned": self.learned,
            "rollout_is_old": self.rollout_is_old,
            "rollout_gap_nats": self.rollout_gap_nats,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        load_optimizer(self.optimizer, state["optimizer"])
        self.kl.load_state(state["kl"])
        self.skips.load_state(state["skips"])
        self.learned = state["learned"]
        self.rollout_is_old, self.rollout_gap_nats = state["rollout_is_old"], state["rollout_gap_nats"]

    def _compare_with_sampler(self, batch: Batch) -> None:
        """The sampler's log-probs must agree with the trainer's; where those of this process do to 1e-3 they are used
        from then on.

        PPO needs the forward for its values all the same, several epochs need exact ratios, and importance weights
        correct the difference.
        """
        self.rollout_gap_nats = rollout_gap(batch)
        corrected = self.loss.importance_cap is not None
        if self.rollout_gap_nats > MOST_APART and not corrected:
            raise (LogprobsApart if self.sampler_apart else TrainingError)(
                f"the sampler's log-probs differ from the trainer's by {self.rollout_gap_nats:.3f} nats a token; "
                f"they must agree within {MOST_APART:g}, or be corrected (`importance_cap`)"
            )
        exact = self.plan.one_step_off or self.plan.epochs > 1 or self.policy.value_head is not None or corrected
        self.rollout_is_old = self.rollout_gap_nats < 1e-3 and not exact and not self.sampler_apart
