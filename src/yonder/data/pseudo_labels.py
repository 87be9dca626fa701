"""What a label stage found, in the place of a data set's own answers and solutions."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yonder.data.responses import is_unread, left_questions, left_responses
from yonder.errors import DataError
from yonder.recipe.data import DataSettings
from yonder.recipe.references import label_teachers
from yonder.recipe.sections import Sections
from yonder.schema import Prompt

Key = tuple[str, str]  # prompt id and question
Overlay = Callable[[str, DataSettings, list[Prompt]], list[Prompt]]
"""(data set, its settings, its prompts) -> its prompts with other labels."""


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """The files of one label stage."""

    stage: str
    answers: Mapping[Key, str | None]  # of the questions with a label; None: a judge labeled, there is no answer
    good: Mapping[Key, Sequence[str]]  # distinct teacher responses, in the order in which they were collected
    all: Mapping[Key, Sequence[str]]  # right or wrong, of questions without a label too


class LabelStages:
    """The finished label stages of a run; `voted` and `solved` are overlays."""

    def __init__(self, recipe: Sections, folders: Mapping[str, Path]) -> None:
        """`folders`: of finished stages, by name."""
        self.recipe = recipe
        self.folders = folders
        self._read: dict[str, PseudoLabels] = {}

    def voted(self, name: str, settings: DataSettings, prompts: list[Prompt]) -> list[Prompt]:
        """One prompt a question, for streams."""
        return prompts if settings.labels is None else voted(name, prompts, self._labels(settings.labels))

    def solved(self, name: str, settings: DataSettings, prompts: list[Prompt]) -> list[Prompt]:
        """One prompt a solution, for SFT."""
        if settings.labels is None:
            return prompts
        return solved(name, prompts, self._labels(settings.labels), settings, self.recipe.seed)

    def _labels(self, reference: str) -> PseudoLabels:
        name = reference.removeprefix("stage:")
        if name not in self._read:
            if name not in self.folders:
                raise DataError(f"stage `{name}` has no labels yet; run it first")
            self._read[name] = read_labels(self.folders[name], name, label_teachers(self.recipe, name))
        return self._read[name]


def read_labels(folder: Path, stage: str, teacher: Collection[str]) -> PseudoLabels:
    """The labels in a label stage's folder; `teacher`: the stages whose responses may be learned. Responses that
    were cut off, or are not in the policy's form, are no solutions."""
    rows = left_questions(folder)
    answers = {(row["prompt_id"], row["question"]): row.get("answer") for row in rows if row["kept"]}
    good: dict[Key, dict[str, None]] = {}
    everything: dict[Key, dict[str, None]] = {}
    for response in left_responses(folder):
        if response.source in teacher and response.finished and not is_unread(response):
            key = (response.prompt_id, response.question)
            everything.setdefault(key, {})[response.response] = None
            if response.correct:
                good.setdefault(key, {})[response.response] = None
    return PseudoLabels(
        stage, answers, {k: tuple(v) for k, v in good.items()}, {k: tuple(v) for k, v in everything.items()}
    )


def voted(name: str, prompts: Sequence[Prompt], labels: PseudoLabels) -> list[Prompt]:
    """One prompt a question, for streams: those with a label, which is the answer. DataError where none has one."""
    found = [
        replace(prompt, answer=labels.answers[_key(prompt)]) for prompt in prompts if _key(prompt) in labels.answers
    ]
    if not found:
        raise DataError(
            f"data.{name}: none of its {len(prompts)} questions has a label in stage `{labels.stage}`; the collect "
            "stages which that reads must answer the same questions"
        )
    return found


def solved(
    name: str, prompts: Sequence[Prompt], labels: PseudoLabels, settings: DataSettings, seed: int
) -> list[Prompt]:
    """One prompt a solution, for SFT: at most `most_solutions` of a question, drawn by the seed. DataError without
    any.

    A question with a label and no solution is there once, without one. `solutions: all` has the questions without a
    label too.
    """
    solutions = labels.all if settings.solutions == "all" else labels.good
    found: list[Prompt] = []
    for prompt in prompts:
        key = _key(prompt)
        answered = replace(prompt, answer=labels.answers.get(key))
        texts = [text for text in map(_continuing(prompt), solutions.get(key, ())) if text]
        draw = random.Random(f"{seed}/{prompt.id}")
        chosen = sorted(draw.sample(range(len(texts)), min(settings.most_solutions, len(texts))))
        found += [replace(answered, solution=texts[i]) for i in chosen]
        if not texts and key in labels.answers:
            found.append(answered)
    if all(prompt.solution is None for prompt in found):
        what = "teacher response" if settings.solutions == "all" else "good teacher response"
        raise DataError(
            f"data.{name}: stage `{labels.stage}` has no {what} to any of its {len(prompts)} questions in the form of "
            "its task; collect more samples, or give both the same `source` and `task`"
        )
    return found


def _key(prompt: Prompt) -> Key:
    return prompt.id, prompt.question


def _continuing(prompt: Prompt) -> Callable[[str], str]:
    """What of a response the policy writes; nothing where it does not begin with what is given."""

    def rest(response: str) -> str:
        text = response[len(prompt.prefix) :] if response.startswith(prompt.prefix) else ""
        return text if text.strip() else ""

    return rest
