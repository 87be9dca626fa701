"""Optimizers: over what is trained, with which rates, and their state put back."""

from typing import Any

import torch
from torch import nn

from yonder.models.policy import Policy
from yonder.training.distributed import placed_state


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def build_optimizer(policy: Policy, lr: float, value_lr: float | None, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over what is trained; the value head is a group of its own where it has its own learning rate."""
    if value_lr is None or policy.value_head is None:
        return torch.optim.AdamW(trainable(policy), lr=lr, weight_decay=weight_decay)
    head = list(policy.value_head.parameters())
    rest = [p for p in trainable(policy) if all(p is not other for other in head)]
    groups = [{"params": rest, "share": 1.0}, {"params": head, "share": value_lr / lr}]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)


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
