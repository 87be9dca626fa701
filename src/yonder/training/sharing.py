"""Answers and scores made by several processes together; in a world of one nothing here is needed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from yonder.models.policy import Policy
from yonder.protocols import EarlyScorer, Finished, Reward
from yonder.rewards.base import ShuffledReward
from yonder.rewards.early import early_scorers
from yonder.rewards.verifiable import VerifiableReward
from yonder.schema import Prompt, Rollout, Score
from yonder.training.distributed import ALONE, World
from yonder.training.divided import whole


class PartSampler(Protocol):
    """A sampler that can answer some of the prompts of a call: `first` is the place of the first of them."""

    policy: Policy

    def sample(
        self,
        prompts: Sequence[Prompt],
        samples: int,
        temperature: float | None,
        seed: int,
        top_p: float = 1.0,
        top_k: int = 0,
        first: int = 0,
        *,
        finished: Finished | None = None,
    ) -> list[Rollout]:
        """As `protocols.Sampler`, with groups numbered from `first`."""
        ...


class SharedSampler:
    """A `protocols.RolloutEngine`: each process answers its share of the prompts, and all get all rollouts."""

    beside = False  # all processes meet here, so none may be training

    def __init__(self, world: World, sampler: PartSampler) -> None:
        self.world = world
        self.sampler = sampler

    def refresh(self, step: int) -> None:
        """Nothing: these are the weights that are trained."""

    def sample(
        self,
        prompts: Sequence[Prompt],
        samples: int,
        temperature: float | None,
        seed: int,
        top_p: float = 1.0,
        top_k: int = 0,
        *,
        finished: Finished | None = None,
    ) -> list[Rollout]:
        """As the sampler alone would, up to rounding; `finished` is told of this process's share."""
        mine = self.world.share(len(prompts))
        part = prompts[mine.start : mine.stop]
        with whole(self.sampler.policy):
            found = (
                self.sampler.sample(part, samples, temperature, seed, top_p, top_k, mine.start, finished=finished)
                if part
                else []
            )
        return self.world.gather(found)


@dataclass(frozen=True, slots=True)
class SharedReward:
    """A `protocols.Reward`: each process scores its share of the groups, and all get all scores."""

    world: World
    reward: Reward

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """As the reward alone would, up to rounding; one that compares rollouts sees whole groups."""
        part = self._mine(rollouts)
        return self.world.gather(self.reward.score(part) if part else [])

    def runs(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """As `rewards.verifiable.VerifiableReward.runs`; only for one."""
        part = self._mine(rollouts)
        assert isinstance(self.reward, VerifiableReward)
        return self.world.gather(self.reward.runs(part) if part else [])

    def early(self, kinds: Collection[str]) -> Sequence[EarlyScorer]:
        """The reward's own: the share of the groups that a process scores is the one that it writes."""
        return early_scorers(self.reward, kinds)

    def _mine(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        begins = [i for i, r in enumerate(rollouts) if i == 0 or r.group != rollouts[i - 1].group]
        edges = [*begins, len(rollouts)]
        mine = self.world.share(len(begins))
        return rollouts[edges[mine.start] : edges[mine.stop]]


def own(reward: Reward | None) -> Reward | None:
    """What one process scores with."""
    return reward.reward if isinstance(reward, SharedReward) else reward


def shared_reward(world: World, reward: Reward) -> Reward:
    """The reward, scored by all processes of a world together."""
    if world is ALONE:
        return reward
    if isinstance(reward, ShuffledReward):  # the whole batch is shuffled, whoever scored it
        return ShuffledReward(SharedReward(world, reward.reward), reward.seed)
    return SharedReward(world, reward)


def shared_verifier(world: World, reward: VerifiableReward) -> VerifiableReward | SharedReward:
    """A verifier that can say of programs whether they run."""
    return reward if world is ALONE else SharedReward(world, reward)
