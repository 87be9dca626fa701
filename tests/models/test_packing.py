"""Rows that begin alike read as one: the same states, statistics and gradients as each by itself."""

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from transformers import (
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
)

from tests.models.tiny import CPU, FAMILIES, causal_lm, tokenizer
from yonder.models import packing
from yonder.models.packing import apart, bundles_of, kinds, merged
from yonder.models.padding import right_pad
from yonder.models.policy import Policy
from yonder.models.sharing import shares_prompts
from yonder.models.teacher import Guide, Teacher
from yonder.models.trunk import Trunk

# four rows that begin alike, two of them the same, and one that does not
ROWS = [[5, 6, 7, 8, 9], [5, 6, 7, 8, 9], [5, 6, 7, 10], [5, 6, 7, 10, 12, 13, 14], [1, 2, 3, 4, 5, 6]]
PROMPTS = torch.tensor([3, 3, 3, 3, 5])
SIZES = [4, 1]


def test_a_layout_by_hand() -> None:
    ids, mask = right_pad(ROWS, CPU)
    found = merged(ids, mask, SIZES)
    assert found.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 12, 13, 14], [1, 2, 3, 4, 5, 6, 0, 0, 0]]
    assert found.positions is not None
    assert found.positions.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 0, 0, 0]]
    assert found.places[0, :5].tolist() == [0, 1, 2, 3, 4]
    assert found.places[1, :5].tolist() == [0, 1, 2, 3, 4]
    assert found.places[2, :4].tolist() == [0, 1, 2, 5]
    assert found.places[3].tolist() == [0, 1, 2, 5, 6, 7, 8]
    assert found.places[4, :6].tolist() == [9, 10, 11, 12, 13, 14]
    seen = found.seen.int()
    assert seen[0, 4].tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0]  # the second token of row 0
    assert seen[0, 5].tolist() == [1, 1, 1, 0, 0, 1, 0, 0, 0]  # of rows 2 and 3
    assert seen[0, 8].tolist() == [1, 1, 1, 0, 0, 1, 1, 1, 1]
    assert seen[0, 1].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0]  # of the prompt
    assert seen[1, 5].tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert seen[1, 7].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]  # a pad reads something, so that its softmax is a number


def test_any_rows_make_a_tree_that_reads_each_as_it_is() -> None:
    """Whatever the order: a token reads its row up to itself."""
    draw = random.Random(0)
    for _ in range(30):
        rows = [[draw.randrange(2) for _ in range(draw.randint(1, 9))] for _ in range(draw.randint(1, 8))]
        if draw.random() < 0.5:
            rows.sort()
        cut = draw.randint(1, len(rows))
        sizes = [size for size in (cut, len(rows) - cut) if size]
        ids, mask = right_pad(rows, CPU)
        found = merged(ids, mask, sizes)
        flat, width = found.input_ids.flatten(), found.input_ids.shape[1]
        for row, places in zip(rows, found.places.tolist(), strict=True):
            assert [flat[place] for place in places[: len(row)]] == row
            for at, place in enumerate(places[: len(row)]):
                here, column = divmod(place, width)
                read = found.seen[here, column].nonzero().flatten() + here * width
                assert set(read.tolist()) == set(places[: at + 1])


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_each_row_by_itself(family: str) -> None:
    trunk = Trunk(causal_lm(family))
    if trunk.attention != "sdpa":
        assert not shares_prompts(trunk, CPU)
        return
    ids, mask = right_pad(ROWS, CPU)
    together, alone = merged(ids, mask, SIZES), apart(ids, mask)
    real = mask.bool()
    with torch.no_grad():
        ours, theirs = (trunk.read(layout, layout.places[real]) for layout in (together, alone))
    assert shares_prompts(trunk, CPU)
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("recompute", [False, True])
def test_statistics_values_and_gradients_are_the_same(recompute: bool) -> None:
    found: list[tuple[Tensor, ...]] = []
    for sizes in (None, SIZES):
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
        made = policy(ids, mask, PROMPTS, completions, 0.7, [Guide(teacher, asked)], False, sizes)
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
    narrow = deepcopy(causal_lm("llama"))
    narrow.config.keep_window_size = 16  # Doge's word for a window
    assert not shares_prompts(Trunk(narrow), CPU)
    old = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=64, n_embd=32, n_layer=1, n_head=2)).eval()
    assert not shares_prompts(Trunk(old), CPU)  # it has none of transformers' layers that can be computed again
    trunk = Trunk(causal_lm("llama"))
    hidden = trunk.hidden
    monkeypatch.setattr(trunk, "hidden", lambda ids, mask, **options: hidden(ids, None, **options))  # the mask unheard
    assert not shares_prompts(trunk, CPU)


