"""Wrong responses made from right ones: for fitting a judge, and for measuring one.

What is made may be right all the same, so the caller verifies it and drops what is. What was given of a response (a
program's def line, docstring and named numbers) stays; the body below changes.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from yonder.data.attacks import ATTACKS, PATTERNS
from yonder.data.attacks.base import Case, Pattern
from yonder.data.programs import split_head
from yonder.recipe.attacks import WITHHELD
from yonder.schema import Response

TRIES = 5  # draws of a pattern that may fail, or change nothing


def make_negatives(responses: Sequence[Response], shares: Mapping[str, float], seed: int) -> list[Response]:
    """Candidates for fitting: for each name, `share` of the right responses are changed (above 1: several each).

    A name is a pattern's, or a kind's for any of its patterns; it becomes the `source`. ValueError for a withheld kind.
    """
    right = [response for response in responses if response.correct]
    bodies = [split_head(response.response)[1] for response in right]
    found: dict[tuple[str, str], Response] = {}
    for name, share in shares.items():
        rng = random.Random(f"{seed}/{name}")
        for response in (rng.choice(right) for _ in range(round(share * len(right)))):
            made = changed(response, fitting_pattern(name, rng), rng, bodies)
            if made is not None and made.response != response.response:
                made = replace(made, source=name, detail="made")
                found.setdefault((made.question, made.response), made)
    return list(found.values())


def make_attacks(responses: Sequence[Response], questions: int, seed: int) -> list[Response]:
    """Every pattern of the attack suite on up to `questions` questions, the same for each.

    It starts from the right response that a question has most often. `source` is the kind and `detail` the pattern.
    Each attack is a function of the seed, the pattern and the right responses.
    """
    counts = Counter((response.question, response.response) for response in responses if response.correct)
    right: dict[str, Response] = {}
    for response in sorted(responses, key=lambda one: (-counts[one.question, one.response], one.response)):
        if response.correct:
            right.setdefault(response.question, response)
    bodies = {question: split_head(response.response)[1] for question, response in sorted(right.items())}
    chosen = random.Random(f"{seed}/questions").sample(sorted(right), min(questions, len(right)))
    found: list[Response] = []
    for question in chosen:
        others = [body for other, body in bodies.items() if other != question]
        for kind, patterns in ATTACKS.items():
            for name, pattern in patterns.items():
                rng = random.Random(f"{seed}/{kind}/{name}/{question}")
                tries = (changed(right[question], pattern, rng, others) for _ in range(TRIES))
                made = next((one for one in tries if one and one.response != right[question].response), None)
                if made is not None:
                    found.append(replace(made, source=kind, detail=name))
    return found


def fitting_pattern(name: str, rng: random.Random) -> Pattern:
    """The pattern of that name, or one of that kind; ValueError where fitting may not use it."""
    if name in WITHHELD:
        raise ValueError(f"attacks of kind `{name}` are withheld from fitting")
    return PATTERNS[name] if name in PATTERNS else ATTACKS[name][rng.choice(sorted(ATTACKS[name]))]


def changed(response: Response, pattern: Pattern, rng: random.Random, others: Sequence[str]) -> Response | None:
    """The response with the pattern's body, taken for wrong; None where the pattern does not apply."""
    head, body = split_head(response.response)
    new = pattern(rng, Case(response.question, body, bool(head), response.answer or "", others))
    if new is None:
        return None
    return replace(response, response=head + new, correct=False, temperature=None, finished=True, grade=None)
