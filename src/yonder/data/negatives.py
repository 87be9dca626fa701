"""Wrong responses made from right ones: what a judge must learn to refuse before a student finds it.

Each maker changes the completion part of a program (the lines below `def`, docstring kept) and may fail to apply. A
change can leave
the answer as it was (a sum in another order), so the caller runs the result and drops what is still right.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from yonder.schema import Response

OPERAND = re.compile(r"(?<![\w.])(?:n\d+|\d+(?:\.\d+)?)(?!\w)")  # a number, or the name of one
OPERATOR = re.compile(r"(?<= )(?:\+|-|\*|//|/)(?= )")
STEP = re.compile(r" (?:\+|-) n?\d+(?: \* n?\d+)?| (?:\*|//|/) n?\d+")
HEAD = re.compile(
    r'def \w+\(.*?\):\n(?:\s+"""(?:.|\n)*?"""\n)?(?:\s+n\d+ = [\d.]+\n)*'
)  # def line, docstring, named numbers
OPERATORS = ("+", "-", "*", "/")

Maker = Callable[[random.Random, str], str | None]


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


MAKERS: dict[str, Maker] = {
    "wrong-operator": wrong_operator,
    "wrong-number": wrong_number,
    "swapped": swapped,
    "dropped-step": dropped_step,
    "repeated-step": repeated_step,
    "truncated": truncated,
    "bare-number": bare_number,
    "empty": empty,
}


KINDS = (*MAKERS, "other-question")


def make_negatives(responses: Sequence[Response], shares: Mapping[str, float], seed: int) -> list[Response]:
    """Candidates for wrong responses: for each kind, `share` of the right responses are changed (above 1: several
    each).

    Their `correct` is False on the understanding that the caller drops those whose answer is still right. `source`
    is the kind.
    """
    right = [response for response in responses if response.correct]
    found: dict[tuple[str, str], Response] = {}
    for kind, share in shares.items():
        rng = random.Random(f"{seed}/{kind}")
        for response in (rng.choice(right) for _ in range(round(share * len(right)))):
            text = _changed(kind, rng, response.response, right)
            if text is not None and text != response.response:
                made = replace(response, response=text, correct=False, source=kind, detail="made", temperature=None)
                found.setdefault((made.question, made.response), made)
    return list(found.values())


def _changed(kind: str, rng: random.Random, response: str, right: Sequence[Response]) -> str | None:
    """The response with its body changed, or with another question's; its head stays."""
    head, body = split_head(response)
    changed = split_head(rng.choice(right).response)[1] if kind == "other-question" else MAKERS[kind](rng, body)
    return None if changed is None else head + changed


def split_head(response: str) -> tuple[str, str]:
    """What is given of a program (def line, docstring, named numbers), and the rest; a text has no head."""
    match = HEAD.match(response)
    return (match.group(), response[match.end() :]) if match else ("", response)


def _pick(rng: random.Random, pattern: re.Pattern[str], body: str) -> re.Match[str] | None:
    found = list(pattern.finditer(body))
    return rng.choice(found) if found else None


def _put(body: str, match: re.Match[str], new: str) -> str:
    return body[: match.start()] + new + body[match.end() :]
