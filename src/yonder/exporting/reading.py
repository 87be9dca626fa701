"""What a model reads, for the card: the text before a completion, word for word."""

import sys

from yonder.data.records import Record
from yonder.data.tasks import build_prompt
from yonder.exporting.choosing import Chosen
from yonder.models.classifier import CLASSIFIER_TEXT
from yonder.models.encoding import PromptEncoder
from yonder.models.loading import load_tokenizer
from yonder.recipe.data import TaskSettings
from yonder.recipe.references import data_of

_QUESTION = Record(
    "example", "Tom has 3 apples. He buys 2 more. How many apples does he have now?", options=("4", "5", "6")
)


def example(chosen: Chosen) -> str:
    """A question as the policy gets it; for a classifier the form of its text; nothing for a judge, whose prompt the
    card has."""
    if chosen.kind == "classifier":
        return CLASSIFIER_TEXT
    if chosen.kind == "judge":
        return ""
    task = _task(chosen)
    encoder = PromptEncoder(load_tokenizer(str(chosen.model)), sys.maxsize, task.chat, task.system, task.stop)
    return encoder.render(build_prompt(_QUESTION, task, labeled=False))


def _task(chosen: Chosen) -> TaskSettings:
    """The task format of the data that the stage read first."""
    name = next((name for _, name in data_of(chosen.stage)), "").partition(".")[0]
    settings = chosen.recipe.data.get(name)
    return settings.task if settings is not None and settings.task is not None else chosen.recipe.task
