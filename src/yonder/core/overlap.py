"""Which test questions training questions repeat, nearly repeat, or perturb. Linear in the length of both.

- exact: equal in letters, digits and operators: case, spaces and punctuation do not count, "1,000" is "1000".
- near: at least half (NEAR) of the test question's runs of 8 words (WORDS) stand in ONE training question. A question
  of fewer words is one run. The rule is ours; GPT-3 (Brown et al. 2020, appendix C) looks for any run of 13 words.
- perturbed: both were made from one question, or one of them from the other, as their sources say (GSM-Plus,
  GSM-Symbolic).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

WORDS = 8
NEAR = 0.5
_WORD = re.compile(r"[0-9]+(?:[.,][0-9]+)*|[^\W\d_]+")
_SAME = re.compile(rf"{_WORD.pattern}|[+*/^=<>×÷√%]|-(?=\s*\d)")  # "2 + 3" is not "2 - 3"; "well-known" is "well known"
Run = tuple[str, ...]


class Question(NamedTuple):
    """A question, and the one that it was made from where its source says so."""

    text: str
    origin: str | None = None


class Overlap(NamedTuple):
    """Places of test questions; each stands in the first list that it belongs to."""

    exact: tuple[int, ...]
    perturbed: tuple[int, ...]
    near: tuple[int, ...]


def overlap(test: Sequence[Question], training: Iterable[Question]) -> Overlap:
    """Compare test questions with all training questions, each read once."""
    texts = _places(normal(question.text) for question in test)
    origins = _places(None if question.origin is None else normal(question.origin) for question in test)
    runs = [_runs(_words(question.text)) for question in test]
    holders: dict[Run, list[int]] = {}
    for place, found in enumerate(runs):
        for run in found:
            holders.setdefault(run, []).append(place)
    exact: set[int] = set()
    perturbed: set[int] = set()
    near: set[int] = set()
    for question in training:
        text = normal(question.text)
        exact.update(texts.get(text, ()))
        perturbed.update(origins.get(text, ()))
        if question.origin is not None:
            origin = normal(question.origin)
            perturbed.update(texts.get(origin, ()), origins.get(origin, ()))
        shared = Counter(place for run in _runs(_words(question.text)) for place in holders.get(run, ()))
        near.update(place for place, count in shared.items() if count >= NEAR * len(runs[place]))
    perturbed -= exact
    return Overlap(*(tuple(sorted(places)) for places in (exact, perturbed, near - exact - perturbed)))


def normal(text: str) -> str:
    """What two questions share that are the same word for word: letters, digits and operators, without the rest."""
    return "".join(word.replace(",", "") for word in _SAME.findall(text.lower())) or " ".join(text.split())


def _words(text: str) -> list[str]:
    return [word.replace(",", "") for word in _WORD.findall(text.lower())]


def _runs(words: Sequence[str]) -> set[Run]:
    """Every run of `WORDS` words; of fewer words the one that there is."""
    return {tuple(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))} if words else set()


def _places(texts: Iterable[str | None]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        if text:
            found.setdefault(text, []).append(place)
    return found
