import json
import math
from dataclasses import replace

import pytest

from yonder.core.statistics import wilson
from yonder.evaluation.judge_check.admission import admit
from yonder.evaluation.judge_check.check import CheckPlan, JudgeCheck, check_judge
from yonder.evaluation.judge_check.fitted import development_half
from yonder.evaluation.judge_check.sentences import check_sentences
from yonder.reporting.judge_figures import figure_rows
from yonder.schema import Interval, JudgeScore, Response, Score


def response(question: str, correct: bool | None, source: str = "policy", length: int = 10) -> Response:
    return Response(question, "question", "x" * length, correct, source)


def score(probability: float, delta: float = 0.5) -> JudgeScore:
    gap = math.log(probability / (1 - probability))
    value = probability if probability >= delta else 0.0
    return JudgeScore(value, "", {"probability": probability}, logit_gap=gap, mass=0.9)


def judge(rows: list[tuple[Response, Score]], **options: object) -> JudgeCheck:
    plan = CheckPlan(0.5, **options)  # type: ignore[arg-type]
    return check_judge([row[0] for row in rows], [row[1] for row in rows], plan)


def at(figure: Interval | None) -> float:
    assert figure is not None and (not figure.bounded or figure.low <= figure.value <= figure.high)
    return figure.value


def good_judge(questions: int = 40) -> list[tuple[Response, Score]]:
    """Right 0.9, wrong 0.1; every fifth question the other way round."""
    rows: list[tuple[Response, Score]] = []
    for i in range(questions):
        right, wrong = (0.1, 0.9) if i % 5 == 0 else (0.9, 0.1)
        rows += [(response(f"q{i}", True), score(right)), (response(f"q{i}", False), score(wrong))]
    return rows


def test_figures():
    check = judge(good_judge(), floor=0.6)
    # 32 of 40 questions in the right order; at 0.5: 8 of 40 wrong pass, 8 of 40 right are refused
    assert check.pairwise == wilson(32, 40)
    assert (check.n, check.right, check.unscored, check.unlabeled) == (80, 40, 0, 0)
    assert [at(check.accuracy), at(check.false_positive_rate), at(check.false_negative_rate)] == [0.8, 0.2, 0.2]
    # pairs of all right and all wrong ones: 32 * 32 won, 32 * 8 ties at 0.9 and 8 * 32 at 0.1: (1024 + 256) / 1600
    assert at(check.auroc) == pytest.approx(0.8)
    # squares: 64 * .1^2 + 16 * .9^2 = .64 + 12.96
    assert at(check.brier) == pytest.approx(13.6 / 80)
    assert check.histogram_right == (0, 8, 0, 0, 0, 0, 0, 0, 0, 32)
    assert check.histogram_wrong == (0, 32, 0, 0, 0, 0, 0, 0, 0, 8)
    assert check.mass_mean == pytest.approx(0.9)
    assert check.admission.verdict == "pass" and "0.800" in check.admission.why


def test_tau_and_delta_are_fitted_on_one_half_and_measured_on_the_other():
    # half A: gaps +-ln 9, right in 4 of 5: sigmoid(ln 9 / tau) = 0.8 = sigmoid(ln 4); half B: always right
    names = [f"q{i}" for i in range(40)]
    half = development_half(names)
    assert len(half) == 20 and half == development_half(names[::-1]) != set(names[:20])
    rows: list[tuple[Response, Score]] = []
    for i, name in enumerate(sorted(names, key=lambda name: name not in half)):
        right, wrong = (0.1, 0.9) if i < 20 and i % 5 == 0 else (0.9, 0.1)
        rows += [(response(name, True), score(right)), (response(name, False), score(wrong))]
    fitted = judge(rows, max_false_positive_rate=0.2).fitted
    assert (fitted.fitted_on, fitted.measured_on, fitted.aimed_at) == (20, 20, 0.2)
    assert fitted.tau == pytest.approx(math.log(9) / math.log(4), rel=1e-4)
    # on that scale the right ones have 0.8, and one in five wrong ones of half A; of half B none
    assert fitted.delta == pytest.approx(0.8, abs=1e-4)
    assert (at(fitted.false_positive_rate), at(fitted.accuracy)) == (0.0, 1.0)
    # half B says 0.8 and 0.2 where 1 and 0 are true; before, 0.9 and 0.1
    assert at(fitted.ece) == pytest.approx(0.2, abs=1e-4) and at(fitted.ece_unfitted) == pytest.approx(0.1)
    assert judge(rows, max_false_positive_rate=0.1).fitted.delta is None
    assert judge(rows, max_false_positive_rate=0.1).fitted.accuracy is None
    # the other half cannot change what is fitted
    flipped = [(r, score(0.5)) if r.prompt_id not in half else (r, s) for r, s in rows]
    again = judge(flipped, max_false_positive_rate=0.2).fitted
    assert (again.tau, again.delta) == (fitted.tau, fitted.delta) and again.accuracy != fitted.accuracy


