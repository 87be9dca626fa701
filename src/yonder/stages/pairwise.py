"""Comparisons for the stage `label`: a judge prefers one of two responses to a question, asked in both orders."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from yonder.assembly.judges import judge_rules, load_preference, verdict_sentence
from yonder.core.comparisons import drawn_pairs, win_rates
from yonder.data.responses import append_lines, read_lines
from yonder.recipe.answers import LabelStage
from yonder.recipe.references import preferring
from yonder.recipe.rewards import PreferenceSettings
from yonder.rewards.judge import shown_pair
from yonder.rewards.preference import Preference, PreferenceJudge
from yonder.schema import Response
from yonder.stages.context import Result, StageContext, responses_task
from yonder.training.rollout import derived_seed

CHUNK = 128  # pairs compared between two looks at the stop request
REASONS = 3  # why pairs have no verdict: so many different ones are told
Shown = tuple[str, str]  # question and response as the judge reads them


def compared(
    stage: LabelStage, context: StageContext, responses: Sequence[Response]
) -> tuple[list[dict[str, Any]], Result]:
    """`grade` and `detail` of each response, and the figures of all comparisons. A pair is a line of `read.jsonl`;
    finished chunks of them are kept when the stage is interrupted."""
    settings = preferring(stage)
    assert settings is not None  # the recipe was checked
    shown = _shown(settings, context, responses)
    same = first_alike(responses, shown)
    pairs = pairs_of(responses, same, stage.pairs, derived_seed(context.recipe.seed, f"{stage.name} pairs"))
    path = context.folder / "read.jsonl"
    known = read_lines(path)
    judge = _judge(stage, settings, context) if len(known) < len(pairs) else None
    context.progress.start(stage.name, len(pairs), len(known))
    for start in range(len(known), len(pairs), CHUNK):
        assert judge is not None  # some pair is not known
        part = pairs[start : start + CHUNK]
        lines = [_line(pair, one) for pair, one in zip(part, judge.prefer(cases(part, shown)), strict=True)]
        append_lines(path, lines)
        known += lines
        context.progress.advance(len(known), {})
        if len(known) < len(pairs):
            context.stop.check(f"{stage.name}: saved after {len(known)} pairs")
    context.progress.finish()
    return graded(known, same), figures(known, same)


def _judge(stage: LabelStage, settings: PreferenceSettings, context: StageContext) -> PreferenceJudge:
    resolved = settings.model_copy(update={"model": context.shop.resolve(settings.model)})
    judge, model = load_preference(resolved, context.recipe.output_dir / "judge_cache.sqlite")
    context.progress.say(f"judge of {stage.name}: {verdict_sentence(model)}")
    return judge


def _shown(settings: PreferenceSettings, context: StageContext, responses: Sequence[Response]) -> list[Shown]:
    names = dict.fromkeys(response.source for response in responses)
    rules = {name: judge_rules(settings, program=responses_task([name], context).format == "program") for name in names}
    return [shown_pair(response, rules[response.source]) for response in responses]


def first_alike(responses: Sequence[Response], shown: Sequence[Shown]) -> list[int]:
    """For each response the first one of its question with the same text: those tie, and one of them is compared."""
    first: dict[tuple[str, str, str], int] = {}
    return [
        first.setdefault((response.prompt_id, response.question, text), i)
        for i, (response, (_, text)) in enumerate(zip(responses, shown, strict=True))
    ]


def pairs_of(responses: Sequence[Response], same: Sequence[int], most: int, seed: int) -> list[tuple[int, int]]:
    """The pairs that are compared, at most `most` of a question, as places in `responses`; drawn for each question by
    itself."""
    members: dict[tuple[str, str], list[int]] = {}
    for i in dict.fromkeys(same):
        members.setdefault((responses[i].prompt_id, responses[i].question), []).append(i)
    found: list[tuple[int, int]] = []
    for (name, question), those in members.items():
        draw = random.Random(f"{seed}/{name}/{question}")
        found += [(those[a], those[b]) for a, b in drawn_pairs(len(those), most, draw)]
    return found


def cases(pairs: Sequence[tuple[int, int]], shown: Sequence[Shown]) -> list[tuple[str, str, str]]:
    """(question, first response, second response) of each pair."""
    return [(shown[a][0], shown[a][1], shown[b][1]) for a, b in pairs]


def _line(pair: tuple[int, int], found: Preference) -> dict[str, Any]:
    line = {"first": pair[0], "second": pair[1], "value": found.value, "bias": found.bias, "mass": found.mass}
    return line | {"truncated": found.truncated, "reason": found.reason}


def graded(lines: Sequence[Mapping[str, Any]], same: Sequence[int]) -> list[dict[str, Any]]:
    """`grade` and `detail` of each response: the mean probability with which it is preferred in its pairs; that of its
    text, where several have the same."""
    rates = win_rates(len(same), [(line["first"], line["second"], line["value"]) for line in lines])
    reasons: dict[int, str] = {}
    for line in lines:
        if line["value"] is None:
            reasons.setdefault(line["first"], line["reason"])
            reasons.setdefault(line["second"], line["reason"])
    found: list[dict[str, Any]] = []
    for i in same:
        rate, count = rates[i]
        why = reasons.get(i, "compared with no other response")
        found.append({"grade": rate, "detail": why if rate is None else f"preferred {rate:.3f}, pairs {count}"})
    return found


def figures(lines: Sequence[Mapping[str, Any]], same: Sequence[int]) -> Result:
    """What the comparisons came to. `ties`: neither is preferred; `equal`: responses with the text of another, which
    were not compared by themselves; `position_bias`: mean of the two orders' difference, 1 for a judge that always
    prefers what stands first, -1 for the opposite."""
    scored = [line for line in lines if line["value"] is not None]
    unscored = [line["reason"] for line in lines if line["value"] is None]
    biases = [line["bias"] for line in scored if line["bias"] is not None]
    return {
        "pairs": len(lines),
        "unscored": len(unscored),
        "reasons": list(dict.fromkeys(unscored))[:REASONS],
        "ties": sum(line["value"] == 0.5 for line in scored),
        "equal": len(same) - len(set(same)),
        "truncated": sum(line["truncated"] for line in lines),
        "position_bias": sum(biases) / len(biases) if biases else None,
    }


def comparison_sentence(found: Mapping[str, Any] | None) -> str:
    """The end of the stage's sentence; nothing where nothing was compared."""
    if found is None:
        return ""
    counts = (("without a verdict", "unscored"), ("ties", "ties"), ("cut to fit", "truncated"))
    parts = [f"{found[key]} {words}" for words, key in counts if found[key]]
    more, bias = f" ({', '.join(parts)})" if parts else "", found["position_bias"]
    return f"; {found['pairs']} pairs compared{more}" + ("" if bias is None else f", position bias {bias:+.2f}")
