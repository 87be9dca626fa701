"""Arithmetic word problems with the program that solves each: the demo's data.

A problem is an opening ("Mia has 12 apples."), one to three events ("She gives 5 apples to Tom.") and a question.
Every sentence is one statement of the program, so the answer comes from running it. Events differ in wording, and
`LABELED_EVENTS` names the few wordings that the demo's labeled problems use; unlabeled and held-out problems use all.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

NAMES = (
    ("Anna", "She", "her"), ("Lucy", "She", "her"), ("Mary", "She", "her"), ("Sara", "She", "her"),
    ("Amy", "She", "her"), ("Jane", "She", "her"), ("Tom", "He", "his"), ("Ben", "He", "his"),
    ("Sam", "He", "his"), ("Max", "He", "his"), ("Jack", "He", "his"), ("Paul", "He", "his"),
    ("John", "He", "his"), ("Mike", "He", "his"), ("David", "He", "his"), ("Henry", "He", "his"),
)  # fmt: skip
OBJECTIVE = {"She": "her", "He": "him"}
THINGS = (
    "apples", "books", "stamps", "coins", "cards", "marbles", "pencils", "cookies", "stickers", "balls", "eggs",
    "flowers", "shells", "pens", "photos", "toys", "seeds", "beads", "tickets", "oranges", "stones", "cups",
)  # fmt: skip
OPENINGS = ("{name} has {n} {things}.", "{name} starts with {n} {things}.", "There are {n} {things} in {name}'s room.")
CONNECTIVES = ("", "", "Then ", "Later, ", "After that, ")
EVENT_COUNTS = (1, 2, 2, 3)
QUESTIONS = ("now", "now", "now", "need", "share")


@dataclass(frozen=True)
class WordProblem:
    """One problem: `body` is the program below `def solution():`, `template` the names of its events and question."""

    question: str
    body: str
    answer: str
    template: str


@dataclass(frozen=True)
class Event:
    """One thing that happens: its sentence, and the operator its statement applies to the running total.

    The sentence names one number (`{n}`) or two (`{a}` and `{b}`, in the order in which the statement multiplies them).
    """

    name: str
    sentence: str
    operator: str


EVENTS = (
    Event("buys", "{she} buys {n} {things}.", "+"),
    Event("finds", "{she} finds {n} more {things}.", "+"),
    Event("wins", "{she} wins {n} {things} in a game.", "+"),
    Event("receives", "{she} receives {n} {things} from {friend}.", "+"),
    Event("friend gives", "{friend} gives {her_object} {n} {things}.", "+"),
    Event("friend brings", "{friend} brings {n} new {things} for {her_object}.", "+"),
    Event("collects", "{she} collects {n} {things} on the way home.", "+"),
    Event("gives", "{she} gives {n} {things} to {friend}.", "-"),
    Event("loses", "{she} loses {n} {things}.", "-"),
    Event("sells", "{she} sells {n} {things} at the market.", "-"),
    Event("drops", "{she} drops {n} {things} into the river.", "-"),
    Event("throws away", "{she} throws away {n} old {things}.", "-"),
    Event("friend takes", "{friend} takes {n} of {her} {things}.", "-"),
    Event("leaves", "{she} leaves {n} {things} at school.", "-"),
    Event("buys bags", "{she} buys {a} bags with {b} {things} each.", "+*"),
    Event("from each", "each of {her} {a} friends brings {b} {things} for {her_object}.", "+*"),
    Event("finds boxes", "{she} finds {a} boxes with {b} {things} in each box.", "+*"),
    Event("each day", "for {a} days, {she} makes {b} {things} every day.", "+*"),
    Event("gives each", "{she} gives {a} friends {b} {things} each.", "-*"),
    Event("sells bags", "{she} sells {a} bags of {b} {things}.", "-*"),
    Event("uses", "for {a} weeks, {she} uses {b} {things} a week.", "-*"),
    Event("children take", "{a} children take {b} of the {things} each.", "-*"),
    Event("times", "soon {she} has {n} times as many {things}.", "*"),
    Event("grows", "the number of {things} grows to {n} times what it was.", "*"),
)
ALL_EVENTS = tuple(event.name for event in EVENTS)
LABELED_EVENTS = ("buys", "finds", "gives", "loses", "buys bags", "gives each", "times")


def word_problems(
    count: int, seed: int, templates: Sequence[str] = ALL_EVENTS, exclude: Collection[str] = ()
) -> list[WordProblem]:
    """Return `count` problems with different questions, the same for the same arguments.

    `templates` names the events to draw from; questions in `exclude` are left out.
    """
    unknown = sorted(set(templates) - set(ALL_EVENTS))
    if unknown or not templates:
        raise ValueError(f"unknown events {unknown}; choose from {list(ALL_EVENTS)}")
    rng = random.Random(seed)
    events = [event for event in EVENTS if event.name in set(templates)]
    seen = set(exclude)
    problems: list[WordProblem] = []
    while len(problems) < count:
        problem = _problem(rng, events)
        if problem is not None and problem.question not in seen:
            seen.add(problem.question)
            problems.append(problem)
    return problems


def _problem(rng: random.Random, events: Sequence[Event]) -> WordProblem | None:
    """Draw one problem, or None where the numbers do not work out (below zero, too large, not divisible)."""
    (name, she, her), (friend, _, _) = rng.sample(NAMES, 2)
    words = {"name": name, "her": her, "her_object": OBJECTIVE[she], "friend": friend, "things": rng.choice(THINGS)}
    total = rng.randint(8, 60)
    sentences = [rng.choice(OPENINGS).format(n=total, **words)]
    lines = [f"total = {total}"]
    chosen = [rng.choice(events) for _ in range(rng.choice(EVENT_COUNTS))]
    for position, event in enumerate(chosen):
        sentence, line, total = _happen(rng, event, total, {**words, "she": she.lower()})
        if not 0 < total < 200:
            return None
        connective = rng.choice(CONNECTIVES) if position else ""
        sentences.append(_capitalized(connective + sentence))
        lines.append(line)
    kind = rng.choice(QUESTIONS)
    ending = _ending(rng, kind, total, {**words, "she": she})
    if ending is None:
        return None
    sentence, extra, total = ending
    body = "\n".join(f"    {line}" for line in [*lines, *extra, "return total"])
    template = " + ".join([event.name for event in chosen] + [kind])
    return WordProblem(" ".join([*sentences, sentence]), body, str(total), template)


def _happen(rng: random.Random, event: Event, total: int, words: dict[str, str]) -> tuple[str, str, int]:
    """Return the event's sentence, its statement and the total after it."""
    if event.operator == "*":
        n = rng.randint(2, 4)
        return event.sentence.format(n=n, **words), f"total *= {n}", total * n
    sign = 1 if event.operator[0] == "+" else -1
    if len(event.operator) == 1:
        n = rng.randint(2, 30)
        return event.sentence.format(n=n, **words), f"total {event.operator}= {n}", total + sign * n
    a, b = rng.randint(2, 5), rng.randint(2, 9)
    sentence = event.sentence.format(a=a, b=b, **words)
    return sentence, f"total {event.operator[0]}= {a} * {b}", total + sign * a * b


def _ending(
    rng: random.Random, kind: str, total: int, words: dict[str, str]
) -> tuple[str, list[str], int] | None:
    """Return the closing question, the statements it adds and the answer, or None where the total cannot be shared."""
    if kind == "now":
        return "How many {things} does {name} have now?".format(**words), [], total
    if kind == "need":
        goal = total + rng.randint(2, 30)
        text = "How many more {things} does {name} need to have {goal}?"
        return text.format(goal=goal, **words), [f"total = {goal} - total"], goal - total
    divisors = [n for n in range(2, 7) if total % n == 0]
    if not divisors:
        return None
    n = rng.choice(divisors)
    text = "{she} shares them equally among {n} friends. How many {things} does each friend get?"
    return text.format(n=n, **words), [f"total //= {n}"], total // n


def _capitalized(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
