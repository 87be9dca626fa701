"""Collected responses: one JSON object a line, and how rollouts and reference solutions become responses."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from yonder.data.programs import split_head
from yonder.errors import StorageError
from yonder.schema import Completion, Prompt, Response, Rollout, Score
from yonder.storage import read_json, writing

RESTORE = "restore it from a copy, or move the folder of the stage away and run it again"
UNREAD = "unread: "  # before the reason in the detail of a response that is not in the policy's form
T = TypeVar("T")
_ANSWERED = re.compile(r"(returned|answered) .*, label ", re.DOTALL)


def label(rollout: Rollout, score: Score, source: str, temperature: float) -> Response:
    """A rollout with the verifier's verdict."""
    correct = None if score.value is None else bool(score.details.get("correct"))
    prompt, completion = rollout.prompt, rollout.completion
    return Response(
        prompt.id,
        prompt.question,
        rollout.response,
        correct,
        source,
        prompt.answer,
        temperature,
        completion.finished,
        score.reason,
        prompt.reference,
    )


def unread(response: Response, problem: str) -> Response:
    """A response that says why it is not in the policy's form, before what the verifier says of it."""
    said = "" if response.correct is None else f"; {response.detail}"
    return replace(response, detail=f"{UNREAD}{problem}{said}")


def is_unread(response: Response) -> bool:
    """Whether it is not in the policy's form, so that nobody should learn to write it."""
    return response.detail.startswith(UNREAD)


def retold(response: Response, detail: str) -> str:
    """A new detail for a response; what keeps it from the policy's form stays before it."""
    return f"{response.detail.partition(';')[0]}; {detail}" if is_unread(response) else detail


def reference_response(prompt: Prompt, source: str) -> Response:
    """A data set's own solution as a right response."""
    return Response(
        prompt.id,
        prompt.question,
        prompt.prefix + (prompt.solution or ""),
        True,
        f"{source} (reference)",
        prompt.answer,
        reference=prompt.reference,
    )


def outcome(response: Response) -> str | None:
    """How a response ended, by the words of `VerifiableReward`: "wrong answer" or "right answer" (a program ran, a text
    names one), "no answer" (it crashed, never ended, or names none). None: no verifier has said."""
    if not response.detail or response.temperature is None:  # made ones have a pattern's name there
        return None
    if _ANSWERED.match(response.detail):
        return "right answer" if response.correct else "wrong answer"
    return "no answer"


def as_rollout(response: Response) -> Rollout:
    """A collected response in the form that rewards read: what was given is the prefix, the rest the completion."""
    head, body = split_head(response.response)
    prompt = Prompt(response.prompt_id, response.question, "", head, response.answer, reference=response.reference)
    return Rollout(prompt, (), Completion((), (), body, response.finished))


def left_responses(folder: Path) -> list[Response]:
    """The responses that a finished stage left. StorageError unless all are there, and whole."""
    return _whole(folder, "responses", lambda path: read_responses(path, RESTORE))


def left_questions(folder: Path) -> list[dict[str, Any]]:
    """The questions that a finished label stage left. StorageError unless all are there, and whole."""
    return _whole(folder, "questions", lambda path: read_lines(path, RESTORE))


def _whole(folder: Path, name: str, read: Callable[[Path], list[T]]) -> list[T]:
    """The rows of `name`.jsonl, as many as the stage's result says."""
    path = folder / f"{name}.jsonl"
    if not path.is_file():
        raise StorageError(f"{path} is gone; {RESTORE}")
    found = read(path)
    wanted = (read_json(folder / "stage.json").get("result") or {}).get(name)
    if isinstance(wanted, int) and len(found) != wanted:
        raise StorageError(f"{path} has {len(found)} of the {wanted} rows that its stage left; {RESTORE}")
    return found


def read_responses(path: Path, mend: str = "delete the line") -> list[Response]:
    """Responses of a collect stage; a half-written last line is left out. StorageError for any other line that is
    damaged, with `mend` as the way out."""
    if not path.is_file():
        return []
    found: list[Response] = []
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            found.append(Response(**cast(dict[str, Any], json.loads(line))))
        except (ValueError, TypeError) as error:
            if number < len(lines):
                raise StorageError(f"{path}, line {number}: not a response ({error}); {mend}") from error
    return found


def keep_complete(path: Path, samples: int, chunk: int) -> int:
    """Drop what an interruption left half-written; returns how many questions are complete, a multiple of `chunk`.

    Questions were written `chunk` at a time, `samples` responses each, in the data set's order.
    """
    responses = read_responses(path)
    questions = len(responses) // samples // chunk * chunk
    if path.is_file() and len(responses) != questions * samples:
        path.unlink()
        append_responses(path, responses[: questions * samples])
    return questions


def append_responses(path: Path, responses: Sequence[Response]) -> None:
    """Add responses to a file."""
    append_lines(path, [response.to_json() for response in responses])


def append_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to a JSONL file in one write, in place of a last line that an interruption left half-written."""
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with writing(path), path.open("r+b" if path.is_file() else "w+b") as file:
        if size := file.seek(0, 2):
            file.seek(size - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.seek(0, 2)
        file.write(data)


def read_lines(path: Path, mend: str = "delete the line") -> list[dict[str, Any]]:
    """The rows of a JSONL file of ours; none where it is missing; a half-written last line is left out.
    StorageError for any other line that is damaged, with `mend` as the way out."""
    if not path.is_file():
        return []
    found: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            found.append(cast(dict[str, Any], json.loads(line)))
        except ValueError as error:
            raise StorageError(f"{path}, line {number}: not JSON ({error}); {mend}") from error
    return found
