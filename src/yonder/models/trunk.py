"""A causal language model taken apart into trunk (tokens to last hidden states) and head (hidden states to logits)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from yonder.errors import ModelError
from yonder.models.packing import Layout


class Trunk:
    """Trunk and head of one model, checked once to give the model's own logits."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.body: nn.Module = getattr(model, model.base_model_prefix)
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise ModelError(
                f"{type(model).__name__} has no linear output head; Yonder needs a causal language model with one"
            )
        self.head: nn.Linear = head
        self.recomputes = False
        self._check()

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None, **options: Any) -> Tensor:
        """Last hidden states. input_ids, attention_mask: (B, S) -> (B, S, D). Right-padded ones need no mask."""
        options.setdefault("use_cache", False)
        return self.body(input_ids=input_ids, attention_mask=attention_mask, **options)[0]

    def read(self, layout: Layout) -> Tensor:
        """Last hidden states of every token of a layout, (R * S, D)."""
        ids, seen, positions, _ = layout
        if seen.dim() == 2:
            return self.hidden(ids, None).flatten(0, 1)  # right-padded
        kind, device = self.head.weight.dtype, seen.device.type
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
        # in the type of the queries: of a mask of another type each layer would keep a copy for its backward pass
        mask = torch.zeros(seen.shape, dtype=kind, device=seen.device).masked_fill_(~seen, float("-inf"))
        return self.hidden(ids, mask.unsqueeze(1), position_ids=positions).flatten(0, 1)

    @property
    def width(self) -> int:
        """D."""
        return self.head.in_features

    @property
    def attention(self) -> str:
        """The kernel that transformers chose for it."""
        return str(getattr(self.model.config, "_attn_implementation", ""))

    def recompute(self) -> None:
        """Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): where gradients are wanted, each of
        transformers' checkpointing layers keeps its input only and runs again in the backward pass.

        Its own switch works in training mode only, which would turn dropout on. ModelError for a model without such
        layers.
        """
        layers = [module for module in self.body.modules() if isinstance(module, GradientCheckpointingLayer)]
        if not layers:
            raise ModelError(
                f"{type(self.model).__name__} has no layers that can be computed again; leave "
                "policy.activation_checkpointing off"
            )
        for layer in layers:
            layer.forward = partial(_recomputed, layer.forward)
        self.recomputes = True

    @property
    def takes_positions(self) -> bool:
        """Whether the trunk can be told each token's position (needed for left padding)."""
        return "position_ids" in _parameters(self.body.forward)

    @torch.no_grad()
    def _check(self) -> None:
        """Models that scale or cap logits after the head are refused rather than trained on other numbers than they
        sample from."""
        device = next(self.model.parameters()).device
        ids = torch.arange(1, 9, device=device).unsqueeze(0)
        mask = torch.ones_like(ids)
        try:
            ours = self.head(self.hidden(ids, mask)).float()
        except RuntimeError as error:  # packed weights whose kernel does not take this shape, a full device
            why = str(error).splitlines()[0]
            packed = getattr(self.model, "is_quantized", False)
            mend = "; `quantize` may not take layers of these shapes here: leave it out, or use a GPU" if packed else ""
            raise ModelError(
                f"{type(self.model).__name__} cannot be run on {device} as configured: {why}{mend}"
            ) from error
        theirs = self.model(input_ids=ids, attention_mask=mask).logits.float()
        if (ours - theirs).abs().max() > 1e-2 * theirs.abs().max().clamp(min=1.0):
            raise ModelError(
                f"{type(self.model).__name__} changes its logits after the output head (scaling or soft capping), "
                "which Yonder does not support; choose another model"
            )


def _recomputed(forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


def _parameters(function: Callable[..., Any]) -> set[str]:
    import inspect

    return set(inspect.signature(function).parameters)
