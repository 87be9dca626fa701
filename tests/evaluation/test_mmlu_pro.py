"""MMLU-Pro: the real 12,032 test questions where the shared folder has them; few-shot prompts everywhere."""

import json
import math
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.rewards.written_letters import ENDINGS, REASONING, written
from yonder.data.datasets import load_data
from yonder.data.hub_rows import mmlu_pro
from yonder.data.sources import fingerprint
from yonder.errors import DataError, RecipeError
from yonder.evaluation.benchmarks import BenchmarkResult, evaluate
from yonder.recipe import parse_section
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.recipe.rewards import VerifiableSettings
from yonder.rewards.answers import final_letter
from yonder.rewards.verifiable import VerifiableReward
from yonder.schema import Completion, Prompt, Rollout

FILE = Path(__file__).parents[2].parent / "shared" / "data" / "mmlu_pro_test.jsonl.gz"
real = pytest.mark.skipif(not FILE.is_file(), reason="needs MMLU-Pro's test questions, which are not in the project")
CHOICE = TaskSettings(format="choice")
LETTERS = "ABCDEFGHIJ"


class Says:
    """A sampler that answers each prompt as told."""

    def __init__(self, answer: Callable[[Prompt], str]) -> None:
        self.answer = answer

    def sample(
        self, prompts: Sequence[Prompt], samples: int, temperature: float | None, seed: int, *_: float
    ) -> list[Rollout]:
        return [
            Rollout(prompt, (1,), Completion((2,), (0.0,), self.answer(prompt), finished=True), group)
            for group, prompt in enumerate(prompts)
        ]


def benchmark(prompts: Sequence[Prompt], answer: Callable[[Prompt], str]) -> BenchmarkResult:
    verifier = VerifiableReward(VerifiableSettings(kind="verifiable"), CHOICE, lambda programs: [])
    return evaluate(prompts, Says(answer), verifier)


@cache
def read_real() -> list[Prompt]:
    return load_data("mmlu", {"mmlu": DataSettings(source=str(FILE))}, CHOICE, 0)


@real
@pytest.mark.shared
def test_random_letters_score_by_chance_and_gold_letters_all():
    prompts = read_real()
    assert len(prompts) == 12032
    rng = random.Random(5)
    chance = math.fsum(1 / len(prompt.options) for prompt in prompts) / len(prompts)
    found = benchmark(prompts, lambda prompt: f"The answer is ({rng.choice(LETTERS[: len(prompt.options)])}).")
    assert 0.11 < chance < 0.12  # 9,982 questions with ten options, 20 with three
    assert found.accuracy.low <= chance <= found.accuracy.high and found.accuracy.n == 12032
    gold = benchmark(prompts, lambda prompt: f"The answer is ({prompt.answer}).")
    assert gold.accuracy.value == 1.0 and gold.unscored == 0
    assert len(gold.by_category) == 14 and gold.by_category["math"].n == 1351
    assert next(prompt for prompt in prompts if prompt.id == "mmlu_pro_3983").answer == "C"  # its answer_index is 1


