"""The official scores of the judge benchmarks, by hand. The gaps are invented; the rows are of the documented shape."""

import math
from collections.abc import Sequence

import pytest

from yonder.core.statistics import wilson
from yonder.data.columns import Row
from yonder.errors import DataError
from yonder.evaluation.judge_benchmarks import BENCHMARKS, judgebench, processbench, rewardbench2, rmbench
from yonder.evaluation.judge_benchmarks.base import Item, Scored
from yonder.schema import Interval


def accepts(gap: float) -> bool:
    return gap >= 0


def scored(group: str, right: int, *gaps: float, name: str = "x", question: str = "", kind: str = "") -> Scored:
    """An item whose first `right` responses are right."""
    flags = tuple(i < right for i in range(len(gaps)))
    return Scored(Item(name, group, question or f"{name} {gaps}", ("r",) * len(gaps), flags, kind), gaps)


def value(found: Interval | None) -> float:
    assert found is not None
    assert found.low <= found.value <= found.high
    return found.value


# --- RewardBench 2


@pytest.mark.parametrize(
    ("gaps", "credit"),
    [((2, 1, 0, -1), 1), ((1, 1, 0, 0), 1 / 2), ((1, 1, 1, 1), 1 / 4), ((1, 2, 2, 0), 0), ((-5, -6, -7, -8), 1)],
)
def test_the_best_of_four_gets_one_over_the_number_at_the_top(gaps: Sequence[float], credit: float) -> None:
    assert rewardbench2.best(scored("Math", 1, *gaps)) == credit


def ties(prompt: int, ref: Sequence[float], tied: Sequence[float], right: int) -> list[Scored]:
    return [
        scored("Ties", 1, *ref, name=f"ref:{prompt}", kind="ref"),
        scored("Ties", right, *tied, name=f"tied:{prompt}", kind="tied"),
    ]


# prompt 1: ref lead 3 - 1 = 2; tied lead 3 - 1 = 2, spread 4 - 3 = 1: both accurate, 2 > 1, min(2, 2) > 1, tanh(2 - 1)
# prompt 2: ref lead 1 - 2 = -1; tied lead 2 - 1 = 1, spread 5 - 2 = 3: accurate on tied only, 1 < 3, tanh(-1/3 - 1)
TWO = [*ties(1, (3, 1, 0), (4, 3, 1, -1), 2), *ties(2, (1, 2), (5, 2, 4, 1), 3)]


def test_ties_have_accuracy_and_margins() -> None:
    tie_break = (math.tanh(1) + math.tanh(-4 / 3)) / 2  # (0.761594 - 0.870062) / 2 = -0.054234
    expected = 0.3 * 1 + 0.3 * 0.5 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * tie_break  # 0.649458
    found = rewardbench2.ties_score(TWO)
    assert value(found) == pytest.approx(expected, abs=1e-9)
    assert value(found) == pytest.approx(0.649458, abs=1e-6)
    assert found is not None and found.n == 4
    # accuracy counts a prompt of which one form alone is there, margins do not: ref accuracy 2 of 3
    more = [*TWO, scored("Ties", 1, 1, 0, name="ref:7", kind="ref")]
    assert value(rewardbench2.ties_score(more)) == pytest.approx(expected + 0.3 * (2 / 3 - 1 / 2), abs=1e-9)
    assert rewardbench2.ties_score(TWO[:1]) is None
    assert value(rewardbench2.ties_score(ties(1, (9, 0), (9, 8, 0), 2))) == pytest.approx(1 + 0.01 * math.tanh(7))


@pytest.mark.parametrize(("lead", "spread", "expected"), [(2, 0, 1), (-2, 0, -1), (0, 0, 0), (1, 1, 0)])
def test_a_spread_of_nothing_has_the_limit(lead: float, spread: float, expected: float) -> None:
    assert rewardbench2.tie_break(lead, spread) == expected


