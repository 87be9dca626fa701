"""Fitting a judge or classifier again while the policy moves, on its fresh verified rollouts.

A judge that stays as it was while the policy looks for what it likes gets hacked ([J] appendix B.3 reports it); the
recipe of the refit (half fresh, half replayed; as many right as wrong) is ours.
"""

import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from yonder.data.responses import label
from yonder.errors import NotFinite
from yonder.models.lora import adapter_state, dropping, has_adapter, load_adapter_state
from yonder.protocols import Reward, Stream
from yonder.schema import Prompt, Response, Rollout, Score
from yonder.training.checkpoint import load_policy_weights
from yonder.training.distributed import ALONE, World
from yonder.training.fit import HELD_OUT, LIKELIHOOD, Trainee, split_by_question
from yonder.training.optimizer import adamw, trainable
from yonder.training.parts import Refitted, Trainable
from yonder.training.rollout import StreamRollouts, StreamScores, derived_seed
from yonder.training.supervised import Example, supervised_step

LEAST = 8  # examples of each label, and fresh ones in all, that a refit needs


@dataclass(frozen=True, slots=True)
class RefitPlan:
    """The numbers of a refit; see `RefitSettings` in `recipe/` for the meaning of each."""

    reward: str
    rewards: Collection[str]  # it and those made of it
    every: int  # iterations; 0: at a trip only
    steps: int
    batch_size: int
    lr: float
    held_out: float
    grad_clip: float
    micro_batch_tokens: int
    seed: int


class Source(Protocol):
    """Where fresh verified responses come from."""

    def gather(self, rollouts: StreamRollouts, scores: StreamScores) -> None:
        """See one iteration."""
        ...

    def take(self, step: int) -> list[Response]:
        """What is fresh now; all of it is labeled."""
        ...

    def clear(self) -> None:
        """It was used."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        ...


class Gathered:
    """The labeled stream's rollouts since the last refit, as far as the verifier could score them."""

    def __init__(
        self, verifier: str, stream: str, temperature: float, read: Callable[[Rollout], bool], iterations: int
    ) -> None:
        """`read`: whether the reward reads a rollout at all, rather than a guard before it; `iterations`: the most
        that are kept, so that new ways to be wrong do not drown in old ones."""
        self.key = (verifier, stream)
        self.temperature = temperature
        self.read = read
        self._recent: deque[list[Response]] = deque(maxlen=iterations)

    def gather(self, rollouts: StreamRollouts, scores: StreamScores) -> None:
        """Keep what is labeled."""
        stream = self.key[1]
        self._recent.append(labeled(rollouts[stream], scores[self.key], stream, self.temperature, self.read))

    def take(self, step: int) -> list[Response]:
        """All of them, oldest first."""
        return distinct(response for found in self._recent for response in found)

    def clear(self) -> None:
        """Begin anew."""
        self._recent.clear()

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"recent": [[response.to_json() for response in found] for found in self._recent]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.clear()
        self._recent.extend([Response(**row) for row in found] for found in state["recent"])


@dataclass(slots=True)
class Answered:
    """Prompts of a labeled data set, answered by the policy for the refit alone."""

    name: str
    stream: Stream
    prompts: int
    answer: Callable[[list[Prompt], int], list[Rollout]]  # (prompts, seed)
    verifier: Reward
    temperature: float
    read: Callable[[Rollout], bool]
    seed: int

    def gather(self, rollouts: StreamRollouts, scores: StreamScores) -> None:
        """Nothing: training has no labels here."""

    def take(self, step: int) -> list[Response]:
        """Answers to the next prompts."""
        rollouts = self.answer(self.stream.next(self.prompts), derived_seed(self.seed, "refit", self.name, step))
        return distinct(labeled(rollouts, self.verifier.score(rollouts), self.name, self.temperature, self.read))

    def clear(self) -> None:
        """Nothing is kept."""

    def state(self) -> dict[str, Any]:
        """Where the stream stands."""
        return self.stream.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.stream.load_state(state)


