"""Optimizers: over what is trained, with which rates, and their state put back."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

from yonder.models.policy import Policy
from yonder.training.distributed import placed_state

FUSED = ("cpu", "cuda")  # devices with a kernel for the whole of AdamW


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def adamw(groups: Sequence[nn.Parameter] | Sequence[dict[str, Any]], lr: float, weight_decay: float) -> AdamW:
    """AdamW, in one pass over the numbers where there is a kernel for it: their seconds are those of the memory."""
    parameters = [p for group in groups for p in (group["params"] if isinstance(group, dict) else [group])]
    fused = all(p.device.type in FUSED and p.is_floating_point() for p in parameters)
    return AdamW(groups, lr=lr, weight_decay=weight_decay, fused=fused)


def build_optimizer(policy: Policy, lr: float, value_lr: float | None, weight_decay: float) -> AdamW:
    """AdamW over what is trained; the value head is a group of its own where it has its own learning rate."""
    if value_lr is None or policy.value_head is None:
        return adamw(trainable(policy), lr, weight_decay)
    head = list(policy.value_head.parameters())
    rest = [p for p in trainable(policy) if all(p is not other for other in head)]
    groups = [{"params": rest, "share": 1.0}, {"params": head, "share": value_lr / lr}]
    return adamw(groups, lr, weight_decay)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The rate of every group: its share of the policy's, so that both follow one schedule."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("share", 1.0)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put a saved state back; the groups' own numbers (learning rate, weight decay) stay the recipe's."""
    own = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(placed_state(optimizer, state))
    for group, numbers in zip(optimizer.param_groups, own, strict=True):
        group.update(numbers)
