"""The stage `label`: labels without anyone's answers, by the vote of a teacher or by a judge; `stages.pairwise` has the
comparisons of one that prefers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from yonder.core.labels import (
    NO_PAIR,
    NO_RESPONSE,
    Label,
    agree,
    counted,
    drawn,
    histogram,
    label_of_votes,
    other_answer,
)
from yonder.core.statistics import clustered_share, wilson
from yonder.core.votes import Vote
from yonder.data.responses import (
    append_lines,
    as_rollout,
    is_unread,
    left_responses,
    read_lines,
    retold,
)
from yonder.recipe.answers import CollectStage, LabelStage
from yonder.recipe.judge_stages import CheckJudgeStage
from yonder.recipe.references import labeled_by, votes_for_itself
from yonder.rewards.verifiable import VerifiableReward, written
from yonder.schema import Interval, Prompt, Response, Rollout, Score
from yonder.stages.context import Result, StageContext, announce, responses_task
from yonder.stages.pairwise import compared, comparison_sentence
from yonder.storage import write_whole
from yonder.training.rollout import derived_seed

CHUNK = 256  # responses read or judged between two looks at the stop request
Key = tuple[str, str]  # prompt id and question: ids are unique within one data set only


@dataclass(frozen=True, slots=True)
class Row:
    """One response on its way to a label."""

    response: Response
    teacher: bool  # whether it votes
    read: Mapping[str, Any]  # `answer`, `status`, `detail` of the verifier; or `grade`, `detail` of a judge
    options: int = 0  # that the question has

    @property
    def key(self) -> Key:
        """Its question."""
        return self.response.prompt_id, self.response.question


def run_label(stage: LabelStage, context: StageContext) -> Result:
    """Read every answer, or have it judged; then write labels. Finished chunks are kept when the stage is
    interrupted; what follows from them is computed anew."""
    by = labeled_by(context.recipe, stage)
    rows, comparisons = read_rows(stage, context, by)
    seed = derived_seed(context.recipe.seed, "label noise")  # one for all stages: they corrupt the same votes
    tolerance = responses_task(stage.teacher, context).tolerance
    labels = votes_of(rows, tolerance, stage.floor) if by == "vote" else dict[Key, Label]()
    planted = with_noise(labels, rows, tolerance, stage.noise, seed)
    verifier = context.shop.verifier(responses_task(stage.teacher, context))
    labeled = by_vote(rows, planted, verifier) if by == "vote" else by_judge(rows, stage.target, stage.noise, seed)
    questions = question_rows(rows, labeled, planted, NO_PAIR if by == "pairwise" else NO_RESPONSE)
    for name, lines in (("questions", questions), ("responses", [response.to_json() for response in labeled])):
        write_whole(context.folder / f"{name}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    result = figures(rows, labeled, questions, planted) | {"by": by} | comparisons
    if stage.noise:
        result["noise"] = {"share": stage.noise, "labels": changed(by, rows, labeled, labels, stage.target, verifier)}
        result["noise"] |= {"questions": sum(label.planted for label in planted.values())} if by == "vote" else {}
    result["sentence"] = sentence(result)
    context.progress.say(f"{stage.name}: {result['sentence']}")
    if by == "vote" and (own := votes_for_itself(context.recipe, stage)):
        context.progress.say(f"{stage.name}: the policy itself answered in `{own[0]}`: these votes are no teacher's")
    return result


def read_rows(stage: LabelStage, context: StageContext, by: str) -> tuple[list[Row], Result]:
    """Every response of the stages that are read, with what was read of it; chunk for chunk into `read.jsonl`. Besides,
    figures of the comparisons, where it was compared."""
    found = [(name, r) for name in (*stage.teacher, *stage.responses) for r in _responses(name, context)]
    rollouts = _rollouts(found, context)
    comparisons: Result = {}
    if by == "pairwise":
        known, comparisons["comparisons"] = compared(stage, context, [response for _, response in found])
    else:
        known = _each_read(stage, context, by, found, rollouts)
    rows = [
        Row(response, name in stage.teacher, read, len(rollout.prompt.options))
        for (name, response), rollout, read in zip(found, rollouts, known, strict=True)
    ]
    return rows, comparisons


def _each_read(
    stage: LabelStage, context: StageContext, by: str, found: Sequence[tuple[str, Response]],
    rollouts: Sequence[Rollout],
) -> list[dict[str, Any]]:  # fmt: skip
    """What is read of each response alone."""
    path = context.folder / "read.jsonl"
    known = read_lines(path)
    if by == "judge":
        say_judges(stage, context)
    context.progress.start(stage.name, len(found), len(known))
    for start in range(len(known), len(found), CHUNK):
        part = range(start, min(start + CHUNK, len(found)))
        lines: list[dict[str, Any]] = []
        for name in dict.fromkeys(found[i][0] for i in part):
            lines += _read(stage, name, [rollouts[i] for i in part if found[i][0] == name], context, by)
        append_lines(path, lines)
        known += lines
        context.progress.advance(len(known), {})
        if len(known) < len(found):
            context.stop.check(f"{stage.name}: saved after {len(known)} responses")
    context.progress.finish()
    return known


def say_judges(stage: LabelStage, context: StageContext) -> None:
    """How the judge reads its verdict, and whether anything has measured it."""
    recipe = context.recipe
    if not isinstance(stage.judge, str):
        return
    context.shop.reward(stage.judge, responses_task(stage.teacher, context))
    announce(context)
    before = recipe.stages[: [other.name for other in recipe.stages].index(stage.name)]
    if not any(isinstance(other, CheckJudgeStage) and other.reward == stage.judge for other in before):
        context.progress.say(f"{stage.name}: no check-judge stage before this one has measured `{stage.judge}`")


def _responses(name: str, context: StageContext) -> list[Response]:
    return [replace(r, source=name) for r in left_responses(context.folders[name])]


def _rollouts(found: Sequence[tuple[str, Response]], context: StageContext) -> list[Rollout]:
    """The responses as rewards read them, with the options of their questions, which a response does not carry."""
    prompts: dict[str, dict[Key, Prompt]] = {}
    for name in dict.fromkeys(name for name, _ in found):
        stage = context.recipe.stage(name)
        if isinstance(stage, CollectStage) and context.shop.task(stage.data).format == "choice":
            prompts[name] = {(prompt.id, prompt.question): prompt for prompt in context.shop.data(stage.data)}
    rollouts: list[Rollout] = []
    for name, response in found:
        rollout = as_rollout(response)
        known = prompts.get(name, {}).get((response.prompt_id, response.question))
        options = known.options if known is not None else ()
        rollouts.append(replace(rollout, prompt=replace(rollout.prompt, options=options)))
    return rollouts


def _read(
    stage: LabelStage, name: str, rollouts: Sequence[Rollout], context: StageContext, by: str
) -> list[dict[str, Any]]:
    """What is read of the responses of one stage, by the task format in which they were written."""
    task = responses_task([name], context)
    if by == "judge" and isinstance(stage.judge, str):
        reward = context.shop.reward(stage.judge, task)
        return [{"grade": grade(score), "detail": score.reason} for score in reward.score(rollouts)]
    found = context.shop.verifier(task).read(rollouts)
    return [{"answer": answer, "status": status, "detail": detail} for answer, status, detail in found]


def grade(score: Score) -> float | None:
    """A score before a judge's or classifier's `delta` makes it 0: what is below that still differs."""
    probability = score.details.get("probability")
    return probability if score.value is not None and isinstance(probability, float) else score.value


def votes_of(rows: Sequence[Row], tolerance: float, floor: float) -> dict[Key, Label]:
    """The teacher's vote on every question that anyone answered. A response that was cut off has not answered, whatever
    number stands in it; a program that our sandbox failed to run does not vote, nor is it missing."""
    answers: dict[Key, list[Any]] = {row.key: [] for row in rows}
    for row in rows:
        if row.teacher and row.read["status"] != "infrastructure":
            answers[row.key].append(row.read["answer"] if row.response.finished else None)
    return {key: label_of_votes(given, tolerance, floor) for key, given in answers.items()}


def with_noise(
    labels: Mapping[Key, Label], rows: Sequence[Row], tolerance: float, noise: float, seed: int
) -> dict[Key, Label]:
    """The votes, with those of a share of the labeled questions replaced: by what was answered most often besides, the
    teacher's answers first. That is what a wrong vote does: a plausible wrong answer is right on the whole question."""
    kept = {"/".join(key): key for key, label in labels.items() if label.answer is not None}
    chosen = {kept[name] for name in drawn(list(kept), noise, seed)}
    own: dict[Key, list[Row]] = {key: [] for key in chosen}
    for row in rows:
        if row.key in chosen:
            own[row.key].append(row)
    found = dict(labels)
    for key, those in own.items():
        label = labels[key]
        assert label.answer is not None  # drawn from those that have one
        sides = [[row.read["answer"] for row in those if row.teacher is teacher] for teacher in (True, False)]
        differ = any(a is not None and not agree(a, label.answer, tolerance) for a in sides[0])
        answer = other_answer(label.answer, sides[0] if differ else sides[1], tolerance, those[0].options)
        found[key] = replace(label, vote=replace(label.vote, answer=answer), planted=True)
    return found


