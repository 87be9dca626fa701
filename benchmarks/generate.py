"""Completions a second of the sampler and of transformers' `generate`, in turns, on the same model and questions.

python benchmarks/generate.py [TURNS] [QUESTIONS] [SAMPLES] [TOKENS] [THREADS]        # default: 5 16 8 64 2

A llama of 3M parameters, GSM8K's questions. One token in 24 ends a completion, for both, so that lengths are mixed and
their mean is below half of the maximum. transformers: one left-padded batch, a key-value cache, temperature 1; and its
continuous batching, with pages of 32 tokens, of which there are as many as the completions need. Greedy completions of
all must be the same first.
"""

import statistics
import sys
from collections.abc import Callable
from copy import deepcopy

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig
from turns import in_turns, keep, ratio

from yonder.data.datasets import load_data
from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.models.policy import Policy
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.recipe.models import FreshModel

ENDS, PAGE = 24, 32


GREEDY = {"do_sample": False}
DRAWN = {"do_sample": True, "top_k": 0, "temperature": 1.0}


class Bench:
    """One model and some questions, completed in both ways."""

    def __init__(self, questions: int, samples: int, longest: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.samples, self.longest = samples, longest
        self.tokenizer = tokenizer = load_tokenizer("yonder:tokenizer")
        shape = FreshModel(hidden_size=256, layers=4, seed=0)
        self.model = load_causal_lm(shape, tokenizer, "float32", torch.device("cpu"))
        self.paged = deepcopy(self.model)  # which continuous batching changes
        task = TaskSettings(format="program", docstring=False, numbers="named")
        source = {"q": DataSettings(source="gsm8k", labeled=False, limit=questions)}
        self.prompts, encoder = load_data("q", source, task, 0), PromptEncoder(tokenizer, 400)
        self.ends = list(range(0, self.model.config.vocab_size, ENDS))
        encoder.end_ids = tuple(self.ends)
        self.policy = Policy(self.model, tokenizer)
        self.sampler = PolicySampler(self.policy, encoder, longest, questions * samples)
        self.encoded = encoded = [list(encoder.encode(prompt)) for prompt in self.prompts]
        self.width = max(map(len, encoded))
        self.tokens = torch.tensor([[0] * (self.width - len(ids)) + ids for ids in encoded])
        self.mask = torch.tensor([[0] * (self.width - len(ids)) + [1] * len(ids) for ids in encoded])

    def ours(self, temperature: float | None, count: int) -> list[list[int]]:
        """Yonder's sampler."""
        return [list(r.completion.token_ids) for r in self.sampler.sample(self.prompts, count, temperature, 0)]

    @torch.no_grad()
    def theirs(self, temperature: float | None, count: int) -> list[list[int]]:
        """transformers' `generate`."""
        drawn = GREEDY if temperature is None else DRAWN
        found = self.model.generate(
            input_ids=self.tokens, attention_mask=self.mask, max_new_tokens=self.longest, num_return_sequences=count,
            eos_token_id=self.ends, pad_token_id=0, **drawn,
        )[:, self.width :].tolist()  # fmt: skip
        return [row[: next((i + 1 for i, token in enumerate(row) if token in self.ends), len(row))] for row in found]

    def continuous(self, temperature: float | None, count: int) -> list[list[int]]:
        """transformers' continuous batching."""
        rows = [ids for ids in self.encoded for _ in range(count)]
        pages = sum(-(-(len(ids) + self.longest) // PAGE) for ids in rows)
        drawn = GREEDY if temperature is None else DRAWN
        config = GenerationConfig(max_new_tokens=self.longest, eos_token_id=self.ends, pad_token_id=0, **drawn)
        cache = ContinuousBatchingConfig(page_size=PAGE, num_blocks=pages, max_batch_tokens=2048)
        found = self.paged.generate_batch(rows, config, cache, progress_bar=False)
        return [list(one.generated_tokens) for one in found.values()]


def alternated(
    turns: int, questions: int, samples: int, longest: int, threads: int, *others: str
) -> dict[str, list[float]]:
    """Seconds of Yonder, of transformers and of `others` (its ways' names) for the same number of completions, with
    greedy ones compared before."""
    bench = Bench(questions, samples, longest, threads)
    ways = {"yonder": bench.ours, "transformers": bench.theirs} | {name: getattr(bench, name) for name in others}
    greedy = [way(None, 1) for way in ways.values()]
    assert all(rows == greedy[0] for rows in greedy), "greedy completions differ"
    found: dict[str, list[list[int]]] = {}

    def kept(name: str, work: Callable[[float, int], list[list[int]]]) -> Callable[[], None]:
        return lambda: found.update({name: work(1.0, samples)})

    torch.manual_seed(0)
    seconds = in_turns({name: kept(name, way) for name, way in ways.items()}, turns)
    means = [statistics.mean(map(len, rows)) for rows in found.values()]
    assert max(means) < 1.25 * min(means), f"mean lengths {means}: these are other completions"
    return seconds


def main(turns: int = 5, questions: int = 16, samples: int = 8, longest: int = 64, threads: int = 2) -> None:
    """Measure and print."""
    seconds = alternated(turns, questions, samples, longest, threads, "continuous")
    found = {name: ratio(times, seconds["yonder"]) for name, times in seconds.items()}
    print(f"{questions} x {samples} completions of at most {longest} tokens; medians of {turns} turns\n")
    print("| | completions/s | times Yonder's seconds |\n|---|---|---|")
    for name, times in seconds.items():
        print(f"| {name} | {questions * samples / statistics.median(times):.1f} | {found[name]} |")
    keep("generate", {"seconds": seconds, "ratios": found})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:6]))
