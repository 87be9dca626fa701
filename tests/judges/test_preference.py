"""A judge that prefers: arithmetic by hand, both orders, real label log-probs of tiny models."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.models.tiny import causal_lm, tokenizer
from yonder.core.preference import preference
from yonder.errors import RecipeError
from yonder.judges.local import LocalJudge
from yonder.judges.openai import ChatBackEnd
from yonder.judges.preference import PreferencePrompt, WrittenPreference, read_preference_prompt
from yonder.judges.prompt import read_judge_prompt
from yonder.rewards.judge import Verdict
from yonder.rewards.preference import PreferenceJudge, pair_of, pair_text

LABELS = ("A", "B")
SHORT = ("Q {question} {fence} one {response} {fence} end:", " {fence} two ")


def prompt() -> PreferencePrompt:
    return PreferencePrompt(tokenizer(), *read_preference_prompt("preference"), "auto", LABELS)


class Table:
    """A back end that answers from a table of (first response, second response)."""

    def __init__(self, verdicts: dict[tuple[str, str], Verdict]) -> None:
        self.verdicts_of = verdicts
        self.asked: list[tuple[str, str]] = []

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        self.asked += [pair_of(text) for _, text in pairs]
        return [self.verdicts_of[pair_of(text)] for _, text in pairs]


def test_by_hand() -> None:
    # order 1: P(label 1) = 0.8 / (0.8 + 0.1) = 8/9; order 2: 0.3 / (0.3 + 0.6) = 1/3
    # P(first is better) = (8/9 + 1 - 1/3) / 2 = 7/9; bias = 8/9 + 1/3 - 1 = 2/9
    assert preference(math.log(0.8 / 0.1), math.log(0.3 / 0.6)) == pytest.approx((7 / 9, 2 / 9))
    assert preference(1e4, 1e4) == (0.5, 1.0)  # always the first place
    assert preference(-1e4, -1e4) == (0.5, -1.0)
    assert preference(1e4, -1e4) == (1.0, 0.0)
    assert preference(-1e4, 1e4) == (0.0, 0.0)


def test_both_orders_are_asked_and_equal_cases_once() -> None:
    model = Table({("x", "y"): Verdict(math.log(8), 0.9), ("y", "x"): Verdict(-math.log(2), 0.7)})
    found = PreferenceJudge(model, 0.1).prefer([("q", "x", "y"), ("q", "z", "z"), ("q", "x", "y")])
    assert model.asked == [("x", "y"), ("y", "x")]
    assert [one.value for one in found] == pytest.approx([7 / 9, 0.5, 7 / 9])
    assert found[0].bias == pytest.approx(2 / 9) and found[0].mass == 0.7
    assert found[1].bias is None  # nobody was asked


@pytest.mark.parametrize(
    ("swapped", "reason"),
    [
        (Verdict(0.0, 0.05), "only 0.050"),
        (Verdict(reason="the server is down"), "the server is down"),
        (Verdict(math.nan, 0.9), "not a number"),
    ],
)
def test_one_order_without_a_verdict_is_no_preference(swapped: Verdict, reason: str) -> None:
    model = Table({("x", "y"): Verdict(1.0, 0.9), ("y", "x"): swapped})
    found = PreferenceJudge(model, 0.1).prefer([("q", "x", "y")])[0]
    assert found.value is None and found.bias is None and reason in found.reason


def test_a_local_judge_gives_the_whole_models_probabilities() -> None:
    judge = LocalJudge(causal_lm("llama"), prompt(), 500, 10_000)
    first, second = "It is 5.", "I do not know."
    found = PreferenceJudge(judge, 0.0).prefer([("What is 2 + 3?", first, second)])[0]
    labels = [tokenizer()(f" {label}")["input_ids"][0] for label in LABELS]
    shares: list[float] = []
    for texts in ((first, second), (second, first)):
        ids, _ = judge.prompt.tokens("What is 2 + 3?", pair_text(*texts), 500)
        with torch.no_grad():
            logits = causal_lm("llama")(torch.tensor([ids])).logits[0, -1].float()
        shares.append(logits[labels].softmax(-1)[0].item())
    assert found.value == pytest.approx((shares[0] + 1 - shares[1]) / 2, abs=1e-4)
    assert found.bias == pytest.approx(shares[0] + shares[1] - 1, abs=1e-4)
    assert 0 < found.mass < 1


def test_what_the_judge_reads() -> None:
    text = WrittenPreference(*SHORT, LABELS).asked("q", pair_text("{second} <|im_end|>", "b"), 100).text
    assert text.startswith("Q q ") and text.count("{second} < |im_end|>") == 1
    encoded = PreferencePrompt(tokenizer(), *SHORT, "auto", LABELS).asked("q", pair_text("{fence}", "b"), 200)
    mark = encoded.text.split()[2]
    assert len(mark) == 12 and encoded.text == f"Q q {mark} one {{fence}} {mark} two b {mark} end:"
    other = PreferencePrompt(tokenizer(), *SHORT, "auto", LABELS).asked("q", pair_text("b", "{fence}"), 200)
    assert mark not in other.text  # no response can write the mark


def test_the_longer_response_is_cut_first() -> None:
    whole = prompt().asked("q", pair_text("short", "long " * 20), 500)
    cut = prompt().asked("q", pair_text("short", "long " * 400), 500)
    assert not whole.truncated and cut.truncated and len(cut.ids) <= 500
    assert "\nshort\n" in cut.text and "long long long" in cut.text and cut.text.endswith("Answer:")
    assert prompt().asked("q " * 600, pair_text("a", "b"), 300).reason.startswith("the question alone fills")
    written = WrittenPreference(*read_preference_prompt("preference"), LABELS)
    cut = written.asked("q", pair_text("short", "long " * 400), 200)
    assert cut.truncated and "\nshort\n" in cut.text and len(cut.text) <= 800
    assert not written.asked("q", pair_text("short", "long"), 200).truncated


def test_a_prompt_must_show_both(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("{question} {second} {first}")
    with pytest.raises(RecipeError, match=r"must show \{first} before \{second}"):
        read_preference_prompt(str(path))
    with pytest.raises(RecipeError, match=r"must contain \{first} exactly once"):
        path.write_text("{question} {second}")
        read_preference_prompt(str(path))
    with pytest.raises(RecipeError, match=r"nothing stands for \{first}"):
        read_judge_prompt("preference")


@pytest.mark.parametrize(("labels", "yes"), [(("m", "M"), [-0.1]), (("Yes", "No"), [])])
def test_labels_that_differ_in_case_alone_are_told_apart(labels: tuple[str, str], yes: list[float]) -> None:
    entries = [{"token": "m", "logprob": -0.1}, {"token": " M", "logprob": -3.1}]
    answer = {"choices": [{"logprobs": {"content": [{"top_logprobs": entries}]}}]}
    verdict = ChatBackEnd(None, "x", labels, 5)._read(answer)  # type: ignore[arg-type]
    assert bool(verdict.reason) == (not yes)
    if yes:
        assert verdict.logit_gap == pytest.approx(3.0)
        assert verdict.mass == pytest.approx(math.exp(-0.1) + math.exp(-3.1))
