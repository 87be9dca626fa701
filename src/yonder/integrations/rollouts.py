"""What another trainer hands over, as the rollouts that our rewards read."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from yonder.data.columns import Row, records_from_rows
from yonder.data.tasks import label_of
from yonder.recipe.data import TaskSettings
from yonder.schema import Completion, Prompt, Rollout

Message = Mapping[str, Any]
Text = str | Sequence[Message]
"""A plain text, or the messages of a conversation."""


def text_of(completion: Text) -> str:
    """A plain completion as it is; of messages, what the assistant said last ("" where it said nothing)."""
    return completion if isinstance(completion, str) else _last(completion, "assistant")


def question_of(prompt: Text) -> str:
    """A plain prompt as it is; of messages, what the user said last."""
    return prompt if isinstance(prompt, str) else _last(prompt, "user")


def build_rollout(
    question: object, completion: Text, *, prefix: object = None, finished: bool = True, label: Prompt | None = None
) -> Rollout:
    """A rollout without token ids: `prefix` is the given beginning of the response, `label` carries the answer."""
    known = label or Prompt("", "", "")
    asked = "" if question is None else str(question)
    given = "" if prefix is None else str(prefix)
    prompt = Prompt("", asked, "", given, answer=known.answer, options=known.options)
    return Rollout(prompt, (), Completion((), (), text_of(completion), finished))


def read_label(answer: object, options: object, task: TaskSettings, where: str) -> Prompt:
    """A prompt that holds the answer and the options alone, read as from a data file.

    No answer where there is none. DataError, with `where`, for options that cannot be read.
    """
    row = Row(where, {"question": "-", "answer": _plain(answer), "options": _plain(options)})
    record = records_from_rows([row], {}, where)[0]
    return Prompt("", "", "", answer=label_of(record, task), options=record.options if task.format == "choice" else ())


def _last(messages: Sequence[Message], role: str) -> str:
    contents = [message.get("content") for message in messages if message.get("role") == role]
    content = contents[-1] if contents else None
    if content is None or isinstance(content, str):
        return content or ""
    parts = cast(Sequence[Message], content)  # blocks: {"type": "text", "text": ...}, images
    return "".join(str(part.get("text", "")) for part in parts)


def _plain(value: Any) -> Any:
    """A numpy value, as tables hand it over, as a plain one."""
    return value.tolist() if hasattr(value, "tolist") else value
