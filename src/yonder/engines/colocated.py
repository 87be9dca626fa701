"""A `RolloutEngine` over vLLM inside this process: weights copied in memory before every iteration and checked.

Of several processes each has an engine of its own and asks it for its share of the prompts.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from yonder.engines.checking import Rules, apart, completion_of, probes
from yonder.engines.vllm import Answer, Ask
from yonder.engines.vllm_inside import VLLMInside
from yonder.engines.weights import policy_weights
from yonder.errors import ModelError
from yonder.models.encoding import PromptEncoder
from yonder.models.loading import as_saved
from yonder.models.policy import Policy
from yonder.protocols import Finished
from yonder.schema import Prompt, Rollout
from yonder.training.distributed import ALONE, World
from yonder.training.divided import gathered, is_divided, whole


class ColocatedSampler:
    """Samples from an engine that shares device and process with the trainer, and never works at the same time."""

    beside = False

    def __init__(
        self,
        start: Callable[[], VLLMInside],
        policy: Policy,
        encoder: PromptEncoder,
        rules: Rules,
        world: World = ALONE,
    ) -> None:
        """`start`: the engine, made when the first weights are sent."""
        self.start = start
        self.policy = policy
        self.encoder = encoder
        self.rules = rules
        self.world = world
        self.engine: VLLMInside | None = None
        self.run = uuid.uuid4().hex[:12]
        self.sent = 0

    def refresh(self, step: int) -> None:
        """Copy the policy's weights into the engine and compare its log-probs with the policy's.

        The first time weights with shifted tokens are sent before, so that an engine that keeps some of its own is
        found out. Raises ModelError where it does, or cannot be started.
        """
        model, state = self.policy.model, None
        if is_divided(model):
            state = gathered(model.state_dict(keep_vars=True), self.world, everywhere=True)
        with whole(self.policy):  # each compares without the others
            self.world.attempt(lambda: self._renew(state))

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
        """`samples` completions of each prompt, prompt by prompt, from the weights that `refresh` copied last; the same
        ones for the same seed on a CPU. `finished` is told of each prompt's. Raises DataError for a prompt that is too
        long."""
        encoded = [self.encoder.encode(prompt) for prompt in prompts]
        mine = self.world.share(len(prompts))
        end, stop = self.encoder.end_ids, self.encoder.stop
        asks = [Ask(encoded[i], samples, self.rules.limit(encoded[i]), temperature, top_p, top_k, end, stop)
                for i in mine]  # fmt: skip

        def rollouts(place: int, answers: Sequence[Answer]) -> list[Rollout]:
            i = mine[place]
            return [Rollout(prompts[i], encoded[i], completion_of(a, self.encoder), group=i) for a in answers]

        def answered(place: int, answers: Sequence[Answer]) -> None:
            if finished is not None:
                finished(rollouts(place, answers))

        def work() -> list[Rollout]:
            if self.engine is None or self.engine.version is None:
                raise RuntimeError("`refresh` comes before `sample`")
            found = self.engine.complete(asks, seed + mine.start, answered)
            self.engine.sleep()
            return [rollout for place, answers in enumerate(found) for rollout in rollouts(place, answers)]

        return [rollout for part in self.world.attempt(work) for rollout in part]

    def _renew(self, state: Mapping[str, Tensor] | None) -> None:
        if self.engine is None:
            engine = self.start()
            self._send(engine, state, shift=1)
            self.engine = engine
        self._send(self.engine, state)

    def _send(self, engine: VLLMInside, state: Mapping[str, Tensor] | None, shift: int = 0) -> None:
        self.sent += 1
        weights = as_saved(self.policy.model, policy_weights(self.policy, bool(shift), state))
        engine.load(((name, tensor.detach()) for name, tensor in weights.items()), f"{self.run}-{self.sent:08d}")
        asks = probes(self.policy, self.rules, shift)
        answers = [found[0] for found in engine.complete(asks, self.sent)]
        away, _ = apart(self.policy, asks, answers, self.rules.temperature, shift)
        if away > self.rules.most_apart:
            raise ModelError(
                f"vLLM was given the policy's weights, and its log-probs differ from the policy's by {away:.3f} nats a "
                f"token (at most {self.rules.most_apart:g}); set rollouts.colocate.dtype to a type as precise as the "
                "policy's, or `importance_cap`; where that is no help, this vLLM does not renew all weights of this "
                "model"
            )