@dataclass(slots=True)
class Refit:
    """One reward's refits; a `Refitter`."""

    plan: RefitPlan
    trainee: Trainee
    source: Source
    replay: Sequence[Response] = ()
    world: World = ALONE
    count: int = 0
    name: str = field(init=False)
    rewards: Collection[str] = field(init=False)
    model: Trainable = field(init=False)
    folder: str = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.rewards, self.model = self.plan.reward, self.plan.rewards, self.trainee.model
        self.folder = f"refitted/{self.plan.reward}"
        self.replay, _ = split_by_question(distinct(self.replay), self.plan.held_out, self.plan.seed)

    def gather(self, rollouts: StreamRollouts, scores: StreamScores) -> None:
        """Keep the verified rollouts of an iteration."""
        self.source.gather(rollouts, scores)

    def due(self, iteration: int) -> bool:
        """Whether one is due after this iteration."""
        return self.plan.every > 0 and iteration % self.plan.every == 0

    def fit(self, step: int) -> Refitted:
        """A few steps on fresh and replayed responses, measured before and after on held-out questions.

        The weights stay as they are where responses are too few, and where the steps made the held-out likelihood
        worse; what was gathered is then kept for the next time.
        """
        fresh, held_out = split_by_question(self.source.take(step), self.plan.held_out, self.plan.seed)
        seen = {(response.question, response.response) for response in fresh}
        old = [response for response in self.replay if (response.question, response.response) not in seen]
        sides = [
            [self.trainee.examples([r for r in part if r.correct is right]) for part in (fresh, old)]
            for right in (True, False)
        ]
        lacking = too_few(sides)
        if lacking:
            return Refitted(False, f"{self.name} cannot be fitted again: {lacking}", {})
        before, weights = self._figures(held_out), adapter_state(self.model.model)
        seed = derived_seed(self.plan.seed, "refit", step)
        try:
            self._train(batches(sides, self.plan.steps, self.plan.batch_size, seed), seed)
        except NotFinite as error:
            load_adapter_state(self.model.model, weights)
            return Refitted(False, f"{self.name} cannot be fitted again: {error}; lower `refit.lr`", {})
        after = self._figures(held_out)
        better = self.world.agreed(not before or after["log_likelihood"] >= before["log_likelihood"])
        if better:
            self.source.clear()
            self.count += 1
        else:
            load_adapter_state(self.model.model, weights)
        counts = {"fresh": len(fresh), "right": sum(bool(r.correct) for r in fresh), "replayed": len(old)}
        counts["held_out"] = len(held_out)
        figures = {f"{key}_before": value for key, value in before.items()}
        figures |= {f"{key}_after": value for key, value in after.items()}
        return Refitted(better, said(self.name, better, counts, figures), counts | figures)

    def _train(self, work: Sequence[list[Example]], seed: int) -> None:
        plan, model = self.plan, self.model.model
        optimizer = adamw(trainable(model), plan.lr, 0.0)
        with dropping(model, seed):
            for batch in work:
                supervised_step(
                    model, optimizer, self.trainee.loss, batch, plan.lr, plan.grad_clip, plan.micro_batch_tokens,
                    self.world,
                )  # fmt: skip
        optimizer.zero_grad(set_to_none=True)  # the gradients of a judge are as large as the judge

    def _figures(self, held_out: Sequence[Response]) -> dict[str, float]:
        """Measured on held-out questions; nothing where the reward can read none of their responses. The likelihood is
        the mean of both labels', since a policy that is mostly wrong must not make No the better bet."""
        sides = [[r for r in held_out if r.correct is right] for right in (True, False)]
        sides = [side for side in sides if self.trainee.examples(side)]
        if not sides:
            return {}
        found = {name.removeprefix(HELD_OUT): value for name, value in self.trainee.quality(held_out)().items()}
        likelihoods = [self.trainee.quality(side)()[LIKELIHOOD] for side in sides]
        return found | {"log_likelihood": sum(likelihoods) / len(likelihoods)}

    def state(self) -> dict[str, Any]:
        """Plain values and tensors for a checkpoint; whole weights stand beside it."""
        adapter = adapter_state(self.model.model) if has_adapter(self.model.model) else None
        return {"count": self.count, "source": self.source.state(), "adapter": adapter}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.source.load_state(state["source"])

    def load_weights(self, checkpoint: Path, state: Mapping[str, Any]) -> bool:
        """Put a checkpoint's weights back; True when there was a refit since."""
        if state["adapter"] is not None:
            load_adapter_state(self.model.model, state["adapter"])
        else:
            load_policy_weights(checkpoint, self.model, self.folder)
        before, self.count = self.count, int(state["count"])
        return before != self.count


def labeled(
    rollouts: Sequence[Rollout],
    scores: Sequence[Score],
    source: str,
    temperature: float,
    read: Callable[[Rollout], bool],
) -> list[Response]:
    """Rollouts that the verifier could score and the reward reads, as responses; unscored is not wrong."""
    found = [label(r, s, source, temperature) for r, s in zip(rollouts, scores, strict=True) if read(r)]
    return [response for response in found if response.correct is not None]


def distinct(responses: Iterable[Response]) -> list[Response]:
    """Without exact duplicates of question and response."""
    return list({(response.question, response.response): response for response in responses}.values())


def too_few(sides: Sequence[Sequence[Sequence[Example]]]) -> str:
    """Why nothing can be fitted on [right, wrong] x [fresh, replayed] examples; empty where it can."""
    fresh = sum(len(side[0]) for side in sides)
    right, wrong = (sum(len(part) for part in side) for side in sides)
    if fresh >= LEAST and right >= LEAST and wrong >= LEAST:
        return ""
    return (
        f"of {LEAST} fresh, {LEAST} right and {LEAST} wrong responses that it needs there are {fresh}, {right} and "
        f"{wrong} (`replay` or `refit.data` give more)"
    )


def batches(sides: Sequence[Sequence[Sequence[Example]]], steps: int, size: int, seed: int) -> list[list[Example]]:
    """Batches of [right, wrong] x [fresh, replayed] examples: half right, and of each label half replayed where it has
    both. A pool that runs out begins again in another order."""
    draw = random.Random(seed)
    pools = [[endless(part, draw) for part in side if part] for side in sides]
    wanted = (size // 2, size - size // 2)
    found: list[list[Example]] = []
    for _ in range(steps):
        batch: list[Example] = []
        for side, count in zip(pools, wanted, strict=True):
            batch += [next(side[i % len(side)]) for i in range(count)]
        found.append(batch)
    return found


def endless(examples: Sequence[Example], draw: random.Random) -> Iterator[Example]:
    """All examples again and again, each time in another order."""
    while True:
        yield from draw.sample(examples, len(examples))


def said(name: str, better: bool, counts: Mapping[str, int], figures: Mapping[str, float]) -> str:
    """One sentence without its full stop."""
    text = f"{name} was fitted again on {counts['fresh']} fresh responses ({counts['right']} right)"
    if counts["replayed"]:
        text += f" and {counts['replayed']} replayed ones"
    if "accuracy_after" not in figures:
        return f"{text}; no held-out question was answered, so its gain was not measured"
    before, after = figures["accuracy_before"], figures["accuracy_after"]
    text += f"; on {counts['held_out']} held-out ones it is right on {after:.1%}, before on {before:.1%}"
    return text if better else f"{text}, and their likelihood fell: it stays as it was"
