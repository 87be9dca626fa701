"""Choose which logged rollouts the page shows: every step, disagreements first, within a budget of bytes.

Some questions are kept at many steps, so that a reader can see what training changed in the answers to one question.

Two passes, so that a log of any length is never in memory: the first keeps a few words about every row, the second
reads the chosen rows again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yonder.reporting.records import RunRecord, number, read_lines
from yonder.reporting.redaction import redact_text

LIMIT, MORE, MOST = 1500, 200, 5000  # rollouts in a page: of one run, for each further one, of all
BYTES, MORE_BYTES, MOST_BYTES = 2_100_000, 300_000, 7_000_000  # of JSON, likewise
SERIES, PLACES = 40, 10  # questions shown at several steps, all runs together; rollouts of each in a run
TEXT = 6_000  # characters of one text
SAMPLES = 12  # liked wrongly, shown by name in the judge panel


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is remembered of a row: where it is and how its scores stand to each other."""

    run: int
    stage: int
    file: Path
    line: int
    step: float
    stream: str
    prompt: str
    verdict: str  # right, wrong or unknown, by the verifier
    opinion: str  # liked or disliked wrongly, by any other reward; else empty
    unscored: bool
    liking: float  # highest score of a reward that is not the verifier; -1: none


@dataclass(frozen=True, slots=True)
class Sample:
    """Rollouts for the page, and of how many they were chosen."""

    rows: list[dict[str, Any]]
    liked_wrongly: list[int]  # indices into rows, the best liked first
    total: int
    tally: dict[str, int]  # of ALL rows: right, wrong, unknown, liked wrongly, disliked wrongly, unscored


