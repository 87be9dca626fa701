"""The mean log-likelihood of a response against the whole model's own loss."""

import pytest
import torch

from tests.models.tiny import FAMILIES, causal_lm, tokenizer
from yonder.judges.likelihood import Written, mean_loglikelihoods
from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt, read_judge_prompt

ROWS = [
    Written("What is 2 + 3?", "def solution():\n", "    return 2 + 3"),
    Written("A farmer has 12 sheep and buys 30 more. How many?", "", "    a = 12\n    return a + 30"),
    Written("1?", "", "1"),
]


def judge(family: str = "llama", max_tokens: int = 120, batch_tokens: int = 10_000) -> LocalJudge:
    prompt = JudgePrompt(tokenizer(), read_judge_prompt("program"), "auto", ("Yes", "No"))
    return LocalJudge(causal_lm(family), prompt, max_tokens, batch_tokens)


def ids(text: str) -> list[int]:
    return tokenizer()(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_models_own_loss_on_what_was_written(family: str) -> None:
    for row, found in zip(ROWS, mean_loglikelihoods(judge(family), ROWS), strict=True):
        context = [*ids(row.question), *ids("\n"), *ids(row.given)]
        whole = torch.tensor([[*context, *ids(row.text)]])
        labels = whole.clone()
        labels[:, : len(context)] = -100
        with torch.no_grad():
            loss = causal_lm(family)(whole, labels=labels).loss.item()
        assert found == pytest.approx(-loss, abs=1e-4)


def test_it_does_not_depend_on_its_batch() -> None:
    alone = mean_loglikelihoods(judge(batch_tokens=1), ROWS)
    assert mean_loglikelihoods(judge(), ROWS[::-1])[::-1] == pytest.approx(alone, abs=1e-4)


def test_logits_in_chunks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mean_loglikelihoods(judge(), ROWS)
    monkeypatch.setattr("yonder.judges.likelihood.LOGITS_AT_ONCE", 1)
    assert mean_loglikelihoods(judge(), ROWS) == pytest.approx(whole, abs=1e-5)


def test_what_has_no_likelihood() -> None:
    question = len(ids("1?")) + len(ids("\n"))
    rows = [Written("1?", "", ""), Written("1?", "", "1 2 3")]
    assert mean_loglikelihoods(judge(), rows)[0] is None  # nothing was written
    assert mean_loglikelihoods(judge(max_tokens=question), rows) == [None, None]  # the question fills the judge
    assert mean_loglikelihoods(judge(max_tokens=question + 1), rows)[1] is not None  # cut: the first token is read
    assert mean_loglikelihoods(judge(), []) == []


def test_a_chat_judge_reads_the_question_as_a_users_turn() -> None:
    spoken = tokenizer()
    template = spoken.chat_template
    spoken.chat_template = "{% for m in messages %}User: {{ m['content'] }}\n{% endfor %}Assistant:"
    try:
        prompt = JudgePrompt(spoken, read_judge_prompt("text"), "on", ("Yes", "No"))
        assert spoken.decode(prompt.before_answer("What is 2 + 3?")) == "User: What is 2 + 3?\nAssistant:"
    finally:
        spoken.chat_template = template
