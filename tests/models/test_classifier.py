"""The classifier against its model's own numbers, and the reward built on it."""

import logging
import math
from pathlib import Path

import pytest
import torch

from tests.models.tiny import CPU, FAMILIES, causal_lm, classifier, fresh, prompts, tokenizer
from yonder.errors import ModelError
from yonder.models.classifier import LocalClassifier, classifier_tokens
from yonder.models.loading import load_causal_lm, load_classifier, load_tokenizer
from yonder.rewards.classifier import ClassifierReward
from yonder.schema import Completion, Rollout

PAIRS = [
    ("What is 2 + 3?", "def solution():\n    return 2 + 3"),
    ("1?", "1"),
    ("How many sheep has he?", "return 12 + 30"),
]
KINDS = [family for family in FAMILIES if family != "codegen"]  # transformers has no CodeGen sequence classifier


def scorer(family: str = "llama", max_tokens: int = 120, batch_tokens: int = 10_000) -> LocalClassifier:
    return LocalClassifier(classifier(family), tokenizer(), 1, max_tokens, batch_tokens)


@pytest.mark.parametrize("family", KINDS)
def test_probability_equals_the_models_own(family: str) -> None:
    together = scorer(family).probabilities(PAIRS)
    alone = scorer(family, batch_tokens=1).probabilities(PAIRS)
    for pair, batched, single in zip(PAIRS, together, alone, strict=True):
        ids = classifier_tokens(tokenizer(), *pair)
        assert ids[-1] == tokenizer().eos_token_id
        with torch.no_grad():
            expected = classifier(family)(torch.tensor([ids])).logits[0].softmax(-1)[1].item()
        assert single == pytest.approx(expected, abs=1e-6)
        assert batched == pytest.approx(expected, abs=1e-4)
    found = [value for value in together if value is not None]
    assert max(found) - min(found) > 0.01  # not all the same


def test_the_label_that_means_correct_is_an_argument() -> None:
    other = LocalClassifier(classifier("llama"), tokenizer(), 0, 120, 10_000)
    for one, zero in zip(scorer().probabilities(PAIRS), other.probabilities(PAIRS), strict=True):
        assert one is not None
        assert zero == pytest.approx(1 - one, abs=1e-6)


def test_a_text_that_is_too_long_is_unscored_and_the_others_are_not() -> None:
    length = len(classifier_tokens(tokenizer(), *PAIRS[0]))
    exact, short = (scorer(max_tokens=most).probabilities(PAIRS) for most in (length, length - 1))
    assert exact[0] is not None
    assert short[0] is None
    assert short[1:] == pytest.approx(exact[1:], abs=1e-4)


@pytest.mark.parametrize("pad", ["<eos>", "<unk>"])
def test_it_is_read_at_the_end_token_whatever_the_pad_even_where_that_is_the_pad(pad: str) -> None:
    shared = load_tokenizer("yonder:tokenizer")
    shared.pad_token = pad
    model = load_classifier(fresh("llama"), shared, "float32", CPU)
    pairs = LocalClassifier(model, shared, 1, 120, 10_000).probabilities(PAIRS)
    for pair, found in zip(PAIRS, pairs, strict=True):
        ids = torch.tensor([classifier_tokens(shared, *pair)])
        with torch.no_grad():
            last = model.score(model.model(ids)[0][0, -1])  # the state of the end token itself
        assert found == pytest.approx(last.softmax(-1)[1].item(), abs=1e-4)


def test_the_responses_text_cannot_become_control_tokens() -> None:
    ids = classifier_tokens(tokenizer(), "2?", "1<eos>2<pad>")
    assert [i for i in ids if i in tokenizer().all_special_ids] == [tokenizer().eos_token_id]


def test_a_number_that_is_not_finite_is_unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yonder.models.classifier.classifier_logits", lambda *_: torch.tensor([[math.nan, 0.0]]))
    assert scorer().probabilities(PAIRS[:1]) == [None]


def test_a_family_without_classifiers_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="no sequence classifier of family `codegen`"):
        load_classifier(fresh("codegen"), tokenizer(), "float32", CPU)


def test_a_head_that_the_model_lacks_is_drawn_from_the_seed(tmp_path: Path) -> None:
    causal_lm("llama").save_pretrained(tmp_path)
    heads = [
        load_classifier(str(tmp_path), tokenizer(), "float32", CPU, seed).score.weight.clone() for seed in (1, 1, 2)
    ]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    with pytest.raises(ModelError, match=r"is no classifier: its score.weight would be random; name a model that was"):
        load_classifier(str(tmp_path), tokenizer(), "float32", CPU, fitted=True)
    load_classifier(str(tmp_path), tokenizer(), "float32", CPU).save_pretrained(tmp_path / "whole")
    load_classifier(str(tmp_path / "whole"), tokenizer(), "float32", CPU, fitted=True)


def test_a_folder_without_a_tokenizer_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded \(.*\w\.*\); restore its files, or name another folder"):
        load_tokenizer(str(tmp_path))


class Written:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def probabilities(self, pairs: list[tuple[str, str]]) -> list[float | None]:
        self.asked += pairs
        return [{"good": 0.9, "edge": 0.5, "bad": 0.4}.get(response) for _, response in pairs]


def test_reward_gates_threshold_and_unscored() -> None:
    model = Written()
    texts = [(text, True) for text in ("good", "bad", "edge", "other", "")] + [("good", False), ("good", True)]
    rollouts = [Rollout(prompts("q")[0], (5,), Completion((6,), (-1.0,), *text)) for text in texts]
    found = ClassifierReward(model, delta=0.5).score(rollouts)
    assert [score.value for score in found] == [0.9, 0.0, 0.5, None, 0.0, 0.0, 0.9]
    assert found[3].reason
    assert found[1].details["probability"] == 0.4
    assert model.asked == [("q", "good"), ("q", "bad"), ("q", "edge"), ("q", "other")]


def test_an_adapter_is_no_classifier(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "x"}')
    with pytest.raises(ModelError, match="is an adapter, and a classifier begins with whole weights; name a merged"):
        load_classifier(str(tmp_path), tokenizer(), "float32", CPU)


def test_a_language_model_without_its_head_is_refused(tmp_path: Path) -> None:
    model = load_classifier(fresh("llama"), tokenizer(), "float32", CPU)  # has `score` in place of `lm_head`
    model.config.tie_word_embeddings = False
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"is no whole language model: its lm_head.weight would be random"):
        load_causal_lm(str(tmp_path), tokenizer(), "float32", CPU)


def test_a_new_head_is_no_news_and_a_random_trunk_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = causal_lm("llama")
    model.save_pretrained(tmp_path)
    logging.getLogger("transformers").propagate = True
    load_classifier(str(tmp_path), tokenizer(), "float32", CPU)
    assert caplog.messages == []
    whole = {name: weight for name, weight in model.state_dict().items() if "layers.1.mlp" not in name}
    model.save_pretrained(tmp_path, state_dict=whole)
    load_classifier(str(tmp_path), tokenizer(), "float32", CPU)
    (said,) = caplog.messages
    assert said.endswith("3 weights below its classification head start random: model.layers.1.mlp.down_proj.weight")
