"""Which way of sampling is the fastest on this GPU: ours (growing cache, fixed cache, that as CUDA graphs, that
compiled) and transformers' `generate`, in turns; and what the race says that `policy.decoding: auto` goes by on a GPU.

python benchmarks/gpu/decoding.py [--tiny] [--turns 5] [--rows 64 512] [--group 8] [--ways NAME ...]

Compiling takes minutes: where a command may not be long, --ways dynamic static graphs transformers first, then
--ways graphs compiled.

A policy of Galactica-125M's shape, weights in float32, products in bfloat16; prompts of 150 tokens, completions of at
most 256, of which one token in 100 ends one. Checked first: the log-probs that each of ours returns are the trainer's.
The floor: weights, and keys and values, are read once a token. `--tiny`: small, on a CPU, for a test.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import OPTConfig

sys.path.insert(0, str(Path(__file__).parent.parent))

from step_parts import PAPER, TINY, FixedPrompts, Scale, made, weights_of
from turns import in_turns, keep, ratio

from yonder.generation.drawing import Sampling
from yonder.generation.dynamic import DynamicDecoder
from yonder.generation.picking import Batch
from yonder.generation.picking import seconds as race
from yonder.generation.sampler import PolicySampler
from yonder.generation.static import StaticDecoder
from yonder.models.loading import load_tokenizer
from yonder.models.policy import Policy
from yonder.schema import Prompt, Rollout
from yonder.training.batch import pack
from yonder.training.update import LossSettings, annotate

WAYS = ("dynamic", "static", "graphs", "compiled", "transformers")
ENDS = 100


class Bench:
    """One policy and questions, completed in every way."""

    def __init__(self, scale: Scale, rows: int, group: int, device: torch.device) -> None:
        self.scale, self.rows, self.group, self.device = scale, rows, group, device
        longest = scale.prompt + scale.completion
        config = OPTConfig(**scale.policy, max_position_embeddings=max(2048, longest), dropout=0.0)
        self.policy = Policy(made(config, device, torch.float32), load_tokenizer("yonder:tokenizer"))
        self.policy.autocast = torch.bfloat16
        self.encoder: Any = FixedPrompts(scale, rows // group)
        self.encoder.end_ids = tuple(range(0, scale.policy["vocab_size"], ENDS))
        self.prompts = [Prompt(str(i), "", "") for i in range(rows // group)]
        self.samplers = {name: self._sampler(name) for name in WAYS[:-1]}
        self.written = dict[str, int]()  # tokens of the last turn
        self.seed = 0

    def _sampler(self, name: str) -> PolicySampler:
        decoding: Any = "static" if name == "graphs" else name
        found = PolicySampler(self.policy, self.encoder, self.scale.completion, self.rows, decoding=decoding)
        return found

    def ours(self, name: str) -> list[Rollout]:
        """Rollouts of one of our ways."""
        sampler = self.samplers[name]
        if sampler.picker.picked is None:
            decoder = sampler.picker.decoder(self.first())
            if isinstance(decoder, StaticDecoder) and decoder.graphs is not None:
                decoder.graphs.able &= name != "static"
                decoder._steps.clear()
        self.seed += 1  # other lengths: kernels that are planned for a shape have not seen all of them
        found = sampler.sample(self.prompts, self.group, 1.0, self.seed)
        self.written[name] = sum(len(rollout.completion.token_ids) for rollout in found)
        return found

    def first(self) -> Batch:
        """The batch of a turn."""
        ids = [self.encoder.encode(prompt) for prompt in self.prompts]
        return Batch(ids, [self.scale.completion] * len(ids), self.group, Sampling(1.0))

    def raced(self) -> dict[str, float]:
        """Seconds that `policy.decoding: auto` goes by."""
        both = (DynamicDecoder(self.policy, self.encoder), StaticDecoder(self.policy, self.encoder))
        return {name: race(self.policy, one, self.first()) for name, one in zip(WAYS, both, strict=False)}

    @torch.no_grad()
    def transformers(self) -> None:
        """`generate` with a growing cache, under the same autocast."""
        ids = torch.tensor([self.encoder.known[p.id] for p in self.prompts], device=self.device)
        with self.policy.mixed_precision():
            found = self.policy.model.generate(  # pyright: ignore[reportCallIssue]
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=self.scale.completion,
                num_return_sequences=self.group, eos_token_id=list(self.encoder.end_ids), pad_token_id=1,
                do_sample=True, top_k=0, temperature=1.0,
            )  # fmt: skip
        self.written["transformers"] = int((found[:, ids.shape[1] :] != 1).sum())

    def gap(self, rollouts: list[Rollout]) -> float:
        """Mean difference of the sampler's and the trainer's log-probs, nats a token."""
        batch = pack(rollouts, [rollout.group for rollout in rollouts], 1, self.device)
        batch = annotate(batch, self.policy, None, LossSettings(0.2, 0.0, 0.0, 0.2, 1.0, 1.0, 16384), [0])
        apart = (batch.old_logprobs - batch.rollout_logprobs).abs().sum()
        return float(apart / batch.completion_mask.sum())

    def floor(self, tbps: float) -> float:
        """Seconds to read what a token needs, for the longest completions."""
        s = self.scale
        kept = 4 * s.policy["num_hidden_layers"] * s.policy["hidden_size"]
        live = ENDS * (1 - (1 - 1 / ENDS) ** s.completion) / s.completion  # of the rows, over the steps
        read = 2 * weights_of(self.policy.model) + self.rows * live * kept * (s.prompt + s.completion / 2)
        return s.completion * read / (1e12 * tbps)


def measure(scale: Scale, rows: int, group: int, ways: list[str], turns: int, tbps: float) -> dict[str, Any]:
    """One number of rows, printed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(scale, rows, group, device)
    gaps = {name: bench.gap(bench.ours(name)) for name in ways if name != "transformers"}
    assert max(gaps.values()) < 0.05, f"log-probs are not the trainer's: {gaps}"

    def whole(name: str) -> Callable[[], None]:
        def work() -> None:
            bench.transformers() if name == "transformers" else bench.ours(name)
            if device.type == "cuda":
                torch.cuda.synchronize()

        return work

    seconds = in_turns({name: whole(name) for name in ways}, turns)
    best = min(seconds, key=lambda name: statistics.median(seconds[name]))
    print(f"\n{rows} rows, {group} a question; floor {bench.floor(tbps):.3f} s\n")
    print("| | s | tokens/s | times the fastest | nats from the trainer |\n|---|---|---|---|---|")
    for name, times in seconds.items():
        median, gap = statistics.median(times), f"{gaps[name]:.1e}" if name in gaps else ""
        pace = bench.written[name] / median
        print(f"| {name} | {median:.3f} | {pace:.0f} | {ratio(times, seconds[best])} | {gap} |", flush=True)
    raced = bench.raced()
    print(
        "\nthe race that `auto` goes by on a GPU:", ", ".join(f"{name} {taken:.3f} s" for name, taken in raced.items())
    )
    if device.type == "cuda":
        peak, kept = torch.cuda.max_memory_allocated(), torch.cuda.memory_reserved()
        print(f"\npeak memory {peak / 1e9:.1f} GB; {kept / 1e9:.1f} GB with what graphs and the allocator keep")
    found = {"rows": rows, "seconds": seconds, "tokens": bench.written, "gaps": gaps, "raced": raced}
    return {**found, "floor_s": bench.floor(tbps)}


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tiny", action="store_true")
    options.add_argument("--turns", type=int, default=5)
    options.add_argument("--rows", type=int, nargs="+", default=[64, 512])
    options.add_argument("--group", type=int, default=8)
    options.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options.add_argument("--tbps", type=float, default=3.35)
    given = options.parse_args()
    if not (torch.cuda.is_available() or given.tiny):
        sys.exit("there is no CUDA device here; --tiny runs a small model on a CPU")
    scale = TINY if given.tiny else replace(PAPER, completion=256)
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU", f"torch {torch.__version__}")
    found: list[dict[str, Any]] = []
    for rows in given.rows:
        found.append(measure(scale, rows, given.group, given.ways, given.turns, given.tbps))
        if not given.tiny:
            keep("decoding", {"runs": found})


if __name__ == "__main__":
    main()
