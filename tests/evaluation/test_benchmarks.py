import json
from collections.abc import Sequence

import pytest

from yonder.core.statistics import clustered_share, mean_pass_at_k, wilson
from yonder.evaluation.benchmarks import Samples, evaluate
from yonder.recipe.data import TaskSettings
from yonder.recipe.rewards import VerifiableSettings
from yonder.rewards.unanswerable import UnanswerableToo
from yonder.rewards.verifiable import VerifiableReward
from yonder.schema import Completion, Prompt, Rollout, Score


class Scripted:
    """A sampler that answers from a list: for each question a greedy answer, then the samples."""

    def __init__(self, answers: dict[str, list[str]]) -> None:
        self.answers = answers
        self.calls: list[tuple[int, int, float | None, int]] = []

    def sample(self, prompts: Sequence[Prompt], samples: int, temperature: float | None, seed: int) -> list[Rollout]:
        self.calls.append((len(prompts), samples, temperature, seed))
        first = 0 if temperature is None else 1
        return [
            Rollout(prompt, (1,), Completion((2,), (0.0,), text, finished=text != "cut"), group)
            for group, prompt in enumerate(prompts)
            for text in self.answers[prompt.id][first : first + samples]
        ]


def no_programs(programs: Sequence[str]) -> list[object]:
    raise AssertionError("text only")


VERIFIER = VerifiableReward(VerifiableSettings(kind="verifiable"), TaskSettings(format="text"), no_programs)  # type: ignore[arg-type]
PROMPTS = [
    Prompt("q1", "", "", answer="1", category="easy"),
    Prompt("q2", "", "", answer="2", category="easy"),
    Prompt("q3", "", "", answer="3", category="hard"),
    Prompt("q4", "", "", answer="None", category="critical thinking"),
]
ANSWERS = {
    "q1": ["1", "1", "7", "1.001"],  # greedy right; vote 1 (2 of 3, merged within 0.01), right
    "q2": ["9", "8", "2", "2"],  # greedy wrong (though partly paid); vote 2, right
    "q3": ["cut", "5", "3", "no idea"],  # no number, unfinished; vote: tie, 5 was first: wrong
    "q4": ["4", "4", "4", "4"],  # label cannot be read
}


def test_greedy_accuracy():
    result = evaluate(PROMPTS, Scripted(ANSWERS), VERIFIER)
    assert result.correct == (True, False, False, None)
    assert result.accuracy == wilson(1, 3)  # q4 is left out of n
    assert (result.unscored, result.reasons) == (1, {"label 'None' is not a number": 1})
    assert result.finished == 0.75
    assert {name: (i.value, i.n) for name, i in result.by_category.items() if i.n} == {
        "easy": (0.5, 2),
        "hard": (0.0, 1),
    }
    assert result.by_category["critical thinking"].n == 0
    assert result.vote is None and "vote" not in result.to_json()
    assert result.seconds > 0


def test_vote():
    seen: list[tuple[int, int]] = []
    sampler = Scripted(ANSWERS)
    result = evaluate(
        PROMPTS, sampler, VERIFIER, Samples(3, temperature=0.7), seed=5, progress=lambda d, t: seen.append((d, t))
    )
    vote = result.vote
    assert vote is not None
    assert vote.correct == (True, True, False, None)
    assert vote.accuracy == wilson(2, 3)
    assert (vote.samples, vote.temperature, vote.tied, vote.unscored) == (3, 0.7, 1, 1)
    assert vote.share == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)
    assert sampler.calls == [(4, 1, None, 5), (4, 3, 0.7, 5)]
    assert seen == [(4, 16), (16, 16)]  # 4 greedy, then 4 * 3


def test_json_has_no_nan():
    record = evaluate(PROMPTS, Scripted(ANSWERS), VERIFIER, Samples(3)).to_json()
    text = json.dumps(record, allow_nan=False)
    assert json.loads(text)["by_category"]["critical thinking"]["accuracy"] is None
    assert (record["accuracy"], record["n"]) == (1 / 3, 3)
    assert record["low"] < 1 / 3 < record["high"]
    assert (record["vote"]["accuracy"], record["vote"]["n"]) == (2 / 3, 3)
    json.dumps(evaluate([], Scripted({}), VERIFIER, Samples(2)).to_json(), allow_nan=False)


