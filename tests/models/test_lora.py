"""Adapters: nothing changes until they are trained, merged weights are the adapted model, mistakes are sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from tests.models.tiny import CPU, fresh, tokenizer
from yonder.errors import ModelError
from yonder.models import lora
from yonder.models.loading import load_causal_lm, load_classifier
from yonder.models.lora import Lora, adapter_state, add_lora, dropping, load_adapter_state, merged_weights
from yonder.models.policy import Policy
from yonder.training.checkpoint import save_policy
from yonder.training.optimizer import trainable

IDS = torch.tensor([[5, 9, 300, 17, 42]])


@pytest.fixture(autouse=True)
def _peft() -> None:
    pytest.importorskip("peft")


def spread(model: PreTrainedModel) -> None:
    """Give whatever is trained some value: B begins at zero."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for parameter in trainable(model):
            parameter.add_(0.2 * torch.randn_like(parameter))


@torch.no_grad()
def logits(model: PreTrainedModel) -> Tensor:
    return model(input_ids=IDS).logits


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "opt", "codegen", "gpt2"])
def test_a_new_adapter_changes_nothing_and_the_merged_checkpoint_is_the_trained_model(
    tmp_path: Path, family: str
) -> None:
    model = load_causal_lm(fresh(family), tokenizer(), "float32", CPU)
    plain = logits(model)
    add_lora(model, Lora(rank=4), seed=0)
    assert torch.equal(logits(model), plain)
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    spread(model)
    adapted = logits(model)
    assert not torch.allclose(adapted, plain, atol=1e-2)
    save_policy(tmp_path, Policy(model, tokenizer()))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.allclose(logits(loaded), adapted, atol=1e-4)
    assert torch.equal(logits(model), adapted)  # saving left it alone


def test_merged_is_w_plus_scaled_b_a() -> None:
    model = load_causal_lm(fresh("llama", layers=1), tokenizer(), "float32", CPU)
    name = "model.layers.0.self_attn.q_proj"
    base = model.state_dict()[f"{name}.weight"].clone()
    add_lora(model, Lora(rank=2, alpha=6, target_modules=("q_proj",)), seed=0)
    spread(model)
    state, merged = model.state_dict(), merged_weights(model)
    down, up = (state[f"{name}.lora_{side}.default.weight"] for side in "AB")
    assert merged is not None
    assert torch.allclose(merged[f"{name}.weight"], base + 6 / 2 * up @ down, atol=1e-6)
    assert set(merged) == set(load_causal_lm(fresh("llama", layers=1), tokenizer(), "float32", CPU).state_dict())


def test_the_score_head_of_a_classifier_is_trained_and_saved(tmp_path: Path) -> None:
    model = load_classifier(fresh("llama"), tokenizer(), "float32", CPU)
    add_lora(model, Lora(rank=4), seed=0, head=True)
    assert [n for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n] == ["score.weight"]
    spread(model)
    model.save_pretrained(tmp_path, state_dict=merged_weights(model))
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.allclose(logits(loaded), logits(model), atol=1e-4)


def test_the_state_of_an_adapter_comes_back_exactly() -> None:
    first, second = (load_causal_lm(fresh("llama"), tokenizer(), "float32", CPU) for _ in range(2))
    for seed, model in enumerate((first, second)):
        add_lora(model, Lora(), seed=seed)
    spread(first)
    assert not torch.equal(logits(first), logits(second))
    load_adapter_state(second, adapter_state(first))
    assert torch.equal(logits(first), logits(second))


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_a_model_loaded_from_an_adapter_is_saved_as_a_plain_one(tmp_path: Path, family: str) -> None:
    made = load_causal_lm(fresh(family), tokenizer(), "float32", CPU)
    save_policy(tmp_path / "base", Policy(made, tokenizer()))
    model = load_causal_lm(str(tmp_path / "base"), tokenizer(), "float32", CPU)
    add_lora(model, Lora(rank=4), seed=0)
    spread(model)
    save_policy(tmp_path / "adapter", Policy(model, tokenizer()), adapter_alone=True)
    for again in (False, True):
        folded = load_causal_lm(str(tmp_path / "adapter"), tokenizer(), "float32", CPU)
        if again:
            add_lora(folded, Lora(rank=4), seed=0)
        save_policy(tmp_path / "saved", Policy(folded, tokenizer()))
        assert set(load_file(tmp_path / "saved/model.safetensors")) == set(
            load_file(tmp_path / "base/model.safetensors")
        )
        loaded = load_causal_lm(str(tmp_path / "saved"), tokenizer(), "float32", CPU)
        assert torch.allclose(logits(loaded), logits(model), atol=1e-4)


def test_dropout_is_on_only_within_and_a_function_of_the_seed() -> None:
    model = load_causal_lm(fresh("llama"), tokenizer(), "float32", CPU)
    add_lora(model, Lora(dropout=0.5), seed=0)
    spread(model)
    plain, found = logits(model), []
    before = torch.get_rng_state()
    for seed in (1, 1, 2):
        with dropping(model, seed):
            found.append(logits(model))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(logits(model), plain)
    assert torch.equal(torch.get_rng_state(), before)


def test_adapters_of_half_precision_models_are_float32() -> None:
    model = load_causal_lm(fresh("llama"), tokenizer(), "bfloat16", CPU)
    add_lora(model, Lora(), seed=0)
    assert {parameter.dtype for parameter in trainable(model)} == {torch.float32}
    spread(model)
    merged = merged_weights(model)
    assert merged is not None
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}
    assert logits(model).isfinite().all()


def test_modules_that_are_not_there_are_one_sentence() -> None:
    model = load_causal_lm(fresh("llama"), tokenizer(), "float32", CPU)
    with pytest.raises(ModelError, match=r"lora.target_modules .*nowhere.*use auto"):
        add_lora(model, Lora(target_modules=("nowhere",)), seed=0)


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'yonder-rl\[peft\]'"):
        lora.require_peft()
