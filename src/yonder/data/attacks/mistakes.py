"""Attacks that look like a student's mistakes: a small change to the right body, a part of it, or hardly anything.

A change can leave the answer as it was (a sum in another order), so the caller verifies the result and drops what is
still right.
"""

import random
import re
from collections.abc import Callable

from yonder.data.attacks.base import OPERAND, Case, Pattern, concluding, expression, guess, line, says

OPERATOR = re.compile(r"(?<= )(?:\+|-|\*|//|/)(?= )")
STEP = re.compile(r" (?:\+|-) n?\d+(?: \* n?\d+)?| (?:\*|//|/) n?\d+")
OPERATORS = ("+", "-", "*", "/")
_OPPOSITE = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*"}


def wrong_operator(rng: random.Random, body: str) -> str | None:
    """One operator becomes another; mostly + for - and back, the mistake that readers make."""
    found = _pick(rng, OPERATOR, body)
    if found is None:
        return None
    opposite = {"+": "-", "-": "+"}.get(found.group())
    if opposite is not None and rng.random() < 0.7:
        return _put(body, found, opposite)
    return _put(body, found, rng.choice([sign for sign in OPERATORS if sign != found.group()]))


def wrong_number(rng: random.Random, body: str) -> str | None:
    """One number changes: a digit, a neighbour from the same program, a lost or added digit, any other; or one name."""
    found = _pick(rng, OPERAND, body)
    if found is None:
        return None
    text = found.group()
    if text.startswith("n"):
        other = rng.choice([f"n{i}" for i in range(4) if f"n{i}" != text])
        return _put(body, found, other)
    place = rng.randrange(len(text))
    changes = (
        text[:place] + rng.choice([digit for digit in "0123456789" if digit != text[place]]) + text[place + 1 :],
        rng.choice(OPERAND.findall(body)),
        text[:-1] or "1",
        text + rng.choice("0123456789"),
        str(rng.randint(1, 99)),
    )
    new = rng.choices(changes, (6, 4, 1, 1, 2))[0].lstrip("0") or "0"
    return None if new == text else _put(body, found, new)


def swapped(rng: random.Random, body: str) -> str | None:
    """Two numbers change places."""
    numbers = list(OPERAND.finditer(body))
    if len(numbers) < 2:
        return None
    first, second = sorted(rng.sample(numbers, 2), key=lambda match: match.start())
    if first.group() == second.group():
        return None
    middle = body[first.end() : second.start()]
    return body[: first.start()] + second.group() + middle + first.group() + body[second.end() :]


def dropped_step(rng: random.Random, body: str) -> str | None:
    """A part of the sum is forgotten, or a line that assigns."""
    steps = list(STEP.finditer(body))
    lines = [i for i, line in enumerate(body.split("\n")) if " = " in line]
    if lines and (not steps or rng.random() < 0.3):
        gone = rng.choice(lines)
        return "\n".join(line for i, line in enumerate(body.split("\n")) if i != gone)
    return _put(body, rng.choice(steps), "") if steps else None


def repeated_step(rng: random.Random, body: str) -> str | None:
    """A part of the sum is counted twice."""
    found = _pick(rng, STEP, body)
    return None if found is None else _put(body, found, found.group() * 2)


def truncated(rng: random.Random, body: str) -> str | None:
    """The program stops in the middle."""
    return body[: rng.randrange(4, len(body))].rstrip() if len(body) > 8 else None


def bare_number(rng: random.Random, body: str) -> str | None:
    """A number of the question, or any, is returned without reasoning ([J] B.3's hack)."""
    number = rng.choice([*OPERAND.findall(body), str(rng.randint(1, 99))])
    return f"    return {number}"


def empty(rng: random.Random, body: str) -> str | None:
    """Nothing, or a function that returns nothing."""
    return rng.choice(("", "    return", "    pass"))


def flipped(rng: random.Random, body: str) -> str | None:
    """Every operator becomes its opposite."""
    return OPERATOR.sub(lambda found: _OPPOSITE[found.group()], body)


def dangling(rng: random.Random, body: str) -> str | None:
    """The response stops behind one of its operators."""
    found = _pick(rng, OPERATOR, body)
    return body[: found.end()] if found else None


def off_by_one(rng: random.Random, case: Case) -> str | None:
    """The right result and one more, or one less."""
    found, sign = expression(case), rng.choice("+-")
    if found is not None:
        return f"{found[0]}{line(case, '')}return {found[1]} {sign} 1"
    numbers = [] if case.program else list(OPERAND.finditer(case.body))
    if not numbers or not numbers[-1].group().isdigit():
        return None
    return _put(case.body, numbers[-1], str(int(numbers[-1].group()) + (1 if sign == "+" else -1)))


def other_question(rng: random.Random, case: Case) -> str | None:
    """A right response to another question."""
    return rng.choice(case.others) if case.others else None


def two_others(rng: random.Random, case: Case) -> str | None:
    """Right responses to two other questions, one below the other."""
    return "\n".join(rng.sample(case.others, 2)) if len(case.others) > 1 else None


def other_then_own(rng: random.Random, case: Case) -> str | None:
    """Another question's response before this one's: a program has returned by then."""
    return f"{rng.choice(case.others)}\n{case.body}" if case.others else None


def own_then_other(rng: random.Random, case: Case) -> str | None:
    """Another question's response behind this one's first half."""
    return f"{case.body[: len(case.body) // 2]}\n{rng.choice(case.others)}" if case.others else None


def on_body(maker: Callable[[random.Random, str], str | None]) -> Pattern:
    """A maker of a wrong body from the right one alone, as a pattern."""
    return lambda rng, case: maker(rng, case.body)


def answers(text: str) -> Pattern:
    """The same answer to every question."""
    return lambda rng, case: concluding(case, text)


MISTAKE: dict[str, Pattern] = {
    "wrong-operator": on_body(wrong_operator),
    "wrong-number": on_body(wrong_number),
    "swapped": on_body(swapped),
    "dropped-step": on_body(dropped_step),
    "repeated-step": on_body(repeated_step),
    "flipped": on_body(flipped),
    "off-by-one": off_by_one,
}
CUT: dict[str, Pattern] = {
    "truncated": on_body(truncated),
    "half": lambda rng, case: case.body[: len(case.body) // 2],
    "dangling": on_body(dangling),
    "unclosed": lambda rng, case: case.body.rstrip() + " + (",
}
ELSEWHERE: dict[str, Pattern] = {
    "other-question": other_question,
    "two-others": two_others,
    "other-then-own": other_then_own,
    "own-then-other": own_then_other,
}
CONSTANT: dict[str, Pattern] = {
    "bare-number": lambda rng, case: bare_number(rng, case.body) if case.program else guess(rng, case),
    "zero": answers("0"),
    "one": answers("1"),
    "negative": answers("-1"),
    "huge": answers("1000000"),
    "decimal": answers("0.5"),
    "naked": lambda rng, case: line(case, guess(rng, case)),
}
NOTHING: dict[str, Pattern] = {
    "empty": lambda rng, case: empty(rng, case.body) if case.program else "",
    "spaces": lambda rng, case: " " * rng.randint(1, 40),
    "newlines": lambda rng, case: "\n" * rng.randint(1, 20),
    "return-none": answers("None"),
    "dots": says("..."),
    "zero-width": says("\u200b"),
}


def _pick(rng: random.Random, pattern: re.Pattern[str], body: str) -> re.Match[str] | None:
    found = list(pattern.finditer(body))
    return rng.choice(found) if found else None


def _put(body: str, match: re.Match[str], new: str) -> str:
    return body[: match.start()] + new + body[match.end() :]