def test_best_of_n():
    # every question has the right one at 0.9 and three wrong ones below: of 4 the right one is chosen, drawn 1 in 4
    rows = [row for i in range(10) for row in [(response(f"q{i}", True), score(0.9))]]
    rows += [(response(f"q{i}", False), score(0.1 + 0.1 * k)) for i in range(10) for k in range(3)]
    rows += [(response("few", False), score(0.5))]  # one response of four
    [row] = judge(rows).best_of  # and none has 16
    assert (row.n, row.questions) == (4, 10)
    assert (at(row.chosen), at(row.drawn), at(row.lift), at(row.oracle)) == (1.0, 0.25, 0.75, 1.0)
    assert judge(good_judge()).best_of == ()
    # half of the questions have no right response at all: nothing to choose there
    mixed = judge([(replace(r, correct=bool(r.correct) and r.prompt_id in {"q0", "q1", "q2", "q3", "q4"}), s)
                   for r, s in rows]).best_of[0]  # fmt: skip
    assert (at(mixed.chosen), at(mixed.oracle), at(mixed.lift)) == (0.5, 0.5, 0.375)
    assert mixed.lift.low < 0.3 < 0.45 < mixed.lift.high


def test_what_no_resample_changes_is_told_without_an_interval():
    check = judge([(response("a", True), score(0.9)), (response("b", False), score(0.1))])
    (said,) = [line for line in check_sentences(check) if "AUROC" in line]
    assert said.startswith("AUROC 1.000, ECE ") and "ones liked 0.000 (0.000 to 0.793)" in said
    record = json.loads(json.dumps(check.to_json(), allow_nan=False))
    assert record["auroc"] == {"value": 1.0, "low": None, "high": None, "n": 2}
    assert {"label": "AUROC", "text": "1.000", "interval": ""} in figure_rows(record)
    older = record | {"auroc": {"value": 1.0, "low": 1.0, "high": 1.0, "n": 2}}  # as it was written before
    assert {"label": "AUROC", "text": "1.000", "interval": ""} in figure_rows(older)


def test_without_a_verdict_nothing_is_calibrated():
    caught = [(response(f"g{i}", i % 2 == 0), Score(0.0, "cut: not judged", {"guard": "cut"})) for i in range(6)]
    check = judge(caught)
    assert (check.ece, check.brier, check.fitted.ece, check.fitted.ece_unfitted) == (None, None, None, None)
    assert not any("ECE" in line for line in check_sentences(check))
    assert judge([*caught, (response("b", False), score(0.1))]).ece is not None


def test_best_of_n_where_nothing_is_right_is_not_measured():
    rows = [(response(f"q{i}", False), score(0.1 + 0.1 * k)) for i in range(3) for k in range(4)]
    said = [line for line in check_sentences(judge(rows)) if line.startswith("best of")]
    shown = [row for row in figure_rows(json.loads(json.dumps(judge(rows).to_json()))) if "best of" in row["label"]]
    assert shown == [{"label": "best of 4: no question has a right response", "text": "not measured", "interval": ""}]
    assert said == ["best of 4: not measured, for none of 3 questions has a right response"]


