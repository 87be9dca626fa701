"""Workers die, hang, fail to start, or lose their parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.sandbox.kit import boot_with, in_solution, needs_confinement
from yonder.sandbox import Sandbox, process
from yonder.sandbox.pool import Pool
from yonder.sandbox.process import WorkerProcess
from yonder.sandbox.protocol import Limits

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
NUMBERED = [in_solution("x = 0", f"for i in range(200_000 + {n}): x += 1", "return x") for n in range(80)]


def descendants(root: int) -> list[int]:
    """All processes under `root`, from /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = list(children.get(root, []))
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def alive(pids: list[int]) -> list[int]:
    """Those that still run; a process waiting to be reaped by somebody does not."""

    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return [pid for pid in pids if runs(pid)]


def all_gone(pids: list[int], limit_s: float = 6.0) -> bool:
    deadline = time.monotonic() + limit_s
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pids)


@needs_proc
def test_a_worker_killed_in_mid_run_is_replaced_and_no_result_is_lost():
    with Sandbox(workers=2) as sandbox:
        sandbox.run([in_solution(f"return {n}") for n in range(20)])
        victim = sandbox._monty.workers[0].process
        assert victim is not None
        threading.Timer(0.05, os.kill, (victim.pid, signal.SIGKILL)).start()
        results = sandbox.run(NUMBERED)
        assert [result.value for result in results] == [200_000.0 + n for n in range(80)]
        assert sandbox.counts.restarts == 1


@needs_proc
def test_when_the_interpreter_under_a_worker_dies_the_program_runs_again():
    with Sandbox(workers=1) as sandbox:
        sandbox.run([in_solution("return 1")])
        worker = sandbox._monty.workers[0].process
        assert worker is not None
        (interpreter,) = descendants(worker.pid)
        threading.Timer(0.2, os.kill, (interpreter, signal.SIGKILL)).start()
        (result,) = sandbox.run([in_solution("while True: pass")])
        assert (result.status, sandbox.counts.restarts) == ("timeout", 1)
        assert result.seconds > 0.9  # the second time, for as long as allowed


def test_a_worker_that_hangs_is_killed_and_the_program_is_a_timeout(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "MARGIN_S", 0.2)
    code = (
        "import time\nfrom yonder.sandbox import monty\nrun = monty.MontyWorker.run\n"
        "monty.MontyWorker.run = lambda self, p: time.sleep(99) if 'hang' in p else run(self, p)"
    )
    boot_with(monkeypatch, code)
    with Sandbox(workers=1, timeout_s=0.2) as sandbox:
        results = sandbox.run([in_solution("return 1"), in_solution("hang = 1"), in_solution("return 2")])
    assert [result.status for result in results] == ["ok", "timeout", "ok"]


@pytest.mark.parametrize(
    ("exit_by", "status"), [("os.abort()", "error"), ("os.kill(os.getpid(), 9)", "infrastructure")]
)
def test_a_program_under_which_workers_die_twice(monkeypatch: pytest.MonkeyPatch, exit_by: str, status: str):
    code = (
        "import os\nfrom yonder.sandbox import monty\nrun = monty.MontyWorker.run\n"
        f"monty.MontyWorker.run = lambda self, p: {exit_by} if 'die' in p else run(self, p)"
    )
    boot_with(monkeypatch, code)
    with Sandbox(workers=1) as sandbox:
        results = sandbox.run([in_solution("return 1"), in_solution("die = 1"), in_solution("return 2")])
        assert sandbox.counts.restarts == 2
    assert [result.status for result in results] == ["ok", status, "ok"]


@pytest.mark.parametrize("code", ["import os; os._exit(3)", "import sys; sys.modules['pydantic_monty'] = None"])
def test_workers_that_cannot_start_are_infrastructure_and_not_the_programs_fault(
    monkeypatch: pytest.MonkeyPatch, code: str
):
    boot_with(monkeypatch, code)
    with Sandbox(workers=1) as sandbox:
        results = sandbox.run([in_solution("return 1"), in_solution("return 2")])
        assert sandbox.counts.infrastructure == 2
        monkeypatch.undo()
        again = sandbox.run([in_solution("return 1")])  # nothing of it is remembered
    assert [result.status for result in results] == ["infrastructure"] * 2
    assert again[0].value == 1.0


def test_a_worker_that_answers_nonsense_is_not_believed(monkeypatch: pytest.MonkeyPatch):
    code = "from yonder.sandbox import monty, protocol\nmonty.MontyWorker.run = lambda self, p: ['ok', 'x', 1]"
    boot_with(monkeypatch, code)
    pool = Pool("monty", Limits(), 1)
    try:
        assert [reply.value for reply in pool.run([in_solution("return 1")])] == [None]
    finally:
        pool.close()


