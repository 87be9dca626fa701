"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) through `peft`: put in, saved and continued on their own, merged
into plain weights for whoever loads them."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from yonder.errors import ModelError, StorageError

ADAPTER = "default"  # peft's own name
ADAPTER_FILE = "adapter_model.safetensors"  # likewise


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
                base_model_name_or_path=_anywhere(model.name_or_path),
            )
            peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER)
        except ValueError as error:
            raise ModelError(f"lora.target_modules {names}: {str(error).splitlines()[0]}; use auto") from error
    model.eval()
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # bitsandbytes: in evaluation mode it would pack the weights
            cast(Any, module).support_avx512bf16_for_cpu = False  # again, for a product without a gradient
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()  # steps this small are lost in half precision
        elif head and not name.startswith(f"{model.base_model_prefix}."):
            parameter.requires_grad_(True)


def _anywhere(name: str | None) -> str | None:
    """A folder by its whole path; a name on the hub as it is; None for a model made from nothing."""
    return str(Path(name).resolve()) if name and Path(name).is_dir() else name or None


class AdapterOff:
    """A policy as it was before its adapter was trained, bit for bit: the reference, without a second copy."""

    def __init__(self, policy: nn.Module, model: nn.Module) -> None:
        """`model`: the part of `policy` that has the adapter."""
        self.policy, self.layers = policy, [layer for _, layer in _layers(model)]

    def __call__(self, *inputs: Any) -> Any:
        """The policy's outputs with the adapter off; no gradient."""
        try:
            self._switch(off=True)
            with torch.no_grad():
                return self.policy(*inputs)
        finally:
            self._switch(off=False)

    def _switch(self, off: bool) -> None:
        for layer in self.layers:  # peft's own switch also sets `requires_grad`, which FSDP loses in between
            layer._disable_adapters = off


def has_adapter(model: nn.Module) -> bool:
    """Whether `add_lora` was called on it."""
    return any(True for _ in _layers(model))


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What training changes, by name."""
    own = model.state_dict(keep_vars=True)  # of FSDP: the divided ones, which `parameters` may not be
    return {name: p for name, p in own.items() if isinstance(p, nn.Parameter) and p.requires_grad}


def adapter_state(model: nn.Module, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Copies of what training changes, by name, on the CPU. `weights`: that, where the model has but parts of it."""
    found = adapter_parameters(model) if weights is None else weights
    return {name: tensor.detach().cpu().clone() for name, tensor in found.items()}


