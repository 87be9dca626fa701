"""JudgeBench (arXiv:2410.12784): pairs with one right response. The score is `utils/metrics.py`'s of its repository."""

from collections.abc import Sequence

from yonder.data.columns import Row
from yonder.evaluation.judge_benchmarks.base import (
    Accepts,
    Benchmark,
    Figures,
    Item,
    Scored,
    Trial,
    id_of,
    one_of,
    shares,
    text_of,
)

CATEGORIES = {  # how `source` begins, as in the official script
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
OTHER = "other"  # pairs of one's own: in `overall` alone


def read(row: Row) -> Item:
    """A row with `pair_id`, `source`, `question`, `response_A`, `response_B` and `label`, A>B or B>A."""
    source = text_of(row, "source")
    group = next((name for start, name in CATEGORIES.items() if source.startswith(start)), OTHER)
    first = one_of(row, "label", ("A>B", "B>A")) == "A>B"
    responses = (text_of(row, "response_A"), text_of(row, "response_B"))
    return Item(id_of(row, "pair_id"), group, text_of(row, "question"), responses, (first, not first))


def score(scored: Sequence[Scored], accepts: Accepts) -> Figures:
    """The share of pairs whose right response scores higher, by category and over all pairs.

    A tie is not right: the official script asks in both orders, and a tie then wins once and loses once.
    """
    trials = [
        Trial(name, float(one.of(True) > one.of(False)), one.item.question)
        for one in scored
        for name in (one.item.group, "overall")
    ]
    found = shares(trials)
    return {name: found.get(name) for name in (*CATEGORIES.values(), "overall")}


BENCHMARK = Benchmark(
    title="JudgeBench",
    repository="ScalerLab/JudgeBench",
    splits=("gpt", "claude"),
    default=("gpt",),
    prompt="text",
    columns=("pair_id", "source", "question", "response_A", "response_B", "label"),
    read=read,
    score=score,
    note="pairs whose right response scores higher, a tie is not right; overall is a share of all pairs",
)
