"""Only a finite real number leaves, with the same verdict from both executors."""

import pytest

from tests.sandbox.kit import RunOne

GOOD = {
    "6 * 7": 42.0,
    "7 / 2": 3.5,
    "-0.5": -0.5,
    "10 ** 300": 1e300,
    "__import__('decimal').Decimal('1.25')": 1.25,
    "(lambda: 3)()": 3.0,
}
BAD = {
    "True": "returned a bool, not a number",
    "'12'": "returned a str, not a number",
    "None": "returned a NoneType, not a number",
    "[1]": "returned a list, not a number",
    "1j": "returned a complex, not a number",
    "float('nan')": "returned nan, not a finite number",
    "float('inf')": "returned inf, not a finite number",
    "-float('inf')": "returned -inf, not a finite number",
    "10 ** 400": "returned int too large for a float",
    "10 ** 5000": "returned int too large for a float",
    "solution": "returned a function, not a number",
    "1 / 0": "ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize("expression", GOOD)
def test_a_finite_number_is_ok(run_one: RunOne, expression: str):
    program = f"def solution():\n    return {expression}"
    if "decimal" in expression:
        program = "import decimal\ndef solution():\n    return decimal.Decimal('1.25')"
    reply = run_one(program)
    assert (reply.status, reply.value, reply.detail) == ("ok", GOOD[expression], "")


@pytest.mark.parametrize("expression", BAD)
def test_anything_else_is_an_error_that_says_what(run_one: RunOne, expression: str):
    reply = run_one(f"def solution():\n    return {expression}")
    assert (reply.status, reply.value, reply.detail) == ("error", None, BAD[expression])


@pytest.mark.parametrize("method", ["__float__", "__index__", "__reduce__", "__add__"])
def test_an_object_that_pretends_to_be_a_number_is_an_error(run_one: RunOne, method: str):
    program = f"class A:\n    def {method}(self, *a): return 1.0\ndef solution():\n    return A()"
    assert run_one(program).detail == "returned a A, not a number"


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "ValueError", "MemoryError", "TimeoutError"])
def test_a_raised_exception_is_an_error(run_one: RunOne, name: str):
    reply = run_one(f"def solution():\n    raise {name}('no')")
    if name == "MemoryError" and reply.status == "memory":  # CPython cannot tell a raised one from a real one
        return
    assert (reply.status, reply.value, reply.detail) == ("error", None, f"{name}: no")


@pytest.mark.parametrize(
    "program", ["def solution(:\n    return 1", "def solution():\nreturn 1", "x = (1", "'''", "\ud800", "\x00"]
)
def test_a_program_that_does_not_parse_is_an_error(run_one: RunOne, program: str):
    assert run_one(program).status == "error"


@pytest.mark.parametrize("program", ["", "x = 1", "def answer():\n    return 1"])
def test_no_solution_is_an_error_that_says_so(run_one: RunOne, program: str):
    reply = run_one(program)
    assert (reply.status, reply.detail) == ("error", "the program defines no solution()")


def test_the_outer_solution_counts_and_its_inner_namesake_does_not(run_one: RunOne):
    program = "def solution():\n    def solution():\n        return 1\n    return solution() + 1"
    assert run_one(program).value == 2.0


def test_the_last_definition_counts(run_one: RunOne):
    assert run_one("def solution():\n    return 1\ndef solution():\n    return 2").value == 2.0


def test_text_outside_ascii_is_kept(run_one: RunOne):
    reply = run_one("def solution():\n    größe = 'Äpfel 🍎'\n    print(größe)\n    return len(größe)")
    assert (reply.value, reply.printed) == (7.0, "Äpfel 🍎\n")


def test_blank_lines_and_a_docstring_with_quotes_do_not_end_a_program(run_one: RunOne):
    program = 'def solution():\n    """She said "two".\n\n    \'Yes\'"""\n\n    x = 2\n\n    return x\n'
    assert run_one(program).value == 2.0