def by_vote(rows: Sequence[Row], labels: Mapping[Key, Label], verifier: VerifiableReward) -> list[Response]:
    """Every response compared with its question's vote, which takes the place of the source's answer."""
    found: list[Response] = []
    for row in rows:
        label = labels[row.key]
        if label.answer is None:
            detail = retold(row.response, f"no label: {label.why}")
            found.append(replace(row.response, correct=None, answer=None, detail=detail))
            continue
        score = verifier.compared(label.answer, row.read["answer"], row.read["status"], row.read["detail"])
        correct = None if score.value is None else bool(score.details["correct"])
        detail = retold(row.response, score.reason)
        found.append(replace(row.response, correct=correct, answer=written(label.answer), detail=detail))
    return found


def by_judge(rows: Sequence[Row], target: float, noise: float, seed: int) -> list[Response]:
    """Every response with its grade; good from `target` on. Of a share of the graded ones the grade g becomes 1 - g and
    the label its opposite: a judge errs on single responses."""
    graded = [str(i) for i, row in enumerate(rows) if row.read["grade"] is not None]
    wrong = drawn(graded, noise, seed)
    found: list[Response] = []
    for i, row in enumerate(rows):
        given, detail = row.read["grade"], row.read["detail"]
        correct = None if given is None else given >= target
        if given is not None and str(i) in wrong:
            given, correct = 1 - given, not correct
        detail = retold(row.response, detail)
        found.append(replace(row.response, correct=correct, grade=given, answer=None, detail=detail))
    return found