def tree(rows: Sequence[Sequence[int]]) -> int:
    """Tokens of a prefix tree: the different beginnings."""
    return len({tuple(row[: i + 1]) for row in rows for i in range(len(row))})


def cuttings(rows: list[int]) -> Iterator[list[list[int]]]:
    """All ways to cut a list."""
    for places in itertools.product([False, True], repeat=len(rows) - 1):
        parts = [[rows[0]]]
        for row, cut in zip(rows[1:], places, strict=True):
            if cut:
                parts.append([row])
            else:
                parts[-1].append(row)
        yield parts


@pytest.mark.parametrize("width", [4, 20, 400])
def test_rows_go_together_where_that_is_cheapest(width: int) -> None:
    draw = random.Random(width)
    several = 0
    for budget in (1000, 25):
        for _ in range(10):
            prompts = [[i] * draw.randint(6, 12) for i in range(2)]
            rows = [[*draw.choice(prompts), *(draw.randrange(9) for _ in range(draw.randint(1, 6)))] for _ in range(7)]

            def cost(parts: Iterable[Sequence[int]], rows: list[list[int]] = rows, budget: int = budget) -> float:
                sizes = [tree([rows[i] for i in part]) for part in parts]
                over = any(s > budget and len(p) > 1 for s, p in zip(sizes, parts, strict=True))
                alone = [len({tuple(rows[i]) for i in part}) == 1 for part in parts]
                costs = [
                    24 * width**2 * s + 4 * width * s**2 * (1 if a else 2) for s, a in zip(sizes, alone, strict=True)
                ]
                return math.inf if over else sum(costs)

            found = bundles_of(rows, width, budget)
            assert sorted(i for bundle in found for i in bundle.rows) == list(range(7))
            assert [bundle.tokens for bundle in found] == [tree([rows[i] for i in bundle.rows]) for bundle in found]
            order = sorted(range(7), key=rows.__getitem__)
            assert cost([bundle.rows for bundle in found]) == min(map(cost, cuttings(order)))
            several += sum(len(bundle.rows) > 1 for bundle in found)
    assert several > 3


def test_a_small_saving_is_left() -> None:
    rows = [[7, *range(10 * i, 10 * i + 9)] for i in range(1, 9)]  # one token of ten
    assert [len(b.rows) for b in bundles_of(rows, 4000, 1000)] == [8]
    long = [[7, *range(100 * i, 100 * i + 19)] for i in range(1, 9)]  # of twenty
    assert [len(b.rows) for b in bundles_of(long, 4000, 1000)] == [1] * 8


def test_as_many_readers_as_there_are_have_work() -> None:
    rows = [[*range(200), i, i, i] for i in range(16)]
    assert [b.tokens for b in bundles_of(rows, 1024, 16_384)] == [248]
    assert [b.tokens for b in bundles_of(rows, 1024, 16_384, parts=4)] == [212] * 4


def test_a_long_row_is_not_read_with_a_mask() -> None:
    """It is in no batch of trees, whose masks would have its square."""
    found = bundles_of([[*range(8192)], *([8, 2, 3, 4, 5, 6, 7, i] for i in range(300))], 64, 16_384)
    single, trees = kinds(found)
    assert [found[i].rows for i in single] == [[0]] and sum(len(found[i].rows) for i in trees) == 300


