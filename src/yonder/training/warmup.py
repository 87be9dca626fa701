"""SFT examples from reference solutions."""

from collections.abc import Callable, Sequence

from yonder.models.encoding import PromptEncoder
from yonder.schema import Prompt
from yonder.training.supervised import Example


def sft_examples(epochs: Callable[[int], Sequence[Prompt]], encoder: PromptEncoder) -> Callable[[int], list[Example]]:
    """The examples of an epoch: the prompt as context, the solution and its end token as target."""
    return lambda epoch: [encode_example(prompt, encoder) for prompt in epochs(epoch)]


def encode_example(prompt: Prompt, encoder: PromptEncoder) -> Example:
    """Tokens of one prompt with its solution."""
    context = encoder.encode(prompt)
    return Example((*context, *encoder.encode_solution(prompt.solution or "")), target=len(context))
