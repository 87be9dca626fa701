"""One sandbox and one worker of each kind for the whole session: starting them is most of a test's time."""

from collections.abc import Callable, Iterator

import pytest

from tests.sandbox.kit import KERNEL_CAN_CONFINE, LIMITS, RunOne
from yonder.sandbox import ProgramResult, Sandbox
from yonder.sandbox.process import WorkerProcess
from yonder.sandbox.protocol import Reply


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=2, timeout_s=LIMITS.timeout_s, output_chars=LIMITS.output_chars) as made:
        yield made


@pytest.fixture
def run(sandbox: Sandbox) -> Callable[[str], ProgramResult]:
    return lambda program: sandbox.run([program])[0]


@pytest.fixture(scope="session")
def workers() -> Iterator[dict[str, WorkerProcess]]:
    started: dict[str, WorkerProcess] = {}
    yield started
    for worker in started.values():
        worker.end()


@pytest.fixture(params=["monty", "confined"])
def run_one(request: pytest.FixtureRequest, workers: dict[str, WorkerProcess]) -> RunOne:
    """Runs a program in a worker of one kind directly: no retries, no fallback, no cache."""
    kind = request.param
    if kind not in workers:
        worker = WorkerProcess(kind, LIMITS)
        if kind == "confined" and not KERNEL_CAN_CONFINE:
            pytest.skip("no Landlock or seccomp on this machine")
        worker.start()
        workers[kind] = worker

    def run_program(program: str) -> Reply:
        workers[kind].send([program])
        reply = workers[kind].receive()
        assert reply is not None, "the worker died"
        return reply

    return run_program
