"""What a teacher reads in a chat."""

import re
from importlib import resources
from pathlib import Path

from yonder.errors import RecipeError
from yonder.judges.prompt import PLACE
from yonder.schema import Prompt

QUESTION = "{question}"
_ASSIGNED = re.compile(r"^    n(\d+) = ([\d.]+)$", re.MULTILINE)
_NAME = re.compile(r"\bn(\d+)\b")


def read_teacher_prompt(name: str) -> str:
    """The template of a shipped teacher prompt or of a file; RecipeError where {question} is missing or anything else
    is to be filled in."""
    folder = Path(str(resources.files("yonder") / "prompts" / "teacher"))
    shipped = folder / f"{name}.txt"
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        have = ", ".join(sorted(p.stem for p in folder.glob("*.txt")))
        raise RecipeError(f"there is no teacher prompt `{name}`; give a path, or one of: {have}")
    template = path.read_text(encoding="utf-8").rstrip("\n")
    if unknown := [place for place in PLACE.findall(template) if place != QUESTION]:
        raise RecipeError(
            f"teacher prompt {path}: nothing stands for {unknown[0]}; write {QUESTION}, or "
            f"{{ {unknown[0][1:-1]} }} with spaces where these very words are meant"
        )
    if template.count(QUESTION) != 1:
        raise RecipeError(f"teacher prompt {path} must contain {QUESTION} exactly once")
    return template


def plain_question(prompt: Prompt) -> str:
    """The question with its numbers, also where the task gives them names that the prefix assigns."""
    numbers = dict(_ASSIGNED.findall(prompt.prefix))
    if not numbers:
        return prompt.question
    return _NAME.sub(lambda match: numbers.get(match[1], match[0]), prompt.question)