def test_many_prompts_are_asked_in_parts_with_different_seeds():
    prompts = [Prompt(f"q{i}", "", "", answer="1") for i in range(50)]
    sampler = Scripted({prompt.id: ["1"] * 101 for prompt in prompts})
    result = evaluate(prompts, sampler, VERIFIER, Samples(100))
    assert result.vote is not None and result.vote.accuracy.n == 50
    assert [call[0] for call in sampler.calls] == [50, 20, 20, 10]  # 2048 // 100 prompts at a time
    assert len({call[3] for call in sampler.calls[1:]}) == 3


def test_wrong_order_is_refused():
    class Shuffling(Scripted):
        def sample(
            self, prompts: Sequence[Prompt], samples: int, temperature: float | None, seed: int
        ) -> list[Rollout]:
            return super().sample(prompts, samples, temperature, seed)[::-1]

    with pytest.raises(ValueError, match="in the order of the prompts"):
        evaluate(PROMPTS, Shuffling(ANSWERS), VERIFIER)


def test_sandbox_outage_is_not_an_error_of_the_policy():
    class Flaky:
        def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
            scores = VERIFIER.score(rollouts)
            return [
                Score(None, "down") if r.completion.text == "7" else s for r, s in zip(rollouts, scores, strict=True)
            ]

    prompts, answers = PROMPTS[:1], {"q1": ["7", "7", "7", "1"]}
    result = evaluate(prompts, Scripted(answers), Flaky(), Samples(3))
    assert result.correct == (None,) and result.reasons == {"down": 1}
    assert result.vote is not None and result.vote.correct == (True,)  # the two lost samples don't vote
    assert evaluate(prompts, Scripted({"q1": ["1"]}), Gradeless()).reasons == {"the verifier gives no verdict": 1}


