"""A `Sampler` over vLLM servers: weights sent before every iteration and checked, prompts dealt out, nothing taken from
a server that has other weights.

Of several processes each asks for its share of the prompts; process 0 alone sends weights, while the others wait.
"""

import logging
import queue
import threading
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from torch import Tensor

from yonder.engines.checking import Rules, apart, completion_of, probes, vocabulary_of
from yonder.engines.vllm import Answer, Ask, VLLMServer, gone
from yonder.engines.weights import Outbox
from yonder.errors import ModelError, RolloutError
from yonder.models.encoding import PromptEncoder
from yonder.models.policy import Policy
from yonder.protocols import Finished
from yonder.schema import Prompt, Rollout
from yonder.training.distributed import ALONE, World
from yonder.training.divided import gathered, is_divided, whole
from yonder.transport import Unanswered

log = logging.getLogger("yonder")
TRIES = 4  # rounds of questions of which a server answered some with other weights
Answered = Callable[[int, Sequence[Answer]], None]  # place of a prompt, its completions


class ServedSampler:
    """Samples from servers that are given the live policy's weights."""

    beside = True

    def __init__(
        self,
        servers: Sequence[VLLMServer],
        policy: Policy,
        encoder: PromptEncoder,
        rules: Rules,
        folder: Path,
        world: World = ALONE,
    ) -> None:
        """`folder`: where weights are left for the servers; `world`: with a channel that nobody else uses."""
        self.servers = servers
        self.policy = policy
        self.encoder = encoder
        self.rules = rules
        self.world = world
        self.outbox = Outbox(folder, policy) if world.first else None
        self.run = uuid.uuid4().hex[:12]
        self.sent = 0
        self.weights: Path | None = None  # the newest version, by its name
        self._forward = threading.Lock()  # of the policy

    def refresh(self, step: int) -> None:
        """Send the policy's weights to every server and compare its log-probs with the policy's.

        The first time the servers are checked, and weights with shifted tokens are sent before, so that a server that
        keeps some of its own is found out. Raises ModelError for a server that cannot do it, RolloutError where none
        is there.
        """
        model = self.policy.model
        state = gathered(model.state_dict(keep_vars=True), self.world) if is_divided(model) else None
        with whole(self.policy):  # process 0 compares without the others
            (self.weights, *_) = self.world.attempt(lambda: self._renew(state) if self.world.first else None)

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
        """`samples` completions of each prompt, prompt by prompt, all from the weights that `refresh` sent last.

        `finished` is told of each answer at once, before it is known to come from those. Raises DataError for a prompt
        that is too long, RolloutError where no server gives them.
        """
        encoded = [self.encoder.encode(prompt) for prompt in prompts]
        mine = self.world.share(len(prompts))
        asks = [
            Ask(
                ids, samples, self.rules.limit(ids), temperature, top_p, top_k, self.encoder.end_ids, self.encoder.stop,
                (seed + i) % 2**31 if self.rules.seeds else None,
            )
            for i, ids in zip(mine, encoded[mine.start : mine.stop], strict=True)
        ]  # fmt: skip

        def rollouts(place: int, answers: Sequence[Answer]) -> list[Rollout]:
            i = mine[place]
            return [Rollout(prompts[i], encoded[i], completion_of(answer, self.encoder), group=i) for answer in answers]

        def answered(place: int, answers: Sequence[Answer]) -> None:
            if finished is not None:
                finished(rollouts(place, answers))

        found = [rollout for i, found in enumerate(self._answers(asks, answered)) for rollout in rollouts(i, found)]
        return self.world.gather(found)

    # --- weights

    def _renew(self, state: Mapping[str, Tensor] | None) -> Path:
        """Send the weights, the first time after a check; returns the version."""
        if self.weights is None:
            self._begin(state)
        weights = self._write(state)
        self._send(weights)
        return weights

    def _begin(self, state: Mapping[str, Tensor] | None) -> None:
        for server in self.servers:
            try:
                server.check(vocabulary_of(self.policy), len(self.policy.tokenizer), self.rules.room)
            except Unanswered as error:
                raise gone([server], error) from error
        self._send(self._write(state, rolled=True), shift=1)

    def _write(self, state: Mapping[str, Tensor] | None, rolled: bool = False) -> Path:
        assert self.outbox is not None
        self.sent += 1
        return self.outbox.write(f"{self.run}-{self.sent:08d}", rolled, state)

    def _send(self, weights: Path, shift: int = 0) -> None:
        """To all servers at once; one that is gone gets them when it is asked again, unless none is left."""

        def send(server: VLLMServer) -> Unanswered | None:
            try:
                self._give(server, weights, shift)
            except Unanswered as error:
                return error
            return None

        with ThreadPoolExecutor(len(self.servers)) as pool:
            errors = [error for error in pool.map(send, self.servers) if error is not None]
        if errors and (shift or len(errors) == len(self.servers)):
            raise gone(self.servers, errors[0]) from errors[0]

    def _give(self, server: VLLMServer, weights: Path, shift: int = 0) -> None:
        """Send and compare; again where it was started anew in between."""
        for _ in range(TRIES):
            server.load(weights, weights.name)
            apart, raw = self._compare(server, shift)
            if apart <= self.rules.most_apart:
                return
            if server.version() == weights.name:
                raise self._other_numbers(server, apart, raw)
        raise other_weights()

    def _other_numbers(self, server: VLLMServer, apart: float, raw: float) -> ModelError:
        """What may be wrong with a server that has the weights and gives other log-probs."""
        if raw <= self.rules.most_apart:
            return ModelError(
                f"{server.url} gives log-probs from before the temperature ({apart:.3f} nats a token from the "
                f"policy's, {raw:.1e} without it); start it with --logprobs-mode processed_logprobs"
            )
        return ModelError(
            f"{server.url} was sent the weights, and its log-probs differ from the policy's by {apart:.3f} nats a "
            f"token (at most {self.rules.most_apart:g}); is it the policy's own model, in a type as precise, and does "
            "it renew all of its weights?"
        )

    def _compare(self, server: VLLMServer, shift: int) -> tuple[float, float]:
        """See `checking.apart`."""
        asks = probes(self.policy, self.rules, shift)
        with ThreadPoolExecutor(len(asks)) as pool:
            answers = [found[0] for found in pool.map(server.complete, asks)]
        with self._forward:
            return apart(self.policy, asks, answers, self.rules.temperature, shift)

    # --- completions

    def _answers(self, asks: Sequence[Ask], answered: Answered) -> list[list[Answer]]:
        """The answers to every prompt. A server with other weights than the newest (it was started again, or someone
        else sends it some) is sent them, once no process waits for it, and asked again."""
        if self.weights is None:
            raise RuntimeError("`refresh` comes before `sample`")
        weights, found = self.weights, dict[int, list[Answer]]()
        for _ in range(TRIES):
            rounds = self.world.attempt(lambda: self._ask(asks, found, weights.name, answered))
            if all(complete for complete, _ in rounds):
                return [found[i] for i in range(len(asks))]
            lost = {url for _, urls in rounds for url in urls}
            self.world.attempt(partial(self._send_again, lost if self.world.first else (), weights))
        raise other_weights()

    def _ask(
        self, asks: Sequence[Ask], found: dict[int, list[Answer]], version: str, answered: Answered
    ) -> tuple[bool, list[str]]:
        """Ask for what is not yet in `found`; whether all is then, and which servers have other weights."""
        given = self._deal({i: ask for i, ask in enumerate(asks) if i not in found}, answered)
        lost: list[str] = []
        for server, answers in given.items():
            try:
                if server.version() == version:
                    found |= answers
                else:
                    lost.append(server.url)
            except Unanswered as error:
                log.warning("%s: %s", server.url, error)
        return len(found) == len(asks), lost

    def _send_again(self, urls: Collection[str], weights: Path) -> None:
        for server in self.servers:
            if server.url in urls:
                log.warning("%s lost the weights that it was sent, and gets them again", server.url)
                try:
                    server.load(weights, weights.name)  # not compared: the policy may have learned since
                except Unanswered as error:
                    log.warning("%s: %s", server.url, error)

    def _deal(self, asks: dict[int, Ask], answered: Answered) -> dict[VLLMServer, dict[int, list[Answer]]]:
        """Ask all servers that answer; each takes the next prompt when it has room. Raises RolloutError where all are
        gone before the last."""
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for i in asks:
            waiting.put(i)
        given: dict[VLLMServer, dict[int, list[Answer]]] = {server: {} for server in self.servers}
        lost: dict[VLLMServer, Unanswered] = {}

        def work(server: VLLMServer) -> None:
            while server not in lost:
                try:
                    i = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    given[server][i] = server.complete(asks[i])
                except Unanswered as error:
                    lost[server] = error
                    waiting.put(i)
                else:
                    answered(i, given[server][i])

        while not waiting.empty():
            left = [server for server in self.servers if server not in lost]
            if not left:
                raise gone(self.servers, next(iter(lost.values())))
            each = min(max(1, self.rules.concurrency // len(left)), len(asks))
            with ThreadPoolExecutor(each * len(left)) as pool:
                list(pool.map(work, [server for server in left for _ in range(each)]))
        return {server: answers for server, answers in given.items() if answers}


def other_weights() -> RolloutError:
    """What is said where servers lose what they are sent, again and again."""
    return RolloutError(
        f"after {TRIES} tries a server still has other weights than it was sent; does another run use it?"
    )
