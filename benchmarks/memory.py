"""What `yonder plan` says of memory against what real steps take: tensors alive, and on a CPU the whole process.

python benchmarks/memory.py [CASE]        # a Markdown table; each case runs in a process of its own

Tensors are counted from the allocator's own events (`torch.profiler` with `profile_memory`), from before the model is
made. The process is the peak of its resident set (`VmHWM`) less what it had after imports, in a pass before that.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from yonder.assembly.workshop import Workshop
from yonder.planning.machine import Machine
from yonder.planning.needs import HERE, Planner
from yonder.recipe.loading import parse_recipe
from yonder.recipe.recipe import Recipe
from yonder.recipe.stages import DistillStage
from yonder.schema import Completion, Prompt, Rollout
from yonder.training.batch import Batch, pack
from yonder.training.optimizer import build_optimizer
from yonder.training.rollout import Term
from yonder.training.update import LossSettings, annotate, update

ROWS, MICRO, COMPLETION = 4, 2, 96  # sequences an update, in a micro-batch; tokens
Made = TypeVar("Made")
WORDS = "How many pens does Ann have now? " * 12


@dataclass(frozen=True)
class Case:
    """A model and how it is trained."""

    name: str
    family: str = "llama"
    hidden_size: int = 512
    layers: int = 4
    lora: bool = False
    recompute: bool = False
    autocast: bool = False
    dtype: str = "float32"
    algorithm: str = "ppo"


CASES = [
    Case("llama 512 x 4"),
    Case("llama 512 x 4, recomputed", recompute=True),
    Case("llama 512 x 4, LoRA", lora=True),
    Case("llama 512 x 4, LoRA, recomputed", lora=True, recompute=True),
    Case("llama 512 x 4, autocast", autocast=True),
    Case("llama 512 x 4, bfloat16, LoRA", dtype="bfloat16", lora=True),
    Case("llama 1024 x 4", hidden_size=1024),
    Case("llama 1024 x 4, LoRA, recomputed", hidden_size=1024, lora=True, recompute=True),
    Case("qwen3 512 x 4, GRPO", family="qwen3", algorithm="grpo"),
    Case("opt 768 x 4", family="opt", hidden_size=768),
    Case("opt 768 x 4, recomputed", family="opt", hidden_size=768, recompute=True),
    Case("gpt2 768 x 4", family="gpt2", hidden_size=768),
    Case("codegen 512 x 4", family="codegen"),
]


def recipe_of(case: Case, prompt: int, device: str) -> Recipe:
    """A recipe with one distill stage."""
    length = prompt + COMPLETION
    model = {"family": case.family, "hidden_size": case.hidden_size, "layers": case.layers, "heads": 8, "context": 512}
    policy = {
        "model": model, "tokenizer": "yonder:tokenizer", "device": device, "dtype": case.dtype,
        "max_prompt_tokens": prompt, "max_completion_tokens": COMPLETION, "generation_batch": ROWS * 4,
        "autocast": "bfloat16" if case.autocast else "off", "activation_checkpointing": case.recompute,
        **({"lora": {"rank": 16}} if case.lora else {}),
    }  # fmt: skip
    stage = {
        "name": "rl", "kind": "distill", "steps": 2, "prompts": {"train": ROWS * 4}, "algorithm": case.algorithm,
        "terms": [{"reward": "correct", "data": "train", "weight": 1.0}],
        "optimizer": {"micro_batch_tokens": MICRO * length},
        **({} if case.algorithm == "ppo" else {"group_size": 2, "prompts": {"train": ROWS * 2}}),
    }  # fmt: skip
    tree = {
        "policy": policy,
        "data": {"train": {"source": "word-problems"}},
        "rewards": {"correct": {"kind": "verifiable"}},
        "stages": [stage],
    }
    return parse_recipe(tree, "memory")


def batch_of(prompt: int, device: torch.device) -> Batch:
    """Random rollouts at the limits, with scores."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 4000, (ROWS, prompt + COMPLETION), generator=draw).tolist()
    nothing = (-8.0,) * COMPLETION
    rollouts = [
        Rollout(Prompt(str(i), "", ""), tuple(row[:prompt]), Completion(tuple(row[prompt:]), nothing, "", True), i)
        for i, row in enumerate(ids)
    ]
    batch = pack(rollouts, list(range(ROWS)), 1, device)
    some = torch.randn(batch.advantages.shape, generator=draw).to(device)
    return batch.with_(scored=torch.ones_like(batch.scored), advantages=some, returns=some)