class Gradeless:
    """A judge in the verifier's place: a value, no verdict."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(1.0, "P(Yes) 1.0") for _ in rollouts]


def test_pass_at_k_from_the_votes_samples():
    # right samples: q1 1, 7, 1.001 -> 2 of 3; q2 8, 2, 2 -> 2 of 3; q3 5, 3, none -> 1 of 3; q4 cannot be scored
    result = evaluate(PROMPTS, Scripted(ANSWERS), VERIFIER, Samples(3, pass_at=(1, 2, 3)), seed=5)
    assert result.pass_at is not None
    values = {k: (interval.value, interval.n) for k, interval in result.pass_at.items()}
    # pass@1 = (2/3 + 2/3 + 1/3) / 3 = 5/9; pass@2 = (1 + 1 + 2/3) / 3 = 8/9; pass@3 = 1
    assert values == {1: (pytest.approx(5 / 9), 3), 2: (pytest.approx(8 / 9), 3), 3: (1.0, 3)}
    assert result.pass_at[2] == mean_pass_at_k([(3, 2), (3, 2), (3, 1)], 2, 5)
    record = result.to_json()
    assert set(record["pass_at_k"]) == {"1", "2", "3"} and record["pass_at_k"]["3"]["low"] == wilson(3, 3).low
    assert "pass_at_k" not in evaluate(PROMPTS, Scripted(ANSWERS), VERIFIER, Samples(3)).to_json()


def test_a_question_with_too_few_scored_samples_is_no_part_of_pass_at_k():
    class Flaky:
        def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
            scores = VERIFIER.score(rollouts)
            return [
                Score(None, "down") if r.completion.text == "7" else s for r, s in zip(rollouts, scores, strict=True)
            ]

    result = evaluate(PROMPTS[:2], Scripted(ANSWERS), Flaky(), Samples(3, pass_at=(2, 3)))
    assert result.pass_at is not None
    assert (result.pass_at[2].n, result.pass_at[3].n) == (2, 1)  # q1 has two scored samples


class BySeed:
    """Answers 1 with every seed that is even."""

    def sample(self, prompts: Sequence[Prompt], samples: int, temperature: float | None, seed: int) -> list[Rollout]:
        texts = {p.id: ("1" if seed % 2 == 0 else "9") if temperature else "9" for p in prompts}
        return [Rollout(p, (1,), Completion((2,), (0.0,), texts[p.id], True), i) for i, p in enumerate(prompts)]


def test_seeds_give_mean_and_spread():
    prompts = [Prompt("a", "", "", answer="1"), Prompt("b", "", "", answer="9")]
    seen: list[tuple[int, int]] = []
    asked = Samples(seeds=(2, 4, 7))
    result = evaluate(prompts, BySeed(), VERIFIER, asked, progress=lambda d, t: seen.append((d, t)))
    record = result.to_json()
    assert record["seeds"] == {"0": 0.5, "1": 0.5, "2": 0.5}
    assert record["seed_spread"]["mean"] == 0.5 and record["seed_spread"]["std"] == 0.0
    assert record["seed_spread"]["n"] == 3
    assert seen == [(2, 8), (4, 8), (6, 8), (8, 8)]
    only_a = evaluate(prompts[:1], BySeed(), VERIFIER, asked).to_json()
    assert only_a["seeds"] == {"0": 1.0, "1": 1.0, "2": 0.0}
    assert only_a["seed_spread"]["std"] == pytest.approx((1 / 3) ** 0.5)  # squares 1/9 + 1/9 + 4/9 = 2/3, over 2
    with_b = evaluate([prompts[0], Prompt("c", "", "", answer="5")], BySeed(), VERIFIER, asked)
    assert with_b.seeds is not None  # the samples of a question are alike: the interval is wider than that of 6
    assert with_b.seeds.mean.low == clustered_share([1, 1, 0, 0, 0, 0], "aaaccc").low < wilson(2, 6).low


def test_groups_are_told_by_mean_and_spread():
    prompts = [Prompt(f"{g}{i}", "", "", answer="1", category=f"instance-{g}") for g in (10, 2) for i in range(4)]
    answers = {p.id: ["1" if p.id in ("100", "101", "102", "20") else "5"] for p in prompts}
    result = evaluate(prompts, Scripted(answers), VERIFIER, groups=True)
    record = result.to_json()
    assert record["by_category"] == {} and record["accuracy"] == 0.5
    assert {name: found["accuracy"] for name, found in record["by_group"].items()} == {
        "instance-10": 0.75,
        "instance-2": 0.25,
    }
    # mean 0.5, std sqrt(2 * 0.0625 / 1) = 0.353553
    assert record["group_spread"]["mean"] == 0.5 and record["group_spread"]["n"] == 2
    assert record["group_spread"]["std"] == pytest.approx(0.353553, abs=1e-6)
    assert (record["group_spread"]["low"], record["group_spread"]["high"]) == (0.0, 1.0)  # t with one degree: all
    agreed = {p.id: ["1" if p.id in ("100", "20") else "5"] for p in prompts}
    spread = evaluate(prompts, Scripted(agreed), VERIFIER, groups=True).to_json()["group_spread"]
    assert spread == {"mean": 0.25, "std": 0.0, "n": 2, "low": None, "high": None}  # says nothing of other instances


def test_questions_without_an_answer_are_graded_where_asked():
    answers = ANSWERS | {"q4": ["We cannot know. The answer is: None", "4", "4", "4"]}
    result = evaluate(PROMPTS, Scripted(answers), UnanswerableToo(VERIFIER), Samples(3))
    assert result.correct == (True, False, False, True)
    assert result.accuracy == wilson(2, 4) and result.unscored == 0
    assert result.to_json()["subsets"]["without None"]["n"] == 3
    assert result.subsets["without None"] == wilson(1, 3)
    assert result.vote is not None and result.vote.correct == (True, True, False, False)
    assert "subsets" not in evaluate(PROMPTS, Scripted(ANSWERS), VERIFIER).to_json()
