"""The fallback: a fork server that runs each program in a confined CPython of its own.

Covered: per program, a fork of a process that has the allowed modules loaded, an empty environment and nothing of
ours in memory but the program; the kernel confines the fork (see `kernel.py`) before the program is compiled. The
server proves at its start that confinement works (opening a file, a socket, a fork, a signal, an over-large allocation
must all fail inside) and otherwise refuses to run anything: there is no unconfined mode.
NOT covered: a program can see the clock and what modules are loaded, and it can lie about its own result, which gains
it nothing that `return` would not. Started by `yonder.sandbox.process`; Linux only.
"""

import gc
import importlib
import json
import math
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import NoReturn

from yonder.sandbox import kernel
from yonder.sandbox.execution import execute
from yonder.sandbox.lacking import MODULES
from yonder.sandbox.protocol import Limits, Reply, parse_reply, trim

_LOADED_ON_USE = ("_strptime", "_socket", "encodings.ascii", "encodings.latin_1", "linecache", "unicodedata")
_CONFINED = b"c"  # the child's first byte: every layer holds
_PROBE_LIMIT_S = 10.0


class ForkServer:
    """Forks one confined child per program, watches the clock, and believes nothing that it says."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pid = os.getpid()
        self.cpu_s = math.ceil(limits.timeout_s) + 1
        with open("/proc/self/statm") as statm:
            loaded = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        self.address_space = loaded + limits.memory_mb * 2**20
        self.answer_bytes = 4096 + 12 * (limits.output_chars + 300)  # JSON writes one character in up to 12 bytes

    def run(self, program: str) -> Reply:
        """Run one program in a fresh confined child."""
        began = time.perf_counter()
        answer, late, status = self._in_child(lambda: execute(program, self.limits), self.limits.timeout_s)
        seconds = time.perf_counter() - began
        if not answer.startswith(_CONFINED):
            reason = answer.decode("utf-8", "replace") or f"the child ended with {_exit_words(status)}"
            return Reply("infrastructure", None, trim(f"could not confine: {reason}"))
        if late or status == -signal.SIGXCPU:
            return Reply("timeout", None, f"stopped after {self.limits.timeout_s:g} s", "", seconds)
        reply = parse_reply(_decode(answer[1:]), self.limits.output_chars)
        if reply is None or reply.status not in ("ok", "error", "memory"):
            return Reply("error", None, f"the process ended with {_exit_words(status)} and no result", "", seconds)
        return reply._replace(seconds=seconds)

    def check(self) -> str | None:
        """Prove each wall by running into it; None if all hold, else the reason to refuse."""
        kernel.call_filter()  # made before the first fork, so that all share it
        for name, attempts, layers in (
            ("Landlock", _file_attempts(), kernel.forbid_files),
            ("confinement", self._all_attempts(), self._confine),
        ):
            answer, late, status = self._in_child(lambda a=attempts: kernel.what_still_works(a), _PROBE_LIMIT_S, layers)
            if late or not answer.startswith(_CONFINED):
                reason = answer.decode("utf-8", "replace") or _exit_words(status)
                return f"{name} is not available: {reason}"
            worked = _decode(answer[1:])
            if worked != []:
                return f"{name} does not hold here: a confined process could {worked}"
        return None

    def _all_attempts(self) -> dict[str, Callable[[], object]]:
        import _socket

        return {
            **_file_attempts(),
            "look at a file": lambda: os.stat("/"),  # which only seccomp forbids
            "open a socket": lambda: _socket.socket(),
            "fork": lambda: os.fork() or os._exit(0),
            "signal its parent": lambda: os.kill(self.pid, 0),
            "execute a program": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
            "pass its memory limit": lambda: bytearray((self.limits.memory_mb + 1) * 2**20),
        }

    def _confine(self) -> None:
        kernel.confine(self.address_space, self.cpu_s, self.pid)

    def _in_child(
        self, work: Callable[[], object], limit_s: float, layers: Callable[[], None] | None = None
    ) -> tuple[bytes, bool, int]:
        """Fork, confine, work: what the child wrote, whether it was late, and its exit code (negative: signal)."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _live_and_die(work, layers or self._confine, writing)
        os.close(writing)
        try:
            answer, late = _collect(reading, limit_s, self.answer_bytes)
        finally:
            os.close(reading)
            os.kill(child, signal.SIGKILL)  # no effect on one that has ended: unreaped, so the id is still its own
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return answer, late, status


def _file_attempts() -> dict[str, Callable[[], object]]:
    return {
        "read a file": lambda: os.open(os.__file__, os.O_RDONLY),
        "list a folder": lambda: os.listdir("/"),
        "write a file": lambda: os.open(os.devnull, os.O_WRONLY),
    }


def _live_and_die(work: Callable[[], object], layers: Callable[[], None], answers: int) -> NoReturn:
    """The child's whole life. It never returns into the server's code."""
    try:
        os.closerange(0, answers)
        os.closerange(answers + 1, os.sysconf("SC_OPEN_MAX"))
        try:
            layers()
        except Exception as error:
            os.write(answers, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
        os.write(answers, _CONFINED)
        _write_all(answers, json.dumps(work()).encode())
        os._exit(0)
    finally:
        os._exit(1)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _collect(fd: int, limit_s: float, limit_bytes: int) -> tuple[bytes, bool]:
    """Read until end of file, `limit_bytes`, or the clock; the second value says that it was the clock."""
    parts: list[bytes] = []
    size, deadline = 0, time.monotonic() + limit_s
    while size <= limit_bytes:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return b"".join(parts), True
        part = os.read(fd, 65536)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts), False


def _decode(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _exit_words(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def make_runner(limits: Limits) -> Callable[[str], Reply]:
    """Load the modules, prove the walls, and return the function that runs a program. Raises OSError to refuse."""
    kernel.forbid_new_privileges()  # the server itself needs none either; first, as it refuses other systems
    for name in (*MODULES, *_LOADED_ON_USE):
        importlib.import_module(name)
    warnings.simplefilter("ignore")
    os.environ.clear()
    server = ForkServer(limits)
    if (reason := server.check()) is not None:
        raise OSError(reason)
    gc.collect()
    gc.freeze()  # a fork then shares these objects instead of copying their pages
    return server.run
