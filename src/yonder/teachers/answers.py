"""What a teacher was asked and has answered, one JSON object a line, in the order in which answers came."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yonder.data.responses import append_lines, read_lines
from yonder.errors import StorageError
from yonder.schema import Prompt
from yonder.teachers.server import Answer


@dataclass(frozen=True, slots=True)
class Key:
    """What tells two requests apart."""

    prompt_id: str
    temperature: float
    index: int  # among all answers to the question


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that is to be made."""

    key: Key
    prompt: Prompt
    seed: int | None
    prompt_tokens: int  # estimated


class AnswerLog:
    """The answers of a stage, those of earlier starts included; added to from many threads."""

    def __init__(self, path: Path) -> None:
        """Read what is there. StorageError for a damaged line that is not the last."""
        self.path = path
        self.answers: dict[Key, Answer] = {}
        self.used = (0, 0)  # tokens read and written for all answers
        self._lock = threading.Lock()
        for row in read_lines(path, "delete the line, and its answer is asked again"):
            try:
                key = Key(row["prompt_id"], row["temperature"], row["index"])
                if row["text"] is not None:
                    self._know(
                        key,
                        Answer(
                            row["text"], row["finished"], row["prompt_tokens"], row["completion_tokens"], row["counted"]
                        ),
                    )
            except (KeyError, TypeError) as error:
                raise StorageError(f"{path}: a line is no answer (it lacks {error}); delete it") from error

    def add(self, key: Key, answer: Answer) -> None:
        """Keep an answer: it is in the file when this returns."""
        figures = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens}
        row = asdict(key) | {"text": answer.text, "finished": answer.finished, **figures, "counted": answer.counted}
        with self._lock:
            append_lines(self.path, [row])
            self._know(key, answer)

    def add_unanswered(self, key: Key, reason: str) -> None:
        """Note why there is no answer yet; it is asked for again at the next start."""
        with self._lock:
            append_lines(self.path, [asdict(key) | {"text": None, "reason": reason}])

    def _know(self, key: Key, answer: Answer) -> None:
        read, written = self.used
        self.used = (read + answer.prompt_tokens, written + answer.completion_tokens)
        self.answers[key] = answer


def missing(asks: Sequence[Ask], answers: Mapping[Key, Any]) -> list[Ask]:
    """The requests without an answer."""
    return [ask for ask in asks if ask.key not in answers]
