"""Completions a second of the sampler and of transformers' `generate`, in turns, on the same model and questions.

python benchmarks/generate.py [TURNS] [QUESTIONS] [SAMPLES] [TOKENS] [THREADS]        # default: 5 16 8 64 2

A llama of 3M parameters, GSM8K's questions. One token in 24 ends a completion, for both, so that lengths are mixed and
their mean is below half of the maximum. transformers: one left-padded batch, a key-value cache, temperature 1. Greedy
completions of both must be the same first.
"""

import statistics
import sys
from collections.abc import Callable

import torch
from turns import in_turns, keep, ratio

from yonder.data.datasets import load_data
from yonder.models.encoding import PromptEncoder
from yonder.models.generation import PolicySampler
from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.models.policy import Policy
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.recipe.models import FreshModel

ENDS = 24


class Bench:
    """One model and some questions, completed in both ways."""

    def __init__(self, questions: int, samples: int, longest: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.samples, self.longest = samples, longest
        self.tokenizer = tokenizer = load_tokenizer("yonder:tokenizer")
        shape = FreshModel(hidden_size=256, layers=4, seed=0)
        self.model = load_causal_lm(shape, tokenizer, "float32", torch.device("cpu"))
        task = TaskSettings(format="program", docstring=False, numbers="named")
        source = {"q": DataSettings(source="gsm8k", labeled=False, limit=questions)}
        self.prompts, encoder = load_data("q", source, task, 0), PromptEncoder(tokenizer, 400)
        self.ends = list(range(0, self.model.config.vocab_size, ENDS))
        encoder.end_ids = tuple(self.ends)
        self.policy = Policy(self.model, tokenizer)
        self.sampler = PolicySampler(self.policy, encoder, longest, questions * samples)
        encoded = [list(encoder.encode(prompt)) for prompt in self.prompts]
        self.width = max(map(len, encoded))
        self.tokens = torch.tensor([[0] * (self.width - len(ids)) + ids for ids in encoded])
        self.mask = torch.tensor([[0] * (self.width - len(ids)) + [1] * len(ids) for ids in encoded])

    def ours(self, temperature: float | None, count: int) -> list[list[int]]:
        """Yonder's sampler."""
        return [list(r.completion.token_ids) for r in self.sampler.sample(self.prompts, count, temperature, 0)]

    @torch.no_grad()
    def theirs(self, temperature: float | None, count: int) -> list[list[int]]:
        """transformers' `generate`."""
        drawn = {"do_sample": False} if temperature is None else {"do_sample": True, "top_k": 0, "temperature": 1.0}
        found = self.model.generate(
            input_ids=self.tokens, attention_mask=self.mask, max_new_tokens=self.longest, num_return_sequences=count,
            eos_token_id=self.ends, pad_token_id=0, **drawn,
        )[:, self.width :].tolist()  # fmt: skip
        return [row[: next((i + 1 for i, token in enumerate(row) if token in self.ends), len(row))] for row in found]


def alternated(turns: int, questions: int, samples: int, longest: int, threads: int) -> tuple[list[float], list[float]]:
    """Seconds of transformers and of Yonder for the same number of completions, with greedy ones compared before."""
    bench = Bench(questions, samples, longest, threads)
    assert bench.ours(None, 1) == bench.theirs(None, 1), "greedy completions differ"
    found: dict[str, list[list[int]]] = {}

    def kept(name: str, work: Callable[[float, int], list[list[int]]]) -> Callable[[], None]:
        return lambda: found.update({name: work(1.0, samples)})

    torch.manual_seed(0)
    seconds = in_turns({"yonder": kept("yonder", bench.ours), "transformers": kept("theirs", bench.theirs)}, turns)
    means = [statistics.mean(map(len, rows)) for rows in found.values()]
    assert max(means) < 1.25 * min(means), f"mean lengths {means}: these are other completions"
    return seconds["transformers"], seconds["yonder"]


def main(turns: int = 5, questions: int = 16, samples: int = 8, longest: int = 64, threads: int = 2) -> None:
    """Measure and print."""
    theirs, ours = alternated(turns, questions, samples, longest, threads)
    found = ratio(theirs, ours)
    print(f"{questions} x {samples} completions of at most {longest} tokens; medians of {turns} turns\n")
    print("| | completions/s |\n|---|---|")
    for name, times in (("yonder", ours), ("transformers", theirs)):
        print(f"| {name} | {questions * samples / statistics.median(times):.1f} |")
    print(f"\ntransformers' seconds over Yonder's: {found}")
    keep("generate", {"seconds": {"yonder": ours, "transformers": theirs}, "ratio": found})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:6]))
