"""What teachers write, and the policy's response that is made of it."""

from __future__ import annotations

import pytest

from yonder.data.programs import HEADER
from yonder.data.records import Record
from yonder.data.tasks import build_prompt
from yonder.recipe.data import TaskSettings
from yonder.schema import Prompt
from yonder.teachers.prompt import plain_question
from yonder.teachers.reading import Reading, read_answer, without_thoughts

QUESTION = "Tom has 12 apples and eats 5. How many are left?"
RECORD = Record("1", QUESTION, answer="7", program="def solution():\n    return 12 - 5")
OPTIONS = Record("2", "What is the capital of France?", answer="B", options=("Rome", "Paris", "Bern"))


def prompt_of(record: Record = RECORD, **task: object) -> tuple[Prompt, TaskSettings]:
    settings = TaskSettings.model_validate(task)
    return build_prompt(record, settings, labeled=True), settings


def read(text: str, finished: bool = True, goes_on: bool = False, record: Record = RECORD, **task: object) -> Reading:
    prompt, settings = prompt_of(record, **task)
    found = read_answer(prompt, settings, text, finished, goes_on)
    if not found.response.startswith(prompt.prefix):
        return found._replace(response=f"(as it is) {found.response}")
    return found._replace(response=found.response.removeprefix(prompt.prefix))


BODY = "    left = 12 - 5\n    return left"
FUNCTION = "def solution():\n    left = 12 - 5\n    return left"
PROGRAMS = [  # text of a chat, body below the given prefix
    (f"```python\n{FUNCTION}\n```", BODY),
    (f"Sure! Here it is:\n\n```py\n{FUNCTION}\n```\nIt subtracts.", BODY),
    (f"```\n{FUNCTION}\n```", BODY),
    (f"  ```python\n{FUNCTION}\n  ```", BODY),
    (FUNCTION, BODY),
    (f"Here you go.\n\n{FUNCTION}\n\nThis returns 7.", BODY),
    (f"{FUNCTION}\n\nprint(solution())", BODY),
    (f"<think>12 - 5?\n```python\ndef solution():\n    return 0\n```\n</think>\n{FUNCTION}", BODY),
    (f"hm, 12 - 5\n</think>\n\n```python\n{FUNCTION}\n```", BODY),
    (f"```python\n{FUNCTION}\n```\nUse it so:\n```python\nprint(solution())\n```", BODY),
    (f"```python\ndef solution():\n    return 1\n```\nNo, better:\n```python\n{FUNCTION}\n```", BODY),
    (f"```python\n{BODY}\n```", BODY),  # the body alone
    (f'```python\ndef solution():\n    """Apples."""\n{BODY}\n```', BODY),
    ("```python\ndef solve():\n    return 7\n```", "    return 7"),
    (
        "```python\nimport math\n\ndef solution():\n    return math.floor(7.5)\n```",
        "    import math\n    return math.floor(7.5)",
    ),
    (f"```python\n{FUNCTION}", BODY),  # a fence that is never closed
    (f"```python\r\n{FUNCTION}\r\n```".replace("\r\n", "\n"), BODY),
]


@pytest.mark.parametrize(("text", "body"), PROGRAMS)
@pytest.mark.parametrize("docstring", [True, False])
def test_programs_are_read_from_chats(text: str, body: str, docstring: bool) -> None:
    assert read(text, docstring=docstring) == (body, True, "")


