"""What is scored, timed and asked for its likelihood; a real tiny judge."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.models.tiny import causal_lm, tokenizer
from yonder.core.votes import Answer
from yonder.data.responses import label, outcome
from yonder.evaluation.judge_check.check import CheckPlan
from yonder.evaluation.judge_check.measuring import measure_judge, speed_of
from yonder.evaluation.judge_check.sentences import check_sentences
from yonder.judges.likelihood import Written, mean_loglikelihoods
from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt, read_judge_prompt
from yonder.recipe.data import TaskSettings
from yonder.recipe.rewards import VerifiableSettings
from yonder.rewards.judge import JudgeReward, JudgeRolloutReward, JudgeRules
from yonder.rewards.verifiable import VerifiableReward
from yonder.sandbox import Sandbox
from yonder.schema import Completion, JudgeScore, Prompt, Response, Rollout, Score

HEAD = 'def solution():\n    """How many?"""\n'
PLAN = CheckPlan(0.5, attacks=("mistake",), likelihood_questions=2)


def responses() -> list[Response]:
    """Three questions with a right and a wrong answer, an attack, and a completion that was cut."""
    found: list[Response] = []
    for i in range(3):
        for right in (True, False):
            body = f"    return {i} + {3 if right else 4}"
            detail = f"returned {i + 3 if right else i + 4}, label {i + 3}"
            found.append(Response(f"q{i}", f"How many are {i} and 3?", HEAD + body, right, "a", "3", 1.0, True, detail))
    found.append(replace(found[1], source="mistake", response=HEAD + "    return 9"))
    found.append(replace(found[1], response=HEAD + "    return", finished=False, detail="SyntaxError"))
    return found


def local() -> LocalJudge:
    prompt = JudgePrompt(tokenizer(), read_judge_prompt("program"), "auto", ("Yes", "No"))
    return LocalJudge(causal_lm("llama"), prompt, 200, 10_000)


def test_a_local_judge_is_timed_and_asked_for_its_likelihood() -> None:
    judge, made = local(), responses()
    reward = JudgeRolloutReward(JudgeReward(judge, JudgeRules(mass_floor=0.0)))
    check = measure_judge(reward, made, PLAN, dict)
    speed = check.speed
    assert speed is not None
    assert (speed.responses, speed.verdicts, speed.cost) == (8, 7, None)  # the cut one was not judged
    assert speed.tokens == judge.tokens_read > 7 * 20
    assert speed.verdicts_per_s == pytest.approx(7 / speed.seconds)
    assert check.baseline.questions == 2 and check.baseline.likelihood is not None  # of three
    assert [(row.outcome, row.n) for row in check.by_outcome] == [("wrong answer", 3), ("no answer", 1)]


def test_the_likelihood_is_of_what_was_written_after_the_given_part() -> None:
    made = responses()[:6]
    reward = JudgeRolloutReward(JudgeReward(local(), JudgeRules(mass_floor=0.0)))
    found = measure_judge(reward, made, replace(PLAN, likelihood_questions=200), dict).baseline.likelihood
    rows = [Written(r.question, HEAD, r.response.removeprefix(HEAD)) for r in made]
    values = [value or 0.0 for value in mean_loglikelihoods(local(), rows)]
    assert found is not None and found.pairwise.n == 3
    assert found.pairwise.value == pytest.approx(sum(values[i] > values[i + 1] for i in (0, 2, 4)) / 3)
    wins = [right > wrong for right in values[::2] for wrong in values[1::2]]
    assert found.auroc is not None and found.auroc.value == pytest.approx(sum(wins) / 9)


@pytest.mark.parametrize(
    ("reward", "plan", "note"),
    [
        ("served", PLAN, "not measured: only a judge in this process tells its likelihoods"),
        ("local", replace(PLAN, likelihood_questions=0), "not measured: likelihood_questions is 0"),
    ],
)
def test_why_there_is_no_likelihood(reward: str, plan: CheckPlan, note: str) -> None:
    class Constant:
        def score(self, rollouts: Any) -> list[Score]:
            return [Score(0.5, "", {"probability": 0.5}) for _ in rollouts]

    judge = JudgeRolloutReward(JudgeReward(local(), JudgeRules(mass_floor=0.0))) if reward == "local" else Constant()
    assert measure_judge(judge, responses(), plan, dict).baseline.note == note


def test_what_a_server_was_paid() -> None:
    usage = {
        "judge": {"prompt_tokens": 900, "completion_tokens": 100, "cost": 0.25},
        "other": {"prompt_tokens": 500, "completion_tokens": 0},
    }
    scores = [Score(0.9), Score(0.0, "empty completion: not judged"), Score(None, "lost")]
    speed = speed_of(scores, 2.0, None, usage)
    assert (speed.responses, speed.verdicts, speed.verdicts_per_s) == (3, 2, 1.0)
    assert (speed.tokens, speed.tokens_per_s, speed.cost) == (1500, 750.0, 0.25)
    unknown = speed_of(scores, 2.0, None, {})
    assert (unknown.tokens, unknown.tokens_per_s, unknown.cost) == (None, None, None)


def test_sentences() -> None:
    class Perfect:
        def score(self, rollouts: Any) -> list[Score]:
            by_text = {r.response: 0.9 if r.correct else 0.1 for r in made}
            return [JudgeScore(by_text[r.response], "", {"probability": by_text[r.response]}) for r in rollouts]

    made = [r for r in responses() if r.finished] * 4
    made = [replace(r, prompt_id=f"{r.prompt_id}-{i % 2}") for i, r in enumerate(made)]
    said = check_sentences(measure_judge(Perfect(), made, PLAN, dict))
    assert said[0].startswith("unmeasured: only ")
    assert re.match(r"AUROC 1\.000, ECE 0\.100, at delta 0\.5 wrong ones liked 0\.000 \(", said[1])
    assert any(re.match(r"best of 4: \d\.\d{3}( \(.*\))? right, [+-]0\.\d{3} ", line) for line in said)
    assert any(line.startswith("attacks that pass: 0.0% of 4 ") for line in said)
    assert re.match(r"28 verdicts, [\d,]+ a second$", said[-1])


@pytest.mark.parametrize(
    ("format_", "text", "found"),
    [
        ("program", HEAD + "    return 5", "right answer"),
        ("program", HEAD + "    return 6", "wrong answer"),
        ("program", HEAD + "    return 1 / 0", "no answer"),
        ("program", HEAD + "    return 'returned 5, label 5'", "no answer"),
        ("program", HEAD + "    return (", "no answer"),
        ("program", HEAD + "    while True: pass", "no answer"),
        ("text", "The answer is 5", "right answer"),
        ("text", "The answer is 6", "wrong answer"),
        ("text", "I cannot say", "no answer"),
        ("choice", "The answer is B", "wrong answer"),
        ("choice", "None of them", "no answer"),
    ],
)
def test_outcome_is_read_off_what_the_verifier_says(format_: Any, text: str, found: str, tmp_path: Path) -> None:
    options = ("4", "5", "6") if format_ == "choice" else ()
    answer: Answer = "C" if format_ == "choice" else "5"
    prompt = Prompt("q", "2 + 3?", "", answer=str(answer), options=options)
    rollout = Rollout(prompt, (), Completion((), (), text, True))
    with Sandbox(workers=1, timeout_s=0.3) as sandbox:
        verifier = VerifiableReward(VerifiableSettings(kind="verifiable"), TaskSettings(format=format_), sandbox.run)
        response = label(rollout, verifier.score([rollout])[0], "answers", 1.0)
    assert outcome(response) == found
    assert outcome(replace(response, temperature=None)) is None  # made, not sampled
    assert outcome(replace(response, detail="")) is None
