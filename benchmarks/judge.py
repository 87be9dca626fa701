"""Verdicts a second of the local judge beside other ways, on the same model and texts.

python benchmarks/judge.py [PAIRS] [REPEATS] [DEVICE] [DTYPE]        # default: 128 3 cpu float32

Sets of real questions and programs: mixed lengths (every third response repeats some other solutions), the programs
alone, groups of 8 programs to a question as GRPO samples them, and such groups after long questions (12 in one). The
other ways: transformers with
`logits_to_keep=1` on batches in order of arrival, padded to the longest; and a judge that writes 8 tokens that are then
parsed (a reason before the verdict would take more). All run alternately; ratios are medians over the repeats.
"""

import json
import random
import statistics
import sys
import time
from collections.abc import Callable

import torch

from yonder.data.sources import read_records
from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt, read_judge_prompt
from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.recipe.data import DataSettings
from yonder.recipe.models import FreshModel

BATCH = 16  # of the others
WRITTEN = 8  # tokens that the writing judge may use
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
        self.plain = LocalJudge(self.model, self.prompt, 2048, 8192)
        self.shared = LocalJudge(self.model, self.prompt, 2048, 8192, share_prefix=True)

    def ways(self) -> dict[str, Way]:
        """Name -> what gives a number for each pair."""
        return {
            "ours": lambda pairs: [verdict.logit_gap for verdict in self.plain.verdicts(pairs)],
            "ours, shared prefix": lambda pairs: [verdict.logit_gap for verdict in self.shared.verdicts(pairs)],
            "arrival order": self.arrival_order,
            "written and parsed": self.written,
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
    def written(self, pairs: Pairs) -> list[float]:
        """What the answer says is worth nothing here (random weights); only its time counts."""
        found: list[float] = []
        for start in range(0, len(pairs), BATCH):
            tokens, mask = self.left_padded(pairs[start : start + BATCH])
            out = self.model.generate(
                input_ids=tokens, attention_mask=mask, max_new_tokens=WRITTEN, min_new_tokens=WRITTEN, do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
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

    def floor(self, pairs: Pairs) -> float:
        """Seconds of the matrix products alone, at the rate of a large product of the same type here."""
        lengths = [len(self.prompt.tokens(question, response, 2048)[0]) for question, response in pairs]
        weights = sum(p.numel() for name, p in self.model.named_parameters() if p.dim() == 2 and "embed" not in name)
        attention = sum(2 * SHAPE.layers * SHAPE.hidden_size * n * n for n in lengths)  # scores, values: causal half
        return (2 * weights * sum(lengths) + attention) / self.matmul_rate()

    def matmul_rate(self) -> float:
        """FLOP a second of a large product."""
        a = torch.randn(2048, 2048, device=self.model.device, dtype=self.model.dtype)
        return 2 * 2048**3 / min(self.seconds(lambda _: (a @ a)[:1, 0].tolist(), []) for _ in range(9))

    def seconds(self, way: Way, pairs: Pairs) -> float:
        """Wall time; every way ends with numbers on the host, so a GPU has finished too."""
        start = time.perf_counter()
        way(pairs)
        return time.perf_counter() - start


def main(count: str = "128", repeats: str = "3", device: str = "cpu", dtype: str = "float32") -> None:
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
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(int(repeats)):
            for way, work in ways.items():
                times[way].append(bench.seconds(work, pairs))
        lengths = [len(bench.prompt.tokens(question, response, 2048)[0]) for question, response in pairs]
        spread = f"{min(lengths)} to {max(lengths)} tokens, mean {statistics.mean(lengths):.0f}"
        print(f"{name}: {len(pairs)} pairs, {spread}; largest difference of the gap {largest:.0e} nats")
        for way, found in times.items():
            ratios = [theirs / ours for theirs, ours in zip(found, times["ours"], strict=True)]
            said = f"{statistics.median(ratios):5.2f} times ours ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"  {way:<20} {len(pairs) / statistics.median(found):8.1f} verdicts/s   {said}")
        floor = bench.floor(pairs)
        print(
            f"  matrix products alone {floor:.2f} s: ours is at {floor / statistics.median(times['ours']):.0%} of that"
        )
        record[name] = {"seconds": times, "floor_s": floor, "lengths": lengths}
    print(json.dumps(record))


if __name__ == "__main__":
    main(*sys.argv[1:])