def sample_rollouts(
    runs: Sequence[RunRecord],
    limit: int | None = None,
    budget: int | None = None,
    known: Known | None = None,
) -> tuple[Sample, tuple[str, ...]]:
    """The sample, and a sentence for each log that could not be read whole.

    `known` keeps what was seen in each log for the next call, which then reads only those that have changed.
    """
    more = max(0, len(runs) - 1)
    limit = limit or min(MOST, LIMIT + MORE * more)
    budget = budget or min(MOST_BYTES, BYTES + MORE_BYTES * more)
    problems: list[str] = []
    known = {} if known is None else known
    seen = [found for index, run in enumerate(runs) for found in _sightings(index, run, problems, known)]
    top = _top_liked_wrongly(seen)
    forced = [*top, *series(seen, limit // 4)]
    chosen = choose(seen, forced, limit)
    rows = _load(chosen, runs)
    while len(rows) > 50 and (size := sum(len(_encode(row)) for _, row in rows)) > budget:
        fewer = min(len(chosen) - 1, int(0.95 * len(chosen) * budget / size))
        forced = [*top, *series(chosen, fewer // 4)]
        chosen = choose(chosen, forced, max(fewer, len(top)))
        kept = set(chosen)
        rows = [(found, row) for found, row in rows if found in kept]
    places = {found: index for index, (found, _) in enumerate(rows)}
    return Sample(
        rows=[row for _, row in rows],
        liked_wrongly=[places[found] for found in top if found in places],
        total=len(seen),
        tally=_tally(seen),
    ), tuple(problems)


Known = dict[tuple[object, ...], list[Sighting]]  # what decides the sightings in one log -> them


def choose(seen: Sequence[Sighting], forced: Sequence[Sighting], limit: int) -> list[Sighting]:
    """At most `limit` of them, shared evenly among streams and spread over their steps; the forced ones always."""
    if len(seen) <= limit:
        return list(seen)
    groups: dict[tuple[int, int, str], list[Sighting]] = {}
    for found in seen:
        groups.setdefault((found.run, found.stage, found.stream), []).append(found)
    taken = dict.fromkeys(forced)
    left = max(0, limit - len(taken))
    by_size = sorted(groups.values(), key=len)  # small groups first: what they leave goes to the others
    for order, group in enumerate(by_size):
        share = left // (len(groups) - order)
        fresh = [found for found in group if found not in taken]
        picked = dict.fromkeys(spread([found for found in fresh if found.opinion], share // 2))
        picked |= dict.fromkeys(
            spread([found for found in fresh if found.unscored and found not in picked], share // 10)
        )
        picked |= dict.fromkeys(spread([found for found in fresh if found not in picked], share - len(picked)))
        taken |= picked
        left -= len(picked)
    return [found for found in seen if found in taken]


def series(seen: Sequence[Sighting], limit: int) -> list[Sighting]:
    """Questions that were answered at several steps, at most `limit` sightings; the same ones in every run if possible.

    In each run first those that other runs show too, then those whose verdict changes, then those with most steps. One
    sighting a step.
    """
    by_run: dict[int, dict[str, dict[tuple[int, float], Sighting]]] = {}
    for found in seen:
        steps = by_run.setdefault(found.run, {}).setdefault(f"{found.stream}\0{found.prompt}", {})
        steps.setdefault((found.stage, found.step), found)
    shown: dict[str, None] = {}
    chosen: list[Sighting] = []
    for steps_of in by_run.values():
        several = {key: list(steps.values()) for key, steps in steps_of.items() if key[-1] != "\0" and len(steps) > 1}

        def rank(key: str, several: Mapping[str, Sequence[Sighting]] = several) -> tuple[bool, bool, int]:
            verdicts = {found.verdict for found in several[key]}
            return key in shown, len(verdicts) > 1, min(PLACES, len(several[key]))

        quota, room = max(1, SERIES // len(by_run)), limit // len(by_run)
        for key in sorted(several, key=rank, reverse=True)[:quota]:
            picked = spread(several[key], min(PLACES, room))
            room -= len(picked)
            chosen += picked if len(picked) > 1 else []
            shown[key] = None
    return chosen


def spread(items: Sequence[Sighting], count: int) -> list[Sighting]:
    """`count` of them at even distances, first and last included."""
    if count >= len(items):
        return list(items)
    if count <= 0:
        return []
    if count == 1:
        return [items[-1]]
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def stand(scores: Mapping[str, Any], thresholds: Mapping[str, float]) -> tuple[str, str, bool, float]:
    """(verdict, opinion, unscored, liking) of one row's scores.

    The verifier is a score whose details say `correct`, or that is called so; every other score is an opinion, and
    likes the response from its reward's threshold on (delta, or one half).
    """
    verdict, likes, liking, unscored = "unknown", list[bool](), -1.0, not scores
    for name, score in scores.items():
        score = score if isinstance(score, Mapping) else {"value": score}
        value, details = number(score.get("value")), score.get("details")
        correct = details.get("correct") if isinstance(details, Mapping) else None
        unscored = unscored or value is None
        if isinstance(correct, bool):
            verdict = "right" if correct else "wrong"
        elif name in ("correct", "verifiable", "verifier", "verified"):
            verdict = verdict if value is None else "right" if value >= 1 else "wrong"
        elif value is not None:
            likes.append(value >= thresholds.get(name, 0.5))
            liking = max(liking, value)
    opinion = ""
    if verdict == "wrong" and any(likes):
        opinion = "liked wrongly"
    if verdict == "right" and likes and not all(likes):
        opinion = "disliked wrongly"
    return verdict, opinion, unscored, liking


def thresholds_in(card: Mapping[str, Any]) -> dict[str, float]:
    """Reward -> delta, wherever a run card has it beside the reward's name."""
    found: dict[str, float] = {}

    def walk(name: str, value: Any) -> None:
        if not isinstance(value, dict):
            return
        delta = number(value.get("delta"))
        if delta:
            found[name] = delta
        for key, item in value.items():
            walk(key, item)

    walk("", card)
    return found


def _sightings(index: int, run: RunRecord, problems: list[str], known: Known) -> list[Sighting]:
    thresholds = thresholds_in(run.card)
    seen: list[Sighting] = []
    for stage, record in enumerate(run.stages):
        for file in record.rollout_files:
            at, trouble = _identity(file), len(problems)
            key = (index, stage, file, at, *sorted(thresholds.items()))
            found = known.get(key)
            if found is None:
                lines = read_lines(file, problems)
                found = [_sighting(index, stage, file, line, row, thresholds) for line, row in lines]
                if at is not None and len(problems) == trouble:
                    for old in [old for old in known if old[:3] == key[:3]]:
                        del known[old]
                    known[key] = found
            seen += found
    return seen


def _sighting(
    index: int, stage: int, file: Path, line: int, row: Mapping[str, Any], thresholds: Mapping[str, float]
) -> Sighting:
    scores = row.get("scores")
    verdict, opinion, unscored, liking = stand(scores if isinstance(scores, dict) else {}, thresholds)
    stream, prompt = str(row.get("stream") or ""), str(row.get("prompt_id") or "")
    step = number(row.get("step")) or 0
    return Sighting(index, stage, file, line, step, stream, prompt, verdict, opinion, unscored, liking)


def _identity(file: Path) -> tuple[int, int, int] | None:
    """What another content of the file would change; None: it is gone."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _top_liked_wrongly(seen: Sequence[Sighting]) -> list[Sighting]:
    """The wrong responses with the highest scores, the latest of each question."""
    best: dict[tuple[int, str], Sighting] = {}
    for found in sorted(seen, key=lambda found: (found.liking, found.step), reverse=True):
        if found.opinion == "liked wrongly":
            best.setdefault((found.run, found.prompt), found)
    return list(best.values())[:SAMPLES]


def _load(chosen: Sequence[Sighting], runs: Sequence[RunRecord]) -> list[tuple[Sighting, dict[str, Any]]]:
    wanted: dict[Path, dict[int, Sighting]] = {}
    for found in chosen:
        wanted.setdefault(found.file, {})[found.line] = found
    rows: list[tuple[Sighting, dict[str, Any]]] = []
    for file, lines in wanted.items():
        for line, row in read_lines(file, [], lines.__contains__):
            rows.append((lines[line], _row(lines[line], row)))
    return rows


def _row(found: Sighting, row: Mapping[str, Any]) -> dict[str, Any]:
    """One rollout as the page needs it; texts cut to a length that a person would read."""
    response, completion = redact_text(str(row.get("response") or "")), redact_text(str(row.get("completion") or ""))
    response = response or completion
    given = len(response) - len(completion) if completion and response.endswith(completion) else 0
    scores = row.get("scores")
    return {
        "run": found.run,
        "stage": found.stage,
        "step": found.step,
        "stream": found.stream,
        "prompt": cut(found.prompt, 200),
        "question": cut(redact_text(str(row.get("question") or ""))),
        "response": cut(response),
        "given": given,
        "answer": None if row.get("answer") is None else cut(str(row["answer"]), 500),
        "finished": row.get("finished") if isinstance(row.get("finished"), bool) else None,
        "tokens": number(row.get("tokens")),
        "verdict": found.verdict,
        "opinion": found.opinion,
        "unscored": found.unscored,
        "liking": None if found.liking < 0 else round(found.liking, 4),
        "scores": [_score(name, score) for name, score in scores.items()] if isinstance(scores, dict) else [],
    }


def _score(name: str, score: Any) -> dict[str, Any]:
    score = score if isinstance(score, dict) else {"value": score}
    value, details = number(score.get("value")), score.get("details")
    facts = {str(key): item for key, item in details.items() if item is not None} if isinstance(details, dict) else {}
    return {
        "name": name,
        "value": None if value is None else round(value, 4),
        "reason": cut(redact_text(str(score.get("reason") or "")), 1000),
        "details": {key: cut(redact_text(item), 500) if isinstance(item, str) else item for key, item in facts.items()},
    }


def cut(text: str, longest: int = TEXT) -> str:
    """The text, or its beginning and how much is left out."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}\n… {len(text) - longest:,} more characters are in the log"


def _tally(seen: Sequence[Sighting]) -> dict[str, int]:
    names = ["right", "wrong", "unknown", "liked wrongly", "disliked wrongly", "unscored"]
    tally = dict.fromkeys(names, 0)
    for found in seen:
        tally[found.verdict] += 1
        if found.opinion:
            tally[found.opinion] += 1
        tally["unscored"] += found.unscored
    return tally


def _encode(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()