PARENT = """
import sys, time
from yonder.sandbox import Sandbox
sandbox = Sandbox(workers=2, timeout_s=1.0)
sandbox.run(["def solution(): return %d" % n for n in range(20)] + ["import statistics\\ndef solution(): return 1"])
print("ready", flush=True)
{then}
"""


def start_parent(then: str) -> subprocess.Popen[str]:
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(then=then)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
    return parent


@needs_proc
@pytest.mark.parametrize("then", ["time.sleep(99)", "import os\nif os.fork() == 0: time.sleep(9)\ntime.sleep(99)"])
def test_an_idle_parent_killed_leaves_no_process(then: str):
    parent = start_parent(then)
    time.sleep(0.2)
    pids = descendants(parent.pid)
    forked = [pid for pid in pids if b"-c\0\nimport sys, time" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    pids = [pid for pid in pids if pid not in forked]
    assert len(pids) >= 4  # two workers, each with its interpreter
    parent.kill()
    parent.wait()
    gone = all_gone(pids)
    for pid in forked:
        os.kill(pid, signal.SIGKILL)
    assert gone


@needs_proc
@pytest.mark.parametrize("first", ["", "import statistics\\n"])
def test_a_parent_killed_in_mid_run_leaves_no_process(first: str):
    parent = start_parent(f"sandbox.run(['{first}def solution():\\n    while True: pass'])")
    time.sleep(0.3)
    pids = descendants(parent.pid)
    parent.kill()
    parent.wait()
    assert pids and all_gone(pids)


@needs_proc
def test_the_end_of_the_interpreter_ends_the_workers():
    parent = start_parent("time.sleep(0.3)")
    pids = descendants(parent.pid)
    assert parent.wait(10) == 0
    assert pids and all_gone(pids, 0.5)


@needs_proc
@needs_confinement
def test_a_confined_program_carries_every_lock_and_dies_with_its_fork_server():
    worker = WorkerProcess("confined", Limits(timeout_s=20.0))
    try:
        worker.start()
        assert worker.process is not None
        worker.send(["import time\n" + in_solution("time.sleep(19)")])
        time.sleep(0.3)
        (child,) = descendants(worker.process.pid)
        lines = Path(f"/proc/{child}/status").read_text().splitlines()
        status = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
        assert (status["Seccomp"], status["NoNewPrivs"], status["Groups"]) == (["2"], ["1"], [])
        assert "0" not in status["Uid"] + status["Gid"]
        assert {int(status[name][0], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {0}
        os.kill(worker.process.pid, signal.SIGKILL)
        assert all_gone([child], 1.0)
    finally:
        worker.end()


@needs_proc
def test_close_ends_the_workers():
    sandbox = Sandbox(workers=1)
    sandbox.run([in_solution("return 1"), "import statistics\ndef solution(): return 1"])
    pids = [worker.process.pid for worker in sandbox._monty.workers if worker.process is not None]
    sandbox.close()
    assert pids and all_gone(pids, 0.5)


@needs_proc
def test_the_worker_environment_holds_nothing_of_ours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("YONDER_SECRET", "hunter2")
    worker = WorkerProcess("monty", Limits())
    try:
        worker.start()
        assert worker.process is not None
        environment = Path(f"/proc/{worker.process.pid}/environ").read_bytes()
    finally:
        worker.end()
    assert b"PYTHONHASHSEED" in environment and b"hunter2" not in environment


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process cannot be bound to a core")
def test_a_worker_and_its_interpreter_share_a_core_where_every_core_has_one():
    mine = os.sched_getaffinity(0)

    def bound(workers: int) -> list[set[int]]:
        found: list[set[int]] = []
        with Sandbox(workers=workers) as sandbox:
            sandbox.run([in_solution(f"return {i}") for i in range(20)])
            for worker in sandbox._monty.workers:
                assert worker.process is not None
                family = [worker.process.pid, *descendants(worker.process.pid)]
                assert len(family) > 1
                cores = [os.sched_getaffinity(pid) for pid in family]
                assert all(one == cores[0] for one in cores)
                found.append(cores[0])
        return found

    assert sorted(map(sorted, bound(len(mine)))) == [[core] for core in sorted(mine)]
    if len(mine) > 1:  # fewer workers than cores: another process may have chosen the same
        assert bound(len(mine) - 1) == [mine] * (len(mine) - 1)
    assert os.sched_getaffinity(0) == mine


def test_a_core_that_is_taken_away_is_no_failure():
    worker = WorkerProcess("monty", Limits(), core=100_000)
    try:
        worker.start()
        worker.send([in_solution("return 3")])
        reply = worker.receive()
    finally:
        worker.end()
    assert reply is not None and reply.value == 3
