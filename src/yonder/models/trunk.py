"""A causal language model taken apart into trunk (tokens to last hidden states) and head (hidden states to logits)."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from yonder.errors import ModelError
from yonder.models.packing import Layout, apart

MLP_NAMES = ("mlp", "feed_forward", "ffn")
SAME = 1e-2  # of the largest number: two ways to compute something that differ by less are the same


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
        self._last_mlp: nn.Module | None = None
        self._check()
        self._last_mlp = self._find_last_mlp()

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None, **options: Any) -> Tensor:
        """Last hidden states. input_ids, attention_mask: (B, S) -> (B, S, D). Right-padded ones need no mask."""
        options.setdefault("use_cache", False)
        return self.body(input_ids=input_ids, attention_mask=attention_mask, **options)[0]

    def read(self, layout: Layout, places: Tensor) -> Tensor:
        """Last hidden states at some places of a layout. (N,) -> (N, D)."""
        with self._only(places):
            states = self._states(layout)
        return states[places.to(states.device)]

    def _states(self, layout: Layout) -> Tensor:
        """Of every token, (R * S, D)."""
        ids, seen, positions, _ = layout
        if seen.dim() == 2:
            return self.hidden(ids, None).flatten(0, 1)  # right-padded
        kind, device = self.head.weight.dtype, seen.device.type
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
        # in the type of the queries: of a mask of another type each layer would keep a copy for its backward pass
        mask = torch.zeros(seen.shape, dtype=kind, device=seen.device).masked_fill_(~seen, float("-inf"))
        return self.hidden(ids, mask.unsqueeze(1), position_ids=positions).flatten(0, 1)

    @contextmanager
    def _only(self, places: Tensor) -> Generator[None]:
        """Here the last layer's MLP computes these places alone: nothing reads another's result. In a model of few
        layers that is a part one can measure."""
        last = self._last_mlp
        if last is None or (
            self.recomputes and torch.is_grad_enabled()
        ):  # a layer that runs again runs outside of this
            yield
            return
        kept, shape, ours = places.unique(), torch.Size(), threading.get_ident()

        def pick(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            nonlocal kept, shape
            if threading.get_ident() != ours:  # another thread reads with this model
                return inputs
            shape, kept = inputs[0].shape, kept.to(inputs[0].device)
            return (inputs[0].flatten(0, 1)[kept].unsqueeze(0), *inputs[1:])

        def put(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            if threading.get_ident() != ours:
                return output
            empty = output.new_zeros(shape[:2].numel(), output.shape[-1])
            return empty.index_copy(0, kept, output.squeeze(0)).view(*shape[:2], -1)

        handles = last.register_forward_pre_hook(pick), last.register_forward_hook(put)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

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
        if (ours - theirs).abs().max() > SAME * theirs.abs().max().clamp(min=1.0):
            raise ModelError(
                f"{type(self.model).__name__} changes its logits after the output head (scaling or soft capping), "
                "which Yonder does not support; choose another model"
            )

    @torch.no_grad()
    def _find_last_mlp(self) -> nn.Module | None:
        """The last layer's, if the model has one that computes each token for itself."""
        layers = [module for module in self.body.modules() if isinstance(module, GradientCheckpointingLayer)]
        found = next((getattr(layers[-1], name) for name in MLP_NAMES if layers and hasattr(layers[-1], name)), None)
        if not isinstance(found, nn.Module):
            return None
        ids = torch.arange(1, 9, device=next(self.model.parameters()).device).unsqueeze(0)
        layout, places = apart(ids, torch.ones_like(ids)), torch.tensor([4, 7], device=ids.device)
        whole = self._states(layout)[places]
        self._last_mlp = found
        try:
            alone = self.read(layout, places)
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError):  # it takes or gives something else
            return None
        return found if (alone - whole).abs().max() <= SAME * whole.abs().max() else None


def _recomputed(forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


def _parameters(function: Callable[..., Any]) -> set[str]:
    import inspect

    return set(inspect.signature(function).parameters)