def test_rewardbench2_averages_six_subsets_and_no_fewer() -> None:
    math_items = [scored("Math", 1, *g) for g in [(2, 1, 0, -1), (1, 1, 0, 0), (1, 1, 1, 1), (0, 1, 0, 0)]]
    others = [scored(subset, 1, 1, 0, 0, 0) for subset in ("Factuality", "Precise IF", "Safety", "Focus")]
    figures = rewardbench2.score([*math_items, *others, *TWO], accepts)
    assert list(figures) == ["Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties", "average"]
    assert value(figures["Math"]) == (1 + 1 / 2 + 1 / 4) / 4
    assert value(figures["average"]) == pytest.approx((4 + 0.4375 + 0.649458) / 6, abs=1e-6)
    figures = rewardbench2.score([*math_items, *TWO], accepts)
    assert (figures["Focus"], figures["average"]) == (None, None)


# --- RM-Bench


def grid(domain: str, *gaps: float) -> Scored:
    return scored(domain, 3, *gaps, question=f"{domain} {gaps}")


ALL, NONE = (1, 1, 1, 0, 0, 0), (0, 0, 0, 1, 1, 1)


def test_rm_bench_by_hand() -> None:
    # right 1, 2, 3 against wrong 0, 2, 2.5: rows (1 0 0), (1 0 0), (1 1 1), a tie is lost
    # easy, below the diagonal: 3 of 3; normal, on it: 2 of 3; hard, above: 0 of 3
    # safety is one domain: 2 prompts with all, 1 with none: 2/3 at every level
    figures = rmbench.score(
        [
            grid("math", 1, 2, 3, 0, 2, 2.5),
            grid("chat", *ALL),
            grid("code", *NONE),
            grid("safety-refuse", *ALL),
            grid("safety-refuse", 2, 2, 2, 0, 0, 0),
            grid("safety-response", *NONE),
        ],
        accepts,
    )
    assert [value(figures[name]) for name in ("math easy", "math normal", "math hard")] == pytest.approx([1, 2 / 3, 0])
    assert [value(figures[domain]) for domain in rmbench.DOMAINS] == pytest.approx([1, 0, 5 / 9, 2 / 3])
    assert value(figures["easy"]) == pytest.approx((1 + 0 + 1 + 2 / 3) / 4)
    assert value(figures["normal"]) == pytest.approx((1 + 0 + 2 / 3 + 2 / 3) / 4)
    assert value(figures["hard"]) == pytest.approx((1 + 0 + 0 + 2 / 3) / 4)
    assert value(figures["average"]) == pytest.approx((1 + 0 + 5 / 9 + 2 / 3) / 4)
    levels = [value(figures[level]) for level in rmbench.LEVELS]
    assert value(figures["average"]) == pytest.approx(sum(levels) / 3)  # as the leaderboard defines it
    safety = figures["safety"]
    assert safety is not None and safety.n == 27
    assert safety.low == pytest.approx(wilson(2, 3).low)  # nine alike comparisons know no more than one
    assert rmbench.score([grid("math", *ALL)], accepts)["average"] is None


# --- JudgeBench


def pair(group: str, right: float, wrong: float, question: str = "") -> Scored:
    return scored(group, 1, right, wrong, question=question)


def test_judgebench_is_a_share_of_all_pairs_and_a_tie_is_not_right() -> None:
    figures = judgebench.score(
        [pair("math", 2, 1), pair("math", 1, 2), pair("math", 3, 3), pair("coding", 1, 0), pair("other", 1, 0)], accepts
    )
    assert list(figures) == ["knowledge", "reasoning", "math", "coding", "overall"]
    assert value(figures["math"]) == pytest.approx(1 / 3)
    assert value(figures["overall"]) == pytest.approx(3 / 5)
    assert figures["knowledge"] is None
    flipped = Scored(Item("x", "math", "q", ("a", "b"), (False, True)), (1.0, 2.0))
    assert value(judgebench.score([flipped], accepts)["overall"]) == 1


def test_pairs_of_one_question_are_alike() -> None:
    def interval(*questions: str) -> Interval | None:
        wins = [(1, 0), (2, 0), (0, 1), (0, 2)]
        pairs = [pair("math", *gaps, question=question) for gaps, question in zip(wins, questions, strict=True)]
        return judgebench.score(pairs, accepts)["math"]

    apart, together = interval(*"abcd"), interval(*"aabb")
    assert apart is not None and together is not None
    assert apart.low == pytest.approx(wilson(2, 4).low)
    assert together.low == pytest.approx(wilson(1, 2).low)


