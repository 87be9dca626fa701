"""Bodies of programs continue their header; docstrings cannot break out."""

import ast
import warnings

import pytest

from yonder.data.embedded import gsm8k, svamp
from yonder.data.programs import HEADER, docstring_line, solution_body
from yonder.data.records import Record
from yonder.data.tasks import build_prompt
from yonder.recipe.data import TaskSettings


@pytest.mark.parametrize(
    "question",
    [
        "plain",
        'she said """stop""" and left',
        'ends with a "quote"',
        '"',
        '""""',
        '"""',
        "a \\ backslash",
        "ends with a backslash \\",
        "\\n and \\u12 and \\N{x}",
        "two\nlines",
        "a blank line\n\nbetween",
        'all: """\\"""\n\\',
        "nul \0 1",
        "caf\u00e9 \u2019 \u65e5",
    ],
)
def test_docstring_cannot_break_the_program(question: str) -> None:
    source = HEADER + docstring_line(question) + "    return 1"
    space: dict[str, object] = {}
    exec(compile(source, "program", "exec"), space)
    assert space["solution"]() == 1  # type: ignore[operator]
    assert space["solution"].__doc__ == question


def run(body: str) -> object:
    space: dict[str, object] = {}
    exec(HEADER + docstring_line("question") + body, space)
    return space["solution"]()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("program", "body"),
    [
        ('def solution():\n    """Doc."""\n    a = 1\n    return a\n', "    a = 1\n    return a"),
        ("def solution():\n    a = 1  # why\n    # then\n    return a", "    a = 1  # why\n    # then\n    return a"),
        ('def solution():\n    """Doc."""\n    # first\n    return 1', "    # first\n    return 1"),
        ('def solution():\n    """Doc\n    of two lines."""\n\n    return 1', "    return 1"),
        ("def solution():\r\n    '''Doc.'''\r\n    a = 1\r\n    return a\r\n", "    a = 1\n    return a"),
        ('def solution():\n    """One."""\n    "two"\n    return 1', "    return 1"),
        ('def solution():\n    """Doc."""; return 1', "    return 1"),
        ("def solution(): return 1", "    return 1"),
        ("def solution():\n  return 1", "    return 1"),
        ("def solution():\n\treturn 1", "    return 1"),
        ("def solve():\n    return 1", "    return 1"),
        ("def solution():\n    return 1\nprint(solution())", "    return 1"),
        ('def solution():\n    """A \\$ sign."""\n    return 1', "    return 1"),
        ("import math\ndef solution():\n    return math.floor(1.5)", "    import math\n    return math.floor(1.5)"),
        ("RATE = 1\ndef solution():\n    return RATE", "    RATE = 1\n    return RATE"),
    ],
)
def test_solution_body(program: str, body: str) -> None:
    assert solution_body(program) == body
    assert run(body) == 1


def test_warnings_of_others_programs_stay_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert solution_body('def solution():\n    """A \\$ sign."""\n    return "\\$"') == '    return "\\$"'


def test_helpers_move_into_the_body() -> None:
    program = "def solution():\n    return half(2)\n\ndef half(x):\n    return x // 2\n"
    body = solution_body(program)
    assert body is not None
    assert run(body) == 1


@pytest.mark.parametrize(
    "program",
    [
        "",
        "x = 1",
        "def solution(:",
        "def solution(x):\n    return x",
        "def solution(*, x=1):\n    return x",
        'def solution():\n    """Only a docstring."""',
        "def a():\n    return 1\ndef b():\n    return 2",
        "@cache\ndef solution():\n    return 1",
        "from math import *\ndef solution():\n    return pi",
        "return 1",
        "def solution():\n    return 1\0",
        "(" * 500 + ")" * 500,
    ],
)
def test_no_body(program: str) -> None:
    assert solution_body(program) is None


@pytest.mark.parametrize(("source", "count"), [("svamp", 3043), ("gsm8k", 7014)])
def test_every_shipped_program_continues_its_prefix(source: str, count: int) -> None:
    records: list[Record] = svamp("train", {}) if source == "svamp" else gsm8k("train", {"programs_only": True})
    assert len(records) == count
    for record in records:
        prompt = build_prompt(record, TaskSettings(), labeled=True)
        assert prompt.solution is not None, record.id
        function = compile_function(prompt.prefix + prompt.solution)
        assert ast.get_docstring(function, clean=False) == record.question
        assert not any(is_string(node) for node in function.body[1:]), record.id
        assert not prompt.solution.endswith("\n")
        original = compile_function(record.program or "")
        assert [ast.dump(node) for node in function.body[1:]] == [ast.dump(node) for node in original.body[1:]]


def compile_function(source: str) -> ast.FunctionDef:
    tree = ast.parse(source)
    compile(tree, "program", "exec")
    assert len(tree.body) == 1
    assert isinstance(tree.body[0], ast.FunctionDef)
    return tree.body[0]


def is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
