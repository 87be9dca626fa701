"""Shared by the sandbox tests: the limits of their workers, and how to write a program in one line."""

from collections.abc import Callable

from yonder.sandbox.protocol import Limits, Reply

LIMITS = Limits(timeout_s=0.5, memory_mb=64, output_chars=100)
RunOne = Callable[[str], Reply]


def in_solution(*lines: str) -> str:
    return "def solution():\n" + "\n".join(f"    {line}" for line in lines)