def changed(
    by: str, rows: Sequence[Row], labeled: Sequence[Response], labels: Mapping[Key, Label], target: float,
    verifier: VerifiableReward,
) -> int:  # fmt: skip
    """How many responses have another label than without noise."""
    clean = by_vote(rows, labels, verifier) if by == "vote" else by_judge(rows, target, 0.0, 0)
    return sum(a.correct is not b.correct for a, b in zip(clean, labeled, strict=True))


def question_rows(
    rows: Sequence[Row], labeled: Sequence[Response], labels: Mapping[Key, Label], ungraded: str = NO_RESPONSE
) -> list[dict[str, Any]]:
    """One line a question, in the order of first response. `ungraded`: why a question has no label whose teacher
    responses have none."""
    good: dict[Key, int] = {row.key: 0 for row in rows}
    graded = dict.fromkeys(good, 0)
    asked = dict.fromkeys(good, 0)
    for row, response in zip(rows, labeled, strict=True):
        if row.teacher:
            asked[row.key] += 1
            graded[row.key] += response.correct is not None
            good[row.key] += bool(response.correct) and response.finished and not is_unread(response)
    found: list[dict[str, Any]] = []
    for key in good:
        why = "" if graded[key] else ungraded if asked[key] else NO_RESPONSE
        label = labels.get(key) or Label(Vote(None, 0, 0.0, 0.0, False, 0), why)
        vote = label.vote
        row = {"prompt_id": key[0], "question": key[1], "kept": not label.why, "why": label.why, "good": good[key]}
        row |= {"responses": asked[key]}
        if labels:
            row |= {"answer": None if label.answer is None else written(label.answer), "planted": label.planted}
            row |= {"votes": vote.count, "share": vote.share, "entropy": vote.entropy, "missing": vote.missing}
            row["ties"] = vote.ties
        found.append(row)
    return found