def test_yes_or_no_beside_the_likelihood_on_the_same_pairs():
    rows = good_judge(10)  # q0 and q5 the wrong way round
    likelihoods: list[float | None] = [-1.0 if i % 2 == 0 else -2.0 for i in range(20)]  # the right one, always
    likelihoods[2] = None  # of q1
    likelihoods[5] = -0.5  # the wrong one of q2
    found = check_judge([r for r, _ in rows], [s for _, s in rows], CheckPlan(0.5), likelihoods).baseline
    assert (found.questions, found.note) == (9, "")
    assert found.yes_or_no is not None and found.yes_or_no.pairwise == wilson(7, 9)
    assert found.likelihood is not None and found.likelihood.pairwise == wilson(8, 9)
    # of 9 * 9 pairs those with the wrong one at -0.5 are lost
    assert at(found.likelihood.auroc) == pytest.approx(72 / 81)
    absent = check_judge([r for r, _ in rows], [s for _, s in rows], CheckPlan(0.5), "not measured: why").baseline
    assert (absent.questions, absent.likelihood, absent.note) == (0, None, "not measured: why")


def test_slices_by_outcome():
    def sampled(detail: str, temperature: float | None = 1.0, correct: bool = False) -> Response:
        return Response("q", "question", "text", correct, "answers", temperature=temperature, detail=detail)

    rows = [
        (sampled("returned 12, label 10"), score(0.9)),
        (sampled("returned 11, label 10"), score(0.2)),
        (sampled("returned 11, label 10"), score(0.6)),
        (sampled("returned no finite number"), score(0.1)),
        (sampled("ZeroDivisionError: division by zero"), score(0.7)),
        (sampled("swapped", temperature=None), score(0.9)),  # a made one: no verifier has said how it ends
        (sampled("returned 10, label 10", correct=True), score(0.9)),
    ]
    slices = judge(rows).by_outcome
    found = {s.outcome: (s.n, s.false_positive_rate and s.false_positive_rate.value) for s in slices}
    assert found == {"wrong answer": (3, 2 / 3), "no answer": (2, 0.5), "not known": (1, 1.0)}
    assert judge(good_judge()).by_outcome == ()


def test_thresholded_rewards_make_no_ties():
    # both below delta: the rewards are 0 and 0, the probabilities still rank
    rows = [(response("q", True), score(0.4)), (response("q", False), score(0.1))]
    assert [row[1].value for row in rows] == [0.0, 0.0]
    assert judge(rows).pairwise.value == 1.0
    gates: list[tuple[Response, Score]] = [
        (response("q", True), Score(0.0, "gate")),
        (response("q", False), Score(0.0, "gate")),
    ]
    assert judge(gates).pairwise.value == 0.5


def test_unscored_and_unlabeled_are_left_out_and_counted():
    rows = good_judge()
    lost = JudgeScore(None, "no mass", mass=0.01)
    rows += [(response("q0", True), lost), (response("q1", False), lost), (response("q2", None), score(0.9))]
    check = judge(rows)
    assert (check.n, check.unscored, check.unlabeled, check.reasons) == (80, 2, 1, {"no mass": 2})
    assert check.pairwise == wilson(32, 40)
    assert [row.unscored for row in check.by_source] == [2]
    assert check.mass_mean == pytest.approx((80 * 0.9 + 2 * 0.01) / 82)


def test_what_a_guard_caught_is_counted_and_no_excuse_for_missing_scores():
    caught = [(response(f"g{i}", False), Score(0.0, "cut: not judged", {"guard": "cut"})) for i in range(60)]
    silent = [(response(f"s{i}", False), Score(None, "no verdict")) for i in range(45)]
    check = judge([*caught, *silent, *good_judge(20)])
    assert check.guarded == 60
    assert check.admission.verdict == "fail" and "45 of 85 responses have no score" in check.admission.why
    assert any("60 of 100 scored responses are 0 by a guard" in line for line in check_sentences(check))


def attack(kind: str, pattern: str, probabilities: list[float]) -> list[tuple[Response, Score]]:
    """Attacks of one pattern on the questions q0, q1, ..."""
    return [
        (Response(f"q{i}", f"question {i}", "attack", False, kind, detail=pattern), score(p))
        for i, p in enumerate(probabilities)
    ]


