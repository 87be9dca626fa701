"""What each stage of a recipe needs in memory and time, from configurations alone; see docs/scaling.md.

Every length is taken at its limit, so figures are upper bounds of tensors; what a library keeps for itself is not in
them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from yonder.core.memory import (
    CROSS_ENTROPY,
    FLOAT,
    STATISTICS,
    Numbers,
    Shape,
    activation_bytes,
    adapter_size,
    cache_bytes,
    drawing_bytes,
    kept_by_a_layer,
    logits_bytes,
    reading_bytes,
    training_bytes,
    weight_bytes,
)
from yonder.generation.room import COLUMNS, ROWS, rounded
from yonder.generation.static import KEPT
from yonder.models.padding import tokens_at_once
from yonder.models.policy import LOGITS_AT_ONCE
from yonder.models.shapes import longest, model_shape
from yonder.planning.changes import changes
from yonder.planning.machine import Machine
from yonder.recipe.alpaca_eval import AlpacaEvalStage
from yonder.recipe.answers import CollectStage, LabelStage
from yonder.recipe.judge_stages import CheckJudgeStage, FitJudgeStage
from yonder.recipe.loading import apply_override, parse_recipe
from yonder.recipe.models import LoraSettings, ModelReference
from yonder.recipe.optimizers import OptimizerSettings
from yonder.recipe.recipe import Recipe
from yonder.recipe.references import preferring, rewards_of
from yonder.recipe.rewards import ClassifierSettings, JudgeSettings, RatingSettings, TeacherSettings
from yonder.recipe.rollouts import ColocateSettings
from yonder.recipe.stage_base import BASE
from yonder.recipe.stages import DistillStage, EvaluateStage, StageSettings, WarmupStage

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
HERE = "policy's device"
HOST = "host memory"
WORTH = 0.98  # a change that leaves more of the peak than this is not worth it


class Part(NamedTuple):
    """One line of the table."""

    device: str
    what: str
    bytes: float
    when: str = ""  # the moment that needs it; empty: held all the time


@dataclass(slots=True)
class StagePlan:
    """What one stage needs."""

    name: str
    kind: str
    parts: list[Part] = field(default_factory=list[Part])
    memory: float = 0.0  # of one device
    advice: list[str] = field(default_factory=list[str])
    seconds: float | None = None
    pace: str = ""  # what `seconds` is of

    def peak(self, device: str) -> float:
        """Bytes on a device at its largest moment."""
        held = sum(part.bytes for part in self.parts if part.device == device and not part.when)
        moments: dict[str, float] = {}
        for part in self.parts:
            if part.device == device and part.when:
                moments[part.when] = moments.get(part.when, 0.0) + part.bytes
        return held + max(moments.values(), default=0.0)

    @property
    def devices(self) -> list[str]:
        """Devices by name, the policy's first."""
        return list(dict.fromkeys(part.device for part in self.parts))

    @property
    def fits(self) -> bool:
        """Whether every device has the memory; host memory is not checked."""
        return all(self.peak(device) <= self.memory for device in self.devices if device != HOST)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        parts = [part._asdict() for part in self.parts]
        peaks = {device: self.peak(device) for device in self.devices}
        return {"stage": self.name, "kind": self.kind, "fits": self.fits, "peak_bytes": peaks, "parts": parts,
                "advice": self.advice, "seconds": self.seconds, "pace": self.pace}  # fmt: skip


