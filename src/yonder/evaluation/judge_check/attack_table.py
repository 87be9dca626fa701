"""How often a judge says Yes to responses that were made to fool it: by kind, by pattern, and in total."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from yonder.core.statistics import wilson
from yonder.schema import Response


@dataclass(frozen=True, slots=True)
class AttackRow:
    """What became of one group of attacks; every one of them is a wrong response."""

    kind: str  # of a total: empty
    pattern: str  # of a kind or a total: empty
    withheld: bool  # no judge of ours is fitted on this kind
    n: int  # scored
    passed: int  # at delta or above
    rate: float | None  # passed / n; None: none scored
    low: float  # Wilson's 95 % interval of the rate, responses taken as independent
    high: float
    unscored: int


@dataclass(frozen=True, slots=True)
class AttackTable:
    """Every row of the attack suite."""

    questions: int  # with at least one attack
    kinds: tuple[AttackRow, ...]
    patterns: tuple[AttackRow, ...]
    overall: AttackRow
    withheld: AttackRow  # over the withheld kinds

    def rates(self) -> dict[str, float]:
        """Kind -> share that passes, where one was scored."""
        return {row.kind: row.rate for row in self.kinds if row.rate is not None}

    def sentence(self) -> str:
        """Both totals, for a terminal."""
        return f"attacks that pass: {_text(self.overall)}; of withheld kinds {_text(self.withheld)}"


def attack_table(
    attacks: Sequence[tuple[Response, float | None]], delta: float, withheld: Collection[str]
) -> AttackTable:
    """Count what passes delta. `attacks`: responses with the kind as `source` and the pattern as `detail`, and the
    judge's probability for each, None where it gave none."""
    kinds: dict[str, list[float | None]] = {}
    patterns: dict[tuple[str, str], list[float | None]] = {}
    for response, probability in attacks:
        kinds.setdefault(response.source, []).append(probability)
        patterns.setdefault((response.source, response.detail), []).append(probability)
    hidden = [probability for response, probability in attacks if response.source in withheld]
    return AttackTable(
        questions=len({response.question for response, _ in attacks}),
        kinds=tuple(_row(kind, "", kind in withheld, values, delta) for kind, values in kinds.items()),
        patterns=tuple(_row(kind, name, kind in withheld, v, delta) for (kind, name), v in patterns.items()),
        overall=_row("", "", False, [probability for _, probability in attacks], delta),
        withheld=_row("", "", True, hidden, delta),
    )


def _row(kind: str, pattern: str, withheld: bool, values: Sequence[float | None], delta: float) -> AttackRow:
    scored = [value for value in values if value is not None]
    passed = sum(value >= delta for value in scored)
    share = wilson(passed, len(scored))
    return AttackRow(
        kind=kind,
        pattern=pattern,
        withheld=withheld,
        n=len(scored),
        passed=passed,
        rate=share.value if scored else None,
        low=share.low,
        high=share.high,
        unscored=len(values) - len(scored),
    )


def _text(row: AttackRow) -> str:
    return "none scored" if row.rate is None else f"{row.rate:.1%} of {row.n:,} ({row.low:.1%} to {row.high:.1%})"
