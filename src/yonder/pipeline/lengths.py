"""Before the first stage: no prompt is longer than the policy reads, where its tokenizer and the data are at hand."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from yonder.errors import DataError
from yonder.models.encoding import PromptEncoder
from yonder.models.loading import load_tokenizer
from yonder.models.shapes import longest
from yonder.recipe import Recipe
from yonder.recipe.answers import CollectStage
from yonder.recipe.references import data_of
from yonder.recipe.stage_base import BASE
from yonder.recipe.stages import DistillStage, EvaluateStage, StageSettings, WarmupStage
from yonder.schema import Prompt

AT_ONCE = 4096  # prompts that a tokenizer is given
ADDED = 8  # special tokens around a text, at most


def check_lengths(recipe: Recipe, stages: Sequence[StageSettings], loaded: Mapping[str, Sequence[Prompt]]) -> None:
    """Raise DataError for the first prompt of these stages that is too long. `loaded`: data sets that were read."""
    settings = recipe.policy
    if settings.long_prompts == "cut":
        return
    names = dict.fromkeys(found for stage in stages for found in _read(recipe, stage) if found[0] in loaded)
    if not names:
        return
    tokenizer = load_tokenizer(settings.model, settings.tokenizer)
    context = longest(settings.model, settings.tokenizer) or sys.maxsize
    for name, sft in names:
        base = name.partition(".")[0]
        task = recipe.data[base].task or recipe.task
        encoder = PromptEncoder(tokenizer, settings.max_prompt_tokens, task.chat, task.system, context=context)
        if task.chat and not tokenizer.chat_template:
            continue  # which the stage says
        prompts = [prompt for prompt in loaded[name] if prompt.solution is not None or not sft]
        try:
            for prompt in _long(prompts, encoder):
                encoder.encode(prompt)
        except DataError as error:
            raise DataError(f"data.{base}: {error}") from error


def _read(recipe: Recipe, stage: StageSettings) -> Iterator[tuple[str, bool]]:
    """Data sets that the recipe's policy reads, and whether only what has a solution."""
    if isinstance(stage, EvaluateStage):
        if any(name == BASE or _begins_here(recipe, recipe.stage(name)) for name in stage.checkpoints):
            yield from ((recipe.benchmarks[name].data, False) for name in stage.benchmarks)
    elif not _begins_here(recipe, stage):
        return
    elif isinstance(stage, WarmupStage | DistillStage) or (isinstance(stage, CollectStage) and stage.teacher is None):
        yield from ((name, isinstance(stage, WarmupStage) and key == "data") for key, name in data_of(stage))


def _begins_here(recipe: Recipe, stage: StageSettings) -> bool:
    """Whether a stage's policy was once the recipe's: another model has a tokenizer of its own."""
    start = getattr(stage, "policy", None)
    while isinstance(start, str) and start.startswith("stage:"):
        start = getattr(recipe.stage(start.removeprefix("stage:")), "policy", None)
    return start is None


def _long(prompts: Sequence[Prompt], encoder: PromptEncoder) -> Iterator[Prompt]:
    """Those that may be too long. A token has a byte at least, so few are looked at."""
    limit = min(encoder.max_prompt_tokens, encoder.context - 1)
    texts = [(prompt, encoder.render(prompt)) for prompt in prompts]
    asked = [(prompt, text) for prompt, text in texts if len(text.encode()) + ADDED > limit]
    for start in range(0, len(asked), AT_ONCE):
        part = asked[start : start + AT_ONCE]
        found = encoder.tokenizer([text for _, text in part], add_special_tokens=not encoder.chat)["input_ids"]
        for (prompt, _), ids in zip(part, cast(list[list[int]], found), strict=True):
            if len(ids) > limit:
                yield prompt
