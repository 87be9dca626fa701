"""The four task formats, character by character."""

from dataclasses import replace

import pytest

from yonder.data.records import Record
from yonder.data.responses import as_rollout, label
from yonder.data.tasks import build_prompt, without_ending
from yonder.recipe.data import TaskSettings
from yonder.schema import Completion, Response, Rollout, Score

PROGRAM = 'def solution():\n    """Old question."""\n    a = 48 / 2\n    return 48 + a\n'
RECORD = Record("1", "How many clips?", "72", PROGRAM, "48/2 = 24.\nTherefore, the answer is <72>.", category="easy")
CHOICE = Record("2", "Profit?", "C", PROGRAM, "5 + 5 . answer : c .", ("rs . 4", "8", "10"), value="10")


def test_program_format() -> None:
    prompt = build_prompt(RECORD, TaskSettings(), labeled=True)
    assert prompt.text == "Question:\nHow many clips?\nAnswer reasoning:\n"
    assert prompt.prefix == 'def solution():\n    """How many clips?"""\n'
    assert prompt.solution == "    a = 48 / 2\n    return 48 + a"
    assert (prompt.id, prompt.question, prompt.answer, prompt.category) == ("1", "How many clips?", "72", "easy")


def test_program_instruction_is_in_the_docstring_or_else_in_the_question() -> None:
    inside = build_prompt(RECORD, TaskSettings(instruction="Reason first."), labeled=True)
    assert inside.text == "Question:\nHow many clips?\nAnswer reasoning:\n"
    assert inside.prefix == 'def solution():\n    """How many clips? Reason first."""\n'
    outside = build_prompt(RECORD, TaskSettings(instruction="Reason first.", docstring=False), labeled=True)
    assert outside.text == "Question:\nHow many clips? Reason first.\nAnswer reasoning:\n"
    assert outside.prefix == "def solution():\n"
    assert inside.question == outside.question == "How many clips?"


def test_text_format() -> None:
    prompt = build_prompt(RECORD, TaskSettings(format="text", instruction="Be brief."), labeled=True)
    assert prompt.text == "Question:\nHow many clips? Be brief.\nAnswer reasoning:\n"
    assert prompt.prefix == ""
    assert prompt.solution == "48/2 = 24.\nTherefore, the answer is: 72"


def test_choice_format() -> None:
    prompt = build_prompt(CHOICE, TaskSettings(format="choice"), labeled=True)
    assert prompt.text == "Question:\nProfit?\nA) rs . 4\nB) 8\nC) 10\nAnswer reasoning:\n"
    assert prompt.question == "Profit?\nA) rs . 4\nB) 8\nC) 10"  # a judge needs the options too
    assert prompt.solution == "5 + 5 .\nTherefore, the answer is: C"
    assert (prompt.answer, prompt.options) == ("C", ("rs . 4", "8", "10"))


@pytest.mark.parametrize("kind", ["program", "text"])
def test_multiple_choice_as_a_number(kind: str) -> None:
    prompt = build_prompt(CHOICE, TaskSettings.model_validate({"format": kind}), labeled=True)
    assert (prompt.answer, prompt.options, prompt.question) == ("10", (), "Profit?")


def test_open_format() -> None:
    prompt = build_prompt(RECORD, TaskSettings(format="open"), labeled=True)
    assert (prompt.text, prompt.prefix) == ("How many clips?\n", "")
    chat = build_prompt(RECORD, TaskSettings(format="open", chat=True, instruction="Be kind."), labeled=True)
    assert chat.text == "How many clips? Be kind."


@pytest.mark.parametrize("kind", ["program", "text", "choice", "open"])
def test_unlabeled_hides_answer_and_solution(kind: str) -> None:
    prompt = build_prompt(CHOICE, TaskSettings.model_validate({"format": kind}), labeled=False)
    assert prompt.answer is None
    assert prompt.solution is None


def test_a_reference_stays_on_unlabeled_prompts_and_in_collected_responses() -> None:
    record = replace(RECORD, reference="Half as many.")
    prompt = build_prompt(record, TaskSettings(format="open"), labeled=False)
    assert (prompt.answer, prompt.reference) == (None, "Half as many.")
    collected = label(Rollout(prompt, (), Completion((), (), "24", True)), Score(None, "no label"), "s", 1.0)
    assert as_rollout(Response(**collected.to_json())).prompt.reference == "Half as many."


def test_no_solution_without_its_source() -> None:
    record = Record("1", "Q", "72")
    for kind in ("program", "text", "open"):
        assert build_prompt(record, TaskSettings.model_validate({"format": kind}), labeled=True).solution is None


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("So 203.\n\nTherefore, the answer is <203>.", "So 203."),
        ("This is a duplicate. The answer is <3>.", "This is a duplicate."),
        ("Sum.\nTherefore, the answer is: $1,000", "Sum."),
        ("Sum.\n#### 3.5", "Sum."),
        ("625 ways . answer : c .", "625 ways ."),
        ("Therefore, the answer is <5>.", ""),
        ("Therefore, the number of questions that Steve cannot answer is 45 - 38 = 7.",) * 2,
        ("In all, the final answer is 15 gallons * 8 pints / gallon = 120 pints",) * 2,
    ],
)
def test_without_ending(text: str, rest: str) -> None:
    assert without_ending(text) == rest
