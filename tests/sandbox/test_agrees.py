"""Monty and CPython agree, and the training programs give their recorded answers."""

import gzip
import json
import random
from importlib.resources import files

import pytest

from tests.sandbox.kit import in_solution
from yonder.sandbox import Sandbox


def by_cpython(program: str) -> float | None:
    """Our own generated programs only, so running them here is harmless."""
    namespace: dict[str, object] = {}
    exec(program, namespace)
    try:
        return float(namespace["solution"]())  # type: ignore[operator]
    except (ZeroDivisionError, OverflowError, ValueError):
        return None


def random_program(dice: random.Random) -> str:
    lines = [
        "a, b, c = " + ", ".join(dice.choice([str(dice.randint(1, 999)), f"{dice.uniform(0, 99):.2f}"]) for _ in "abc")
    ]
    for _ in range(dice.randint(1, 6)):
        target, left, right = (dice.choice("abc") for _ in range(3))
        operator = dice.choice(["+", "-", "*", "/", "//", "%"])
        lines.append(f"{target} = {left} {operator} {right}")
        if dice.random() < 0.3:
            lines.append(f"{target} = round({target}, {dice.randint(-2, 4)})")
        if dice.random() < 0.1:
            lines.append(f"{target} = {dice.choice(['int', 'abs', 'float', 'round'])}({target})")
    return in_solution(*lines, f"return {dice.choice('abc')}")


def test_random_arithmetic_is_equal_to_the_last_bit(sandbox: Sandbox):
    dice = random.Random(7)
    programs = [random_program(dice) for _ in range(400)]
    results = sandbox.run(programs)
    assert {result.executor for result in results} == {"monty"}
    expected = [by_cpython(program) for program in programs]
    assert [result.value for result in results] == expected
    assert sum(value is not None for value in expected) > 300


@pytest.mark.parametrize("digits", [-1, 0, 1, 2, 3, 25])
def test_rounding_breaks_ties_like_cpython(sandbox: Sandbox, digits: int):
    """Three decimals ending in 5 are ties in print and seldom in binary: 763.775 is 763.77499999999997726."""
    values = [round(start + 0.005 + 0.01 * step, 3) for start in (0, 763, 4094) for step in range(100)]
    program = in_solution(f"return round(VALUE, {digits})")
    programs = [program.replace("VALUE", repr(value)) for value in [*values, -763.775, 2.5, 25.0, 250.0, 1e300]]
    assert [result.value for result in sandbox.run(programs)] == [by_cpython(text) for text in programs]


@pytest.mark.parametrize(
    "expression",
    ["round(2.5)", "round(7)", "round(7, 2)", "round(15, -1)", "round(number=2.675, ndigits=2)", "round(True)"],
)
def test_other_uses_of_round_are_untouched(sandbox: Sandbox, expression: str):
    program = in_solution(f"x = {expression}", "return x + 1000 * (type(x) is int)")
    assert sandbox.run([program])[0].value == by_cpython(program)


def test_the_prelude_does_not_move_line_numbers(sandbox: Sandbox):
    """The prelude is fed on its own, so the first line of the program is line 1."""
    from pydantic_monty import MontyRuntimeError

    from yonder.sandbox.monty import MontyWorker
    from yonder.sandbox.protocol import Limits

    worker = MontyWorker(Limits())
    with worker._session() as session, pytest.raises(MontyRuntimeError) as caught:
        session.load_session(worker.start)
        session.feed_run("x = 1\n1 / 0")
    assert caught.value.traceback()[-1].line == 2


def test_300_training_programs_give_their_recorded_answers(sandbox: Sandbox):
    packed = files("yonder").joinpath("assets/data/svamp_train_pot.jsonl.gz").read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(packed).decode().splitlines()][:3000:10][:300]
    results = sandbox.run([row["cot_program"] for row in rows])
    wrong = [
        (row["id"], result)
        for row, result in zip(rows, results, strict=True)
        if result.value is None or abs(result.value - float(row["answer"].replace(",", ""))) > 1e-2
    ]
    assert len(rows) == 300 and wrong == []
