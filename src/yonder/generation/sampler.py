"""The in-process sampler: prompts to rollouts with the weights that are trained.

Every sampling setting is an argument; nothing comes from a model's generation settings. The completion mask is born
here: the tokens of a `Completion` are exactly those that were sampled.
"""

from collections.abc import Sequence

import torch

from yonder.errors import ModelError
from yonder.generation.decoding import Row
from yonder.generation.drawing import Apart, Sampling, Together, own_numbers
from yonder.generation.picking import Batch, Picker
from yonder.models.encoding import PromptEncoder
from yonder.models.policy import Policy
from yonder.protocols import Finished
from yonder.recipe.models import Decoding
from yonder.schema import Completion, Prompt, Rollout


class PolicySampler:
    """Samples completions from the live policy; the weights are shared with training."""

    beside = False

    def __init__(
        self,
        policy: Policy,
        encoder: PromptEncoder,
        max_completion_tokens: int,
        batch: int,
        max_total_tokens: int | None = None,
        by_prompt: bool = False,
        decoding: Decoding = "auto",
    ) -> None:
        """`by_prompt`: each prompt of a call has random numbers of its own, whatever it is batched with; else a batch
        has them together. `decoding`: see `generation.picking`."""
        if not policy.trunk.takes_positions:
            raise ModelError(
                f"{type(policy.model).__name__} takes no position_ids; batches of unequal prompts would be wrong"
            )
        self.policy = policy
        self.encoder = encoder
        self.max_completion_tokens = max_completion_tokens
        self.max_total_tokens = max_total_tokens
        self.batch = batch
        self.by_prompt = by_prompt
        self.picker = Picker(policy, encoder, decoding)

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
        first: int = 0,
        *,
        finished: Finished | None = None,
    ) -> list[Rollout]:
        """`samples` completions of each prompt, prompt by prompt; a pure function of weights, prompts, settings and
        seed.

        Prompts are batched by length. `first`: the place of the first prompt among those of a larger call, where
        groups begin to count. `finished` is told of a rollout at its last token. Raises DataError for a prompt that is
        too long.
        """
        if not prompts:
            return []
        encoded = [self.encoder.encode(prompt) for prompt in prompts]
        each = max(1, self.batch // samples)
        settings = Sampling(temperature, top_p, top_k)
        batch = Batch(encoded[:each], [self._limit(ids) for ids in encoded[:each]], samples, settings)
        decoder = self.picker.decoder(batch)
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]), reverse=decoder.longest_first)
        generator = torch.Generator(device=self.policy.device).manual_seed(seed)
        done: dict[int, list[Row]] = {}

        def rollout(i: int, row: Row) -> Rollout:
            return Rollout(prompts[i], encoded[i], self._completion(row), group=first + i)

        try:
            for start in range(0, len(order), each):
                part = order[start : start + each]
                numbers = Together(generator)
                if self.by_prompt:
                    own = [own_numbers(seed, first + i, samples, self.max_completion_tokens) for i in part]
                    numbers = Apart(torch.cat(own).to(self.policy.device))

                def over(rows: Sequence[Row], part: Sequence[int] = part) -> None:
                    if finished is not None:
                        finished([rollout(part[row.prompt], row) for row in rows])

                rows = [Row(prompt, self._limit(encoded[i])) for prompt, i in enumerate(part) for _ in range(samples)]
                with torch.no_grad(), self.policy.mixed_precision():
                    decoder.decode([encoded[i] for i in part], rows, settings, numbers, over)
                for row in rows:
                    done.setdefault(part[row.prompt], []).append(row)
        finally:
            decoder.rest()
        return [rollout(i, row) for i in range(len(prompts)) for row in done[i]]

    def _limit(self, prompt: tuple[int, ...]) -> int:
        total = self.max_total_tokens
        return (
            self.max_completion_tokens
            if total is None
            else max(1, min(self.max_completion_tokens, total - len(prompt)))
        )

    def _completion(self, row: Row) -> Completion:
        return Completion(tuple(row.ids), tuple(row.logprobs), self.encoder.decode(row.ids), row.finished)
