"""Weights that are divided over the processes (`fsdp2`): dividing a policy, having it whole for a while, and what is
written of it, by each process its part."""

import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from yonder.errors import ModelError, StorageError
from yonder.models.policy import Policy
from yonder.training.distributed import Saved, World, full, in_parts, placed, read_parts

PART = "part of"  # in the place of a tensor: its name among the parts
FILE_BYTES = 1 << 30  # about, of a file of parts: a process holds one more while it writes


def shard(world: World, policy: Policy) -> None:
    """Divide a policy over the processes (FSDP2): block by block, and what remains. Gradients are summed, in float32.

    Nothing in a world that does not divide. With the recipe's autocast the gathered weights are of that type.
    """
    if not world.sharded:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import (
        CPUOffloadPolicy,
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    policy.home = policy.device
    options: dict[str, Any] = {"mesh": init_device_mesh(world.device.type, (world.size,))}
    if world.offload:
        options["offload_policy"] = CPUOffloadPolicy(pin_memory=world.device.type == "cuda")
    mixed = MixedPrecisionPolicy(param_dtype=policy.autocast, reduce_dtype=torch.float32)
    for block in _blocks(policy):
        fully_shard(block, mp_policy=mixed, **options)
    if policy.value_head is not None:
        fully_shard(policy.value_head, mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32), **options)
    fully_shard(policy, mp_policy=mixed, **options)
    for module in _units(policy):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
    register_fsdp_forward_method(policy, "logits")
    ids = torch.ones(1, 2, dtype=torch.long, device=policy.device)
    with torch.no_grad():  # the first forward of all must begin at the root
        policy(ids, ids, ids[:, 1], ids[:, 1:].float(), 1.0)
    for module in _units(policy):
        module.reshard()


@contextmanager
def whole(policy: nn.Module) -> Generator[None]:
    """Within it every process has all weights, and forwards need no other process; nothing for a policy that is not
    divided."""
    units = _units(policy)
    inner = [unit for unit in units if unit is not policy]
    try:
        for unit in inner:
            unit.set_reshard_after_forward(False, recurse=False)
        for unit in units:
            unit.unshard()
        yield
    finally:
        for unit in inner:
            unit.set_reshard_after_forward(True, recurse=False)
        for unit in units:
            unit.reshard()


def gathered(value: Any, world: World, everywhere: bool = False) -> Any:
    """A state with each divided tensor whole, on the CPU, in process 0 or `everywhere` (others get an empty one);
    anything else as it is. Shared tensors stay shared."""
    if not world.sharded:
        return value
    known: dict[int, Tensor] = {}

    def made(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: made(inner) for key, inner in cast(Mapping[Any, Any], part).items()}
        if isinstance(part, list):
            return [made(inner) for inner in cast(list[Any], part)]
        if isinstance(part, Tensor) and id(part) not in known:
            tensor = full(part.detach())
            known[id(part)] = tensor.cpu() if world.first or everywhere else tensor.new_empty(0)
        return known[id(part)] if isinstance(part, Tensor) else part

    return made(value)


def taken_apart(value: Any, tensors: dict[str, Tensor], name: str = "") -> Any:
    """A state without its divided tensors, each of which goes into `tensors` under the name that stands in its
    place."""
    if isinstance(value, Mapping):
        items = cast(Mapping[Any, Any], value).items()
        return {key: taken_apart(inner, tensors, f"{name}.{key}" if name else str(key)) for key, inner in items}
    if isinstance(value, list):
        return [taken_apart(inner, tensors, f"{name}.{i}") for i, inner in enumerate(cast(list[Any], value))]
    if not (isinstance(value, Tensor) and in_parts(value)):
        return value
    tensors[name] = value.detach()
    return {PART: name}


def put_together(value: Any, folder: Path) -> Any:
    """A state that was taken apart, with what says where its divided tensors are."""
    if isinstance(value, Mapping):
        found = cast(Mapping[Any, Any], value)
        if list(found) == [PART]:
            return Saved(folder, found[PART])
        return {key: put_together(inner, folder) for key, inner in found.items()}
    return [put_together(inner, folder) for inner in cast(list[Any], value)] if isinstance(value, list) else value


def write_parts(world: World, folder: Path, tensors: dict[str, Tensor]) -> None:
    """Every process writes its part of divided tensors into a new folder, as safetensors files; all call it together.

    StorageError in all where one cannot, or does not see the folder that process 0 makes.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    def seen() -> None:
        if not folder.is_dir():
            raise StorageError(
                f"process {world.rank} does not see {folder}, where each writes its part of the optimizer state; "
                "`output_dir` must be on a disk that all nodes see, or use `strategy: ddp`"
            )

    world.one_after_first(lambda: _new(folder))
    files = 1 + sum(tensor.nbytes for tensor in tensors.values()) // (FILE_BYTES * world.size)
    place = {name: 1 + i * files // len(tensors) for i, name in enumerate(tensors)}
    try:
        world.attempt(seen)
        writer = HuggingFaceStorageWriter(str(folder), place, save_distributed=True)
        save(dict(tensors), storage_writer=writer, process_group=world.values)
    except (StorageError, CheckpointException) as error:  # the latter is no Exception to Python
        if world.first:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, StorageError):
            raise
        rank, (cause, _) = min(error.failures.items())
        reason = (isinstance(cause, OSError) and cause.strerror) or str(cause)
        raise StorageError(
            f"process {rank} could not write its part of {folder} ({reason}); free disk space or change output_dir"
        ) from cause


def _new(folder: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise StorageError(
            f"{folder} could not be made ({error.strerror}); free disk space or change output_dir"
        ) from error


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Put whole weights into a module, divided or not; returns the names that are missing."""
    if not is_divided(module):
        return list(module.load_state_dict(dict(tensors), strict=False).missing_keys)
    own = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in divided(module, tensors).items():
            own[name].copy_(tensor)
    return sorted(own.keys() - tensors.keys())


def read_weights(module: nn.Module, folder: Path) -> list[str]:
    """Put the safetensors files of a folder into a module, of a divided one each process its part; returns the names
    that are missing."""
    files = sorted(folder.glob("*.safetensors"))
    if not is_divided(module):
        return load_weights(module, {name: tensor for path in files for name, tensor in load_file(path).items()})
    own, known = module.state_dict(), set[str]()
    for path in files:
        with safe_open(path, framework="pt") as file:
            known |= set(file.keys())
    read_parts(folder, {name: tensor for name, tensor in own.items() if name in known})
    return sorted(own.keys() - known)


def divided(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors as those of the module with their names are divided; names that it has not are left out."""
    own = module.state_dict(keep_vars=True)
    return {name: placed(tensors[name], tensor) for name, tensor in own.items() if name in tensors}


def is_divided(module: nn.Module) -> bool:
    """Whether its weights are."""
    return any(in_parts(parameter) for parameter in module.parameters())


def _blocks(policy: Policy) -> list[nn.Module]:
    """The transformer blocks of a policy's trunk."""
    layers = policy.model.config.num_hidden_layers
    for module in policy.trunk.body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return list(module)
    raise ModelError(f"{type(policy.model).__name__} has no list of {layers} blocks to divide; use `strategy: ddp`")


def _units(policy: nn.Module) -> list[Any]:
    """The modules whose weights are gathered together; none where nothing is divided."""
    return [module for module in policy.modules() if hasattr(module, "unshard")]
