"""`Sandbox`: programs in, results out, in order."""

import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from yonder.errors import SandboxError
from yonder.sandbox.cache import Cache, ResultLog, program_key
from yonder.sandbox.pool import Pool, core_count
from yonder.sandbox.process import WorkerRefused
from yonder.sandbox.protocol import Limits, Reply, trim
from yonder.sandbox.result import Counts, Executor, ProgramResult

CACHED_PROGRAMS = 100_000
PROGRAM_CHARS = 100_000


class Sandbox:
    """Runs Python programs written by a model, in worker processes, and returns one finite number for each or why not.

        with Sandbox() as sandbox:
            results = sandbox.run(["def solution():\\n    return 6 * 7"])

    Covered: time, memory and recursion limits; no access to files, environment, network or processes; no trace of one
    program in another; only scalars come back; no process outlives us, not even when we are killed. Programs run in
    Monty; what Monty lacks runs in a CPython that the kernel confines, where the kernel can (`fallback="confined"`).
    NOT covered: see `yonder.sandbox.monty` and `yonder.sandbox.kernel`. A wall-clock limit is not repeatable, so give
    a `log` to get the same results after an interruption.

    Usable without `with`; then `close`, or the end of the interpreter, ends the workers. Threads may share a sandbox
    (calls wait for each other); a forked process may not.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        timeout_s: float = 1.0,
        memory_mb: int = 64,
        recursion: int = 200,
        output_chars: int = 4096,
        entry: str = "solution",
        fallback: Literal["confined", "none"] = "confined",
        log: Path | None = None,
    ) -> None:
        count = core_count() if workers is None else workers
        if min(count, timeout_s, memory_mb, recursion) <= 0 or output_chars < 0 or not entry.isidentifier():
            raise SandboxError("sandbox settings: limits and workers must be positive, and entry a Python name")
        limits = Limits(float(timeout_s), memory_mb, recursion, output_chars, entry)
        self.limits = limits
        self.counts = Counts()
        self._monty = Pool("monty", limits, count)
        # One program per message: a confined child must not find the others in its memory.
        self._confined = Pool("confined", limits, count, batch=1)
        self._refusal = "it is switched off (fallback: none)" if fallback == "none" else None
        self._cache = Cache(CACHED_PROGRAMS)
        self._log = ResultLog(Path(log), limits) if log is not None else None
        if self._log is not None:
            self.counts.replayed = len(self._log.known)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        pools = [self._monty, self._confined]
        self._finalizer = weakref.finalize(self, _close_all, pools, self._log, self._pid)

    def run(self, programs: Sequence[str]) -> list[ProgramResult]:
        """Run every program once and return the results in the order of `programs`."""
        if os.getpid() != self._pid or not self._finalizer.alive:
            raise SandboxError("this sandbox is closed, or belongs to the process that made it: make a new one")
        keys = [program_key(program) for program in programs]
        with self._lock:
            found: dict[str, ProgramResult] = {}
            fresh: dict[str, str] = {}
            for key, program in zip(keys, programs, strict=True):
                known = self._recall(key)
                if known is not None:
                    found[key] = known
                else:
                    fresh[key] = program
            for key, result in zip(fresh, self._execute(list(fresh.values())), strict=True):
                found[key] = result
                self._cache.put(key, result)
                if self._log is not None:
                    self._log.add(key, result)
            self._count(len(keys), len(keys) - len(fresh), [found[key] for key in fresh])
            return [found[key] for key in keys]

    def close(self) -> None:
        """End all workers and close the log. Harmless when repeated."""
        self._finalizer()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _recall(self, key: str) -> ProgramResult | None:
        logged = self._log.known.get(key) if self._log is not None else None
        return logged or self._cache.get(key)

    def _execute(self, programs: list[str]) -> list[ProgramResult]:
        """Run distinct programs: all in Monty, then those that Monty cannot judge in the confined CPython."""
        too_long = Reply("error", None, f"the program is longer than {PROGRAM_CHARS} characters")
        results = [_result(too_long, "monty")] * len(programs)
        places = [place for place, program in enumerate(programs) if len(program) <= PROGRAM_CHARS]
        try:
            replies = self._monty.run([programs[place] for place in places]) if places else []
        except WorkerRefused as refused:
            replies = [Reply("infrastructure", None, trim(f"Monty cannot run here: {refused}"))] * len(places)
        for place, reply in zip(places, replies, strict=True):
            results[place] = _result(reply, "monty")
        lacking = [place for place, reply in zip(places, replies, strict=True) if reply.lacking]
        if lacking:
            replayed = self._fall_back([programs[place] for place in lacking], [results[place] for place in lacking])
            for place, result in zip(lacking, replayed, strict=True):
                results[place] = result
        return results

    def _fall_back(self, programs: list[str], verdicts: list[ProgramResult]) -> list[ProgramResult]:
        """Monty's `verdicts` on `programs`, replaced by CPython's; where no confinement is possible they stand."""
        if self._refusal is None:
            try:
                replies = self._confined.run(programs)
                self.counts.fallbacks += len(programs)
                return [_result(reply, "cpython") for reply in replies]
            except WorkerRefused as refused:
                self._refusal = str(refused)
        note = f" (the CPython fallback is not available: {self._refusal})"
        return [
            ProgramResult(old.status, None, trim(old.detail) + trim(note), old.printed, old.seconds, old.executor)
            for old in verdicts
        ]

    def _count(self, programs: int, hits: int, fresh: list[ProgramResult]) -> None:
        self.counts.programs += programs
        self.counts.cache_hits += hits
        self.counts.infrastructure += sum(result.status == "infrastructure" for result in fresh)
        self.counts.restarts = self._monty.restarts + self._confined.restarts


def _result(reply: Reply, executor: Executor) -> ProgramResult:
    return ProgramResult(reply.status, reply.value, reply.detail, reply.printed, reply.seconds, executor)


def _close_all(pools: list[Pool], log: ResultLog | None, owner: int) -> None:
    if os.getpid() != owner:  # a fork of ours ended: the workers are not its own
        return
    for pool in pools:
        pool.close()
    if log is not None:
        log.close()
