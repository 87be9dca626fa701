"""Few-shot prompts: worked questions of another data set before each question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from yonder.errors import DataError
from yonder.schema import Prompt

BETWEEN = "\n\n"


def with_shots(prompts: Sequence[Prompt], worked: Sequence[Prompt], shots: int, name: str) -> list[Prompt]:
    """The prompts, each behind the first `shots` worked questions of its category, in their source's order.

    A question is never its own example. `question`, which judges read, stays as it is. DataError where a category has
    too few worked questions.
    """
    by_category: dict[str, list[Prompt]] = {}
    for example in worked:
        if example.solution is not None:
            by_category.setdefault(example.category, []).append(example)
    return [_behind(prompt, by_category.get(prompt.category, []), shots, name) for prompt in prompts]


def _behind(prompt: Prompt, worked: Sequence[Prompt], shots: int, name: str) -> Prompt:
    chosen = [example for example in worked if example.question != prompt.question][:shots]
    if len(chosen) < shots:
        of = f" of category `{prompt.category}`" if prompt.category else ""
        raise DataError(
            f"data.{name}: {shots} shots are asked for, but `shots_from` has {len(chosen)} questions{of} with a "
            "solution; lower `shots`, or name a data set with more"
        )
    texts = [example.text + example.prefix + (example.solution or "").rstrip() for example in chosen]
    return replace(prompt, text=BETWEEN.join([*texts, prompt.text]))