class Planner:
    """Plans the stages of one recipe; configurations are read once."""

    def __init__(self, recipe: Recipe, machine: Machine) -> None:
        self.recipe = recipe
        self.machine = machine
        self._shapes: dict[tuple[str, bool], tuple[Shape, int | None]] = {}

    def stages(self) -> list[StagePlan]:
        """All stages that load a model, each with advice where it does not fit. ModelError for a configuration that
        cannot be had."""
        found: list[StagePlan] = []
        for stage in self.recipe.stages:
            plan = self.stage(stage)
            if not plan.fits:
                plan.advice = self.advice(stage)
            if plan.parts:
                found.append(plan)
        return found

    def stage(self, stage: StageSettings) -> StagePlan:
        """One stage."""
        plan = StagePlan(stage.name, stage.kind, memory=self.machine.memory)
        if isinstance(stage, WarmupStage):
            plan.parts = [*self._warmup(stage)]
        elif isinstance(stage, DistillStage):
            plan.parts = [*self._distill(stage)]
        elif isinstance(stage, FitJudgeStage):
            plan.parts = [*self._fit(stage)]
        elif isinstance(stage, CollectStage) and stage.teacher is None:
            plan.parts = [*self._sampling(stage.policy, self.recipe.policy.generation_batch)]
        elif isinstance(stage, EvaluateStage | AlpacaEvalStage):
            first = None if stage.checkpoints[0] == BASE else f"stage:{stage.checkpoints[0]}"
            plan.parts = [*self._sampling(first, self.recipe.policy.generation_batch)]
        plan.parts += self._rewards(stage)
        return plan

    # --- models

    def model(self, reference: ModelReference | None, classifier: bool = False) -> tuple[Shape, int | None]:
        """Sizes of a model and its longest sequence; a stage's is that of what it started from."""
        origin, tokenizer = self._origin(self.recipe.policy.model if reference is None else reference)
        key = (str(origin), classifier)
        if key not in self._shapes:
            self._shapes[key] = (model_shape(origin, tokenizer, classifier), longest(origin, tokenizer))
        return self._shapes[key]

    def _origin(self, reference: ModelReference) -> tuple[ModelReference, str | None]:
        tokenizer = self.recipe.policy.tokenizer
        while isinstance(reference, str) and reference.startswith("stage:"):
            stage = self.recipe.stage(reference.removeprefix("stage:"))
            if isinstance(stage, FitJudgeStage):
                reference, tokenizer = stage.model, stage.tokenizer or tokenizer
            else:
                named = getattr(stage, "policy", None)
                reference = self.recipe.policy.model if named is None else named
        return reference, tokenizer

    def length(self, limit: int | None) -> int:
        """Longest prompt and completion of the policy, tokens."""
        policy = self.recipe.policy
        bounds = [policy.max_prompt_tokens + policy.max_completion_tokens, policy.max_total_tokens, limit]
        return min(bound for bound in bounds if bound is not None)

    def numbers(self, packed: str = "none") -> Numbers:
        """The policy's number types."""
        policy = self.recipe.policy
        weights = BYTES[policy.dtype]
        return Numbers(weights, weights if policy.autocast == "off" else BYTES[policy.autocast], packed)

    # --- stages

    def _warmup(self, stage: WarmupStage) -> Iterator[Part]:
        policy, (shape, limit) = self.recipe.policy, self.model(stage.policy)
        length = self.length(limit)
        share = 1.0 if stage.prompt_loss else min(1.0, policy.max_completion_tokens / length)
        tokens = self._tokens(stage.optimizer, stage.batch_size, length)
        yield from self._trained(shape, policy.lora, policy.quantize)
        yield from self._backward(shape, tokens, length, policy.lora, policy.quantize)
        yield Part(HERE, "logits", logits_bytes(int(tokens * share), shape.vocabulary, CROSS_ENTROPY), "update")
        if stage.evaluate.data is not None and stage.evaluate.every:
            yield from self._generation(shape, policy.generation_batch, length, policy.quantize)

    def _distill(self, stage: DistillStage) -> Iterator[Part]:
        policy, (shape, limit) = self.recipe.policy, self.model(stage.policy)
        length, completions = self.length(limit), sum(stage.prompts.values()) * stage.group_size
        tokens = self._tokens(stage.optimizer, completions, length)
        rows = min(tokens * policy.max_completion_tokens / length, max(1, LOGITS_AT_ONCE // shape.vocabulary))
        yield from self._trained(shape, policy.lora, policy.quantize)
        if stage.algorithm == "ppo":
            outputs = len(stage.terms) if stage.ppo.value_per_term else 1
            yield Part(HERE, "value head", 4.0 * FLOAT * outputs * (shape.hidden + 1))
        start, origin = (policy.model if m is None else m for m in (stage.policy, stage.reference))
        itself = policy.lora is not None and (stage.reference is None or start == origin)
        if stage.kl.beta and not itself:
            other, _ = self.model(stage.policy if stage.reference is None else stage.reference)
            yield from self._held("reference", weight_bytes(other, self.numbers()), other)
        yield from self._backward(shape, tokens, length, policy.lora, policy.quantize)
        yield Part(HERE, "logits", logits_bytes(int(rows), shape.vocabulary, STATISTICS), "update")
        most = max(stage.prompts.values()) * stage.group_size
        evaluates = stage.evaluate.data is not None and stage.evaluate.every > 0
        wanted = policy.generation_batch if evaluates else min(policy.generation_batch, most)
        if stage.rollouts.colocate is not None:
            yield from self._colocated(stage.rollouts.colocate, shape, length)
            wanted = policy.generation_batch if evaluates else 0
        yield from self._generation(shape, wanted, length, policy.quantize)

    def _fit(self, stage: FitJudgeStage) -> Iterator[Part]:
        classifier = stage.output == "classifier"
        shape, limit = self.model(stage.model, classifier)
        longest_text = stage.max_tokens or (700 if classifier else 1024)
        length = min(longest_text, limit or longest_text)
        tokens = self._tokens(stage.optimizer, stage.batch_size, length)
        yield from self._trained(shape, stage.lora, "none")
        yield from self._backward(shape, tokens, length, stage.lora, "none", recompute=False)
        rows = tokens if stage.solve_loss else tokens // length
        if not classifier:
            yield Part(HERE, "logits", logits_bytes(rows, shape.vocabulary, CROSS_ENTROPY), "update")

    def _sampling(self, reference: ModelReference | None, batch: int) -> Iterator[Part]:
        shape, limit = self.model(reference)
        yield from self._held("weights", weight_bytes(shape, self.numbers()), shape)
        yield from self._generation(shape, batch, self.length(limit), "none")

    def _rewards(self, stage: StageSettings) -> Iterator[Part]:
        """Judges, classifiers and teachers in this process; served ones cost nothing here."""
        refit = stage.refit if isinstance(stage, DistillStage) else None
        if not isinstance(stage, DistillStage | CheckJudgeStage | LabelStage):
            return
        used = [(name, self.recipe.rewards[name]) for name in rewards_of(self.recipe, stage)]
        used += [] if (prefers := preferring(stage)) is None else [(f"{stage.name}.judge", prefers)]
        for name, settings in used:
            if not isinstance(settings, JudgeSettings | ClassifierSettings | RatingSettings | TeacherSettings):
                continue
            if isinstance(settings, JudgeSettings | RatingSettings) and settings.server is not None:
                continue
            shape, _ = self.model(settings.model, isinstance(settings, ClassifierSettings))
            numbers = Numbers(BYTES[settings.dtype], BYTES[settings.dtype], getattr(settings, "quantize", "none"))
            tokens = self.recipe.policy.max_completion_tokens
            if not isinstance(settings, TeacherSettings):
                tokens = tokens_at_once(settings.batch_tokens, self.machine.kind)
            for device in settings.device if isinstance(settings.device, tuple) else (settings.device,):
                where = HERE if device in ("auto", self.recipe.policy.device) else device
                yield Part(where, f"{settings.kind} {name}", weight_bytes(shape, numbers))
                yield Part(where, f"reading of {name}", reading_bytes(shape, numbers.weights, tokens), f"score {name}")
                if refit is not None and refit.reward == name:
                    held = training_bytes(shape, numbers, self._adapter(shape, refit.lora))
                    yield Part(where, f"refit of {name}", held.gradients + held.optimizer, f"refit {name}")

    # --- what they are made of

    def _tokens(self, optimizer: OptimizerSettings, sequences: int, length: int) -> int:
        """Of one micro-batch on one device."""
        mine = -(-sequences // self.machine.devices)
        budget = tokens_at_once(optimizer.micro_batch_tokens, self.machine.kind)
        return min(max(budget // length, 1), mine) * length

    def _adapter(self, shape: Shape, lora: LoraSettings | None) -> int:
        if lora is None:
            return 0
        return adapter_size(shape, lora.rank, None if lora.target_modules == "auto" else lora.target_modules)

    def _trained(self, shape: Shape, lora: LoraSettings | None, packed: str) -> Iterator[Part]:
        packed = packed if lora is not None else "none"
        machine, numbers = self.machine, self.numbers(packed)
        held = training_bytes(shape, numbers, self._adapter(shape, lora), machine.devices)
        place = HOST if machine.offload else HERE
        yield Part(place, "weights", held.weights * (machine.devices if machine.offload else 1))
        yield Part(place, "gradients", held.gradients * (machine.devices if machine.offload else 1))
        yield Part(place, "optimizer", held.optimizer * (machine.devices if machine.offload else 1))
        if machine.divided:
            yield Part(HERE, "layers gathered", self._gathered(shape, numbers), "update")
        if machine.cuda and not machine.offload:
            yield Part(HERE, "temporaries of the step", held.gradients, "optimizer step")

    def _gathered(self, shape: Shape, numbers: Numbers) -> float:
        """Two layers (the next is fetched ahead), embedding and head, and a layer's gradients."""
        return (3 * shape.widest_layer + 2 * shape.hidden * shape.vocabulary) * numbers.products

    def _held(self, what: str, size: float, shape: Shape) -> Iterator[Part]:
        """Weights that are not trained, sharded as the trained ones are."""
        machine = self.machine
        yield Part(HOST if machine.offload else HERE, what, size / (1 if machine.offload else machine.devices))

    def _backward(
        self,
        shape: Shape,
        tokens: int,
        length: int,
        lora: LoraSettings | None,
        packed: str,
        recompute: bool | None = None,
    ) -> Iterator[Part]:
        again = self.recipe.policy.activation_checkpointing if recompute is None else recompute
        numbers, rank = self.numbers(packed), 0 if lora is None else lora.rank
        yield Part(HERE, "activations", activation_bytes(shape, numbers, tokens, length, rank, again), "update")
        yield Part(HERE, "backward of a layer", kept_by_a_layer(shape, numbers, tokens, length, rank), "update")

    def _generation(self, shape: Shape, batch: int, length: int, packed: str) -> Iterator[Part]:
        rows, numbers, when = -(-batch // self.machine.devices), self.numbers(packed), "generate"
        number, whole = numbers.weights, float(shape.parameters * numbers.products)
        if self.machine.divided:  # a step for each token: gathering anew for each would be all that it does
            yield Part(HERE, "policy, whole", whole, when)
        elif batch and self.machine.cuda and self.recipe.policy.decoding != "dynamic":
            whole = whole if numbers.products != number else 0.0
            rows, length = rounded(rows, ROWS), rounded(length, COLUMNS)
            stays = whole + cache_bytes(shape, rows, length, numbers.products) + drawing_bytes(rows, shape.vocabulary)
            when = "" if stays <= KEPT * self.machine.memory else when
            yield Part(HERE, "policy in its autocast type", whole, when)
        yield Part(HERE, "key-value cache", cache_bytes(shape, rows, length, numbers.products), when)
        yield Part(HERE, "drawing of tokens", drawing_bytes(rows, shape.vocabulary), when)
        prompts = rows * self.recipe.policy.max_prompt_tokens
        yield Part(HERE, "reading of prompts", reading_bytes(shape, number, prompts), "generate")

    def _colocated(self, settings: ColocateSettings, shape: Shape, length: int) -> Iterator[Part]:
        """vLLM beside the trainer, whole on every device: a second copy of the weights, and room for keys and values
        that it takes at once. Asleep between rollouts where the recipe says so."""
        number = self.numbers().products if settings.dtype == "auto" else BYTES[settings.dtype]
        weights, when = weight_bytes(shape, Numbers(number, number)), "generate" if settings.sleep else ""
        left = max(settings.gpu_memory_utilization * self.machine.memory - weights, 0.0)
        room = left if settings.cache_gib is None else settings.cache_gib * 2**30
        yield Part(HERE, "vLLM: weights", weights, when)
        yield Part(HERE, "vLLM: key-value cache", max(room, cache_bytes(shape, 1, length, number)), when)
        if settings.sleep:
            yield Part(HOST, "vLLM: weights, asleep", weights * self.machine.devices)
        sent = weight_bytes(shape, self.numbers())
        if self.machine.divided:
            yield Part(HOST, "weights on their way to vLLM", sent * self.machine.devices)
        elif self.recipe.policy.lora is not None:
            yield Part(HERE, "adapter merged for vLLM", sent, "generate")

    # --- advice

    def advice(self, stage: StageSettings) -> list[str]:
        """Changes, one on top of the other, until the stage fits; those that help little are left out."""
        made: list[str] = []
        planner, best = self, self.stage(stage).peak(HERE)
        for sentence, overrides, machine in changes(self.recipe, self.machine, stage):
            tried = planner.changed(overrides, machine)
            plan = tried.stage(tried.recipe.stage(stage.name))
            if plan.peak(HERE) < WORTH * best:
                planner, best = tried, plan.peak(HERE)
                key = sentence.partition("=")[0]
                made = [*(old for old in made if old.partition("=")[0] != key), sentence]
            if plan.fits:
                return made
        return [*made, "still too much: take devices with more memory, or a smaller model"]

    def changed(self, overrides: list[str], machine: dict[str, Any]) -> "Planner":
        """A planner of the recipe and machine with some values changed."""
        tree = self.recipe.model_dump(mode="json")
        for override in overrides:
            apply_override(tree, override)
        found = Planner(parse_recipe(tree, "plan"), replace(self.machine, **machine))
        found._shapes = self._shapes
        return found
