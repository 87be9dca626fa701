"""What can be changed in a recipe so that it needs less memory."""

from collections.abc import Iterator
from typing import Any

from yonder.models.padding import tokens_at_once
from yonder.planning.machine import Machine
from yonder.recipe.recipe import Recipe
from yonder.recipe.references import rewards_of
from yonder.recipe.stages import DistillStage, StageSettings, WarmupStage


def changes(recipe: Recipe, machine: Machine, stage: StageSettings) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
    """What can be changed, what costs least first: a sentence, overrides of the recipe, and values of the machine."""
    policy, optimizer = recipe.policy, getattr(stage, "optimizer", None)
    plain: list[str] = []
    for i, name in enumerate(rewards_of(recipe, stage), start=1):
        settings = recipe.rewards[name]
        if getattr(settings, "server", None) is None and getattr(settings, "device", "") in ("auto", policy.device):
            override = f"rewards.{name}.device=cuda:{i}"
            yield f"{override} (or another place)", [override], {}
    trains = isinstance(stage, WarmupStage | DistillStage)
    if trains and not policy.activation_checkpointing:
        plain.append("policy.activation_checkpointing=true")
    tokens = 0 if optimizer is None else tokens_at_once(optimizer.micro_batch_tokens, machine.kind)
    plain += [f"{stage.name}.optimizer.micro_batch_tokens={n}" for n in (8192, 4096, 2048) if n < tokens]
    plain += ["policy.decoding=dynamic"] * (machine.cuda and policy.decoding != "dynamic")
    plain += [f"policy.generation_batch={n}" for n in (128, 64, 32, 16) if n < policy.generation_batch]
    for override in plain:
        yield override, [override], {}
    for devices in (2, 4, 8):
        if machine.devices == 1 and trains:
            yield f"{devices} devices (parallel.strategy=fsdp2 --devices {devices})", [], {"devices": devices}
    if not machine.offload and trains:
        yield "weights and optimizer in host memory (--offload)", [], {"offload": True}
    if trains and policy.lora is None:
        yield "policy.lora={rank: 16}", ["policy.lora={rank: 16}"], {}
    if trains and policy.quantize == "none":
        overrides = ["policy.quantize=4bit", *([] if policy.lora else ["policy.lora={rank: 16}"])]
        yield "policy.quantize=4bit", list(reversed(overrides)), {}