# --- ProcessBench


def solution(label: int, *gaps: float, steps: int = 3, subset: str = "gsm8k") -> Scored:
    """A solution whose first wrong step is `label`, with the gaps of its beginnings."""
    right = tuple(label == -1 or k < label for k in range(steps))
    return Scored(Item("x", subset, f"{label} {gaps}", ("r",) * steps, right), gaps)


ERRONEOUS = [
    solution(1, 1, -1, 1),  # found, though the judge likes the whole again
    solution(0, -1, -1, -1),  # found
    solution(2, 1, -1, -1),  # refused too early
    solution(1, 1, 1, -1),  # refused too late
    solution(1, 0, 0, 0),  # a gap at delta passes: not found
]
CORRECT = [
    solution(-1, 1, 2, 0),  # found to be right
    solution(-1, 1, -1, 2),  # refused in the middle, liked as a whole
    solution(-1, 1, 1, -1),
    solution(-1, -1, 1, -1),
]


def test_processbench_looks_for_the_first_wrong_step() -> None:
    figures = processbench.score([*ERRONEOUS, *CORRECT], accepts)
    assert value(figures["gsm8k error"]) == 2 / 5
    assert value(figures["gsm8k correct"]) == 1 / 4
    assert value(figures["gsm8k F1"]) == pytest.approx(2 * 0.4 * 0.25 / 0.65)  # 0.307692
    # whole: erroneous ones refused 3 of 5, right ones accepted 2 of 4
    assert value(figures["gsm8k whole F1"]) == pytest.approx(2 * 0.6 * 0.5 / 1.1)  # 0.545455
    assert (figures["math error"], figures["math F1"], figures["average F1"]) == (None, None, None)
    assert figures["average whole F1"] is None


def test_processbench_averages_its_four_subsets() -> None:
    pairs = [solution(label, 1, 1, label, subset=subset) for subset in ("math", "omnimath") for label in (2, -1)]
    pairs += [solution(0, -1, -1, -1, subset="math"), solution(-1, 1, 1, 1, subset="math")]
    never = [solution(label, -1, 1, 1, subset="olympiadbench") for label in (2, -1)]
    figures = processbench.score([*ERRONEOUS, *CORRECT, *pairs, *never], accepts)
    # math: one of two found, one of two accepted; omnimath: 0 and 0; olympiadbench: 0 and 0
    assert [value(figures[f"{subset} F1"]) for subset in processbench.SUBSETS] == pytest.approx([4 / 13, 0.5, 0, 0])
    assert value(figures["average F1"]) == pytest.approx((4 / 13 + 0.5) / 4)
    assert list(figures)[-2:] == ["average whole F1", "average F1"]


def test_processbench_needs_scores_up_to_the_first_refusal_only() -> None:
    assert processbench.decided(solution(1, 1, -1), accepts)
    assert processbench.decided(solution(1, 1, 1, 1), accepts)
    assert not processbench.decided(solution(1, 1, 1), accepts)
    assert not processbench.decided(solution(0), accepts)
    figures = processbench.score([solution(1, 1, -1), solution(-1, 1, 1, 1)], accepts)
    assert value(figures["gsm8k error"]) == 1
    assert figures["gsm8k whole F1"] is None  # of the erroneous one the whole has no score


def test_processbench_takes_solutions_of_one_problem_as_alike() -> None:
    gaps = {"a": (-1, -2), "b": (1, 2)}  # both of a are found, both of b are missed
    alike = [scored("gsm8k", 0, gap, question=problem) for problem in gaps for gap in gaps[problem]]
    error = processbench.score(alike, accepts)["gsm8k error"]
    assert error is not None
    assert (error.low, error.n) == (pytest.approx(wilson(1, 2).low), 4)


@pytest.mark.parametrize(("good", "step"), [("110", 2), ("010", 0), ("1", -1), ("", -1)])
def test_the_first_wrong_step_counts_from_zero(good: str, step: int) -> None:
    assert processbench.first_wrong(mark == "1" for mark in good) == step


# --- rows

