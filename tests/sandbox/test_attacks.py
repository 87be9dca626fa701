"""What a hostile or runaway program may not do, in both executors: one property each."""

import os
import time
from pathlib import Path

import pytest

from tests.sandbox.kit import LIMITS, RunOne, in_solution


def test_an_endless_loop_is_a_timeout(run_one: RunOne):
    began = time.perf_counter()
    assert run_one(in_solution("while True: pass")).status == "timeout"
    assert time.perf_counter() - began < LIMITS.timeout_s + 1.0


def test_a_loop_that_swallows_every_exception_is_a_timeout(run_one: RunOne):
    assert run_one(
        in_solution("while True:", "    try:", "        1 / 0", "    except BaseException: pass")
    ).status == ("timeout")


def test_a_loop_outside_the_function_and_one_inside_share_one_limit(run_one: RunOne):
    program = "x = 0\nwhile x < 10**12: x += 1\n" + in_solution("return x")
    assert run_one(program).status == "timeout"


@pytest.mark.parametrize(
    "expression",
    ["[0] * 10**9", "'a' * 10**10", "bytearray(10**9) if False else [i for i in range(10**8)]", "'%1000000000d' % 3"],
)
def test_too_much_memory_is_refused(run_one: RunOne, expression: str):
    assert run_one(in_solution(f"return len({expression})")).status == "memory"


def test_a_huge_power_is_stopped_by_one_of_the_limits(run_one: RunOne):
    assert run_one(in_solution("return 9 ** 9 ** 9")).status in ("memory", "timeout")


def test_an_endless_recursion_is_an_error(run_one: RunOne):
    reply = run_one("def solution():\n    return solution()")
    assert (reply.status, "RecursionError" in reply.detail) == ("error", True)


def test_recursion_of_ordinary_depth_is_allowed(run_one: RunOne):
    program = "def f(n):\n    return 0 if n == 0 else 1 + f(n - 1)\ndef solution():\n    return f(150)"
    assert run_one(program).value == 150.0


@pytest.mark.parametrize(
    "call", ["os.fork()", "assert os.system('true') == 0", "os.execv('/bin/true', ['true'])", "os.kill(1, 0)"]
)
def test_no_new_process_and_no_signal(run_one: RunOne, call: str):
    assert run_one(f"import os\ndef solution():\n    {call}\n    return 1").status == "error"


def test_the_fork_server_cannot_be_killed(run_one: RunOne):
    assert run_one("import os\ndef solution():\n    os.kill(os.getppid(), 9)\n    return 1").status == "error"
    assert run_one(in_solution("return 5")).value == 5.0


def test_no_file_is_read(run_one: RunOne):
    assert run_one(in_solution("return len(open('/etc/passwd').read())")).status == "error"


def test_no_file_is_written(run_one: RunOne, tmp_path: Path):
    tmp_path.chmod(0o777)
    target = tmp_path / "written"
    assert run_one(in_solution(f"open({str(target)!r}, 'w').write('x')", "return 1")).status == "error"
    assert not target.exists()


def test_no_folder_is_listed(run_one: RunOne):
    assert run_one("import os\ndef solution():\n    return len(os.listdir('/'))").status == "error"


def test_the_environment_holds_no_secret(run_one: RunOne):
    assert "PATH" in os.environ  # the parent has something to leak
    reply = run_one("import os\ndef solution():\n    return len(os.environ) + len(os.environb)")
    assert reply.value in (0.0, None)


def test_not_even_the_size_of_a_file_is_told(run_one: RunOne):
    assert run_one("import os\ndef solution():\n    return os.stat('/etc/passwd').st_size").status == "error"


def test_no_socket_is_opened(run_one: RunOne):
    assert run_one("import _socket\ndef solution():\n    _socket.socket()\n    return 1").status == "error"


def test_raw_system_calls_are_refused(run_one: RunOne):
    """getpid (39 on x86_64) is allowed, so the call itself works; openat (257) and clone (56) must not."""
    program = (
        "import ctypes\ndef solution():\n    libc = ctypes.CDLL(None)\n"
        "    return max(libc.syscall(257, -100, b'/etc/passwd', 0), libc.syscall(56, 17, 0, 0, 0, 0))"
    )
    assert run_one(program).value in (-1.0, None)


def test_printed_text_is_cut_and_the_program_still_answers(run_one: RunOne):
    reply = run_one(in_solution("for i in range(2000): print('x' * 100)", "return 3"))
    assert (reply.value, reply.printed) == (3.0, "x" * 100)


def test_a_long_error_message_is_cut(run_one: RunOne):
    reply = run_one(in_solution("raise ValueError('x' * 10**6)"))
    assert reply.status == "error" and len(reply.detail) == 300


def test_a_rebound_builtin_or_module_does_not_reach_the_next_program(run_one: RunOne):
    run_one("import math, builtins\n" + in_solution("math.sqrt = builtins.len = lambda x: 7", "return 1"))
    run_one("len = round = float = isinstance = type = lambda *a: 7\nleft_over = 1\ndef solution():\n    return 1")
    assert run_one("import math\ndef solution():\n    return math.sqrt(16) + len('ab') + round(2.4)").value == 8.0
    assert "left_over" in run_one(in_solution("return left_over")).detail


def test_the_same_program_gives_the_same_random_numbers(run_one: RunOne):
    program = "import random\ndef solution():\n    return random.random()"
    first = run_one(program)
    assert first.status == "ok" and run_one(program).value == first.value
