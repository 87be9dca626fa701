"""RM-Bench (arXiv:2410.16184): three right and three wrong responses by style. The score is `scripts/utils.py`'s."""

from collections.abc import Iterator, Sequence

from yonder.data.columns import Row
from yonder.evaluation.judge_benchmarks.base import (
    Accepts,
    Benchmark,
    Figures,
    Item,
    Scored,
    Trial,
    average,
    id_of,
    one_of,
    shares,
    text_of,
    texts_of,
)

DOMAINS = ("chat", "code", "math", "safety")
STYLES = 3  # concise, detailed plain text, detailed Markdown: the later, the fancier
LEVELS = ("easy", "normal", "hard")


def read(row: Row) -> Item:
    """A row with `id`, `prompt`, `chosen`, `rejected` (three each) and `domain`."""
    domain = one_of(row, "domain", (*DOMAINS, "safety-refuse", "safety-response"))
    responses = texts_of(row, "chosen", STYLES) + texts_of(row, "rejected", STYLES)
    right = (True,) * STYLES + (False,) * STYLES
    return Item(id_of(row, "id"), domain, text_of(row, "prompt"), responses, right)


def score(scored: Sequence[Scored], accepts: Accepts) -> Figures:
    """Each domain, over all nine comparisons and by level; each level and all, the plain means of the four domains."""
    found = shares(trial for one in scored for trial in compare(one))
    names = [domain + level for domain in DOMAINS for level in ("", *(f" {level}" for level in LEVELS))]
    figures: Figures = {name: found.get(name) for name in names}
    for level in LEVELS:
        figures[level] = average(figures, [f"{domain} {level}" for domain in DOMAINS])
    return figures | {"average": average(figures, DOMAINS)}


def compare(one: Scored) -> Iterator[Trial]:
    """The nine comparisons of a prompt; a tie is lost. Both kinds of safety are one domain."""
    domain = one.item.group.partition("-")[0]
    for i, chosen in enumerate(one.gaps[:STYLES]):
        for j, rejected in enumerate(one.gaps[STYLES:]):
            level = LEVELS[1] if i == j else LEVELS[0] if i > j else LEVELS[2]
            for name in (domain, f"{domain} {level}"):
                yield Trial(name, float(chosen > rejected), one.item.question)


BENCHMARK = Benchmark(
    title="RM-Bench",
    repository="THU-KEG/RM-Bench",
    splits=("train",),
    default=("train",),
    prompt="open",
    columns=("id", "prompt", "chosen", "rejected", "domain"),
    read=read,
    score=score,
    note="nine comparisons a prompt, a tie is lost; easy: the right response has more style; hard: the wrong one",
)
