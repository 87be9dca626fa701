"""From a record to a prompt: the four task formats."""

from __future__ import annotations

import re

from yonder.data.augmentation import name_numbers, named_solution
from yonder.data.programs import HEADER, docstring_line, solution_body
from yonder.data.records import LETTERS, Record
from yonder.recipe.data import TaskSettings
from yonder.schema import Prompt

CONCLUSION = "Therefore, the answer is: "

_VALUE = r"(?:<[^<>\n]*>|\(?[A-Z]\)?|[$£€]?-?[0-9][0-9.,/%]*)"
_ENDING = re.compile(
    r"(?:^|\n|(?<=[.!?])\s)\s*(?:####[^\n]*"
    rf"|(?:therefore|thus|so|hence)?,?\s*the (?:final )?answer is:?\s*{_VALUE}\s*\.?"
    r"|answer\s*:?\s*[a-e]\s*\.?)\s*$",
    re.IGNORECASE,
)


def build_prompt(record: Record, task: TaskSettings, labeled: bool) -> Prompt:
    """The prompt that a policy sees for this record.

    program: head, then `def solution():` with the question as docstring is given; the completion is the body. text and
    choice: head; the completion is reasoning and "Therefore, the answer is: 72" (or "C"). open: the question alone.
    The label of a multiple-choice record is its letter for choice and the right option's number for program and text.
    Without `labeled` there is no answer and no solution. `options` are kept for choice only, where the question that
    judges read lists them too.
    """
    question = _with_options(record) if task.format == "choice" else record.question
    assignments = ""
    if task.format == "program" and task.numbers == "named":
        question, assignments = name_numbers(question)
    prefix = _prefix(question, task) + assignments if task.format == "program" else ""
    answer = label_of(record, task)
    return Prompt(
        id=record.id,
        question=question,
        text=_text(question, task),
        prefix=prefix,
        answer=answer if labeled else None,
        solution=_solution(record, task, answer) if labeled else None,
        options=record.options if task.format == "choice" else (),
        category=record.category,
        reference=record.reference,
    )


def label_of(record: Record, task: TaskSettings) -> str | None:
    """What the verifier compares with: a letter for choice, else the answer, or the number of the right option."""
    if task.format == "choice":
        return record.answer if record.options else None
    return record.value if record.options else record.answer


def _text(question: str, task: TaskSettings) -> str:
    in_docstring = task.format == "program" and task.docstring
    if task.instruction and not in_docstring:
        question = f"{question} {task.instruction}" if task.format != "choice" else f"{question}\n{task.instruction}"
    if task.format == "open":
        return question if task.chat else question + "\n"
    return f"Question:\n{question}\nAnswer reasoning:\n"


def _prefix(question: str, task: TaskSettings) -> str:
    if not task.docstring:
        return HEADER
    return HEADER + docstring_line(f"{question} {task.instruction}" if task.instruction else question)


def _with_options(record: Record) -> str:
    lines = [f"{letter}) {option}" for letter, option in zip(LETTERS, record.options, strict=False)]
    return "\n".join([record.question, *lines])


def _solution(record: Record, task: TaskSettings, answer: str | None) -> str | None:
    if task.format == "program":
        if record.program is None:
            return None
        return (
            named_solution(record.question, record.program)
            if task.numbers == "named"
            else solution_body(record.program)
        )
    if task.format == "open":
        return record.text if record.text is not None else record.program
    if record.text is None or answer is None:
        return None
    reasoning = without_ending(record.text)
    return f"{reasoning}\n{CONCLUSION}{answer}" if reasoning else CONCLUSION + answer


def without_ending(text: str) -> str:
    """Reasoning without its closing "Therefore, the answer is <203>." or "#### 203": the task format writes its own."""
    return _ENDING.sub("", text).rstrip()
