"""Rows behind one copy of their prompt: the same states, statistics and gradients as each by itself."""

import math
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM, MptConfig, MptForCausalLM

from tests.models.tiny import CPU, FAMILIES, causal_lm, tokenizer
from yonder.models.packing import apart, behind_one_prompt, bundles_of, tokens_of
from yonder.models.padding import right_pad
from yonder.models.policy import Policy
from yonder.models.sharing import shares_prompts
from yonder.models.teacher import Guide, Teacher
from yonder.models.trunk import Trunk

# two prompts of 3 and 5 tokens; the first is answered in three ways, in one of them twice
ROWS = [[5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7], [5, 6, 7, 10], [5, 6, 7, 11, 12, 13, 14], [5, 6, 7, 8, 9]]
PROMPTS = torch.tensor([3, 5, 3, 3, 3])
BUNDLES = [[[0, 4], [2], [3]], [[1]]]


def test_a_layout_by_hand() -> None:
    ids, mask = right_pad(ROWS, CPU)
    found = behind_one_prompt(ids, mask, PROMPTS, BUNDLES)
    assert found.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14], [1, 2, 3, 4, 5, 6, 7, 0, 0, 0]]
    assert found.positions is not None
    assert found.positions.tolist() == [[0, 1, 2, 3, 4, 3, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6, 0, 0, 0]]
    assert found.places[0, :5].tolist() == [0, 1, 2, 3, 4]
    assert found.places[4, :5].tolist() == [0, 1, 2, 3, 4]
    assert found.places[2, :4].tolist() == [0, 1, 2, 5]
    assert found.places[3].tolist() == [0, 1, 2, 6, 7, 8, 9]
    assert found.places[1].tolist() == [10, 11, 12, 13, 14, 15, 16]
    seen = found.seen.int()
    assert seen[0, 4].tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]  # the second token of row 0
    assert seen[0, 5].tolist() == [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]  # the only one of row 2
    assert seen[0, 8].tolist() == [1, 1, 1, 0, 0, 0, 1, 1, 1, 0]
    assert seen[0, 1].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]  # of the prompt
    assert seen[1, 6].tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert seen[1, 8, 8].item() == 1  # a pad reads itself, so that its softmax is a number


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_each_row_by_itself(family: str) -> None:
    trunk = Trunk(causal_lm(family))
    if trunk.attention != "sdpa":
        assert not shares_prompts(trunk, CPU)
        return
    ids, mask = right_pad(ROWS, CPU)
    together, alone = behind_one_prompt(ids, mask, PROMPTS, BUNDLES), apart(ids, mask)
    real = mask.bool()
    with torch.no_grad():
        ours, theirs = trunk.read(together)[together.places[real]], trunk.read(alone)[alone.places[real]]
    assert shares_prompts(trunk, CPU)
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("recompute", [False, True])
def test_statistics_values_and_gradients_are_the_same(recompute: bool) -> None:
    found: list[tuple[Tensor, ...]] = []
    for bundles in (None, BUNDLES):
        policy = Policy(deepcopy(causal_lm("llama")), tokenizer(), 2)
        assert policy.value_head is not None
        torch.nn.init.constant_(policy.value_head.weight, 0.1)
        if recompute:
            policy.trunk.recompute()
        teacher = Teacher(causal_lm("llama"), tokenizer(), tokenizer(), 0)
        ids, mask = right_pad(ROWS, CPU)
        tokens = torch.arange(4).expand(5, -1)
        completions = (tokens < (mask.sum(-1) - PROMPTS).unsqueeze(-1)).float()
        asked = completions * torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0]).unsqueeze(-1)
        made = policy(ids, mask, PROMPTS, completions, 0.7, [Guide(teacher, asked)], False, bundles)
        assert made.values is not None and made.final_values is not None
        weights = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
        ((made.logprobs + made.entropy + made.values.sum(-1)) * weights).sum().backward()
        numbers = (made.logprobs, made.entropy, made.values, made.final_values, *made.divergences)
        found.append((*(x.detach() for x in numbers), *(p.grad for p in policy.parameters() if p.grad is not None)))
    assert len(found[0]) > 12
    assert all(torch.allclose(a, b, atol=2e-5) for a, b in zip(*found, strict=True))


