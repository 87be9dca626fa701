"""A policy with an adapter: its reference without a copy, packed weights below it, layers computed again."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from tests.models.tiny import CPU, FAMILIES, causal_lm, fresh, prompts, tokenizer
from yonder.engines.weights import Outbox
from yonder.errors import ModelError, StorageError
from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.models.loading import load_causal_lm
from yonder.models.lora import (
    AdapterOff,
    Lora,
    adapter_state,
    add_lora,
    merged_weights,
    read_adapter,
    save_adapter,
)
from yonder.models.policy import Policy, SequenceOutputs
from yonder.training.checkpoint import CheckpointStore, save_policy
from yonder.training.optimizer import build_optimizer, trainable

pytestmark = pytest.mark.skipif(not pytest.importorskip("peft"), reason="needs peft")
BATCH = (
    torch.tensor([[5, 9, 300, 17, 42, 8], [7, 7, 12, 9, 0, 0]]),
    torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]),
    torch.tensor([2, 1]),
    torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]]),
    0.7,
)


def spread(policy: Policy) -> None:
    """Give the adapter some value: B begins at zero."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for parameter in trainable(policy.model):
            parameter.add_(0.2 * torch.randn_like(parameter))


def loss_of(found: SequenceOutputs) -> Tensor:
    assert found.values is not None
    return found.logprobs.sum() + 0.1 * found.entropy.sum() + found.values.square().sum()


def gradients(policy: Policy) -> dict[str, Tensor]:
    policy.zero_grad()
    loss_of(policy(*BATCH)).backward()
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_with_the_adapter_off_it_is_the_base_bit_for_bit(family: str, dtype: str) -> None:
    model = deepcopy(causal_lm(family)).to(getattr(torch, dtype))
    base = Policy(deepcopy(model), tokenizer())
    add_lora(model, Lora(rank=4, dropout=0.5), seed=0)
    policy = Policy(model, tokenizer(), value_outputs=1)
    spread(policy)
    names = [name for name, p in policy.named_parameters() if p.requires_grad]
    live = policy(*BATCH).logprobs
    assert torch.equal(AdapterOff(policy, model)(*BATCH).logprobs, base(*BATCH).logprobs)
    assert torch.equal(policy(*BATCH).logprobs, live)  # it is on again, and its dropout off
    assert not torch.allclose(live, base(*BATCH).logprobs, atol=1e-2)
    assert [name for name, p in policy.named_parameters() if p.requires_grad] == names


def test_an_error_within_leaves_the_adapter_on() -> None:
    model = load_causal_lm(fresh("llama"), tokenizer(), "float32", CPU)
    add_lora(model, Lora(rank=4), seed=0)
    policy = Policy(model, tokenizer())
    spread(policy)
    live = policy(*BATCH).logprobs
    with pytest.raises(TypeError):
        AdapterOff(policy, model)("not a batch")
    assert torch.equal(policy(*BATCH).logprobs, live)


def test_the_optimizer_has_the_adapter_and_the_value_head_alone() -> None:
    model = load_causal_lm(fresh("llama"), tokenizer(), "bfloat16", CPU)
    add_lora(model, Lora(rank=4), seed=0)
    policy = Policy(model, tokenizer(), value_outputs=2)
    for value_lr in (None, 1e-3):
        groups = build_optimizer(policy, 1e-4, value_lr, 0.0).param_groups
        found = {id(p) for group in groups for p in group["params"]}
        wanted = {id(p) for n, p in policy.named_parameters() if "lora_" in n or n.startswith("value_head.")}
        assert found == wanted
        assert {p.dtype for group in groups for p in group["params"]} == {torch.float32}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_exported_adapter_is_read_by_peft_and_by_transformers(tmp_path: Path, family: str) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    save_policy(tmp_path / "base", Policy(causal_lm(family), tokenizer()))
    model = load_causal_lm(str(tmp_path / "base"), tokenizer(), "float32", CPU)
    add_lora(model, Lora(rank=4, alpha=6), seed=0)
    policy = Policy(model, tokenizer())
    spread(policy)
    save_policy(tmp_path / "adapter", policy, adapter_alone=True)
    assert sorted(path.name for path in (tmp_path / "adapter").glob("*model*")) == ["adapter_model.safetensors"]
    live = model(input_ids=BATCH[0]).logits
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    by_peft = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert torch.equal(by_peft(input_ids=BATCH[0]).logits, live)
    by_transformers = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter", dtype=torch.float32)
    assert torch.equal(by_transformers(input_ids=BATCH[0]).logits, live)
    # and by Yonder, as plain weights that are those of the merged checkpoint
    folded = load_causal_lm(str(tmp_path / "adapter"), tokenizer(), "float32", CPU)
    save_policy(tmp_path / "merged", policy)
    merged = load_causal_lm(str(tmp_path / "merged"), tokenizer(), "float32", CPU)
    assert not any("lora_" in name for name in folded.state_dict())
    assert all(torch.equal(tensor, merged.state_dict()[name]) for name, tensor in folded.state_dict().items())
    assert torch.allclose(merged(input_ids=BATCH[0]).logits, live, atol=1e-4)


