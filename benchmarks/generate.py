"""Completions a second of the sampler and of transformers' `generate`, in turns, on the same model and questions.

python benchmarks/generate.py [TURNS] [QUESTIONS] [SAMPLES] [TOKENS] [THREADS]        # default: 5 16 8 64 2

A llama of 3M parameters, GSM8K's questions. One token in 24 ends a completion, for both, so that lengths are mixed and
their mean is below half of the maximum. transformers: one left-padded batch, a key-value cache, temperature 1. Greedy
completions of both must be the same first.
"""

import json
import statistics
import sys
import time

import torch

from yonder.data.datasets import load_data
from yonder.models.encoding import PromptEncoder
from yonder.models.generation import PolicySampler
from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.models.policy import Policy
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.recipe.models import FreshModel

ENDS = 24


def main(turns: int = 5, questions: int = 16, samples: int = 8, longest: int = 64, threads: int = 2) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    tokenizer = load_tokenizer("yonder:tokenizer")
    shape = FreshModel(hidden_size=256, layers=4, seed=0)
    model = load_causal_lm(shape, tokenizer, "float32", torch.device("cpu"))
    policy = Policy(model, tokenizer)
    task = TaskSettings(format="program", docstring=False, numbers="named")
    source = {"q": DataSettings(source="gsm8k", labeled=False, limit=questions)}
    prompts, encoder = load_data("q", source, task, 0), PromptEncoder(tokenizer, 400)
    ends = list(range(0, model.config.vocab_size, ENDS))
    encoder.end_ids = tuple(ends)
    sampler = PolicySampler(policy, encoder, longest, questions * samples)
    encoded = [list(encoder.encode(prompt)) for prompt in prompts]
    width = max(map(len, encoded))
    tokens = torch.tensor([[0] * (width - len(ids)) + ids for ids in encoded])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in encoded])

    def ours(temperature: float | None, count: int) -> list[list[int]]:
        return [list(r.completion.token_ids) for r in sampler.sample(prompts, count, temperature, 0)]

    @torch.no_grad()
    def theirs(temperature: float | None, count: int) -> list[list[int]]:
        drawn = {"do_sample": False} if temperature is None else {"do_sample": True, "top_k": 0, "temperature": 1.0}
        found = model.generate(
            input_ids=tokens, attention_mask=mask, max_new_tokens=longest, num_return_sequences=count,
            eos_token_id=ends, pad_token_id=0, **drawn,
        )[:, width:].tolist()  # fmt: skip
        return [row[: next((i + 1 for i, token in enumerate(row) if token in ends), len(row))] for row in found]

    assert ours(None, 1) == theirs(None, 1), "greedy completions differ"
    rates: dict[str, list[float]] = {"yonder": [], "transformers": []}
    lengths: dict[str, list[float]] = {"yonder": [], "transformers": []}
    for turn in range(turns + 1):
        for name, work in (("yonder", ours), ("transformers", theirs)):
            start = time.perf_counter()
            found = work(1.0, samples)
            if turn:
                rates[name].append(len(found) / (time.perf_counter() - start))
                lengths[name].append(statistics.mean(map(len, found)))
    ratios = [a / b for a, b in zip(rates["yonder"], rates["transformers"], strict=True)]
    print(f"{questions} x {samples} completions of at most {longest} tokens; medians of {turns} turns\n")
    print("| | completions/s | mean tokens |\n|---|---|---|")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):.1f} | {statistics.mean(lengths[name]):.1f} |")
    print(f"\nyonder / transformers: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(json.dumps({"rates": rates, "ratios": ratios}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:6]))
