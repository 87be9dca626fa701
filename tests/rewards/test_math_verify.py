"""Our grading beside math-verify's on 500 real answers: every difference has its reason, here and in the documents."""

import gzip
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from yonder.rewards.answers import final_number, read_number
from yonder.rewards.verifiable import equal

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data, which are not in the project"),
]
FRACTION = "math-verify reads the denominator of a spaced fraction (2 / 9) as the answer; we read 2/9"
LETTERS = "math-verify reads a sentence in brackets as a product of letters; we read the last number"
DIFFERENCES = {
    "mathqa_dev_3693": LETTERS,
    "mathqa_dev_3774": FRACTION,
    "mathqa_dev_275": FRACTION,
    "mathqa_dev_1": FRACTION,
    "mathqa_dev_836": FRACTION,
}


class Case(NamedTuple):
    id: str
    label: str
    text: str


def rows(name: str) -> list[dict[str, Any]]:
    data = (SHARED / name).read_bytes()
    text = gzip.decompress(data) if name.endswith(".gz") else data
    return [json.loads(line) for line in text.splitlines()]


def cases() -> Iterator[tuple[Case, str]]:
    """500 labels, each with its own solution and with that of the next question: 1,000 pairs."""
    draw = random.Random(0)
    gsm8k = [
        Case(row["id"], row["answer"], f"{row['cot_text']}\nTherefore, the answer is: {row['answer']}")
        for row in draw.sample(rows("gsm8k_test.jsonl"), 170)
    ]
    plus = [row for row in rows("gsmplus_testmini_even.jsonl.gz") if row["answer"] is not None]
    mathqa = [row for row in rows("mathqa_dev.jsonl.gz") if row["answer_value"] and row["cot_text"]]
    for part in (
        gsm8k,
        [Case(row["id"], row["answer"], row["cot_text"]) for row in draw.sample(plus, 170)],
        [Case(row["id"], row["answer_value"], row["cot_text"]) for row in draw.sample(mathqa, 160)],
    ):
        for i, case in enumerate(part):
            yield case, case.text
            yield case, part[(i + 1) % len(part)].text


def ours(label: str, text: str) -> bool:
    gold, found = read_number(label), final_number(text)
    return gold is not None and found is not None and equal(found, gold, 1e-2)


def theirs(label: str, text: str) -> bool:
    from math_verify import parse, verify

    def read(one: str) -> Any:
        return parse(one, parsing_timeout=None)  # type: ignore[arg-type]

    return bool(verify(read(label), read(text), timeout_seconds=None))  # type: ignore[arg-type]


def test_grading_agrees_or_the_difference_is_explained():
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    found: dict[str, bool] = {}
    both_right = total = 0
    for case, text in cases():
        total += 1
        mine = ours(case.label, text)
        if mine != theirs(case.label, text):
            assert text == case.text, "of the wrong candidates none is taken for right by one of the two alone"
            found[case.id] = mine
        both_right += mine
    assert total == 1000
    assert found == dict.fromkeys(DIFFERENCES, True)  # ours is right
    assert both_right == 479