class Steps:
    """Two updates, then sampling."""

    def __init__(self, case: Case, device: str) -> None:
        from yonder.models.loading import load_tokenizer

        self.prompt = len(load_tokenizer("yonder:tokenizer")(WORDS)["input_ids"])
        self.recipe = recipe_of(case, self.prompt, device)
        stage = self.recipe.stage("rl")
        assert isinstance(stage, DistillStage)
        self.shop = Workshop(self.recipe, {})
        self.policy = self.shop.policy(None, 1 if case.algorithm == "ppo" else 0, train=True)
        self.reference = self.shop.reference(stage, self.policy)
        self.optimizer = build_optimizer(self.policy, 1e-5, None, 0.0)
        tokens = MICRO * (self.prompt + COMPLETION)
        self.loss = LossSettings(0.2, 0.0, 5.0 if case.algorithm == "ppo" else 0.0, 0.2, 1.0, 1.0, tokens)

    def update(self) -> None:
        """Both epochs on one batch; the second has optimizer state from the start."""
        batch = batch_of(self.prompt, self.policy.device)
        batch = annotate(batch, self.policy, self.reference, self.loss, [0])
        for _ in range(2):
            update(self.policy, self.optimizer, batch, [Term("r", "s", 1.0, None)], self.loss, [0])

    def generate(self) -> None:
        """One batch of completions of the greatest length."""
        sampler = self.shop.sampler(self.policy, self.recipe.task)
        sampler.sample([Prompt(str(i), "", WORDS) for i in range(ROWS * 4)], 1, 1.0, 0)


def planned(recipe: Recipe, memory: float = 1e15, cuda: bool = False) -> dict[str, float]:
    """Bytes at the moments that are measured."""
    plan = Planner(recipe, Machine(memory, cuda=cuda)).stage(recipe.stage("rl"))
    held = sum(part.bytes for part in plan.parts if part.device == HERE and not part.when)
    moments = {when: held for when in ("update", "generate")}
    for part in plan.parts:
        if part.when in moments:
            moments[part.when] += part.bytes
    return moments


def resident(field: str) -> int:
    """Bytes of a field of this process's status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def peaks_of(make: Callable[[], Made], moments: Sequence[str]) -> tuple[Made, dict[str, int]]:
    """What `make` makes, and the most bytes of tensors alive while each of its methods ran."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as found:
        made = make()
        for name in moments:
            with torch.profiler.record_function(f"## {name}"):
                getattr(made, name)()
    events = list(found.profiler.kineto_results.events())
    windows = {e.name()[3:]: (e.start_ns(), e.end_ns()) for e in events if e.name().startswith("## ")}
    alive, peaks = 0, dict.fromkeys(windows, 0)
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        alive += event.nbytes()
        for name, (start, end) in windows.items():
            if start <= event.start_ns() <= end:
                peaks[name] = max(peaks[name], alive)
    return made, peaks


def measure(case: Case) -> dict[str, Any]:
    """One case in this process, on the CPU."""
    torch.set_num_threads(1)
    torch.randn(64, 64) @ torch.randn(64, 64)
    before = resident("VmRSS")
    steps = Steps(case, "cpu")
    steps.update()
    steps.generate()
    process = resident("VmHWM") - before
    del steps
    gc.collect()
    steps, peaks = peaks_of(lambda: Steps(case, "cpu"), ("update", "generate"))
    return {"case": asdict(case), "planned": planned(steps.recipe), "measured": peaks, "process": process}


def main() -> None:
    """All cases, or the one named."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(next(case for case in CASES if case.name == sys.argv[1]))))
        return
    print("| model | update: planned MB | tensors | error | sampling: planned MB | tensors | error | process MB |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        command = [sys.executable, __file__, case.name]
        row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        print(
            f"| {case.name} | {cells(row, 'update')} | {cells(row, 'generate')} | {row['process'] / 1e6:.0f} |",
            flush=True,
        )


def cells(row: dict[str, Any], moment: str) -> str:
    """Planned, measured and the plan's error."""
    said, was = row["planned"][moment], row["measured"][moment]
    return f"{said / 1e6:.0f} | {was / 1e6:.0f} | {said / was - 1:+.0%}"


if __name__ == "__main__":
    main()