def test_attacks_stand_in_their_own_table():
    rows = good_judge()
    rows += attack("nothing", "empty", [0.05] * 10)
    rows += attack("constant", "zero", [0.7] * 3 + [0.1] * 7) + attack("constant", "one", [0.1] * 8 + [0.5, 0.5])
    rows += attack("injection", "praise", [0.9, 0.1])
    lost = JudgeScore(None, "no mass", mass=0.01)
    rows += [(response("q9", False, "injection"), lost)] * 8
    check = judge(rows, attacks={"nothing", "constant", "injection"}, withheld={"injection"})
    assert (check.n, at(check.false_positive_rate), check.unscored, check.unlabeled) == (80, 0.2, 0, 0)
    assert check.mass_mean == pytest.approx(0.9) and check.by_length[0].n == 10  # 40 wrong ones in quarters
    assert [row.source for row in check.by_source] == ["policy"]
    table = check.attacks
    assert table is not None and table.questions == 11  # question 0 to 9, and "question"
    found = {row.kind: (row.withheld, row.n, row.passed, row.rate, row.unscored) for row in table.kinds}
    assert found == {  # at 0.5: three zeros and both of exactly 0.5 pass
        "nothing": (False, 10, 0, 0.0, 0),
        "constant": (False, 20, 5, 0.25, 0),
        "injection": (True, 2, 1, 0.5, 8),
    }
    share = wilson(5, 20)
    assert [(row.low, row.high) for row in table.kinds if row.kind == "constant"] == [(share.low, share.high)]
    patterns = {row.pattern: (row.kind, row.n, row.passed) for row in table.patterns}
    assert patterns["zero"] == ("constant", 10, 3) and patterns["one"] == ("constant", 10, 2)
    assert (table.overall.n, table.overall.passed, table.overall.rate) == (32, 6, 6 / 32)
    assert (table.withheld.n, table.withheld.passed, table.withheld.unscored) == (2, 1, 8)
    assert table.sentence() == (
        "attacks that pass: 18.8% of 32 (8.9% to 35.3%); of withheld kinds 50.0% of 2 (9.5% to 90.5%)"
    )
    assert check.admission.verdict == "warn" and "50% of the responses `injection`" in check.admission.why
    assert judge(rows[:-10], attacks={"nothing", "constant"}).admission.why.startswith(
        "25% of the responses `constant`"
    )
    assert judge(good_judge()).attacks is None
    everything = judge(rows[:-8])  # without `attacks` they count like any other: 8 + 6 of 40 + 32 wrong ones
    assert everything.attacks is None and at(everything.false_positive_rate) == 14 / 72


def test_a_kind_without_scores_has_no_rate():
    check = judge([*good_judge(), (response("q", False, "nothing"), Score(None, "lost"))], attacks={"nothing"})
    assert check.attacks is not None and check.attacks.kinds[0].rate is None
    assert (check.attacks.kinds[0].low, check.attacks.kinds[0].high) == (0.0, 1.0)
    assert check.attacks.sentence() == "attacks that pass: none scored; of withheld kinds none scored"
    assert check.admission.verdict == "pass"
    json.dumps(check.to_json(), allow_nan=False)


def test_length_quartiles():
    rows = [(response(f"q{i}", False, length=i + 1), score(0.9 if i >= 6 else 0.1)) for i in reversed(range(8))]
    rows += [(response("q0", True, length=100), score(0.9))]
    slices = judge(rows).by_length
    assert [(s.low, s.high, s.n, at(s.false_positive_rate)) for s in slices] == [
        (1, 2, 2, 0.0),
        (3, 4, 2, 0.0),
        (5, 6, 2, 0.0),
        (7, 8, 2, 1.0),
    ]


def test_delta_zero_is_read_at_a_half():
    check = check_judge([response("q", False)], [Score(0.3, "", {"probability": 0.3})], CheckPlan(0.0))
    assert (check.delta, at(check.false_positive_rate)) == (0.5, 0.0)