def figures(
    rows: Sequence[Row], labeled: Sequence[Response], questions: Sequence[dict[str, Any]], labels: Mapping[Key, Label]
) -> Result:
    """What the stage reports: what was kept, how sure the votes are, and the noise where verified labels measure it."""
    why: dict[str, int] = {}
    for question in questions:
        if question["why"]:
            why[question["why"]] = why.get(question["why"], 0) + 1
    result: Result = {
        "questions": len(questions),
        "kept": sum(question["kept"] for question in questions),
        "dropped": counted(list(labels.values())) if labels else why,
        "without_good_teacher_response": sum(not question["good"] for question in questions),
        "responses": len(labeled),
        "unlabeled": sum(response.correct is None for response in labeled),
    }
    for name, teacher in (("teacher", True), ("others", False)):
        own = [r.correct for row, r in zip(rows, labeled, strict=True) if row.teacher is teacher]
        known = [correct for correct in own if correct is not None]
        result[f"good_{name}"] = sum(known) / len(known) if known else None
    voted = [label.vote for label in labels.values() if label.vote.count]
    if voted:
        result["share"] = sum(vote.share for vote in voted) / len(voted)
        result["share_histogram"] = histogram([vote.share for vote in voted])
        result["entropy"] = sum(vote.entropy for vote in voted) / len(voted)
        result["missing"] = sum(vote.missing for vote in voted)
    return result | {"accuracy": accuracy(rows, labeled, labels)}


def accuracy(
    rows: Sequence[Row], labeled: Sequence[Response], labels: Mapping[Key, Label]
) -> dict[str, dict[str, Any] | None]:
    """How often vote and labels are right by the verified labels of the responses, which nothing else looks at; None
    where nothing is verified.

    A vote is as right as the responses that agree with it; one that nobody gave is wrong where the true answer is
    another's. Responses of one question are alike, so the interval of labels counts questions.
    """
    votes: dict[Key, bool] = {}
    for row, response in zip(rows, labeled, strict=True):
        truth = row.response.correct
        if labels and truth is not None and response.correct is not None:
            if response.correct:
                votes[row.key] = truth
            elif truth:  # the true answer is not the vote
                votes.setdefault(row.key, False)
    found: dict[str, dict[str, Any] | None] = {"votes": _interval(wilson(sum(votes.values()), len(votes)))}
    for name, teacher in (("teacher", True), ("others", False)):
        own = [
            (row.key, response.correct, row.response.correct)
            for row, response in zip(rows, labeled, strict=True)
            if row.teacher is teacher and response.correct is not None and row.response.correct is not None
        ]
        share = clustered_share([float(said == truth) for _, said, truth in own], [key for key, _, _ in own])
        wrong = {
            "wrong_called_good": sum(said and not truth for _, said, truth in own),
            "right_called_bad": sum(truth and not said for _, said, truth in own),
        }
        found[name] = _interval(share, wrong)
    return found


def _interval(interval: Interval, more: Mapping[str, int] | None = None) -> dict[str, Any] | None:
    if not interval.n:
        return None
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n} | dict(more or {})


def sentence(result: Mapping[str, Any]) -> str:
    """The stage in one sentence."""
    why = ", ".join(f"{count} {reason}" for reason, count in result["dropped"].items())
    said = f"{result['kept']} of {result['questions']} questions have a label{f' (dropped: {why})' if why else ''}"
    said += f", {result['without_good_teacher_response']} have no good teacher response"
    for name, words in (("votes", "votes"), ("teacher", "labels of teacher responses"), ("others", "of the others")):
        found = result["accuracy"].get(name)
        if found is not None:
            said += f"; {words} {found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}] right"
    return said + comparison_sentence(result.get("comparisons"))
