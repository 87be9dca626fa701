"""What the benchmarks share: ways of doing one thing timed in turns, their ratio, and the record of a measurement."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

RESULTS = Path(__file__).parent / "results"


class Ratio(NamedTuple):
    """How many times as long one way takes as another: of the turns the median, the least and the most."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """Turn by turn, since the machine's speed changes between turns more than within one."""
    found = [a / b for a, b in zip(slow, fast, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found))


def in_turns(ways: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of every way in every turn; each has gone once before."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, work in ways.items():
            begin = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def keep(name: str, found: Mapping[str, Any]) -> None:
    """Write a measurement to `results/NAME.json`, with the machine that it was made on."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**found, **machine()}, indent=1) + "\n", encoding="utf-8")
    print(f"\nresults/{name}.json")


def machine() -> dict[str, Any]:
    """What decides a figure besides the code."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": {
            "date": datetime.now(UTC).date().isoformat(),
            "processor": names[0] if names else platform.processor(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],  # of the last minute; the benchmark's own included
            "threads": torch.get_num_threads(),
            "bfloat16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags],
            "gpu": gpu,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
    }
