"""Trips and refits (`events.jsonl`) as the page shows them; every part may be missing or of the wrong kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yonder.reporting.records import RunRecord, number
from yonder.reporting.tables import run_labels

MOST = 50  # events of a stage in a page
ROLLOUTS = 8  # of an event
TEXT = 2_000  # characters of one text
_DONE = {
    "warn": "warned",
    "stop": "stopped",
    "stop-at-good": "stopped with the last good checkpoint",
    "refit": "reward fitted again, policy put back to the last good checkpoint",
    "refitted": "reward fitted again",
    "not-refitted": "left as it was",
    "rollback": "rolled back, weight moved to the verifiable term",
}


def events(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Every trip, in the runs' order: where, which rule, what was said and done, and the rollouts behind it."""
    labels = run_labels(runs)
    return [
        {"run": index, "stage": f"{labels[index]} · {stage.name}" if len(runs) > 1 else stage.name, **_event(row)}
        for index, run in enumerate(runs)
        for stage in run.stages
        for row in stage.events[:MOST]
    ]


def _event(row: Mapping[str, Any]) -> dict[str, Any]:
    action, figures, rollouts = str(row.get("action") or ""), row.get("figures"), row.get("rollouts")
    step = number(row.get("step"))
    return {
        "step": None if step is None else int(step),
        "rule": str(row.get("rule") or "unknown rule"),
        "action": action,
        "done": _DONE.get(action, action),
        "message": str(row.get("message") or "")[:TEXT],
        "figures": {
            str(name): f"{value:.4g}"
            for name, found in (figures.items() if isinstance(figures, dict) else ())
            if (value := number(found)) is not None
        },
        "rollouts": [
            _rollout(item)
            for item in (rollouts[:ROLLOUTS] if isinstance(rollouts, list) else ())
            if isinstance(item, dict)
        ],
    }


def _rollout(row: Mapping[str, Any]) -> dict[str, Any]:
    scores = row.get("scores")
    return {
        "step": number(row.get("step")),
        "question": str(row.get("question") or "")[:TEXT],
        "response": str(row.get("response") or "")[:TEXT],
        "answer": str(row.get("answer") or "")[:TEXT],
        "scores": [
            f"{name} {_value(score.get('value'))} ({str(score.get('reason') or '')[:200]})"
            for name, score in (scores.items() if isinstance(scores, dict) else ())
            if isinstance(score, dict)
        ],
    }


def _value(value: Any) -> str:
    plain = number(value)
    return "unscored" if plain is None else f"{plain:.3g}"
