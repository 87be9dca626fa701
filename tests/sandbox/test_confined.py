"""The fork server proves its walls before it runs anything, and the parts that both executors share."""

import pytest

from tests.sandbox.kit import boot_with, in_solution, needs_confinement
from yonder.sandbox import Sandbox, probe
from yonder.sandbox.process import WorkerProcess, WorkerRefused
from yonder.sandbox.protocol import CappedText, Limits, parse_reply


@needs_confinement
def test_the_probe_finds_both_executors():
    found = probe()
    assert (found.monty, found.monty_detail, found.confined, found.confined_detail) == (True, "", True, "")
    assert found.monty_version is not None


@needs_confinement
@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ("kernel.forbid_calls = lambda: None", "look at a file"),
        ("kernel.forbid_files = lambda: None", "Landlock does not hold here: a confined process could ['read a file'"),
        ("kernel.limit_resources = lambda *a: None", "pass its memory limit"),
        ("import os; os.geteuid = lambda: 0; os.setgroups = lambda g: 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_missing_wall_is_found_at_the_start_and_refused(monkeypatch: pytest.MonkeyPatch, broken: str, named: str):
    boot_with(monkeypatch, f"from yonder.sandbox import kernel; {broken}")
    worker = WorkerProcess("confined", Limits())
    with pytest.raises(WorkerRefused) as refused:
        worker.start()
    assert named in str(refused.value)


@needs_confinement
def test_a_wall_that_fails_later_is_infrastructure_and_the_program_does_not_run(monkeypatch: pytest.MonkeyPatch):
    code = (
        "from yonder.sandbox import confined, kernel\ncheck = confined.ForkServer.check\n"
        "def check_then_break(self):\n    found = check(self)\n"
        "    kernel.confine = lambda *a: 1 / 0\n    return found\n"
        "confined.ForkServer.check = check_then_break\n"
    )
    boot_with(monkeypatch, code)
    with Sandbox(workers=1) as sandbox:
        result = sandbox.run(["import statistics\ndef solution():\n    return 1"])[0]
    assert (result.status, result.value, result.executor) == ("infrastructure", None, "cpython")


@needs_confinement
def test_landlock_alone_keeps_files_shut(monkeypatch: pytest.MonkeyPatch):
    """The other layers hide it, so here they are taken away, and the check at the start with them."""
    code = (
        "from yonder.sandbox import confined, kernel\n"
        "kernel.forbid_calls = kernel.limit_resources = kernel.drop_user = lambda *a: None\n"
        "confined.ForkServer.check = lambda self: None"
    )
    boot_with(monkeypatch, code)
    worker = WorkerProcess("confined", Limits())
    try:
        worker.start()
        worker.send([in_solution("return len(open('/proc/self/maps').read())")])
        reply = worker.receive()
    finally:
        worker.end()
    assert reply is not None and reply.detail.startswith("PermissionError: [Errno 13]")


# The only descriptor that a confined program can find open is the pipe that its answer goes into.
PIPES = """
import os, statistics
def is_pipe(fd):
    try:
        os.lseek(fd, 0, 1)
    except OSError as error:
        return error.errno == 29
def send(data):
    for fd in range(64):
        if is_pipe(fd):
            os.write(fd, data)
"""


@needs_confinement
@pytest.mark.parametrize(
    "line",
    [
        "os._exit(0)",
        """send(b'["infrastructure", null, "", "", 0.0, false]'); os._exit(0)""",
        """send(b'["ok", Infinity, "", "", 0.0, false]'); os._exit(0)""",
        "send(b'x' * 10**6)",
        "[os.close(fd) for fd in range(64) if is_pipe(fd)]",
    ],
)
def test_a_program_that_forges_its_answer_gains_nothing(sandbox: Sandbox, line: str):
    result = sandbox.run([PIPES + in_solution(line, "return 1")])[0]
    assert (result.status, result.executor, result.value) == ("error", "cpython", None)
    assert sandbox.run(["import statistics\n" + in_solution("return 2")])[0].value == 2.0


@needs_confinement
def test_a_crash_of_cpython_is_the_programs_error(sandbox: Sandbox):
    result = sandbox.run(["import sys, statistics\n" + in_solution("sys.modules['ctypes'].string_at(0)")])[0]
    assert (result.status, result.detail) == ("error", "the process ended with signal 11 and no result")


def test_capped_text_keeps_the_first_characters():
    text = CappedText(5)
    assert [text.write(part) for part in ("abc", "defg", "h")] == [3, 4, 1]
    assert text.text == "abcde"


GOOD = ["ok", 1.0, "", "", 0.5, False]


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, "fine"), (1, None), (1, True), (1, 1), (1, float("inf")), (2, None), (3, 7), (4, "0"), (5, 0)],
)
def test_an_answer_with_one_wrong_field_is_refused(place: int, value: object):
    assert parse_reply(GOOD, 10) is not None
    assert parse_reply([*GOOD[:place], value, *GOOD[place + 1 :]], 10) is None


@pytest.mark.parametrize("payload", [None, {}, "ok", 5, [], GOOD[:5], [*GOOD, 1]])
def test_an_answer_of_another_shape_is_refused(payload: object):
    assert parse_reply(payload, 10) is None


def test_text_in_an_answer_is_cut():
    reply = parse_reply(["error", None, "d" * 999, "p" * 999, 0.5, False], 10)
    assert reply is not None and (len(reply.detail), reply.printed) == (300, "p" * 10)
