"""Arithmetic word problems with the program that solves each: the demo's data.

A problem says what somebody has, then one or two things that happen ("She finds 3 bags of 4 apples."), then asks how
many there are now. The program is one expression, so the answer comes from running it. Whether an event adds or takes
away is in its verb alone: a student whose few labels show some of the verbs must learn the others elsewhere.

Wordings (questions without their numbers) fall into two parts by their hash, whatever the seed, so that a benchmark of
`held-out` problems shares no wording with anything that was trained on.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

NAMES = (
    ("Anna", "she"), ("Lucy", "she"), ("Mary", "she"), ("Sara", "she"), ("Amy", "she"), ("Jane", "she"),
    ("Tom", "he"), ("Ben", "he"), ("Sam", "he"), ("Max", "he"), ("Jack", "he"), ("Paul", "he"), ("John", "he"),
    ("Mike", "he"), ("David", "he"), ("Henry", "he"),
)  # fmt: skip
THINGS = (
    "apples", "books", "stamps", "coins", "cards", "pencils", "cookies", "balls", "eggs", "flowers", "shells", "pens",
    "toys", "seeds", "cups", "oranges",
)  # fmt: skip
CONTAINERS = ("bags", "boxes", "packs")
GAINING = ("buys", "finds", "wins", "gets", "makes", "receives", "collects", "picks up", "borrows", "brings home")
LOSING = (
    "loses", "sells", "gives away", "uses", "drops", "breaks", "throws away", "donates", "returns", "leaves behind",
)  # fmt: skip
ALL_VERBS = GAINING + LOSING
EVENT_COUNTS = (1, 2)
LARGEST = 120


@dataclass(frozen=True)
class WordProblem:
    """One problem: `body` is the program below `def solution():`, `template` how many events it has."""

    question: str
    body: str
    answer: str
    template: str


def word_problems(
    count: int, seed: int, templates: Sequence[str] = ALL_VERBS, part: Literal["training", "held-out"] = "training"
) -> list[WordProblem]:
    """Return `count` problems with different questions, the same for the same arguments.

    `templates` names the verbs to draw from; `part` the wordings: one in five is held out. ValueError for unknown ones.
    """
    unknown = sorted(set(templates) - set(ALL_VERBS))
    if unknown or not templates:
        raise ValueError(f"unknown verbs {unknown}; choose from {list(ALL_VERBS)}")
    if part not in ("training", "held-out"):
        raise ValueError(f"unknown part {part!r}; choose training or held-out")
    rng = random.Random(seed)
    seen: set[str] = set()
    problems: list[WordProblem] = []
    while len(problems) < count:
        problem = _problem(rng, templates)
        if problem is not None and problem.question not in seen and _part(problem.question) == part:
            seen.add(problem.question)
            problems.append(problem)
    return problems


def _part(question: str) -> str:
    """The part of a wording."""
    wording = re.sub(r"\d+", "#", question)
    return "held-out" if hashlib.sha256(wording.encode()).digest()[0] % 5 == 0 else "training"


def _problem(rng: random.Random, verbs: Sequence[str]) -> WordProblem | None:
    """Draw one problem, or None where the number of things leaves 0 to `LARGEST`."""
    name, she = rng.choice(NAMES)
    things = rng.choice(THINGS)
    total = rng.randint(5, 60)
    sentences = [f"{name} has {total} {things}."]
    expression = str(total)
    chosen = [rng.choice(verbs) for _ in range(rng.choice(EVENT_COUNTS))]
    for position, verb in enumerate(chosen):
        phrase, term, amount = _amount(rng, things)
        gains = verb in GAINING
        total += amount if gains else -amount
        if not 0 <= total <= LARGEST:
            return None
        subject = f"Then {she}" if position else she.capitalize()
        sentences.append(f"{subject} {verb} {phrase}.")
        expression += f" {'+' if gains else '-'} {term}"
    sentences.append(f"How many {things} does {she} have now?")
    events = "1 event" if len(chosen) == 1 else f"{len(chosen)} events"
    return WordProblem(" ".join(sentences), f"    return {expression}", str(total), events)


def _amount(rng: random.Random, things: str) -> tuple[str, str, int]:
    """Return an amount as words, as a term of the expression and as a number."""
    if rng.random() < 0.3:
        a, b = rng.randint(2, 5), rng.randint(2, 9)
        return f"{a} {rng.choice(CONTAINERS)} of {b} {things}", f"{a} * {b}", a * b
    n = rng.randint(2, 30)
    return f"{n} {things}", str(n), n
