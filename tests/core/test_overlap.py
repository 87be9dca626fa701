import time

import pytest

from yonder.core.overlap import Overlap, Question, overlap

DUCKS = "Janet's ducks lay 16 eggs per day. She eats three for breakfast and sells the rest for $1,000."


@pytest.mark.parametrize(
    ("training", "found"),
    [
        (
            Question(
                "JANET\u2019S ducks lay 16 eggs per day; she eats three for breakfast and sells the rest for $1000"
            ),
            "exact",
        ),
        # 18 words, 11 runs of 8; the first 13 words, 6 runs, stand in the other
        (Question("Janet's ducks lay 16 eggs per day. She eats three for breakfast. What of it?"), "near"),
        (Question("Janet's ducks lay 16 eggs per day. She eats three."), ""),  # 3 runs of 11
        (Question("Bo's geese lay 4 eggs. How many?", origin=DUCKS), "perturbed"),
        (Question("the ducks , of janet"), ""),
        (Question("Janet's ducks lay 17 eggs per day. She eats four for breakfast and sells the rest for $900."), ""),
        (Question(""), ""),
    ],
)
def test_what_training_questions_do_to_a_test_question(training: Question, found: str):
    result = overlap([Question("Another question altogether"), Question(DUCKS)], [training])
    assert {kind for kind, places in result._asdict().items() if places == (1,)} == ({found} if found else set())


def test_a_test_question_that_was_made_from_another_one():
    test = [Question("With 17 eggs?", origin=DUCKS)]
    assert overlap(test, [Question(DUCKS)]) == Overlap((), (0,), ())  # its seed was trained on
    assert overlap(test, [Question("With 18?", origin=DUCKS)]) == Overlap((), (0,), ())  # a sibling was
    assert overlap(test, [Question("With 17 eggs?", origin=DUCKS)]) == Overlap((0,), (), ())  # itself was
    assert overlap(test, [Question("With 18?", origin="other")]) == Overlap((), (), ())


def test_halves_of_two_training_questions_do_not_add_up():
    words = [f"w{i}" for i in "abcdefghijklmnopqrstuvwx"]  # 24 words: 17 runs, near from 9 on
    test = [Question(" ".join(words))]
    halves = [Question(" ".join(words[:15])), Question(" ".join(words[9:]))]  # 8 runs each
    assert overlap(test, halves) == Overlap((), (), ())
    assert overlap(test, [Question(" ".join(words[:16]))]) == Overlap((), (), (0,))  # 9 runs


def test_short_and_empty_questions():
    assert overlap([Question("What is 2 + 3?")], [Question("What is 2 - 3?")]) == Overlap((), (), (0,))
    assert overlap([Question("a well-known 5")], [Question("A well known 5.")]) == Overlap((0,), (), ())
    assert overlap([Question("2 + 2?"), Question("")], [Question("2+2"), Question("")]) == Overlap((0,), (), ())
    assert overlap([], [Question("2 + 2?")]) == overlap([Question("2 + 2?")], []) == Overlap((), (), ())


def test_gsm8k_against_its_training_questions_in_seconds():
    from yonder.data.embedded import gsm8k

    test = [Question(record.question) for record in gsm8k("test", {})]
    training = [Question(record.question) for record in gsm8k("train", {})]
    start = time.process_time()
    found = overlap(test, training)
    assert time.process_time() - start < 10  # 1 s alone
    assert (len(found.exact), len(found.perturbed), len(found.near)) == (0, 0, 1)
    assert len(overlap(test, [*training, *test[:7]]).exact) == 7