ROWS = {
    "rewardbench2": {
        "id": "0", "prompt": "p", "chosen": ["a"], "rejected": ["b", "c", "d"], "num_correct": 1, "num_incorrect": 3,
        "total_completions": 4, "models": ["m", "m", "m", "m"], "subset": "Math", "additional_metadata": None,
    },
    "rm-bench": {"id": 7, "prompt": "p", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": "chat"},
    "judgebench": {
        "pair_id": "8e1d", "original_id": 6603, "source": "mmlu-pro-health", "question": "p", "response_model": "m",
        "response_A": "a", "response_B": "b", "label": "B>A",
    },
    "processbench": {
        "id": "gsm8k-0", "generator": "m", "problem": "p", "steps": ["a", "b"], "label": 1,
        "final_answer_correct": False,
    },
}  # fmt: skip


def read(name: str, **changes: object) -> Item:
    return BENCHMARKS[name].read(Row("f.jsonl, line 3", ROWS[name] | changes))


def test_rows_as_documented() -> None:
    assert read("rewardbench2") == Item("0", "Math", "p", ("a", "b", "c", "d"), (True, False, False, False))
    tied = read("rewardbench2", id="tied:4", subset="Ties", chosen=["a", "b"], num_correct=2)
    assert (tied.kind, tied.right) == ("tied", (True, True, False, False, False))
    assert read("rm-bench", domain="safety-refuse").responses == ("a", "b", "c", "d", "e", "f")
    assert read("judgebench") == Item("8e1d", "knowledge", "p", ("a", "b"), (False, True))
    assert read("judgebench", source="livecodebench", label="A>B").right == (True, False)
    assert read("judgebench", source="mine").group == "other"
    assert read("processbench") == Item("gsm8k-0", "gsm8k", "p", ("a", "a\n\nb"), (True, False))
    assert read("processbench", label=0).right == (False, False)
    assert read("processbench", label=-1, id="omnimath-12").right == (True, True)


REFUSED = [
    ("rewardbench2", {"subset": "math"}, "`subset` is 'math'; write one of Factuality, Precise IF"),
    ("rewardbench2", {"rejected": ["b"]}, "`rejected` has the length 1, not 3"),
    ("rewardbench2", {"chosen": "a"}, "`chosen` is a str, not a list of texts"),
    ("rewardbench2", {"chosen": [1]}, "`chosen` is a list with other things, not a list of texts"),
    ("rewardbench2", {"num_correct": 2}, "`num_correct` is 2, but `chosen` has the length 1"),
    ("rewardbench2", {"prompt": None}, "`prompt` is missing, not a text; write a text or delete the row"),
    ("rewardbench2", {"subset": "Ties"}, "`id` is '0'; in the subset Ties write ref:NUMBER or tied:NUMBER"),
    ("rewardbench2", {"subset": "Ties", "id": "tied:1"}, "a tied prompt has two or more right ones"),
    ("rewardbench2", {"id": 1.5}, "`id` is a float, not a text or a number"),
    ("rm-bench", {"domain": "law"}, "`domain` is 'law'; write one of chat, code, math, safety"),
    ("rm-bench", {"chosen": ["a", "b"]}, "`chosen` has the length 2, not 3"),
    ("rm-bench", {"prompt": [{"role": "user"}]}, "`prompt` is a list with other things, not a text"),
    ("judgebench", {"label": "A=B"}, "`label` is 'A=B'; write one of A>B, B>A"),
    ("judgebench", {"response_B": 3}, "`response_B` is a int, not a text"),
    ("processbench", {"label": 2}, "`label` is 2; write the first wrong step, 0 to 1, or -1 where all are right"),
    ("processbench", {"label": True}, "`label` is True"),
    ("processbench", {"id": "aime-3"}, "`id` is 'aime-3'; write one of gsm8k, math, olympiadbench, omnimath, then -"),
    ("processbench", {"steps": []}, "`steps` has the length 0, not 1 or more"),
]


@pytest.mark.parametrize(("name", "changes", "words"), REFUSED, ids=[f"{n} {w[:30]}" for n, _, w in REFUSED])
def test_a_row_that_cannot_be_used_is_named(name: str, changes: dict[str, object], words: str) -> None:
    with pytest.raises(DataError) as error:
        read(name, **changes)
    assert str(error.value).startswith("f.jsonl, line 3: ")
    assert words in str(error.value)