TAKES, CUT = "def solution(a, b):\n    return a - b", "```python\ndef solution():\n    return (12 -"
UNREADABLE = [  # text, ended by itself, reason, what is kept
    ("The answer is 7.", True, "no Python program", "The answer is 7."),
    ("```python\nprint(12 - 5)\n```", True, "no function without arguments", "```python\nprint(12 - 5)\n```"),
    (TAKES, True, "no function without arguments", TAKES),
    (CUT, False, "cut before its program ended", CUT),
    ("<think>12 - 5", False, "cut within its thoughts", ""),
    ("<think>7</think>", True, "only thoughts", ""),
    (" \n", True, "empty", " \n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "finished", "reason", "kept"), UNREADABLE)
def test_what_is_no_program_is_kept_with_the_reason(text: str, finished: bool, reason: str, kept: str) -> None:
    assert read(text, finished) == (f"(as it is) {kept}", finished, reason)


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("    return 12 - 5", "    return 12 - 5"),
        ("    return 12 - 5\n\nQuestion:\nAnother?\n", "    return 12 - 5"),
        (" return 12 - 5", " return 12 - 5"),
        ("return 12 - 5", "    return 12 - 5"),  # the first space was dropped
        ("    left = 12\n\n    return left - 5\nprint(1)", "    left = 12\n\n    return left - 5"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_completion_goes_on_up_to_where_its_function_ends(text: str, body: str, finished: bool) -> None:
    ended = finished or text.startswith(body + "\n")
    assert read(text, finished, goes_on=True) == (body, ended, "")


def test_a_completion_that_is_no_python_says_so() -> None:
    assert read("    return (12 -\n", goes_on=True)[1:] == (True, "no Python program")
    assert read("    return (12 -", finished=False, goes_on=True)[1:] == (False, "cut before its program ended")


UNLINKED = "not one formula over the question's numbers"
NAMED = [
    (FUNCTION, "    return n0 - n1", ""),
    ("def solution():\n    return 12 - 5", "    return n0 - n1", ""),
    ("def solution():\n    return sum([12, -5])", "    return sum([12, -5])", UNLINKED),
]


@pytest.mark.parametrize(("text", "body", "problem"), NAMED)
def test_named_numbers_are_put_into_a_formula(text: str, body: str, problem: str) -> None:
    assert read(text, numbers="named") == (body, True, problem)


def test_a_teacher_reads_numbers_where_the_policy_reads_names() -> None:
    prompt, _ = prompt_of(numbers="named")
    assert "n0" in prompt.question
    assert plain_question(prompt) == "tom has 12 apples and eats 5 . how many are left ?"
    assert plain_question(prompt_of()[0]) == QUESTION


WORDS = [
    ("12 - 5 = 7.\nTherefore, the answer is: 7", "12 - 5 = 7.\nTherefore, the answer is: 7"),
    ("12 - 5 = 7.\n**Therefore, the answer is: 7**", "12 - 5 = 7.\nTherefore, the answer is: 7"),
    ("12 - 5 = 7.\n\nThe final answer is $\\boxed{7}$.", "12 - 5 = 7.\nTherefore, the answer is: 7"),
    ("12 - 5 = 7. So the answer is 7.", "12 - 5 = 7.\nTherefore, the answer is: 7"),
    ("12 - 5 = 7.\n#### 7", "12 - 5 = 7.\nTherefore, the answer is: 7"),
    ("He has 12 - 5 = 7 left.", "He has 12 - 5 = 7 left.\nTherefore, the answer is: 7"),
    ("7", "Therefore, the answer is: 7"),
    ("<think>5?</think>\n7.0", "Therefore, the answer is: 7"),
    ("It is 1,234,567.5 in all.", "It is 1,234,567.5 in all.\nTherefore, the answer is: 1234567.5"),
    ("Therefore, the answer is: 12345678901", "Therefore, the answer is: 12345678901"),
]


@pytest.mark.parametrize(("text", "response"), WORDS)
def test_texts_end_as_the_task_writes_it(text: str, response: str) -> None:
    assert read(text, format="text") == (response, True, "")


def test_texts_without_an_answer_say_so() -> None:
    assert read("I cannot tell.", format="text") == ("I cannot tell.", True, "no number")
    assert read("First, 12 - 5", finished=False, format="text") == ("First, 12 - 5", False, "cut before its answer")


def test_a_completion_ends_with_its_first_answer() -> None:
    text = "12 - 5 = 7.\nTherefore, the answer is: 7\nQuestion:\nWhat is 1 + 1?\nTherefore, the answer is: 2\nWhat"
    expected = ("12 - 5 = 7.\nTherefore, the answer is: 7", True, "")
    assert read(text, finished=False, goes_on=True, format="text") == expected


CHOICES = [
    ("Paris is.\nTherefore, the answer is: B", "Paris is.\nTherefore, the answer is: B", ""),
    ("Paris is.\nThe answer is (B).", "Paris is.\nTherefore, the answer is: B", ""),
    ("**B**", "Therefore, the answer is: B", ""),
    ("A or B, who knows?", "A or B, who knows?", "no single option letter"),
    ("The answer is E.", "The answer is E.", "no single option letter"),
]


@pytest.mark.parametrize(("text", "response", "problem"), CHOICES)
def test_choices_end_with_their_letter(text: str, response: str, problem: str) -> None:
    assert read(text, record=OPTIONS, format="choice") == (response, True, problem)


def test_open_answers_are_the_text() -> None:
    assert read("<think>hm</think>\n Hello. \n", format="open") == ("Hello.", True, "")
    assert read("", format="open") == ("", True, "empty")


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),
        ("<THINKING>a</THINKING> b <reasoning>c</reasoning>d", " b d"),
        ("b<think>a", "b"),
        ("1 < 2 and 2 > 1", "1 < 2 and 2 > 1"),
    ],
)
def test_thoughts_are_removed(text: str, rest: str) -> None:
    assert without_thoughts(text) == rest


def test_a_program_runs_below_the_prefix() -> None:
    prompt, task = prompt_of()
    found = read_answer(prompt, task, f"```python\n{FUNCTION}\n```", True, False)
    space: dict[str, object] = {}
    exec(found.response, space)
    assert found.response.startswith(HEADER + '    """Tom has')
    assert space["solution"]() == 7  # type: ignore[operator]


@pytest.mark.parametrize(
    ("said", "written"),
    [("1/3", "0.3333333333"), ("12,345,678,901.5", "12345678901.5"), ("72.", "72"), ("2500000.25", "2500000.25")],
)
def test_a_number_keeps_its_value(said: str, written: str) -> None:
    assert read(f"The answer is {said}", format="text").response == f"Therefore, the answer is: {written}"
