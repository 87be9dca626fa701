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
                ids, target = encoder.encode_example(prompt)
                known[prompt] = Example(ids, target)
            found.append(known[prompt])
        return found

    return examples
