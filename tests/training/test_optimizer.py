"""AdamW in one pass: the same numbers, also from a state that was saved without it."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from yonder.training.optimizer import adamw, set_rate


def stepped(optimizer: AdamW, numbers: list[nn.Parameter], first: int, last: int) -> list[Tensor]:
    for step in range(first, last):
        draw = torch.Generator().manual_seed(step)
        for p in numbers:
            p.grad = torch.randn(p.shape, generator=draw)
        set_rate(optimizer, 1e-2 / (1 + step))
        optimizer.step()
    return [p.detach().clone() for p in numbers]


def parameters() -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=draw)) for shape in ((5, 3), (3,), (1,))]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_one_pass_gives_the_same_numbers(decay: float) -> None:
    fused, plain = parameters(), parameters()
    rates = [{"share": 1.0}, {"share": 10.0}]

    def groups(numbers: list[nn.Parameter]) -> list[dict[str, object]]:
        return [{"params": ps} | rate for ps, rate in zip((numbers[:2], numbers[2:]), rates, strict=True)]

    ours, theirs = adamw(groups(fused), 1e-2, decay), AdamW(groups(plain), lr=1e-2, weight_decay=decay, fused=False)
    assert ours.defaults["fused"]
    for a, b in zip(stepped(ours, fused, 0, 4), stepped(theirs, plain, 0, 4), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    ours.load_state_dict(deepcopy(theirs.state_dict()))
    for group in ours.param_groups:
        group["fused"] = True  # as `load_optimizer` does
    for a, b in zip(stepped(ours, fused, 4, 8), stepped(theirs, plain, 4, 8), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_device_without_the_kernel_takes_the_long_way() -> None:
    with torch.device("meta"):
        assert not adamw([nn.Parameter(torch.zeros(2))], 1e-3, 0.0).defaults["fused"]
