"""One question as its source gives it, and the readings of labels that all sources share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_NUMBER_LENGTH = 100

_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_PLAIN = rf"(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)"
_NUMBER = re.compile(rf"(-?)(?:({_WHOLE})\s+)?({_PLAIN})(?:\s*/\s*({_PLAIN}))?")
_SCIENTIFIC = re.compile(r"-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]{1,2}")
_IN_TEXT = re.compile(rf"(?<![\w.])(-?)\s?(?:([0-9]+)\s+(?={_PLAIN}\s*/))?({_PLAIN})(?:\s*[/:]\s*({_PLAIN}))?(,[0-9])?")
_DOUBLED = re.compile(r"\b([a-z]) \) \1 \) ", re.IGNORECASE)
_MARK = re.compile(r"<<[^<>]*>>")
_OPTION = re.compile(r"(?:^|(?<=[\s,\['\"]))([a-z])\s?\)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Record:
    """One question of a data set, before it becomes a prompt of some task format."""

    id: str
    question: str
    answer: str | None = None  # the label: a number as text, a letter where there are options, or words
    program: str | None = None  # defines `solution()`
    text: str | None = None  # reasoning in words, without the final "answer is"
    options: tuple[str, ...] = ()  # multiple choice: texts in order A, B, C...
    value: str | None = None  # multiple choice: the number of the right option, where it is one
    category: str = ""
    reference: str | None = None  # for judges only: what a right response says
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


def read_number(text: str) -> Fraction | None:
    """The number that a label is: "1,000", "$72.0", "1/2", "1 1/2", "50%"; None where it is anything else."""
    text = re.sub(r"^\s*(-?)\s*[$£€]\s*", r"\1", text.replace("\u2212", "-")).strip().rstrip("%.").strip()
    if len(text) > MAX_NUMBER_LENGTH:
        return None
    if _SCIENTIFIC.fullmatch(text):
        return Fraction(text)
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, number, divisor = match.groups()
    if whole is not None and divisor is None:
        return None  # "12 34": two numbers
    value = _fraction(number)
    if divisor is not None:
        if _fraction(divisor) == 0:
            return None
        value = value / _fraction(divisor) + (_fraction(whole) if whole else 0)
    return -value if sign else value


def number_text(number: Fraction) -> str:
    """A number as a label: "72", "0.5", "0.3333333333333333"."""
    return str(number.numerator) if number.denominator == 1 else format(Decimal(repr(float(number))), "f")


def normalise_label(label: object) -> str | None:
    """A label as text: numbers plain ("1,000" -> "1000", "72.0" -> "72", "1/2" -> "0.5"), words as they are."""
    if label is None or label != label:  # None, or NaN as tables write it
        return None
    text = clean_text(str(label))
    number = None if isinstance(label, bool) else read_number(text)
    return (number_text(number) if number is not None else text) or None


def option_number(option: str) -> str | None:
    """The number that an option names: "rs . 400" -> "400", "7 1 / 2" -> "7.5"; None for words and pairs."""
    match = _IN_TEXT.search(option[: 2 * MAX_NUMBER_LENGTH].replace("\u2212", "-"))
    if match is None or match[5]:
        return None
    sign, whole, number, divisor, _ = match.groups()
    value = _fraction(number)
    if divisor is not None and _fraction(divisor) != 0:
        value = value / _fraction(divisor) + Fraction(whole or 0)
    return number_text(-value if sign else value)


def parse_options(options: object) -> tuple[str, ...]:
    """Option texts in order, from a list, letter -> text, JSON of either, or "a ) 38 , b ) 27"; () where unreadable."""
    if isinstance(options, str):
        text = options.strip()
        if text[:1] in ("{", "["):
            try:
                return parse_options(json.loads(text))
            except ValueError:
                pass  # MathQA has a few lines such as "['a ) 1', 'b ) 2']"
        return _lettered(text)
    if isinstance(options, Mapping):
        mapping = cast(Mapping[str, object], options)
        keys = sorted(mapping)
        expected = [LETTERS[i].lower() for i in range(len(keys))] if len(keys) <= len(LETTERS) else []
        return tuple(clean_text(str(mapping[key])) for key in keys) if [k.lower() for k in keys] == expected else ()
    if isinstance(options, list | tuple):
        texts = [clean_text(str(option)) for option in cast(list[object], options)]
        return tuple(texts) if len(texts) <= len(LETTERS) else ()
    return ()


def choice_letter(answer: object, options: tuple[str, ...]) -> str | None:
    """The letter of the right option, from a letter ("c", "C)"), or the option's own text; None where neither fits."""
    text = clean_text(str(answer))
    letter = text.rstrip(".)").strip("( ").upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return letter
    label, labels = normalise_label(text), [normalise_label(option) for option in options]
    return LETTERS[labels.index(label)] if labels.count(label) == 1 else None


def with_choice(record: Record) -> Record:
    """The record of a multiple-choice question with its answer as a letter and the right option's number as `value`."""
    letter = choice_letter(record.answer, record.options) if record.answer is not None else None
    value = option_number(record.options[LETTERS.index(letter)]) if letter else None
    return replace(record, answer=letter, value=value)


def split_gsm8k(answer: str) -> tuple[str, str | None]:
    """GSM8K's `answer`: reasoning without calculator marks, and the label after `####` (None where there is none)."""
    reasoning, mark, label = answer.rpartition("####")
    if not mark:
        reasoning, label = answer, ""
    return _MARK.sub("", reasoning).strip(), normalise_label(label)


def clean_text(text: str) -> str:
    """Text that every tokenizer and file can take: plain line ends, no lone surrogates, no surrounding space."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    return text.encode("utf-8", "replace").decode("utf-8")


def unique_ids(ids: list[str]) -> list[str]:
    """The ids, with `#2`, `#3`... after those that occurred before."""
    seen: set[str] = set()
    result: list[str] = []
    for name in ids:
        unique, copy = name, 2
        while unique in seen:
            unique, copy = f"{name}#{copy}", copy + 1
        seen.add(unique)
        result.append(unique)
    return result


def _fraction(text: str) -> Fraction:
    text = text.replace(",", "")
    return Fraction(f"0{text}0" if "." in text else text)


def _lettered(text: str) -> tuple[str, ...]:
    text = _DOUBLED.sub(r"\1 ) ", text)  # 29 of the 1,605 test questions of MathQA: "a ) a ) 2 , b ) b ) 5"
    marks = list(_OPTION.finditer(text))
    if not marks or [mark[1].upper() for mark in marks] != list(LETTERS[: len(marks)]):
        return ()
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return tuple(text[mark.end() : end].strip(" ,'\"]\n") for mark, end in zip(marks, ends, strict=True))
