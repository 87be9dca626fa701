"""The rewards as TRL calls them; TRL itself runs in tests/slow/test_trl.py."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.models.tiny import classifier, tokenizer
from yonder import load_judge
from yonder.errors import DataError, RecipeError
from yonder.integrations.rollouts import question_of, text_of
from yonder.integrations.trl import RewardFunction, classifier_reward, judge_reward, verifiable_reward
from yonder.models.classifier import LocalClassifier

QUESTION = "tom has n0 apples . he buys n1 apples . how many apples does he have now ?"
PREFIX = "def solution():\n    n0 = 12\n    n1 = 30\n"
RIGHT, WRONG = "    return n0 + n1", "    return n0 - n1"
JUDGE = {"model": "yonder:judge"}


def call(reward: RewardFunction, completions: list[Any], **columns: Any) -> list[float | None]:
    """As GRPOTrainer does: everything by keyword, and more than a function asks for."""
    prompts = columns.pop("prompts", ["prompt"] * len(completions))
    ids = columns.pop("completion_ids", [[5]] * len(completions))
    return reward(prompts=prompts, completions=completions, completion_ids=ids, trainer_state=object(), **columns)


def said(text: str | None) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture(scope="module")
def judge() -> RewardFunction:
    return judge_reward(JUDGE, prefix="prefix")


def test_the_judges_number_is_that_of_load_judge(judge: RewardFunction) -> None:
    values = call(judge, [RIGHT, WRONG], question=[QUESTION] * 2, prefix=[PREFIX] * 2)
    scores = load_judge(JUDGE).score([(QUESTION, PREFIX + RIGHT), (QUESTION, PREFIX + WRONG)])
    assert values == pytest.approx([score.value for score in scores], abs=1e-4)
    assert values[0] is not None and values[0] > 0.9
    assert values[1] == 0.0


def test_a_conversation_has_the_same_score_as_its_text(judge: RewardFunction) -> None:
    blocks = [{"role": "assistant", "content": [{"type": "text", "text": RIGHT}]}]
    columns = {"question": [QUESTION] * 3, "prefix": [PREFIX] * 3}
    plain, messages, parts = call(judge, [RIGHT, said(RIGHT), blocks], **columns)
    assert plain is not None
    assert (messages, parts) == pytest.approx((plain, plain))


@pytest.mark.parametrize(
    ("messages", "question", "answer"),
    [
        ([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], "q", ""),
        ([{"role": "user", "content": "p"}, *said("a"), {"role": "user", "content": "q"}, *said("b")], "q", "b"),
        ([*said(None), {"role": "tool", "content": "42"}, *said("It is 42.")], "", "It is 42."),
        ([*said("a"), *said(None)], "", ""),
        ("plain", "plain", "plain"),
    ],
)
def test_what_is_read_of_messages(messages: Any, question: str, answer: str) -> None:
    assert (question_of(messages), text_of(messages)) == (question, answer)


def test_the_prompt_can_be_the_question() -> None:
    reward = judge_reward(JUDGE, question="prompt", prefix="prefix")
    user = [{"role": "system", "content": "Answer."}, {"role": "user", "content": QUESTION}]
    plain, messages = call(reward, [RIGHT] * 2, prompts=[QUESTION, user], prefix=[PREFIX] * 2)
    assert plain == pytest.approx(messages)
    assert plain is not None and plain > 0.9


def test_no_verdict_is_none_and_counted() -> None:
    strict = judge_reward(JUDGE | {"max_tokens": 40}, prefix="prefix")
    logged: dict[str, float] = {}
    questions = [QUESTION * 4, None, "n0 ?", "n0 ?"]
    values = call(strict, [RIGHT] * 4, question=questions, prefix=[""] * 4, log_metric=logged.__setitem__)
    assert [value is None for value in values] == [True, True, False, False]
    assert logged == {"rewards/judge/unscored": 0.5}


def test_a_cut_or_empty_completion_is_zero_as_in_yonder() -> None:
    reward = judge_reward(JUDGE, prefix="prefix", end_token_ids=[0])
    columns = {"question": [QUESTION] * 3, "prefix": [PREFIX] * 3}
    values = call(reward, [RIGHT, RIGHT, ""], completion_ids=[[7, 0], [7, 8], [0]], **columns)
    assert values[0] is not None and values[0] > 0.9
    assert values[1:] == [0.0, 0.0]


TEXTS = [  # completion, answer, value
    ("It is 42.", "42", 1.0),
    ("It is 41.", 42, 0.2),
    ("No idea.", 42.0, 0.0),
    (said("It is 42."), "6 * 7 = 42\n#### 42", 1.0),
    ("It is 42.", None, None),
    ("It is 42.", math.nan, None),
    ("It is 42.", "many", None),
]


def test_the_verifier_reads_a_column() -> None:
    reward = verifiable_reward({"format": "text"}, answer="truth", partial=0.2)
    completions, answers, values = (list(column) for column in zip(*TEXTS, strict=True))
    assert call(reward, completions, truth=answers) == values


def test_the_verifier_runs_programs_and_reads_letters() -> None:
    program = verifiable_reward({"format": "program"}, prefix="given", sandbox={"workers": 1})
    assert call(program, [RIGHT, WRONG, "    return x"], answer=["42"] * 3, given=[PREFIX] * 3) == [1.0, 0.1, 0.0]
    choice = verifiable_reward({"format": "choice"}, options="options")
    options = [["12", "42", "18"]] * 2
    assert call(choice, ["The answer is B", "The answer is C"], answer=["B", "42"], options=options) == [1.0, 0.1]


def test_the_classifiers_number(tmp_path: Path) -> None:
    model = classifier("llama")
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    reward = classifier_reward({"model": str(tmp_path), "max_tokens": 60})
    long = "word " * 200
    values = call(reward, ["4", "5", long, " "], question=["2 + 2 ?"] * 4)
    expected = LocalClassifier(model, tokenizer(), 1, 60, 1000).probabilities([("2 + 2 ?", "4"), ("2 + 2 ?", "5")])
    assert values[:2] == pytest.approx(expected, abs=1e-5)
    assert values[2:] == [None, 0.0]


def test_functions_have_names_for_the_log(judge: RewardFunction) -> None:
    named = verifiable_reward({"format": "text"}, name="exact")
    assert (judge.__name__, named.__name__) == ("judge", "exact")
    assert verifiable_reward({"format": "text"}).__name__ == "verifiable"


def test_mistakes_are_named(judge: RewardFunction) -> None:
    with pytest.raises(
        DataError, match=r"reward judge: .* no column `question`; its columns are text, prefix; give que"
    ):
        call(judge, ["a"], text=["q"], prefix=[""])
    with pytest.raises(RecipeError, match="judge: unknown key `taux`; did you mean `tau`"):
        judge_reward({"model": "yonder:judge", "taux": 1})
    with pytest.raises(RecipeError, match="task: format:"):
        verifiable_reward({"format": "prose"})
    with pytest.raises(RecipeError, match="sandbox: workers:"):
        verifiable_reward({"format": "program"}, sandbox={"workers": 0})
    with pytest.raises(RecipeError, match="classifier: missing key `model`"):
        classifier_reward({})