def test_bundles_have_an_end() -> None:
    long = [[*range(2000), i, *range(1499)] for i in range(3)]
    assert [len(b.rows) for b in bundles_of(long, 40_000, 100_000)] == [1, 1, 1]  # LONGEST, whose square the mask has
    assert [len(b.rows) for b in bundles_of([[1, 2, 3, i] for i in range(100)], 4000, 1000)] == [50, 50]  # MOST
    assert [len(b.rows) for b in bundles_of([[1, 2], [3, 4], [1, 2]], 4000, 1)] == [2, 1]  # the same rows are one


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_mlp_computes_only_what_is_read(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama's and GPT-2's, by their calls; other layers, and models whose MLP has another name, compute all."""
    trunk = Trunk(causal_lm(family))
    ids, mask = right_pad(ROWS, CPU)
    layout, places = apart(ids, mask), torch.tensor([3, 3, 31, 9])
    whole = trunk.hidden(ids, None).flatten(0, 1)[places]
    seen: list[int] = []
    mlps = [module for name, module in trunk.body.named_modules() if name.endswith(".mlp")]
    for module in mlps:
        first = next(module.children())
        first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(0, -2).shape[0]))
    assert torch.allclose(trunk.read(layout, places), whole, atol=1e-5)
    assert seen == [35] * (len(mlps) - 1) + [3] * bool(mlps)
    assert torch.allclose(trunk.hidden(ids, None).flatten(0, 1)[places], whole, atol=1e-6)  # and forgets it
    mixed = deepcopy(causal_lm("llama"))
    name, last = next((n, m) for n, m in reversed(list(mixed.named_modules())) if n.endswith(".mlp"))
    forward = last.forward  # one that mixes tokens is left as it is
    monkeypatch.setattr(last, "forward", lambda x: forward(x) + 5 * x.mean(1, keepdim=True))
    assert name and torch.allclose(
        Trunk(mixed).read(layout, places), mixed.model(input_ids=ids)[0].flatten(0, 1)[places], atol=1e-5
    )


def test_layers_share_one_mask() -> None:
    """Of a mask that is not in the queries' type each layer would keep a copy."""
    for kind in (torch.float32, torch.bfloat16):
        trunk = Trunk(deepcopy(causal_lm("llama")).to(kind))
        ids, mask = right_pad(ROWS, CPU)
        layout = merged(ids, mask, SIZES)
        kept: set[int] = set()

        def pack(tensor: Tensor, kept: set[int] = kept) -> Tensor:
            if tensor.shape[-2:] == (9, 9) and tensor.shape[0] == 2:
                kept.add(tensor.untyped_storage().data_ptr())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trunk.read(layout, layout.places[mask.bool()]).sum().backward()
        assert len(kept) == 1


def test_masked_rows_keep_clear_of_the_widths_that_a_kernel_gets_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    assert [packing.clear(width, gpu) for width in (63, 64, 65, 128, 192, 256)] == [63, 65, 65, 128, 193, 256]
    assert packing.clear(64, CPU) == 64
    ids, mask = right_pad(ROWS, CPU)
    tight = merged(ids, mask, SIZES)
    monkeypatch.setattr(packing, "clear", lambda width, device: width + 1)
    wide = merged(ids, mask, SIZES)
    assert wide.input_ids.shape[1] == tight.input_ids.shape[1] + 1
    assert torch.equal(wide.input_ids[:, :-1], tight.input_ids)
    assert torch.equal(wide.seen[:, :-1, :-1], tight.seen)
    assert not wide.seen[0, :-1, -1].any()  # pads read pads, no token reads one
    real = mask.bool()
    assert torch.equal(wide.input_ids.flatten()[wide.places[real]], tight.input_ids.flatten()[tight.places[real]])
