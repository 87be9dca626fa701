"""Readings of labels and options: tables of cases as they occur in the data sets."""

import gzip
import json
from pathlib import Path

import pytest

from yonder.data.records import (
    Record,
    choice_letter,
    normalise_label,
    option_number,
    parse_options,
    split_gsm8k,
    unique_ids,
    with_choice,
)

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("72", "72"),
        ("72.0", "72"),
        (72.0, "72"),
        (72, "72"),
        ("1,000", "1000"),
        ("1,234,567.50", "1234567.5"),
        ("$18.00", "18"),
        ("-$5", "-5"),
        ("\u22125", "-5"),
        ("50%", "50"),
        ("1/2", "0.5"),
        ("5 / 8", "0.625"),
        ("1 1/2", "1.5"),
        ("-1/4", "-0.25"),
        ("1/3", "0.3333333333333333"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1e3", "1000"),
        ("1,00", "1,00"),  # no thousands comma: left as it is
        ("12 34", "12 34"),
        ("1/0", "1/0"),
        ("nan", "nan"),
        ("Paris", "Paris"),
        (True, "True"),
        ("  ", None),
        (None, None),
        (float("nan"), None),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_normalise_label(label: object, text: str | None) -> None:
    assert normalise_label(label) == text


@pytest.mark.parametrize(
    ("option", "number"),
    [
        ("38", "38"),
        ("rs . 400", "400"),
        ("$ 10312.50", "10312.5"),
        ("27,000", "27000"),
        ("5 / 8", "0.625"),
        ("1 : 2", "0.5"),
        ("7 1 / 2", "7.5"),
        ("480 cm 2", "480"),
        ("120 %", "120"),
        ("\u2212 16", "-16"),
        ("994,1006", None),  # a pair of numbers
        ("none of these", None),
        ("n2", None),
    ],
)
def test_option_number(option: str, number: str | None) -> None:
    assert option_number(option) == number


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ("a ) 38 , b ) 27.675 , c ) 30 , d ) data inadequate , e ) none of these",
         ("38", "27.675", "30", "data inadequate", "none of these")),
        ("a ) rs . 27,000 , b ) rs . 1,500 , c ) 3", ("rs . 27,000", "rs . 1,500", "3")),
        ("a ) a ) 2 , b ) b ) 5", ("2", "5")),
        ("['a ) 38', 'b ) 27']", ("38", "27")),
        (["x", " y "], ("x", "y")),
        ({"b": 2, "a": "1"}, ("1", "2")),
        ('["x", "y"]', ("x", "y")),
        ('{"A": "x", "B": "y"}', ("x", "y")),
        ({"a": "1", "c": "3"}, ()),
        ("b ) 1 , a ) 2", ()),
        ("no options here", ()),
        (3, ()),
    ],
)  # fmt: skip
def test_parse_options(options: object, texts: tuple[str, ...]) -> None:
    assert parse_options(options) == texts


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("c", "C"), ("C)", "C"), ("(b)", "B"), ("1,000", "A"), ("1000.0", "A"), ("none", "C"), ("d", None), ("9", None)],
)
def test_choice_letter(answer: str, letter: str | None) -> None:
    assert choice_letter(answer, ("1,000", "20", "none")) == letter


def test_with_choice_gives_the_right_options_number() -> None:
    record = with_choice(Record("1", "q", "b", options=("rs . 400", "1 / 4", "none")))
    assert (record.answer, record.value) == ("B", "0.25")
    assert with_choice(Record("1", "q", "c", options=("1", "2", "none"))).value is None
    assert with_choice(Record("1", "q", None, options=("1", "2"))).answer is None


def test_split_gsm8k_drops_marks() -> None:
    text = "Natalia sold 48/2 = <<48/2=24>>24 clips.\nIn all 48+24 = <<48+24=72>>72.\n#### 1,072"
    assert split_gsm8k(text) == ("Natalia sold 48/2 = 24 clips.\nIn all 48+24 = 72.", "1072")
    assert split_gsm8k("no mark") == ("no mark", None)


def test_unique_ids_never_collide() -> None:
    assert unique_ids(["a", "a", "a#2", "a"]) == ["a", "a#2", "a#2#2", "a#3"]


@pytest.mark.shared
def test_options_of_mathqa_test() -> None:
    path = SHARED / "mathqa_test_original.jsonl.gz"
    if not path.exists():
        pytest.skip("needs the shared data folder")
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    differ = 0
    for row in rows:
        value = option_number(row["options"][row["answer"]]) if row["answer"] in row["options"] else None
        expected = row["answer_value"]
        same = value == expected if None in (value, expected) else abs(float(value) - float(expected)) < 1e-6  # type: ignore[arg-type]
        differ += not same
    assert differ <= 30  # expressions, pairs, and minus signs that the shared file reads otherwise
