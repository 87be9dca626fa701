"""Verdicts a second of the local judge beside other ways, on the same model and texts.

python benchmarks/judge.py [PAIRS] [REPEATS] [DEVICE] [DTYPE]        # default: 128 5 cpu float32

Sets of real questions and programs: mixed lengths (every third response repeats some other solutions), the programs
alone, groups of 8 programs to a question as GRPO samples them, and such groups after long questions (12 in one). The
other ways: transformers with `logits_to_keep=1` on batches in order of arrival, padded to the longest; and a judge that
writes, 8 tokens of verdict or 32 with a reason before, which are then parsed. All run alternately; ratios are medians
over the repeats. Last the floor: the matrix products of the same shapes and nothing else.
"""

import random
import statistics
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch.nn import Linear
from turns import in_turns, keep, ratio

from yonder.data.sources import read_records
from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt, read_judge_prompt
from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.models.padding import token_batches
from yonder.recipe.data import DataSettings
from yonder.recipe.models import FreshModel

BATCH = 16  # of the others
VERDICT, REASON = 8, 32  # tokens that the writing judge uses
GROUP = 8  # responses to a question
SHAPE = FreshModel(family="qwen3", hidden_size=256, layers=6, heads=4, context=2048, seed=0)
Pairs = list[tuple[str, str]]
Way = Callable[[Pairs], list[float]]