@real
@pytest.mark.shared
def test_500_written_answers_are_read_right():
    prompts, rng = read_real(), random.Random(0)
    wrong: list[tuple[str, str | None, str]] = []
    for number in range(len(ENDINGS) * -(-500 // len(ENDINGS))):
        prompt = rng.choice(prompts)
        letter = rng.choice(LETTERS[: len(prompt.options)])
        text = written(letter, prompt.options, ENDINGS[number % len(ENDINGS)], rng.choice(REASONING), rng)
        if (found := final_letter(text, prompt.options)) != letter:
            wrong.append((letter, found, text))
    assert not wrong


OPTIONS = ("Both A and B", "Vitamin C", "a + b", "J", "None of the above", "I and II")


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_form_is_read_with_options_that_hold_letters(ending: str):
    rng = random.Random(ending)
    for letter in LETTERS[: len(OPTIONS)]:
        for reasoning in REASONING:
            text = written(letter, OPTIONS, ending, reasoning, rng)
            assert final_letter(text, OPTIONS) == letter, text


def row(**changes: Any) -> dict[str, Any]:
    return {
        "question_id": 0, "question": "Which is a ring?", "options": ["Z", "N", "a cat", "N/A"], "answer": "A",
        "answer_index": 0, "category": "math", "src": "s",
        "cot_content": "A: Let's think step by step. N has no negatives. The answer is (A).", **changes,
    }  # fmt: skip


def test_rows_of_the_hub():
    record = mmlu_pro(row(), "x")
    assert record is not None
    assert (record.id, record.answer, record.category, record.options) == (
        "mmlu-pro-0", "A", "math", ("Z", "N", "a cat")
    )  # fmt: skip
    assert record.text == "Let's think step by step. N has no negatives. The answer is (A)."
    letter_wins = mmlu_pro(row(answer="C", answer_index=1, cot_content=""), "x")
    assert letter_wins is not None and letter_wins.answer == "C" and letter_wins.text is None
    assert mmlu_pro(row(answer="D"), "x") is None  # an option that only fills up the list


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(path)


def few_shot(tmp_path: Path, task: TaskSettings, **settings: Any) -> list[Prompt]:
    ask = {"options": ["1", "2"], "answer": "B"}
    questions = [{"question": "m?", "category": "math", **ask}, {"question": "l?", "category": "law", **ask}]
    worked = [
        {"question": f"{of} {i}?", "category": of, "solution": f"Think {i}. The answer is (B).", **ask}
        for i in range(3)
        for of in ("math", "law")
    ]
    data = {
        "test": {"source": write(tmp_path / "test.jsonl", questions), "shots": 2, "shots_from": "worked"} | settings,
        "worked": {"source": write(tmp_path / "worked.jsonl", worked)},
    }
    return load_data("test", {name: DataSettings.model_validate(one) for name, one in data.items()}, task, 0)


STOPPED = TaskSettings(format="choice", stop=("\nQuestion:",))


def test_each_question_stands_behind_the_worked_ones_of_its_category(tmp_path: Path):
    math_prompt, law_prompt = few_shot(tmp_path, STOPPED)
    one = "Question:\nlaw {i}?\nA) 1\nB) 2\nAnswer reasoning:\nThink {i}.\nTherefore, the answer is: B\n\n"
    asked = "Question:\nl?\nA) 1\nB) 2\nAnswer reasoning:\n"
    assert law_prompt.text == one.format(i=0) + one.format(i=1) + asked
    assert math_prompt.text.count("Question:") == 3 and "law" not in math_prompt.text
    assert law_prompt.question == "l?\nA) 1\nB) 2"  # what a judge reads


def test_few_shot_prompts_that_cannot_be_made(tmp_path: Path):
    with pytest.raises(DataError, match="4 shots are asked for, but `shots_from` has 3 questions of category `math`"):
        few_shot(tmp_path, STOPPED, shots=4)
    with pytest.raises(DataError, match="stop"):
        few_shot(tmp_path, CHOICE)
    with pytest.raises(DataError, match="needs worked questions itself"):
        few_shot(tmp_path, STOPPED, shots_from="test")
    with pytest.raises(RecipeError, match="go together"):
        parse_section(DataSettings, {"source": "svamp", "shots": 2}, "data")


def test_a_question_is_not_its_own_example(tmp_path: Path):
    rows = [{"question": f"q{i}?", "options": ["1", "2"], "answer": "B", "solution": f"r{i}"} for i in range(3)]
    source = write(tmp_path / "q.jsonl", rows)
    data = {
        "test": DataSettings(source=source, shots=2, shots_from="worked"),
        "worked": DataSettings(source=source),
    }
    first = load_data("test", data, STOPPED, 0)[0]
    assert first.text.count("q0?") == 1 and "q1?" in first.text and "q2?" in first.text


def test_the_worked_questions_decide_a_fingerprint(tmp_path: Path):
    rows = [{"question": "q?", "options": ["1", "2"], "answer": "B", "solution": "r"}]
    data = {
        "test": DataSettings(source=write(tmp_path / "a.jsonl", rows), shots=1, shots_from="worked"),
        "worked": DataSettings(source=write(tmp_path / "b.jsonl", rows)),
    }
    before = fingerprint(data["test"], data)
    write(tmp_path / "b.jsonl", [rows[0] | {"solution": "s"}])
    assert fingerprint(data["test"], data) != before
