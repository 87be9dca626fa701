"""How long each stage of a recipe takes at a given speed of matrix products and of memory; see docs/scaling.md."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from yonder.core.memory import Shape, forward_flops, head_flops, training_factor, weight_bytes
from yonder.data.datasets import load_data
from yonder.data.sources import on_hub
from yonder.planning.needs import Planner
from yonder.recipe.answers import CollectStage
from yonder.recipe.judge_stages import FitJudgeStage
from yonder.recipe.references import rewards_of
from yonder.recipe.rewards import ClassifierSettings, JudgeSettings, RatingSettings
from yonder.recipe.stages import DistillStage, EvaluateStage, StageSettings, WarmupStage

REACHED = 0.4  # share of a square product's speed that training reaches; ours, and what good code has on large models


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one device, in practice."""

    flops: float  # a second
    bandwidth: float  # bytes a second
    said: str  # where the figures come from


def given(tflops: float, gbps: float | None) -> Speed:
    """The user's own figures; without a bandwidth, 1 byte for 150 products (A100: 312 TFLOP/s, 2 TB/s)."""
    bandwidth = tflops * 1e12 / 150 if gbps is None else gbps * 1e9
    return Speed(tflops * 1e12, bandwidth, f"{tflops:g} TFLOP/s and {bandwidth / 1e9:.0f} GB/s as given")


def measured(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> Speed:
    """A square product and a copy, repeated for a moment; training is taken to reach 40 % of the first."""
    size = 4096 if device.type == "cuda" else 1024
    one = torch.randn(size, size, device=device).to(dtype)
    many = torch.empty(1 << 26, dtype=torch.uint8, device=device)
    product = _rate(lambda: torch.mm(one, one), device, seconds) * 2.0 * size**3
    copied = _rate(lambda: many.clone(), device, seconds) * 2.0 * many.numel()
    said = (
        f"{REACHED:.0%} of {product / 1e12:.3g} TFLOP/s ({size} x {size} products, {dtype}) and {copied / 1e9:.0f} GB/s"
    )
    return Speed(REACHED * product, copied, f"{said}, measured on {device.type}".replace("torch.", ""))


def _rate(work: object, device: torch.device, seconds: float) -> float:
    """Runs a second."""
    assert callable(work)
    work()
    begun, runs = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        work()
        runs += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return runs / (time.perf_counter() - begun)


@dataclass(frozen=True, slots=True)
class Pacer:
    """Times stages of one planner."""

    planner: Planner
    speed: Speed

    def seconds(self, stage: StageSettings) -> tuple[float | None, str]:
        """How long a stage takes, and of what that is the time; None where it trains and reads nothing."""
        if isinstance(stage, DistillStage):
            iterations = stage.steps // stage.epochs
            return iterations * sum(self.iteration(stage)), f"{stage.steps} steps; served judges not counted"
        if isinstance(stage, WarmupStage):
            count, said = self._count(stage.data)
            return stage.epochs * count * self.example(stage), f"{stage.epochs} epochs of {said}"
        if isinstance(stage, CollectStage) and stage.teacher is None:
            count, said = self._count(stage.data)
            return self._sampled(stage.policy, count * stage.samples), f"{stage.samples} answers to {said}"
        if isinstance(stage, EvaluateStage):
            return self._evaluation(stage)
        if isinstance(stage, FitJudgeStage):
            shape, _ = self.planner.model(stage.model, stage.output == "classifier")
            length = stage.max_tokens or 1024
            work = training_factor(stage.lora is not None, False) * forward_flops(shape, length, length)
            return 1000 * stage.epochs * self._products(work), f"{stage.epochs} epochs of each 1,000 responses"
        return None, ""

    def iteration(self, stage: DistillStage) -> Iterator[float]:
        """Seconds of one iteration's parts: sampling, log-probs, updates, judges of this process."""
        policy, (shape, limit) = self.planner.recipe.policy, self.planner.model(stage.policy)
        length = self.planner.length(limit)
        count = sum(stage.prompts.values()) * stage.group_size
        once = self._once(shape, length)
        yield sum(self._sampled(stage.policy, n * stage.group_size) for n in stage.prompts.values())
        yield self._products(count * once * (2 if stage.kl.beta else 1))
        factor = training_factor(policy.lora is not None, policy.activation_checkpointing)
        yield self._products(stage.epochs * count * once * factor)
        for name in rewards_of(self.planner.recipe, stage):
            settings = self.planner.recipe.rewards[name]
            here = isinstance(settings, JudgeSettings | ClassifierSettings | RatingSettings)
            if here and getattr(settings, "server", None) is None:
                judge, _ = self.planner.model(settings.model, isinstance(settings, ClassifierSettings))
                tokens = min(settings.max_tokens, length + 200)  # the judge's own words around them
                asked = sum(stage.prompts[term.data] for term in stage.terms if term.reward == name)
                yield self._products(asked * stage.group_size * forward_flops(judge, tokens, tokens), 1)

    def example(self, stage: WarmupStage) -> float:
        """Seconds of one example."""
        policy, (shape, limit) = self.planner.recipe.policy, self.planner.model(stage.policy)
        factor = training_factor(policy.lora is not None, policy.activation_checkpointing)
        return self._products(factor * self._once(shape, self.planner.length(limit)))

    def _once(self, shape: Shape, length: int) -> float:
        """FLOPs of one forward over a prompt and its completion."""
        completion = min(length, self.planner.recipe.policy.max_completion_tokens)
        return forward_flops(shape, length, length) + head_flops(shape, completion)

    def _sampled(self, reference: object, count: int) -> float:
        """Sampling: the products, or reading all weights for each token of each batch, whichever is slower."""
        policy = self.planner.recipe.policy
        shape, limit = self.planner.model(reference)  # type: ignore[arg-type]
        length = self.planner.length(limit)
        batches = -(-count // (policy.generation_batch * self.planner.machine.devices))
        tokens = batches * min(length, policy.max_completion_tokens)
        read = tokens * weight_bytes(shape, self.planner.numbers()) / self.speed.bandwidth
        return max(self._products(count * self._once(shape, length)), read)

    def _evaluation(self, stage: EvaluateStage) -> tuple[float, str]:
        total, said = 0.0, ""
        for name in stage.benchmarks:
            settings = self.planner.recipe.benchmarks[name]
            count, said = self._count(settings.data)
            first = None if stage.checkpoints[0] == "base" else f"stage:{stage.checkpoints[0]}"
            total += len(stage.checkpoints) * self._sampled(first, count * (1 + settings.votes + settings.seeds))
        return total, f"{len(stage.checkpoints)} checkpoints, {len(stage.benchmarks)} benchmarks, the last of {said}"

    def _products(self, flops: float, devices: int | None = None) -> float:
        return flops / self.speed.flops / (self.planner.machine.devices if devices is None else devices)

    def _count(self, name: str) -> tuple[int, str]:
        """Questions of a data set; of one on a hub 1,000."""
        recipe = self.planner.recipe
        settings = recipe.data[name.partition(".")[0]]
        parts = [settings, *(recipe.data[part.partition(".")[0]] for part in settings.mixture or {})]
        if any(on_hub(part) for part in parts):
            return 1000, f"each 1,000 questions of {name}"
        count = len(load_data(name, recipe.data, recipe.task, recipe.seed))
        return count, f"{count:,} questions of {name}"
