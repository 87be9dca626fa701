"""The summary of a scored file: what the scores are, and how right they are where labels tell."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from yonder.core import calibration
from yonder.core.statistics import wilson
from yonder.evaluation.judge_check.check import judged_rows
from yonder.evaluation.judge_check.rows import Judged, drawn_pairs
from yonder.schema import Interval, JudgeScore, Response

FIGURES = {"accuracy": "accuracy", "auroc": "AUROC", "pairwise": "pairwise accuracy"}


def summarise(responses: Sequence[Response], scores: Sequence[JudgeScore], delta: float) -> dict[str, Any]:
    """Number, mean, and reasons for no score; with labels also the `FIGURES`, each with its interval or None.

    Accuracy is taken at delta. Its interval and AUROC's count responses as independent; pairwise accuracy is a share
    of questions (`prompt_id`).
    """
    values = [score.value for score in scores if score.value is not None]
    reasons = Counter(score.reason for score in scores if score.value is None)
    summary: dict[str, Any] = {
        "n": len(scores),
        "mean": sum(values) / len(values) if values else None,
        "unscored": reasons.total(),
        "reasons": dict(reasons.most_common()),
        "labeled": sum(response.correct is not None for response in responses),
    }
    if not summary["labeled"]:
        return summary
    intervals = _intervals(judged_rows(responses, scores)[0], delta or 0.5)
    return summary | {name: None if found is None else _plain(found) for name, found in intervals.items()}


def one_line(summary: Mapping[str, Any]) -> str:
    """The summary for people."""
    mean = "no mean" if summary["mean"] is None else f"mean {summary['mean']:.3f}"
    text = f"{summary['n']} responses: {mean}, {summary['unscored']} unscored"
    if summary["reasons"]:
        reason, count = next(iter(summary["reasons"].items()))
        text += f" ({count} times: {reason})"
    if not summary["labeled"]:
        return text
    figures = [f"{name} {_shown(summary[key])}" for key, name in FIGURES.items()]
    return f"{text}; {summary['labeled']} labeled: {', '.join(figures)}"


def _intervals(rows: Sequence[Judged], delta: float) -> dict[str, Interval | None]:
    values, labels = [row.probability for row in rows], [row.right for row in rows]
    agreed = sum((value >= delta) == label for value, label in zip(values, labels, strict=True))
    area = calibration.auroc(values, labels)
    pairs = [(values[right], values[wrong]) for right, wrong in drawn_pairs(rows)]
    return {
        "accuracy": wilson(agreed, len(rows)) if rows else None,
        "auroc": None if area is None else calibration.auroc_interval(area, sum(labels), len(labels) - sum(labels)),
        "pairwise": wilson(calibration.pairwise_wins(pairs), len(pairs)) if pairs else None,
    }


def _plain(found: Interval) -> dict[str, Any]:
    return asdict(found) if found.bounded else asdict(found) | {"low": None, "high": None}


def _shown(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "not defined"
    return ("{value:.3f}" if figure["low"] is None else "{value:.3f} ({low:.3f} to {high:.3f})").format(**figure)
