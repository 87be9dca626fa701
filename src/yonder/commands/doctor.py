"""What this machine can run and what is missing, one line each."""

import os
import platform
import shutil
from typing import NamedTuple

import torch

import yonder


class Finding(NamedTuple):
    """One line of `yonder doctor`."""

    name: str
    good: bool
    optional: bool  # whether a recipe can do without
    says: str


def findings() -> list[Finding]:
    """All checks; none of them changes anything."""
    return [
        Finding(
            "yonder", True, False, f"{yonder.__version__} on Python {platform.python_version()}, {platform.system()}"
        ),
        Finding(
            "torch", True, False, f"{torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} cores"
        ),
        _accelerator(),
        _disk(),
        *_sandbox(),
    ]


def _accelerator() -> Finding:
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        return Finding("accelerator", True, True, f"{torch.cuda.device_count()} x {', '.join(sorted(names))}")
    if torch.backends.mps.is_available():
        return Finding("accelerator", True, True, "Apple GPU (mps)")
    recipes = "demo, demo-*, rewards-demo, svamp-cpu and svamp-few-labels run on a CPU; the others want a GPU"
    return Finding("accelerator", False, True, f"none: {recipes}")


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / 2**30
    return Finding("disk", free > 2, False, f"{free:.0f} GiB free here" + ("" if free > 2 else "; a run needs about 2"))


def _sandbox() -> list[Finding]:
    from yonder.sandbox import probe

    found = probe()
    monty = (
        f"Monty {found.monty_version} runs programs"
        if found.monty
        else f"{found.monty_detail}; pip install pydantic-monty"
    )
    confined = "confined CPython runs what Monty lacks" if found.confined else f"no fallback: {found.confined_detail}"
    return [Finding("sandbox", found.monty, False, monty), Finding("sandbox fallback", found.confined, True, confined)]
