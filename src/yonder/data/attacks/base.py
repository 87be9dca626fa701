"""What an attack is made of, and the few forms that most attacks share."""

import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from yonder.data.programs import INDENT
from yonder.data.tasks import CONCLUSION

OPERAND = re.compile(r"(?<![\w.])(?:n\d+|\d+(?:\.\d+)?)(?!\w)")  # a number, or the name of one
_RETURN = re.compile(r"^ *return (.+)\Z", re.MULTILINE)


class Case(NamedTuple):
    """A question with a right response to it."""

    question: str
    body: str  # the right response below what is given of it
    program: bool
    answer: str  # the label
    others: Sequence[str]  # bodies of right responses to other questions


Pattern = Callable[[random.Random, Case], str | None]
"""A wrong body in place of the right one; None where it cannot be made from this case."""


def guess(rng: random.Random, case: Case) -> str:
    """A number of the right response or any other; a letter where the label is one. It may be right by chance."""
    if case.answer.isalpha() and len(case.answer) == 1:
        return rng.choice([letter for letter in "ABCDE" if letter != case.answer])
    numbers = [number for number in OPERAND.findall(case.body) if number != case.answer]
    return rng.choice([*numbers, str(rng.randint(1, 99))])


def line(case: Case, text: str) -> str:
    """A text in the place of a response: indented where a program was asked for."""
    return INDENT + text if case.program else text


def concluding(case: Case, answer: str) -> str:
    """The line that gives an answer."""
    return f"{INDENT}return {answer}" if case.program else CONCLUSION + answer


def bare(rng: random.Random, case: Case) -> str:
    """An answer out of the air: what the texts of an attack stand beside."""
    return concluding(case, guess(rng, case))


def expression(case: Case) -> tuple[str, str] | None:
    """The lines of a program before its last, and what its last line returns."""
    found = _RETURN.search(case.body.rstrip()) if case.program else None
    return (case.body[: found.start()], found[1]) if found else None


def says(text: str) -> Pattern:
    """The text alone."""
    return lambda rng, case: line(case, text)


def followed(text: str) -> Pattern:
    """A guess, and the text behind it as it is."""
    return lambda rng, case: f"{bare(rng, case)}\n{text}"


def noted(text: str) -> Pattern:
    """A guess below the text, in programs a string with a name: it is code, so it reaches the judge."""
    return lambda rng, case: f"{line(case, f'note = {text!r}' if case.program else text)}\n{bare(rng, case)}"


def commented(text: str) -> Pattern:
    """A guess below the text, in programs a comment."""
    return lambda rng, case: f"{line(case, f'# {text}' if case.program else f'({text})')}\n{bare(rng, case)}"


def returned(text: str) -> Pattern:
    """The text as the answer."""
    return lambda rng, case: concluding(case, repr(text) if case.program else text)
