"""Judges and classifiers in this process, asked for some rollouts as soon as the last of them is written."""

import threading
from collections.abc import Collection, Sequence

import torch

from yonder.protocols import EarlyScorer, Reward
from yonder.rewards.early import Early
from yonder.schema import Rollout, Score

TOGETHER = 16  # rollouts that are read together, about: all of some prompts
Chunk = tuple[Rollout, ...]


class GroupedReward:
    """Another reward's scores, rollouts of some prompts at once, in the background where it is told of in time.

    What is read together is decided by the rollouts' places alone, never by time: the numbers are those of any other
    run with them, begun early or not.
    """

    def __init__(self, reward: Reward, samples: int) -> None:
        """`reward` scores each rollout for itself, the same whenever it is asked; `samples`: rollouts of a prompt."""
        self.reward = reward
        self.samples = samples
        self.prompts = max(1, TOGETHER // samples)  # of a chunk
        self.asked = Early[Chunk, list[Score]](self._ask, threads=1, at_once=1)

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score a batch, chunk by chunk."""
        members: dict[int, list[int]] = {}
        for i, rollout in enumerate(rollouts):
            members.setdefault(rollout.group // self.prompts, []).append(i)
        chunks = [sorted(found, key=lambda i: _place(rollouts[i])) for found in members.values()]
        answers = self.asked.take([tuple(rollouts[i] for i in chunk) for chunk in chunks])
        found = {
            i: score
            for chunk, scores in zip(chunks, answers, strict=True)
            for i, score in zip(chunk, scores, strict=True)
        }
        return [found[i] for i in range(len(rollouts))]

    def early(self, kinds: Collection[str]) -> Sequence[EarlyScorer]:
        """What begins its chunks, for one stream."""
        return [Growing(self)] if "local" in kinds else []

    def _ask(self, chunks: Sequence[Chunk]) -> list[list[Score]]:
        torch.set_num_threads(torch.get_num_threads())  # a new thread may have another number, and sum otherwise
        return [self.reward.score(chunk) for chunk in chunks]


class Growing:
    """Chunks of one stream, each asked for when it is whole."""

    def __init__(self, reward: GroupedReward) -> None:
        self._reward = reward
        self._lock = threading.Lock()
        self._chunks: dict[int, dict[int, list[Rollout]]] = {}  # chunk -> group -> its rollouts

    def anew(self) -> None:
        """Forget chunks that never became whole: the groups of the next batch are numbered from 0 again."""
        with self._lock:
            self._chunks.clear()

    def begin(self, rollouts: Sequence[Rollout]) -> None:
        """Ask for those that are whole with these. What is not is asked for with the score."""
        with self._lock:
            for rollout in rollouts:
                number = rollout.group // self._reward.prompts
                chunk = self._chunks.setdefault(number, {})
                group = chunk.setdefault(rollout.group, [])
                if len(group) == self._reward.samples:
                    group.clear()  # thrown away by who wrote it, and written again
                group.append(rollout)
                if sum(map(len, chunk.values())) == self._reward.prompts * self._reward.samples:
                    whole = [one for found in self._chunks.pop(number).values() for one in found]
                    self._reward.asked.begin([tuple(sorted(whole, key=_place))])

    def drop(self) -> None:
        """Give up what was begun and not taken; what is being read is waited for."""
        self.anew()
        self._reward.asked.drop(wait=True)


def _place(rollout: Rollout) -> tuple[int, tuple[int, ...]]:
    return rollout.group, rollout.completion.token_ids
