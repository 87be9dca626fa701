"""[J]'s step at paper scale with random weights: rollouts, judge scores and updates a second, beside their floors.

python benchmarks/gpu/paper_scale.py [--tiny] [--repeats 5] [--groups 1 8] [--tflops 989] [--tbps 3.35]

Policy of Galactica-125M's shape, judge of Qwen3-8B's, bfloat16; a prompt has 150 tokens, a completion 150 (none ends
early), a judge prompt 400, of which the responses to one question share 250. `--groups`: completions a question (1 is
[J]'s PPO, more is GRPO). `--tiny`: small models and lengths, so that it runs on a CPU in a test.

Floors are counted, not measured: products at TFLOPS (an H100's peak for dense bfloat16 by default), bytes at TBPS; a
step of sampling must read the weights and the keys and values once. A pass asks about 385,461 questions once each.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, OPTConfig, PreTrainedModel, Qwen3Config

from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt, read_judge_prompt
from yonder.models.generation import PolicySampler
from yonder.models.loading import load_tokenizer
from yonder.models.policy import Policy
from yonder.models.sharing import shares_prompts
from yonder.schema import Prompt, Rollout
from yonder.training.batch import Batch, pack
from yonder.training.rollout import Term
from yonder.training.update import LossSettings, annotate, update

QUESTIONS = 385_461


@dataclass(frozen=True)
class Scale:
    """Shapes and lengths."""

    policy: dict[str, int]
    judge: dict[str, int]
    prompt: int = 150
    completion: int = 150
    judged: int = 400
    shared: int = 250  # of a judge prompt, by the responses to one question
    rows: int = 512  # completions a step


PAPER = Scale(
    {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "ffn_dim": 3072, "vocab_size": 50000},
    {
        "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936,
    },
)  # fmt: skip
TINY = Scale(
    {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64, "vocab_size": 4096},
    {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "intermediate_size": 64, "vocab_size": 4096,
    },
    12, 8, 30, 20, 16,
)  # fmt: skip


class FixedPrompts:
    """An encoder of random tokens; no token ends a completion."""

    def __init__(self, scale: Scale, questions: int) -> None:
        draw = random.Random(0)
        self.known = {
            str(i): tuple(draw.randrange(10, scale.policy["vocab_size"]) for _ in range(scale.prompt))
            for i in range(questions)
        }
        self.end_ids: tuple[int, ...] = ()
        self.context = scale.prompt + scale.completion

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The question's tokens."""
        return self.known[prompt.id]

    def decode(self, ids: Any) -> str:
        """Nothing reads it."""
        return ""

    def stopped(self, ids: list[int]) -> bool:
        """Never."""
        return False


