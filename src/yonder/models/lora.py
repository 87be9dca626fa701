"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) through `peft`: put in, saved and continued on their own, merged
into plain weights for whoever loads them."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from yonder.errors import ModelError

ADAPTER = "default"  # peft's own name


class Lora(NamedTuple):
    """See `recipe.models.LoraSettings` for the meaning of each."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "auto"


def require_peft() -> None:
    """ModelError where `peft` is not installed."""
    if find_spec("peft") is None:
        raise ModelError("`lora` needs the package peft; pip install 'yonder-rl[peft]', or leave `lora` out")


def add_lora(model: PreTrainedModel, settings: Lora, seed: int, head: bool = False) -> None:
    """Freeze a model and put an adapter into its linear layers, which changes no output until it is trained.

    `head`: what stands on the trunk (a classifier's score head) is trained too. ModelError for modules that are not
    there, and without peft.
    """
    require_peft()
    peft: Any = import_module("peft")
    names = settings.target_modules
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            config = peft.LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,
                lora_dropout=settings.dropout,
                target_modules="all-linear" if names == "auto" else list(names),
                task_type="SEQ_CLS" if head else "CAUSAL_LM",  # which layer on the trunk `all-linear` leaves alone
            )
            peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER)
        except ValueError as error:
            raise ModelError(f"lora.target_modules {names}: {str(error).splitlines()[0]}; use auto") from error
    model.eval()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()  # steps this small are lost in half precision
        elif head and not name.startswith(f"{model.base_model_prefix}."):
            parameter.requires_grad_(True)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def has_adapter(model: nn.Module) -> bool:
    """Whether `add_lora` was called on it."""
    return any(True for _ in _layers(model))


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """What training changes, by name, on the CPU."""
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


def load_adapter_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put an `adapter_state` back, exactly."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(state[name])


def merged_weights(model: nn.Module) -> dict[str, Tensor] | None:
    """The state dict of the plain model: W + (alpha / rank) B A, the sum in float32; None for a model without adapter.

    The model itself is left alone: adding and taking away again would not give the same bits.
    """
    layers = dict(_layers(model))
    if not layers:
        return None
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        module, _, rest = name.partition(".base_layer.")
        if module in layers and rest == "weight":
            delta = cast(Tensor, layers[module].get_delta_weight(ADAPTER))
            tensor = (tensor.float() + delta.detach().float()).to(tensor.dtype)
        if ".lora_" not in name:
            found[f"{module}.{rest}" if rest else name] = tensor
    return found


@contextmanager
def dropping(model: nn.Module, seed: int, state: list[Tensor] | None = None) -> Generator[None]:
    """Within it the adapter's dropout is on, drawn from `seed`, or on from a `dropout_state`; nothing changes where
    there is none."""
    dropouts = _dropouts(model)
    if not dropouts:
        yield
        return
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if state is not None:
            torch.set_rng_state(state[0])
            for there in state[1:]:
                torch.cuda.set_rng_state(there, device)
        for dropout in dropouts:
            dropout.train()
        try:
            yield
        finally:
            for dropout in dropouts:
                dropout.eval()


def dropout_state(model: nn.Module) -> list[Tensor] | None:
    """Inside `dropping`: where its random numbers stand, on the CPU and on the model's GPU; None without dropout."""
    if not _dropouts(model):
        return None
    device = next(model.parameters()).device
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _dropouts(model: nn.Module) -> list[nn.Dropout]:
    return [m for _, layer in _layers(model) for m in layer.lora_dropout.values() if isinstance(m, nn.Dropout)]


def _layers(model: nn.Module) -> Generator[tuple[str, Any]]:
    """Layers with an adapter, by name."""
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            yield name, module
