"""Shared by the sandbox tests: the limits of their workers, and how to write a program in one line."""

import ctypes
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from yonder.sandbox import process
from yonder.sandbox.protocol import Limits, Reply

LIMITS = Limits(timeout_s=0.5, memory_mb=64, output_chars=100)
RunOne = Callable[[str], Reply]


def in_solution(*lines: str) -> str:
    return "def solution():\n" + "\n".join(f"    {line}" for line in lines)


def _kernel_can_confine() -> bool:
    """Asked of the kernel directly, not of the code under test: where this is true, a refusal is a failure."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return False
    landlock_version = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)
    return landlock_version > 0 and Path("/proc/sys/kernel/seccomp/actions_avail").exists()


KERNEL_CAN_CONFINE = _kernel_can_confine()
needs_confinement = pytest.mark.skipif(not KERNEL_CAN_CONFINE, reason="no Landlock or seccomp on this machine")


def boot_with(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Have workers run `code`, which sees the same `yonder` as this process, before their own."""
    find, run = process._BOOT.split("\n")
    monkeypatch.setattr(process, "_BOOT", f"{find}\n{code}\n{run}")