class Step:
    """The models and one step's three parts."""

    def __init__(self, scale: Scale, device: torch.device) -> None:
        self.scale, self.device = scale, device
        longest = scale.prompt + scale.completion
        student = OPTConfig(**scale.policy, max_position_embeddings=max(2048, longest), dropout=0.0)
        self.tokenizer = load_tokenizer("yonder:tokenizer")
        self.policy, self.reference = (
            Policy(made(student, device, torch.bfloat16 if frozen else torch.float32), self.tokenizer)
            for frozen in (False, True)
        )
        self.policy.autocast = torch.bfloat16
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), lr=1e-6, fused=device.type == "cuda")
        judge = made(Qwen3Config(**scale.judge, max_position_embeddings=4096), device, torch.bfloat16)
        prompt = JudgePrompt(self.tokenizer, read_judge_prompt("program"), "auto", ("Yes", "No"))
        able = LocalJudge(judge, prompt, scale.judged, 65536)
        self.shares = shares_prompts(able.trunk, device), shares_prompts(self.policy.trunk, device)
        self.judges = {
            share: LocalJudge(judge, prompt, scale.judged, 65536, share) for share in {False, self.shares[0]}
        }
        self.term = [Term("judge", "questions", 1.0, None, None)]

    def rollouts(self, group: int) -> list[Rollout]:
        """Completions of the full length."""
        questions = self.scale.rows // group
        sampler = PolicySampler(
            self.policy, FixedPrompts(self.scale, questions), self.scale.completion, self.scale.rows
        )  # pyright: ignore[reportArgumentType]
        return sampler.sample([Prompt(str(i), "", "") for i in range(questions)], group, 1.0, seed=0)

    def judged(self, group: int) -> tuple[list[list[int]], list[str]]:
        """Token ids of judge prompts, and each one's question."""
        draw, vocabulary = random.Random(1), self.scale.judge["vocab_size"]
        sequences: list[list[int]] = []
        for _ in range(self.scale.rows // group):
            shared = [draw.randrange(10, vocabulary) for _ in range(self.scale.shared)]
            rest = self.scale.judged - self.scale.shared
            sequences += [[*shared, *(draw.randrange(10, vocabulary) for _ in range(rest))] for _ in range(group)]
        return sequences, [str(i // group) for i in range(len(sequences))]

    def score(self, sequences: list[list[int]], questions: list[str], share: bool) -> list[float]:
        """The judge's gaps."""
        judge, gaps = self.judges[share], [0.0] * len(sequences)
        for rows, last in judge._passes(sequences, questions):
            for row, gap in zip(rows, judge._read(last)[0].tolist(), strict=True):
                gaps[row] = gap
        return gaps

    def batch(self, rollouts: list[Rollout]) -> Batch:
        """With scores and advantages at random."""
        found = pack(rollouts, [rollout.group for rollout in rollouts], 1, self.device)
        draw = torch.Generator().manual_seed(2)
        some = torch.randn(found.advantages.shape, generator=draw).to(self.device)
        return found.with_(scored=torch.ones_like(found.scored), advantages=some)

    def learn(self, batch: Batch) -> float:
        """The reference's log-probs and one update, as after a rollout whose log-probs serve as the old ones."""
        width = self.policy.trunk.width if self.shares[1] else 0
        settings = LossSettings(0.2, 0.01, 0.0, 0.2, 1.0, 1.0, 65536, shared_width=width)
        batch = annotate(batch, self.policy, self.reference, settings, [0], rollout_is_old=True)
        return update(self.policy, self.optimizer, batch, self.term, settings, [0])["loss"]


def made(config: Any, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A model with random weights, made where it runs."""
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def weights_of(model: PreTrainedModel) -> int:
    """Numbers that take part in products."""
    return sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name) + int(
        model.get_output_embeddings().weight.numel()
    )


def floors(step: Step, group: int, tflops: float, tbps: float) -> dict[str, float]:
    """Seconds that each part needs at the least."""
    s, policy, judge = step.scale, weights_of(step.policy.model), weights_of(step.judges[False].trunk.model)
    head = s.policy["hidden_size"] * s.policy["vocab_size"]
    prompts, written = s.rows // group * s.prompt, s.rows * s.completion
    flops, rate = 2 * policy * (prompts + written), 1e12 * tflops
    kept = 4 * s.policy["num_hidden_layers"] * s.policy["hidden_size"]  # bytes of keys and values, a token, bfloat16
    read = s.completion * (2 * policy + s.rows * kept * (s.prompt + s.completion / 2))
    trained = prompts + written if step.shares[1] else s.rows * (s.prompt + s.completion)
    body = (policy - head) * trained + head * written
    shared = s.rows // group * s.shared + s.rows * (s.judged - s.shared)
    return {
        "generate": max(flops / rate, read / (1e12 * tbps)),
        "judge": 2 * judge * s.rows * s.judged / rate,
        "judge, shared prefix": 2 * judge * shared / rate,
        "update with reference": 2 * 4 * body / rate,  # forward of the reference, forward and twice that backward
    }


def seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median wall time, after one that is not counted."""
    found: list[float] = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])


def measure(step: Step, group: int, tflops: float, tbps: float, repeats: int) -> dict[str, Any]:
    """One group size: seconds of each part and of the whole step, printed beside the floors."""
    rollouts, (sequences, questions) = step.rollouts(group), step.judged(group)
    assert {len(rollout.completion.token_ids) for rollout in rollouts} == {step.scale.completion}
    gaps = {share: step.score(sequences, questions, share) for share in step.judges}
    apart = max(abs(a - b) for found in gaps.values() for a, b in zip(gaps[False], found, strict=True))
    assert apart < 0.5, f"the judge's gaps differ by {apart} nats with a shared prefix"
    batch = step.batch(rollouts)
    works: dict[str, Callable[[], Any]] = {
        "generate": lambda: step.rollouts(group),
        "judge": lambda: step.score(sequences, questions, False),
        "update with reference": lambda: step.learn(batch),
    }
    if True in step.judges and group > 1:
        works["judge, shared prefix"] = lambda: step.score(sequences, questions, True)
    took = {name: seconds(work, step.device, repeats) for name, work in works.items()}
    least, rows = floors(step, group, tflops, tbps), step.scale.rows
    judged = min(took[name] for name in took if name.startswith("judge"))
    whole = took["generate"] + judged + took["update with reference"]
    print(f"\n{rows} completions, {group} a question; judge's gaps {apart:.1e} nats apart\n")
    print("| part | s | a second | floor, s | of the floor |\n|---|---|---|---|---|")
    for name, time_s in took.items():
        print(f"| {name} | {time_s:.3f} | {rows / time_s:.0f} | {least[name]:.3f} | {least[name] / time_s:.0%} |")
    hours = QUESTIONS * group / rows * whole / 3600
    floor = QUESTIONS * group / rows * sum(least[name] for name in works if name != "judge" or judged == took["judge"])
    print(f"| whole step | {whole:.3f} | {rows / whole:.0f} | | |\n")
    print(f"one pass over {QUESTIONS:,} questions: {hours:.2f} hours; floor {floor / 3600:.3f}")
    return {"group": group, "seconds": took, "floors": least, "whole_s": whole, "hours": hours, "floor_h": floor / 3600}


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tiny", action="store_true")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--groups", type=int, nargs="+", default=[1, 8])
    options.add_argument("--tflops", type=float, default=989.0)
    options.add_argument("--tbps", type=float, default=3.35)
    given = options.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not given.tiny:
        sys.exit("there is no CUDA device here; --tiny runs small models on a CPU")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{where}, torch {torch.__version__}, {given.tflops:g} TFLOP/s and {given.tbps:g} TB/s for the floors")
    step = Step(TINY if given.tiny else PAPER, device)
    found = [measure(step, group, given.tflops, given.tbps, given.repeats) for group in given.groups]
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