def test_the_checkpoint_that_is_asked_for_is_merged(tmp_path: Path) -> None:
    model = load_causal_lm(fresh("llama"), tokenizer(), "float32", CPU)
    add_lora(model, Lora(rank=4), seed=0)
    policy, store = Policy(model, tokenizer()), CheckpointStore(tmp_path / "checkpoints", 2, adapter_alone=True)
    wanted: list[dict[str, Tensor] | None] = []
    for step in (2, 4):
        spread(policy)
        wanted.append(merged_weights(model))
        store.save(step, policy, {}, None)
    found = load_file(store.merge(2, policy) / "model.safetensors")
    assert wanted[0] is not None
    assert wanted[1] is not None
    assert all(torch.equal(tensor, wanted[0][name]) for name, tensor in found.items())
    assert any(not torch.equal(tensor, wanted[1][name]) for name, tensor in found.items())


def test_an_adapter_of_another_shape_is_one_sentence(tmp_path: Path) -> None:
    one, other = (load_causal_lm(fresh("llama"), tokenizer(), "float32", CPU) for _ in range(2))
    add_lora(one, Lora(rank=4), seed=0)
    add_lora(other, Lora(rank=4, target_modules=("q_proj",)), seed=0)
    save_adapter(one, tmp_path)
    with pytest.raises(StorageError, match=r"other modules than the recipe's `policy.lora`"):
        read_adapter(other, tmp_path)


# ----- activation checkpointing


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapter", [False, True])
def test_layers_computed_again_give_the_same_loss_gradients_and_samples(family: str, adapter: bool) -> None:
    policies = [Policy(deepcopy(causal_lm(family)), tokenizer(), value_outputs=1) for _ in range(2)]
    for policy in policies:
        if adapter:
            add_lora(policy.model, Lora(rank=4), seed=0)
            spread(policy)
    policies[1].trunk.recompute()
    kept, again = (gradients(policy) for policy in policies)
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    found = []
    for policy in policies:
        sampler = PolicySampler(policy, PromptEncoder(tokenizer(), 64), 6, 8)
        found.append([rollout.completion for rollout in sampler.sample(prompts(), 2, 1.0, seed=5)])
    assert found[0] == found[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_computed_again_keep_less_for_the_backward_pass(family: str) -> None:
    kept: list[int] = []
    for recompute in (False, True):
        policy = Policy(deepcopy(causal_lm(family)), tokenizer(), value_outputs=1)
        if recompute:
            policy.trunk.recompute()
        weights = {p.untyped_storage().data_ptr() for p in policy.parameters()}
        found: list[Tensor] = []

        def keep(tensor: Tensor, found: list[Tensor] = found) -> Tensor:
            found.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            policy.trunk.hidden(torch.arange(64).unsqueeze(0), torch.ones(1, 64, dtype=torch.long))
        sizes = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in found}
        kept.append(sum(size for where, size in sizes.items() if where not in weights))
    assert kept[1] < kept[0] / 3


# ----- packed weights


def unpacked(model: PreTrainedModel) -> PreTrainedModel:
    """The model that packed weights stand for, with an adapter of the same numbers."""
    weights = merged_weights(model)
    plain = load_causal_lm(fresh("llama", hidden_size=64), tokenizer(), "float32", CPU)
    plain.load_state_dict(weights)
    add_lora(plain, Lora(rank=4), seed=0)
    return plain


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_packed_weights_stay_and_the_adapter_above_them_learns(tmp_path: Path, bits: str) -> None:
    pytest.importorskip("bitsandbytes")
    save_policy(
        tmp_path / "base",
        Policy(load_causal_lm(fresh("llama", hidden_size=64), tokenizer(), "float32", CPU), tokenizer()),
    )
    model = load_causal_lm(str(tmp_path / "base"), tokenizer(), "float32", CPU, bits)
    add_lora(model, Lora(rank=4), seed=0)
    policy = Policy(model, tokenizer(), value_outputs=1)
    plain = Policy(unpacked(model), tokenizer(), value_outputs=1)
    spread(policy)
    spread(plain)
    ours, exact = (torch.cat([g.flatten() for n, g in sorted(gradients(p).items())]) for p in (policy, plain))
    assert float((ours - exact).norm() / exact.norm()) < (1e-4 if bits == "4bit" else 0.1)  # 8bit rounds inputs too
    packed = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    assert {p.dtype for n, p in packed.items() if "q_proj" in n} == {torch.uint8 if bits == "4bit" else torch.int8}
    reference = AdapterOff(policy, model)
    start, before = reference(*BATCH).logprobs, adapter_state(model)
    optimizer = build_optimizer(policy, 1e-2, None, 0.0)
    losses: list[float] = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = -policy(*BATCH).logprobs.sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 1
    assert all(torch.equal(p, packed[n]) for n, p in model.named_parameters() if n in packed)
    assert any(not torch.equal(before[n], p) for n, p in adapter_state(model).items())
    assert torch.equal(reference(*BATCH).logprobs, start)
    # merged: the model that was trained, in plain weights
    save_policy(tmp_path / "merged", policy)
    merged = Policy(load_causal_lm(str(tmp_path / "merged"), tokenizer(), "float32", CPU), tokenizer())
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    gap = (merged(*BATCH).logprobs - policy(*BATCH).logprobs).abs().max()
    assert gap < (1e-3 if bits == "4bit" else 0.05)  # 8 bits: the inputs of a layer are rounded too
    outbox = Outbox(tmp_path / "servers", policy)  # and so do servers get it
    served = outbox.write("1")
    assert all(torch.equal(x, load_file(served / "model.safetensors")[n]) for n, x in merged.model.named_parameters())
    assert "quantization_config" not in (served / "config.json").read_text()
    with pytest.raises(ModelError, match="is an adapter, which is merged before weights are packed"):
        save_policy(tmp_path / "adapter", policy, adapter_alone=True)
        load_causal_lm(str(tmp_path / "adapter"), tokenizer(), "float32", CPU, bits)
