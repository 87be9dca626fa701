"""SFT examples from reference solutions."""

import random
from collections.abc import Callable, Sequence

from yonder.models.encoding import PromptEncoder
from yonder.schema import Prompt
from yonder.training.rollout import derived_seed
from yonder.training.supervised import Example

Augment = Callable[[Prompt, random.Random], Prompt]


def sft_examples(
    prompts: Sequence[Prompt], encoder: PromptEncoder, augment: Augment | None, seed: int
) -> Callable[[int], list[Example]]:
    """The examples of an epoch: the prompt as context, the solution and its end token as target.

    With `augment` every epoch has its own variants, drawn from (seed, epoch) alone.
    """
    plain = None if augment else [encode_example(prompt, encoder) for prompt in prompts]

    def examples(epoch: int) -> list[Example]:
        if plain is not None:
            return plain
        assert augment is not None
        rng = random.Random(derived_seed(seed, "augment", epoch))
        return [encode_example(augment(prompt, rng), encoder) for prompt in prompts]

    return examples


def encode_example(prompt: Prompt, encoder: PromptEncoder) -> Example:
    """Tokens of one prompt with its solution."""
    context = encoder.encode(prompt)
    return Example((*context, *encoder.encode_solution(prompt.solution or "")), target=len(context))