def test_nothing_to_measure():
    for rows in ([], [(response("q", None), score(0.5))], [(response("q", True), score(0.9))] * 30):
        check = judge(rows)
        assert check.admission.verdict == "unmeasured"
        assert check.auroc is check.false_positive_rate is check.fitted.tau is check.fitted.delta is None
        json.dumps(check.to_json(), allow_nan=False)


def test_json():
    record = json.loads(json.dumps(judge(good_judge()).to_json(), allow_nan=False))
    assert record["pairwise"]["value"] == 0.8 and record["admission"]["verdict"] == "pass"
    assert record["reliability"][0].keys() == {"low", "high", "mean_score", "share_right", "n"}
    assert record["by_source"][0]["source"] == "policy"
    assert record["auroc"].keys() == {"value", "low", "high", "n"} and record["auroc"]["n"] == 40
    assert {"auroc", "brier", "best_of", "fitted", "baseline", "by_outcome", "speed"} <= record["about"].keys()
    assert record["about"].keys() <= record.keys() | {"intervals"}


def interval(value: float, low: float, high: float, n: int = 100) -> Interval:
    return Interval(value, low, high, n)


@pytest.mark.parametrize(
    ("pairwise", "floor", "rate", "mass", "unscored", "attacks", "verdict", "words"),
    [
        (interval(0.88, 0.8, 0.93), 0.75, 0.1, 0.9, (0, 200), {"empty": 0.0}, "pass", "floor 0.75"),
        (interval(0.88, 0.8, 0.93), 0.0, None, None, (0, 200), {}, "pass", "0.880 (0.800 to 0.930, n = 100)"),
        (interval(0.7, 0.6, 0.79), 0.75, 0.1, 0.9, (0, 200), {}, "fail", "below the floor"),
        (interval(0.4, 0.31, 0.49), 0.0, 0.1, 0.9, (0, 200), {}, "fail", "worse than a coin"),
        (interval(0.9, 0.8, 0.95), 0.5, 0.1, 0.05, (0, 200), {}, "fail", "only 0.050"),
        (interval(0.9, 0.8, 0.95), 0.5, 0.1, 0.9, (101, 200), {}, "fail", "101 of 200"),
        (interval(1.0, 0.2, 1.0, 1), 0.5, 0.1, 0.9, (0, 2), {}, "unmeasured", "only 1 question has a right and"),
        (interval(0.9, 0.6, 0.98, 19), 0.5, 0.1, 0.9, (0, 200), {}, "unmeasured", "only 19 questions"),
        (interval(0.8, 0.7, 0.87), 0.75, 0.1, 0.9, (0, 200), {}, "warn", "may lie below"),
        (interval(0.55, 0.45, 0.65, 59), 0.0, 0.1, 0.9, (0, 200), {}, "warn", "better than a coin"),
        (interval(0.55, 0.45, 0.65, 60), 0.0, 0.1, 0.9, (0, 200), {}, "fail", "better than a coin"),
        (interval(0.9, 0.8, 0.95), 0.5, 0.9, 0.9, (0, 200), {}, "fail", "Yes to everything"),
        (interval(0.9, 0.8, 0.95), 0.5, 0.1, 0.0, (0, 200), {}, "fail", "only 0.000"),
        (interval(0.9, 0.8, 0.95), 0.5, 0.1, 0.3, (0, 200), {}, "warn", "only 0.30"),
        (interval(0.9, 0.8, 0.95), 0.5, 0.1, 0.9, (20, 200), {}, "warn", "20 of 200"),
        (interval(0.9, 0.8, 0.95), 0.5, 0.35, 0.9, (0, 200), {}, "warn", "35%"),
        (interval(0.9, 0.8, 0.95), 0.5, 0.1, 0.9, (0, 200), {"a": 0.1, "b": 0.4}, "warn", "`b`"),
    ],
)
def test_admission(
    pairwise: Interval,
    floor: float,
    rate: float | None,
    mass: float | None,
    unscored: tuple[int, int],
    attacks: dict[str, float],
    verdict: str,
    words: str,
):
    found = admit(pairwise, floor, rate, mass, unscored, attacks)
    assert found.verdict == verdict and words in found.why and found.floor == floor
