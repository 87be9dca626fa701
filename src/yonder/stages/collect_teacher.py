"""The stage `collect` with a teacher on a server: ask, keep each answer, then read and label them all."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from yonder.data.responses import UNREAD, append_responses, label, unread
from yonder.errors import BudgetReached, ServerError
from yonder.judges.prompt import CHARACTERS_A_TOKEN
from yonder.models.loading import load_tokenizer
from yonder.recipe.answers import CollectStage
from yonder.recipe.data import TaskSettings
from yonder.recipe.teachers import TextTeacherSettings
from yonder.schema import Completion, Prompt, Response, Rollout
from yonder.stages.context import Result, StageContext
from yonder.teachers.answers import AnswerLog, Ask, Key
from yonder.teachers.build import budget_of, build_teacher
from yonder.teachers.gathering import Gathering
from yonder.teachers.reading import Reading, read_answer
from yonder.teachers.server import TeacherServer
from yonder.teachers.spending import used_said
from yonder.training.rollout import derived_seed

ANSWERS = "answers.jsonl"  # as they came; `responses.jsonl` is made of them, in the order of the questions
CHUNK = 256  # answers that are read and verified together
SHOWN = 3  # reasons in a sentence


def run_with_teacher(stage: CollectStage, teacher: TextTeacherSettings, context: StageContext) -> Result:
    """Ask for what is not answered yet, then write all responses.

    Raises BudgetReached or ServerError where too many answers lack, Stopped where it was asked for; what was answered
    is kept, and the next start asks for the rest.
    """
    task = context.shop.task(stage.data)
    server = build_teacher(teacher, task)
    log = AnswerLog(context.folder / ANSWERS)
    asks = asks_of(stage, teacher, server, context)
    budget = budget_of(teacher)
    most_missing = int(teacher.max_unanswered * len(asks))
    gathering = Gathering(stage.name, asks, server, log, budget, most_missing, context.progress, context.stop)
    try:
        gathering.run()
    finally:
        server.transport.close()
    lacking = len(asks) - sum(ask.key in log.answers for ask in asks)
    too_many = lacking > most_missing or lacking == len(asks)
    if too_many and gathering.exhausted:
        raise BudgetReached(
            f"stage {stage.name}: the budget of {budget.said()} allows no further request after "
            f"{len(asks) - lacking:,} of {len(asks):,} answers, which are kept; raise `teacher.budget` to go on, or "
            "`teacher.max_unanswered` to do with these"
        )
    if too_many:
        raise ServerError(
            f"stage {stage.name}: {lacking:,} of {len(asks):,} answers lack ({gathering.reason}), more than "
            "`teacher.max_unanswered` allows; the rest is kept, and the same command asks again"
        )
    responses = labeled_responses(stage, asks, log, context)
    return summarised(stage, responses, lacking, gathering, context)


def asks_of(
    stage: CollectStage, teacher: TextTeacherSettings, server: TeacherServer, context: StageContext
) -> list[Ask]:
    """Every request of the stage, question by question."""
    count = _counter(teacher)
    seeds = teacher.backend == "llama-cpp" if teacher.seeds is None else teacher.seeds
    spread = [t for t, samples in stage.per_temperature for _ in range(samples)]
    found: list[Ask] = []
    for prompt in context.shop.data(stage.data):
        tokens = count(server.manner.system + server.text(prompt))
        for index, temperature in enumerate(spread):
            seed = derived_seed(context.recipe.seed, stage.name, prompt.id, temperature, index) if seeds else None
            key = Key(prompt.id, temperature, index)
            found.append(Ask(key, prompt, None if seed is None else seed % 2**31, tokens))
    return found


def _counter(teacher: TextTeacherSettings) -> Callable[[str], int]:
    if teacher.tokenizer is None:
        return lambda text: len(text) // CHARACTERS_A_TOKEN + 1
    tokenizer = load_tokenizer(teacher.tokenizer)
    return lambda text: len(tokenizer(text)["input_ids"])  # type: ignore[arg-type]


def labeled_responses(
    stage: CollectStage, asks: Sequence[Ask], log: AnswerLog, context: StageContext
) -> list[Response]:
    """Read, verify and write every answer, in the order of questions and indices."""
    task = context.shop.task(stage.data)
    goes_on = stage.teacher is not None and stage.teacher.way == "completions"
    path = context.folder / "responses.jsonl"
    path.unlink(missing_ok=True)  # of a start that was interrupted
    answered = [ask for ask in asks if ask.key in log.answers]
    found: list[Response] = []
    for start in range(0, len(answered), CHUNK):
        part = answered[start : start + CHUNK]
        given = [log.answers[ask.key] for ask in part]
        readings = [
            read_answer(ask.prompt, task, answer.text, answer.finished, goes_on)
            for ask, answer in zip(part, given, strict=True)
        ]
        found += _verified(stage.name, part, readings, task, context)
        context.stop.check(f"{stage.name}: all answers are kept")
    append_responses(path, found)
    return found


def _verified(
    name: str, asks: Sequence[Ask], readings: Sequence[Reading], task: TaskSettings, context: StageContext
) -> list[Response]:
    rollouts = [_rollout(ask.prompt, reading) for ask, reading in zip(asks, readings, strict=True)]
    scores = context.shop.verifier(task).score(rollouts)
    found = [
        label(rollout, score, name, ask.key.temperature)
        for ask, rollout, score in zip(asks, rollouts, scores, strict=True)
    ]
    return [
        unread(response, reading.problem) if reading.problem else response
        for response, reading in zip(found, readings, strict=True)
    ]


def _rollout(prompt: Prompt, reading: Reading) -> Rollout:
    """A response in the form that the verifier reads."""
    whole, prefix = reading.response, prompt.prefix
    if not whole.startswith(prefix):
        prompt, prefix = replace(prompt, prefix=""), ""
    return Rollout(prompt, (), Completion((), (), whole[len(prefix) :], reading.finished))


def summarised(
    stage: CollectStage, responses: Sequence[Response], lacking: int, gathering: Gathering, context: StageContext
) -> Result:
    """The stage's result, and the same in two sentences."""
    marked = [r.detail.removeprefix(UNREAD).partition(";")[0] for r in responses if r.detail.startswith(UNREAD)]
    labeled = [response for response in responses if response.correct is not None]
    right = sum(bool(response.correct) for response in labeled) / len(labeled) if labeled else None
    finished = sum(response.finished for response in responses) / len(responses)
    read, written = gathering.log.used
    prices = gathering.budget.prices
    reasons = ", ".join(f"{reason} ({n})" for reason, n in Counter(marked).most_common(SHOWN))
    said = f"{stage.name}: {len(responses):,} responses, {lacking:,} lacking, {len(marked):,} unread"
    said += f" ({reasons})" if reasons else ""
    said += "" if right is None else f", {right:.1%} right"
    context.progress.say(f"{said}; {used_said(read, written, prices)}")
    result: Result = {
        "responses": len(responses),
        "unlabeled": len(responses) - len(labeled),
        "correct": right,
        "finished": finished,
        "unread": len(marked),
        "unanswered": lacking,
        "prompt_tokens": read,
        "completion_tokens": written,
        "tokens_counted": all(answer.counted for answer in gathering.log.answers.values()),
        "teacher_usage": gathering.server.transport.usage.to_json(),
    }
    cost = prices.cost(read, written)
    return result if cost is None else result | {"cost": cost}