def load_adapter_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put an `adapter_state` back, exactly."""
    with torch.no_grad():
        for name, parameter in adapter_parameters(model).items():
            parameter.copy_(state[name])


def merged_weights(model: nn.Module, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor] | None:
    """The state dict of the plain model: W + (alpha / rank) B A, the sum in float32; None for a model without adapter.

    The model itself is left alone: adding and taking away again would not give the same bits. `weights`: its whole
    state, where it has but parts of it.
    """
    layers = dict(_layers(model))
    if not layers:
        return None
    state = model.state_dict() if weights is None else weights
    packed = {f"{name}.weight": module for name, module in model.named_modules() if _is_packed(module)}
    named = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    extras = set(state) - named - {name for name, _ in model.named_buffers(remove_duplicate=False)}
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".lora_" in name or name in extras:  # `extras`: how packed weights were packed
            continue
        if name in packed:
            tensor = _unpacked(packed[name]).to(_plain_type(model))
        module, _, rest = name.partition(".base_layer.")
        if module in layers and rest == "weight":
            tensor = (tensor.float() + _delta(module, layers[module], state).float()).to(tensor.dtype)
        found[f"{module}.{rest}" if rest else name] = tensor
    return found


def save_merged(model: PreTrainedModel, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
    """The plain model in Hugging Face format; packed weights are unpacked, so that it is the model that was trained.
    `weights`: as in `merged_weights`."""
    plain(model).save_pretrained(folder, state_dict=merged_weights(model, weights) or weights)


def plain(model: PreTrainedModel) -> PreTrainedModel:
    """The model itself; of one with packed weights and an adapter its unpacked twin, without weights."""
    if not (getattr(model, "is_quantized", False) and has_adapter(model)):
        return model
    config = deepcopy(model.config)
    delattr(config, "quantization_config")
    with torch.device("meta"):
        return type(model)(config)


def save_adapter(model: PreTrainedModel, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """The adapter alone, in peft's format: what `PeftModel.from_pretrained` and transformers read. `weights`: as in
    `adapter_state`."""
    folder.mkdir(parents=True, exist_ok=True)
    cast(Any, model).peft_config[ADAPTER].save_pretrained(str(folder))
    tensors = {_exported(name): tensor.contiguous() for name, tensor in adapter_state(model, weights).items()}
    save_file(tensors, folder / ADAPTER_FILE, metadata={"format": "pt"})


def read_adapter(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """The adapter in a folder as an `adapter_state` of a model. StorageError where it does not fit."""
    tensors = load_file(folder / ADAPTER_FILE)
    names = {name: _exported(name) for name in adapter_parameters(model)}
    if set(names.values()) != set(tensors):
        raise StorageError(f"the adapter in {folder} has other modules than the recipe's `policy.lora`; restore that")
    return {name: tensors[theirs] for name, theirs in names.items()}


def fold_adapter(model: PreTrainedModel) -> None:
    """Make an adapted model plain, in place: weights as `merged_weights` has them, which no folder holds."""
    weights = merged_weights(model)
    if weights is None:
        return
    for name, layer in list(_layers(model)):
        model.set_submodule(name, layer.get_base_layer())
    model.load_state_dict(weights)
    del model.peft_config
    cast(Any, model)._hf_peft_config_loaded = False
    cast(Any, model)._weight_conversions = None  # else the library saves it under the names that an adapter has
    model.name_or_path = ""


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


class _Delta(nn.Module):
    """What a layer's adapter adds to its weight."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        """(out, in), or as the layer keeps its weight."""
        return self.layer.get_delta_weight(ADAPTER)


def _delta(name: str, layer: nn.Module, weights: Mapping[str, Tensor]) -> Tensor:
    """The same with these weights in place of the layer's own. `name`: the layer's in `weights`."""
    own = [key for key, _ in layer.named_parameters() if key.startswith("lora_")]
    with torch.no_grad():
        return functional_call(_Delta(layer), {f"layer.{key}": weights[f"{name}.{key}"] for key in own}, ())


def _exported(name: str) -> str:
    """A parameter's name in peft's files."""
    return f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}"


def _is_packed(module: nn.Module) -> bool:
    return type(getattr(module, "weight", None)).__name__ in ("Params4bit", "Int8Params")


def _unpacked(module: nn.Module) -> Tensor:
    """The weight that a packed layer multiplies with; the layer itself is left alone."""
    functional: Any = import_module("bitsandbytes.functional")
    weight: Any = module.weight
    if type(weight).__name__ == "Params4bit":
        return cast(Tensor, functional.dequantize_4bit(weight.data, weight.quant_state))
    scale = cast(Any, module).state.SCB  # there after the first forward
    return cast(Tensor, functional.int8_vectorwise_dequant(weight.data, weight.SCB if scale is None else scale))


def _plain_type(model: nn.Module) -> torch.dtype:
    """The type of what is not packed."""
    return cast(Tensor, cast(PreTrainedModel, model).get_input_embeddings().weight).dtype


def _dropouts(model: nn.Module) -> list[nn.Dropout]:
    return [m for _, layer in _layers(model) for m in layer.lora_dropout.values() if isinstance(m, nn.Dropout)]


def _layers(model: nn.Module) -> Generator[tuple[str, Any]]:
    """Layers with an adapter, by name."""
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            yield name, module
