"""SFT examples from reference solutions."""

from collections.abc import Callable, Sequence

from yonder.models.encoding import PromptEncoder
from yonder.schema import Prompt
from yonder.training.supervised import Example


def sft_examples(epochs: Callable[[int], Sequence[Prompt]], encoder: PromptEncoder) -> Callable[[int], list[Example]]:
    """The examples of an epoch: the prompt as context, the solution and its end token as target; equal prompts are
    encoded once."""
    known: dict[Prompt, Example] = {}

    def examples(epoch: int) -> list[Example]:
        found: list[Example] = []
        for prompt in epochs(epoch):
            if prompt not in known:
                known[prompt] = encode_example(prompt, encoder)
            found.append(known[prompt])
        return found

    return examples


def encode_example(prompt: Prompt, encoder: PromptEncoder) -> Example:
    """Tokens of one prompt with its solution."""
    context = encoder.encode(prompt)
    return Example((*context, *encoder.encode_solution(prompt.solution or "")), target=len(context))