def texts(count: int) -> dict[str, Pairs]:
    """The sets, `count` pairs each."""
    rng = random.Random(0)
    records = [r for r in read_records(DataSettings(source="gsm8k"), "gsm8k") if r.program]
    chosen = rng.sample(records, count)

    def others(number: int) -> list[str]:
        return [str(record.program) for record in rng.sample(records, number)]

    alone = [(r.question, str(r.program)) for r in chosen]
    mixed = [(q, "\n".join([p, *others(5 * (i % 3 == 0))])) for i, (q, p) in enumerate(alone)]
    grouped = [(r.question, program) for r in chosen[: count // GROUP] for program in others(GROUP)]
    long = ["\n".join(r.question for r in rng.sample(records, 12)) for _ in range(count // GROUP)]
    after_long = [(question, program) for question in long for program in others(GROUP)]
    groups = f"groups of {GROUP}"
    return {"mixed lengths": mixed, "programs": alone, groups: grouped, f"{groups}, long questions": after_long}


class Bench:
    """One model, judged by in several ways."""

    def __init__(self, device: str, dtype: str) -> None:
        self.tokenizer = load_tokenizer("yonder:tokenizer")
        self.model = load_causal_lm(SHAPE, self.tokenizer, dtype, torch.device(device))
        self.prompt = JudgePrompt(self.tokenizer, read_judge_prompt("program"), "auto", ("Yes", "No"))
        self.plain = LocalJudge(self.model, self.prompt, 2048, None)
        self.shared = LocalJudge(self.model, self.prompt, 2048, None, share_prefix=True)

    def ways(self) -> dict[str, Way]:
        """Name -> what gives a number for each pair."""
        return {
            "ours": lambda pairs: [verdict.logit_gap for verdict in self.plain.verdicts(pairs)],
            "ours, shared prefix": lambda pairs: [verdict.logit_gap for verdict in self.shared.verdicts(pairs)],
            "arrival order": self.arrival_order,
            f"{VERDICT} tokens written and parsed": partial(self.written, VERDICT),
            f"{REASON} tokens written and parsed": partial(self.written, REASON),
        }

    @torch.no_grad()
    def arrival_order(self, pairs: Pairs) -> list[float]:
        """What a page of code with transformers does."""
        found: list[float] = []
        labels = self.prompt.labels
        for start in range(0, len(pairs), BATCH):
            tokens, mask = self.left_padded(pairs[start : start + BATCH])
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            out = self.model(input_ids=tokens, attention_mask=mask, position_ids=positions, logits_to_keep=1)
            logits = out.logits[:, -1].float()
            found += (logits[:, labels.yes_ids[0]] - logits[:, labels.no_ids[0]]).tolist()
        return found

    @torch.no_grad()
    def written(self, tokens_each: int, pairs: Pairs) -> list[float]:
        """What the answer says is worth nothing here (random weights); only its time counts."""
        found: list[float] = []
        for start in range(0, len(pairs), BATCH):
            tokens, mask = self.left_padded(pairs[start : start + BATCH])
            out = self.model.generate(
                input_ids=tokens, attention_mask=mask, max_new_tokens=tokens_each, min_new_tokens=tokens_each,
                do_sample=False, pad_token_id=self.tokenizer.pad_token_id,
            )  # fmt: skip
            answers = self.tokenizer.batch_decode(out[:, tokens.shape[1] :])
            found += [float("yes" in answer.lower()) for answer in answers]
        return found

    def left_padded(self, pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and mask, (B, S)."""
        ids = [self.prompt.tokens(question, response, 2048)[0] for question, response in pairs]
        width = max(map(len, ids))
        tokens, mask = torch.zeros(len(ids), width, dtype=torch.long), torch.zeros(len(ids), width, dtype=torch.long)
        for i, row in enumerate(ids):
            tokens[i, width - len(row) :], mask[i, width - len(row) :] = torch.tensor(row), 1
        return tokens.to(self.model.device), mask.to(self.model.device)

    def products(self, pairs: Pairs) -> list[float]:
        """The matrix products alone, by torch on operands of the same shapes: each layer's on the tokens of a batch
        without padding, the last MLP's on the ends, and half of attention's, which is causal."""
        lengths = [len(self.prompt.tokens(question, response, 2048)[0]) for question, response in pairs]
        layers = {n: m.weight for n, m in self.model.named_modules() if isinstance(m, Linear) and "lm_head" not in n}
        ends = f"layers.{SHAPE.layers - 1}.mlp"  # read at the last token alone
        heads, size = SHAPE.heads, SHAPE.hidden_size // SHAPE.heads

        def empty(*shape: int) -> torch.Tensor:
            return torch.ones(shape, device=self.model.device, dtype=self.model.dtype)

        out = empty(1)
        for rows in token_batches(lengths, self.plain.batch_tokens):
            tokens = sum(lengths[row] for row in rows)
            inputs = {weight.shape[1]: empty(tokens, weight.shape[1]) for weight in layers.values()}
            for name, weight in layers.items():
                out = inputs[weight.shape[1]][: len(rows) if ends in name else tokens] @ weight.T
            for n in (lengths[row] for row in rows):
                queries, keys, scores = empty(heads, n, size), empty(heads, size, (n + 1) // 2), empty(heads, n, n // 2)
                for _ in range(SHAPE.layers):
                    queries @ keys
                    scores @ queries[:, : n // 2]
        return out[:1, 0].tolist()


def main(count: str = "128", repeats: str = "5", device: str = "cpu", dtype: str = "float32") -> None:
    """Print a table for each set, and everything as one JSON line."""
    bench, record = Bench(device, dtype), dict[str, object]()
    for name, pairs in texts(int(count)).items():
        ways = bench.ways()
        gaps = {way: work(pairs) for way, work in ways.items()}
        largest = max(
            abs(a - b)
            for way in ("ours, shared prefix", "arrival order")
            for a, b in zip(gaps["ours"], gaps[way], strict=True)
        )
        assert largest < (1e-3 if dtype == "float32" else 0.5), largest
        ways["matrix products"] = bench.products
        times = in_turns({way: partial(work, pairs) for way, work in ways.items()}, int(repeats))
        lengths = [len(bench.prompt.tokens(question, response, 2048)[0]) for question, response in pairs]
        spread = f"{min(lengths)} to {max(lengths)} tokens, mean {statistics.mean(lengths):.0f}"
        print(f"\n{name}: {len(pairs)} pairs, {spread}; largest difference of the gap {largest:.0e} nats\n")
        print("| way | verdicts/s | its seconds over ours |\n|---|---|---|")
        ratios = {way: ratio(found, times["ours"]) for way, found in times.items()}
        for way, found in times.items():
            print(f"| {way} | {len(pairs) / statistics.median(found):.1f} | {ratios[way]} |")
        record[name] = {"seconds": times, "ratios": ratios, "lengths": lengths}
    keep(f"judge_{device}_{dtype}", record)


if __name__ == "__main__":
    main(*sys.argv[1:])
