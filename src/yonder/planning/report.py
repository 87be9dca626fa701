"""`yonder plan`: a recipe and a machine to the figures of every stage."""

import os
import re
from typing import Any

import torch

from yonder.errors import RecipeError
from yonder.models.loading import pick_device
from yonder.planning.machine import Machine
from yonder.planning.needs import Planner
from yonder.planning.pacing import Pacer, given, measured
from yonder.recipe import Recipe

UNITS = {"": 1e9, "MB": 1e6, "GB": 1e9, "TB": 1e12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def plan_recipe(
    recipe: Recipe, memory: str | None, devices: int, offload: bool, tflops: float | None, gbps: float | None
) -> dict[str, Any]:
    """What `--json` prints. Without `memory` and `tflops` the machine at hand is asked and measured."""
    device = pick_device("auto") if tflops is None or memory is None else torch.device("cpu")
    cuda = memory is not None or device.type == "cuda"  # a size that is given is a GPU's
    machine = Machine(size_of(memory) if memory else memory_of(device), devices, offload, cuda)
    if machine.divided and recipe.parallel.strategy != "fsdp2":
        raise RecipeError(
            "--devices and --offload plan for weights that are divided over processes; set parallel.strategy=fsdp2 "
            "(with ddp every device holds all of them: plan for one)"
        )
    planner = Planner(recipe, machine)
    plans = planner.stages()
    numbers = recipe.policy.dtype if recipe.policy.autocast == "off" else recipe.policy.autocast
    speed = measured(device, getattr(torch, numbers)) if tflops is None else given(tflops, gbps)
    pacer = Pacer(planner, speed)
    for plan in plans:
        plan.seconds, plan.pace = pacer.seconds(recipe.stage(plan.name))
    return {
        "title": recipe.title,
        "machine": {"memory": machine.memory, "devices": devices, "offload": offload, "speed": speed.said},
        "stages": [plan.to_json() for plan in plans],
    }


def size_of(text: str) -> float:
    """Bytes of `80GB`, `24GiB` or `80` (GB). RecipeError for anything else."""
    found = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?I?B?)\s*", text.upper())
    if found is None or found[2] not in UNITS or found[1].count(".") > 1 or not float(found[1]):
        raise RecipeError(f"--memory {text}: write a size, for example 80GB or 24GiB")
    return float(found[1]) * UNITS[found[2]]


def memory_of(device: torch.device) -> float:
    """All memory of a GPU, or all RAM."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
