"""The words that this process and its workers exchange: length-prefixed JSON over two pipes.

JSON and nothing else: an answer is five scalars that `parse_reply` checks one by one, so a worker that a program took
over can lie about that program's result but cannot make this process run or allocate anything.

Conversation: parent sends `Limits`, its process id and the worker's core; worker answers `{"ready": text}` or
`{"refused": reason}`; from then on the parent sends a list of programs and the worker answers each with one `Reply`, in
order.
"""

import json
import math
import os
import select
import sys
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, cast

from yonder.sandbox.result import Status

MAX_FRAME_BYTES = 64 * 2**20
DETAIL_CHARS = 300
CRASHED_EXIT = 70  # a worker's exit status when the interpreter that it drives died under a program
PARENT_POLL_S = 1.0
_STATUSES: tuple[Status, ...] = ("ok", "error", "timeout", "memory", "infrastructure")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use. Sent to every worker at its start."""

    timeout_s: float = 1.0
    memory_mb: int = 64
    recursion: int = 200
    output_chars: int = 4096
    entry: str = "solution"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a worker and for the log."""
        return asdict(self)


class Reply(NamedTuple):
    """One program's outcome as it travels. `lacking`: Monty failed on something that it does not implement."""

    status: Status
    value: float | None = None
    detail: str = ""
    printed: str = ""
    seconds: float = 0.0
    lacking: bool = False


class CappedText:
    """Keeps the first `limit` characters of what a program prints; stands in for standard output where asked."""

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.parts: list[str] = []

    def write(self, text: str) -> int:
        """Keep what fits, drop the rest."""
        if self.left > 0:
            self.parts.append(text[: self.left])
            self.left -= len(text)
        return len(text)

    def flush(self) -> None:
        """Nothing to do; `print(flush=True)` asks for it."""

    @property
    def text(self) -> str:
        """What was kept."""
        return "".join(self.parts)


def trim(text: str, limit: int = DETAIL_CHARS) -> str:
    """Cut `text` to `limit` characters, saying so."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def write_frame(fd: int, payload: object) -> None:
    """Send one JSON value. Raises OSError when the other end is gone."""
    body = json.dumps(payload).encode("ascii")
    view = memoryview(len(body).to_bytes(4, "big") + body)
    while view:
        view = view[os.write(fd, view) :]


def read_exact(fd: int, size: int) -> bytes | None:
    """Read `size` bytes, or None at the end of the stream."""
    parts: list[bytes] = []
    while size > 0:
        part = os.read(fd, min(size, 2**20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_frame(fd: int, limit: int = MAX_FRAME_BYTES) -> object:
    """Receive one JSON value; None at end of stream, or when what came is too long or no JSON."""
    try:
        header = read_exact(fd, 4)
        size = int.from_bytes(header or b"", "big")
        body = read_exact(fd, size) if header is not None and size <= limit else None
        return None if body is None else json.loads(body)
    except (OSError, ValueError, RecursionError):
        return None


def parse_reply(payload: object, output_chars: int) -> Reply | None:
    """Check every field of an answer; None when any is not what it must be."""
    if not isinstance(payload, list) or len(cast("list[object]", payload)) != 6:
        return None
    status, value, detail, printed, seconds, lacking = cast("list[object]", payload)
    if status not in _STATUSES or not isinstance(detail, str) or not isinstance(printed, str):
        return None
    if not isinstance(seconds, float) or not isinstance(lacking, bool):
        return None
    if status == "ok" and not (isinstance(value, float) and math.isfinite(value)):
        return None
    number = value if status == "ok" and isinstance(value, float) else None
    return Reply(status, number, trim(detail), printed[:output_chars], seconds, lacking)


def wait_for_request(fd: int, parent_pid: int) -> bool:
    """In a worker: wait until `fd` has something to read. False when the parent is gone.

    End of file alone is not enough: a process that the parent forked may still hold the other end of the pipe. On
    Windows there is neither `select` on pipes nor such a fork, so the blocking read that follows sees the end of file.
    """
    if sys.platform == "win32":
        return True
    while os.getppid() == parent_pid:
        if select.select([fd], [], [], PARENT_POLL_S)[0]:
            return True
    return False
