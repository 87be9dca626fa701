"""`Sandbox` as a whole: order, repeats, fallback, log, recovery."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sandbox.kit import boot_with, in_solution, needs_confinement
from yonder.errors import SandboxError
from yonder.sandbox import ProgramResult, Sandbox
from yonder.sandbox.cache import Cache

Run = Callable[[str], ProgramResult]
ENDLESS = in_solution("while True: pass")


def test_results_keep_the_order_of_programs_with_repeats(sandbox: Sandbox):
    numbers = [n % 7 for n in range(60)]
    results = sandbox.run([in_solution(f"return {n}") for n in numbers])
    assert [result.value for result in results] == numbers


def test_no_programs_give_no_results(sandbox: Sandbox):
    assert sandbox.run([]) == []


def test_a_repeat_is_not_run_again():
    program = in_solution("return 1")
    with Sandbox(workers=1) as sandbox:
        first = sandbox.run([program, program])
        second = sandbox.run([program])
        assert first[0] is first[1] is second[0]
        assert (sandbox.counts.programs, sandbox.counts.cache_hits) == (3, 2)


def test_the_cache_forgets_the_least_recently_used():
    cache = Cache(2)
    result = ProgramResult("ok", 1.0, "", "", 0.0, "monty")
    cache.put("a", result)
    cache.put("b", result)
    cache.get("a")
    cache.put("c", result)
    assert [cache.get(key) is not None for key in "abc"] == [True, False, True]


def test_a_failure_of_ours_is_not_cached():
    cache = Cache(2)
    cache.put("a", ProgramResult("infrastructure", None, "", "", 0.0, "monty"))
    assert cache.get("a") is None


@needs_confinement
@pytest.mark.parametrize(
    ("program", "value"),
    [
        ("from statistics import mean\ndef solution():\n    return mean([1, 2])", 1.5),
        ("from fractions import Fraction\ndef solution():\n    return Fraction(1, 4)", 0.25),
        ("def gen():\n    yield 5\ndef solution():\n    return next(gen())", 5.0),
        ("from math import *\ndef solution():\n    return floor(2.5)", 2.0),
        ("def solution():\n    return (5).bit_length()", 3.0),
        ("from datetime import datetime\ndef solution():\n    return datetime.strptime('3', '%d').day", 3.0),
        ("def solution():\n    x = {'a': 1}\n    del x['a']\n    return len(x)", 0.0),
    ],
)
def test_what_monty_lacks_runs_in_the_confined_cpython(run: Run, program: str, value: float):
    result = run(program)
    assert (result.status, result.value) == ("ok", value)


@pytest.mark.parametrize("module", ["sympy", "numpy", "subprocess"])
def test_other_modules_are_an_error_and_no_fallback(run: Run, sandbox: Sandbox, module: str):
    before = sandbox.counts.fallbacks
    result = run(f"import {module}\ndef solution():\n    return 1")
    assert (result.status, result.detail) == ("error", f"ModuleNotFoundError: No module named '{module}'")
    assert sandbox.counts.fallbacks == before


def test_without_confinement_montys_error_stands_and_says_why(monkeypatch: pytest.MonkeyPatch):
    """The worker is told to refuse: it is started on a machine type that `kernel` does not know."""
    boot_with(monkeypatch, "import platform; platform.machine = lambda: 'pdp11'")
    with Sandbox(workers=1) as sandbox:
        result = sandbox.run(["import statistics\ndef solution():\n    return statistics.mean([1])"])[0]
    assert (result.status, result.executor) == ("error", "monty")
    assert result.detail.startswith("ModuleNotFoundError: No module named 'statistics' (the CPython fallback is not")
    assert "needs Linux on x86_64 or aarch64" in result.detail


def test_the_fallback_can_be_switched_off():
    with Sandbox(workers=1, fallback="none") as sandbox:
        result = sandbox.run(["import statistics\ndef solution():\n    return 1"])[0]
    assert result.status == "error" and "switched off" in result.detail


def test_what_the_clock_decided_is_replayed_from_the_log(tmp_path: Path):
    log = tmp_path / "programs.jsonl"
    with Sandbox(workers=1, timeout_s=0.8, log=log) as sandbox:
        first = sandbox.run([ENDLESS, in_solution("return 1"), in_solution("return len([0] * 10**9)")])
    assert [json.loads(line)["status"] for line in log.read_text().splitlines()] == ["timeout", "memory"]
    altered = log.read_text().replace('"timeout"', '"error"')  # to see that the second sandbox reads and does not run
    log.write_text(altered + '{"sha256": "cut of')
    with Sandbox(workers=1, timeout_s=0.8, log=log) as sandbox:
        second = sandbox.run([ENDLESS])
        assert (second[0].status, second[0].seconds) == ("error", first[0].seconds)
        assert (sandbox.counts.replayed, sandbox.counts.cache_hits) == (2, 1)
        sandbox.run([in_solution("while True: pass", "pass")])
    assert json.loads(log.read_text().splitlines()[-1])["status"] == "timeout"  # the half line does not swallow it


def test_a_log_made_under_other_limits_is_not_replayed(tmp_path: Path):
    log = tmp_path / "programs.jsonl"
    with Sandbox(workers=1, timeout_s=0.2, log=log) as sandbox:
        sandbox.run([ENDLESS])
    with Sandbox(workers=1, timeout_s=0.3, log=log) as sandbox:
        assert sandbox.counts.replayed == 0


def test_another_entry_name():
    with Sandbox(workers=1, entry="answer") as sandbox:
        results = sandbox.run(["def answer():\n    return 2", "def solution():\n    return 2"])
    assert [(result.value, result.detail) for result in results] == [
        (2.0, ""),
        (None, "the program defines no answer()"),
    ]


def test_a_closed_sandbox_says_so():
    sandbox = Sandbox(workers=1)
    sandbox.close()
    with pytest.raises(SandboxError, match="closed"):
        sandbox.run([in_solution("return 1")])


def test_impossible_settings_are_refused():
    with pytest.raises(SandboxError, match="positive"):
        Sandbox(timeout_s=0.0)
    with pytest.raises(SandboxError, match="Python name"):
        Sandbox(entry="f(); g")


def test_an_overlong_program_is_an_error(run: Run):
    assert "longer than" in run("x = 1\n" * 50_000).detail