def test_models_that_read_otherwise_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2}
    small = {**shape, "vocab_size": 64, "intermediate_size": 64}
    windowed = MistralForCausalLM(MistralConfig(**small, sliding_window=8)).eval()
    assert not shares_prompts(Trunk(windowed), CPU)
    whole = MistralForCausalLM(MistralConfig(**small, sliding_window=None)).eval()
    assert shares_prompts(Trunk(whole), CPU)
    slopes = MptForCausalLM(MptConfig(d_model=32, n_heads=2, n_layers=1, vocab_size=64)).eval()  # biases by distance
    assert not shares_prompts(Trunk(slopes), CPU)
    trunk = Trunk(causal_lm("llama"))
    hidden = trunk.hidden
    monkeypatch.setattr(trunk, "hidden", lambda ids, mask, **options: hidden(ids, None, **options))  # the mask unheard
    assert not shares_prompts(trunk, CPU)


def answers(prompt: int, *tokens: int) -> list[list[int]]:
    """Rows of one prompt whose answers are all different."""
    return [[*range(prompt), *[100 + i] * count] for i, count in enumerate(tokens)]


def test_rows_go_together_where_that_is_cheapest() -> None:
    # groups 0 and 1 of a prompt of 10 tokens, each answer of 5: m = sqrt(10 (6 * 4 + 10)) / 5 = 3.7, so at most 4
    groups = [0, 1, 0, 1, 0, 0, 0, 0]
    found = bundles_of(groups, [10] * 8, answers(10, *[5] * 8), 4, 1000)
    assert found == [[[0], [4], [6]], [[2], [5], [7]], [[1], [3]]]
    assert round(math.sqrt(10 * (6 * 4 + 10)) / 5) == 4
    # behind a prompt of one token, answers of 50: no gain
    assert bundles_of([0, 0], [1, 1], answers(1, 50, 50), 4, 1000) == [[[0]], [[1]]]
    # no more than the budget: 10 + 3 * 5 = 25
    assert [len(b) for b in bundles_of([0] * 6, [10] * 6, answers(10, *[5] * 6), 400, 25)] == [3, 3]
    assert [len(b) for b in bundles_of([0] * 3, [10] * 3, answers(10, *[5] * 3), 400, 1)] == [1, 1, 1]
    # nor more than LONGEST, whose square the mask has
    long = bundles_of([0] * 3, [2000] * 3, answers(2000, *[1500] * 3), 40_000, 100_000)
    assert [len(b) for b in long] == [1, 1, 1]
    # long and short ones are mixed: m = sqrt(9 (6 * 2 + 9)) / 6 = 2.3
    assert bundles_of([0] * 4, [9] * 4, answers(9, 2, 10, 3, 9), 2, 1000) == [[[1], [2]], [[3], [0]]]


def test_rows_that_are_the_same_count_once() -> None:
    rows = [[1, 2, 3], [1, 2, 4], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    found = bundles_of([0, 0, 0, 0, 1], [2] * 5, rows, 400, 1000)
    assert found == [[[0, 2, 3], [1]], [[4]]]  # another group is another prompt, though it reads the same
    assert [tokens_of(bundle, [2] * 5, [3] * 5) for bundle in found] == [4, 3]


def test_layers_share_one_mask() -> None:
    """Of a mask that is not in the queries' type each layer would keep a copy."""
    for kind in (torch.float32, torch.bfloat16):
        trunk = Trunk(deepcopy(causal_lm("llama")).to(kind))
        ids, mask = right_pad(ROWS, CPU)
        layout = behind_one_prompt(ids, mask, PROMPTS, BUNDLES)
        kept: set[int] = set()

        def pack(tensor: Tensor, kept: set[int] = kept) -> Tensor:
            if tensor.shape[-2:] == (10, 10) and tensor.shape[0] == 2:
                kept.add(tensor.untyped_storage().data_ptr())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trunk.read(layout).sum().backward()
        assert len(kept) == 1
