"""A pool of worker processes of one kind, which answers a list of programs in order.

Every program gets exactly one `Reply`. Who is blamed when no worker answers:
  the clock ran out, and its margin         -> "timeout": the worker is killed
  the worker died once                      -> nobody: the program runs again, alone, in a fresh worker
  the worker died again, the program alone  -> "error" if the interpreter or the worker crashed by itself,
                                               "infrastructure" if it was killed from outside (by the OOM killer, say)
  no worker could be started, twice running -> "infrastructure"
"""

import math
import os
import signal
import threading
from collections import deque

from yonder.sandbox.process import DEATH_S, Kind, WorkerFailed, WorkerProcess
from yonder.sandbox.protocol import CRASHED_EXIT, Limits, Reply

_BATCH = 32  # programs per message at most; fewer when there are few, so that all workers get some
_WATCH_S = 0.05
_STARTS = 2
_OWN_CRASHES = {CRASHED_EXIT, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGILL} | (
    {-signal.SIGBUS} if hasattr(signal, "SIGBUS") else set()
)


def core_count() -> int:
    """Cores that this process may use."""
    return len(_cores()) or os.cpu_count() or 1


def _cores() -> list[int]:
    """Their numbers; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _dealt(count: int) -> list[int | None]:
    """A core for each of some workers, where there are enough of them to use every core alike; else the system places
    them, since other processes may have chosen the same.

    A worker and the interpreter that it drives take turns, so together they need one core, and on two of them each turn
    waits until the other core wakes (docs/performance.md).
    """
    cores = _cores()
    return [cores[i % len(cores)] if cores and count >= len(cores) else None for i in range(count)]


class Pool:
    """Workers start when first needed and stay. `run` is for one thread at a time; the caller sees to that."""

    def __init__(self, kind: Kind, limits: Limits, workers: int, batch: int = _BATCH) -> None:
        self.workers = [WorkerProcess(kind, limits, core) for core in _dealt(workers)]
        self.batch = batch
        self.restarts = 0
        self._lock = threading.Lock()

    def run(self, programs: list[str]) -> list[Reply]:
        """One reply per program, in order. Raises WorkerRefused if this kind cannot work on this machine."""
        call = _Call(self, programs)
        threads = [threading.Thread(target=call.serve, args=(worker,), daemon=True) for worker in call.workers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_WATCH_S)
                    for worker in call.workers:
                        worker.kill_if_overdue()
        except BaseException:  # Ctrl-C: the threads must not outlive this call
            call.jobs.clear()
            self.close()
            raise
        if call.failure is not None:
            raise call.failure
        return [reply or Reply("infrastructure", None, "no worker answered") for reply in call.replies]

    def count_restart(self) -> None:
        """A worker had to be replaced."""
        with self._lock:
            self.restarts += 1

    def close(self) -> None:
        """End all workers. A later `run` starts new ones."""
        for worker in self.workers:
            worker.end()


class _Call:
    """The state of one `Pool.run`: jobs (lists of places in `programs`), taken by one thread per worker."""

    def __init__(self, pool: Pool, programs: list[str]) -> None:
        self.pool = pool
        self.programs = programs
        self.replies: list[Reply | None] = [None] * len(programs)
        self.failure: BaseException | None = None
        size = min(pool.batch, max(1, math.ceil(len(programs) / (2 * len(pool.workers)))))
        self.jobs = deque(list(range(at, min(at + size, len(programs)))) for at in range(0, len(programs), size))
        self.died: dict[int, int] = {}  # place -> how often a worker died under it
        self.workers = pool.workers[: len(self.jobs)]

    def serve(self, worker: WorkerProcess) -> None:
        """A thread's life: take jobs until none is left."""
        try:
            while self.jobs and self.failure is None:
                try:
                    job = self.jobs.popleft()
                except IndexError:  # another thread was quicker
                    return
                self._run_job(worker, job)
        except BaseException as error:
            self.failure = error

    def _run_job(self, worker: WorkerProcess, job: list[int]) -> None:
        reason = self._make_ready(worker)
        if reason is not None:
            for place in job:
                self.replies[place] = Reply("infrastructure", None, reason)
            return
        worker.send([self.programs[place] for place in job])
        for done, place in enumerate(job):
            reply = worker.receive()
            if reply is None:
                self._bury(worker, place)
                if job[done + 1 :]:
                    self.jobs.append(job[done + 1 :])
                return
            self.replies[place] = reply

    def _make_ready(self, worker: WorkerProcess) -> str | None:
        """Start the worker if it is not running; a reason if that failed repeatedly."""
        reason: str | None = None
        for _ in range(0 if worker.running else _STARTS):
            try:
                worker.start()
                return None
            except WorkerFailed as error:
                reason = str(error)
        return reason

    def _bury(self, worker: WorkerProcess, place: int) -> None:
        """The worker fell silent under the program at `place`: end it, then judge the program or run it again."""
        overdue = worker.overdue
        status = worker.end(0.0 if overdue else DEATH_S)
        self.pool.count_restart()
        self.died[place] = self.died.get(place, 0) + 1
        if overdue:
            detail = "no answer within the time limit and its margin: the worker was killed"
            self.replies[place] = Reply("timeout", None, detail)
        elif self.died[place] == 1:
            self.jobs.appendleft([place])
        elif status in _OWN_CRASHES:
            self.replies[place] = Reply("error", None, "the interpreter crashed under this program, twice")
        else:
            detail = f"the worker died twice under this program (exit status {status})"
            self.replies[place] = Reply("infrastructure", None, detail)
