"""Verdicts a second of the local judge beside two other ways, on the same model and texts of mixed lengths.

python benchmarks/judge.py [PAIRS] [REPEATS]        # default: 128 pairs, 3 repeats

The others: transformers with `logits_to_keep=1` on batches in order of arrival, padded to the longest; and
a judge that writes an answer which is then parsed. All three run alternately; ratios are medians over the repeats.
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

BATCH = 16  # of the two others
WRITTEN = 8  # tokens that the writing judge may use
SHAPE = FreshModel(family="qwen3", hidden_size=256, layers=6, heads=4, context=2048, seed=0)
Pairs = list[tuple[str, str]]


def texts(count: int) -> Pairs:
    """Real questions and programs; every third response repeats some other solutions, so that lengths differ widely."""
    rng = random.Random(0)
    records = [r for r in read_records(DataSettings(source="gsm8k"), "gsm8k") if r.program]
    chosen = rng.sample(records, count)
    return [
        (r.question, "\n".join([str(r.program), *(str(o.program) for o in rng.sample(records, 5 * (i % 3 == 0)))]))
        for i, r in enumerate(chosen)
    ]


def ours(judge: LocalJudge, pairs: Pairs) -> list[float]:
    return [verdict.logit_gap for verdict in judge.verdicts(pairs)]


@torch.no_grad()
def arrival_order(judge: LocalJudge, pairs: Pairs) -> list[float]:
    found: list[float] = []
    for start in range(0, len(pairs), BATCH):
        tokens, mask = left_padded(judge, pairs[start : start + BATCH])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = judge.trunk.model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, logits_to_keep=1
        ).logits[:, -1].float()  # fmt: skip
        labels = judge.prompt.labels
        found += (logits[:, labels.yes_ids[0]] - logits[:, labels.no_ids[0]]).tolist()
    return found


@torch.no_grad()
def written(judge: LocalJudge, pairs: Pairs) -> list[float]:
    """What the answer says is worth nothing here (random weights); only its time counts."""
    found: list[float] = []
    for start in range(0, len(pairs), BATCH):
        tokens, mask = left_padded(judge, pairs[start : start + BATCH])
        out = judge.trunk.model.generate(
            input_ids=tokens, attention_mask=mask, max_new_tokens=WRITTEN, min_new_tokens=WRITTEN, do_sample=False,
            pad_token_id=judge.prompt.tokenizer.pad_token_id,
        )  # fmt: skip
        answers = judge.prompt.tokenizer.batch_decode(out[:, tokens.shape[1] :])
        found += [float("yes" in answer.lower()) for answer in answers]
    return found


def left_padded(judge: LocalJudge, pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
    ids = [judge.prompt.tokens(question, response, judge.max_tokens)[0] for question, response in pairs]
    width = max(map(len, ids))
    tokens, mask = torch.zeros(len(ids), width, dtype=torch.long), torch.zeros(len(ids), width, dtype=torch.long)
    for i, row in enumerate(ids):
        tokens[i, width - len(row) :], mask[i, width - len(row) :] = torch.tensor(row), 1
    return tokens, mask


def seconds(work: Callable[[LocalJudge, Pairs], list[float]], judge: LocalJudge, pairs: Pairs) -> float:
    start = time.perf_counter()
    work(judge, pairs)
    return time.perf_counter() - start


def matmul_rate() -> float:
    """FLOP a second of a large fp32 matrix product here."""
    a = torch.randn(2048, 2048)
    times: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def main(count: str = "128", repeats: str = "3") -> None:
    tokenizer = load_tokenizer("yonder:tokenizer")
    model = load_causal_lm(SHAPE, tokenizer, "float32", torch.device("cpu"))
    judge = LocalJudge(model, JudgePrompt(tokenizer, read_judge_prompt("program"), "auto", ("Yes", "No")), 2048, 8192)
    pairs = texts(int(count))
    difference = max(abs(a - b) for a, b in zip(ours(judge, pairs), arrival_order(judge, pairs), strict=True))
    assert difference < 1e-3, difference
    times: dict[str, list[float]] = {"ours": [], "arrival order": [], "written and parsed": []}
    for _ in range(int(repeats)):
        for name, work in zip(times, (ours, arrival_order, written), strict=True):
            times[name].append(seconds(work, judge, pairs))
    lengths = [len(judge.prompt.tokens(question, response, 2048)[0]) for question, response in pairs]
    weights = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name)
    attention = sum(2 * SHAPE.layers * SHAPE.hidden_size * n * n for n in lengths)  # scores and values, causal half
    floor = (2 * weights * sum(lengths) + attention) / matmul_rate()
    median = {name: statistics.median(found) for name, found in times.items()}
    ratios = {name: [t / o for t, o in zip(found, times["ours"], strict=True)] for name, found in times.items()}
    print(f"{count} pairs, {min(lengths)} to {max(lengths)} tokens, {weights / 1e6:.1f}M weights in matrix products")
    print(f"largest difference of the gap: {difference:.1e} nats")
    for name, value in median.items():
        low, high = min(ratios[name]), max(ratios[name])
        print(
            f"  {name:<20} {len(pairs) / value:8.1f} verdicts/s   {statistics.median(ratios[name]):5.2f} times ours "
            f"({low:.2f} to {high:.2f})"
        )
    print(f"  matrix-product floor {floor:.2f} s: ours reaches {floor / median['ours']:.0%} of it")
    print(json.dumps({"pairs": len(pairs), "seconds": median, "ratios": ratios, "floor_s": floor}))


if __name__ == "__main__":
    main(*sys.argv[1:])
