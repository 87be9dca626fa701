"""What `yonder plan` says of memory against the peak of a CUDA device's allocator, by the cases of benchmarks/memory.py
and larger ones.

python benchmarks/gpu/memory.py [--tiny]        # a Markdown table; each case begins with an empty device

`--tiny`: one small case on a CPU, for a test.
"""

import gc
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from memory import CASES, Case, Steps, cells, peaks_of, planned

LARGER = [
    Case("llama 2048 x 16, autocast", hidden_size=2048, layers=16, autocast=True),
    Case("llama 2048 x 16, autocast, recomputed", hidden_size=2048, layers=16, autocast=True, recompute=True),
    Case("llama 4096 x 16, bfloat16, LoRA", hidden_size=4096, layers=16, dtype="bfloat16", lora=True),
    Case("opt 4096 x 16, bfloat16, LoRA, recomputed", "opt", 4096, 16, lora=True, recompute=True, dtype="bfloat16"),
]


TINY = Case("llama 256 x 2", hidden_size=256, layers=2)
MOMENTS = ("update", "generate")


def measure(case: Case) -> dict[str, dict[str, float]]:
    """Peaks of one case, of a plan for a CUDA device and of the device."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    steps, peaks = Steps(case, "cuda"), dict[str, float]()
    for name in MOMENTS:
        torch.cuda.reset_peak_memory_stats()
        getattr(steps, name)()
        torch.cuda.synchronize()
        peaks[name] = torch.cuda.max_memory_allocated() - before
    return {"planned": planned(steps.recipe, cuda=True), "measured": peaks}


def measure_here(case: Case) -> dict[str, Any]:
    """The same on the CPU, whose tensors a profile counts."""
    steps, peaks = peaks_of(lambda: Steps(case, "cpu"), MOMENTS)
    return {"planned": planned(steps.recipe), "measured": peaks}


def main() -> None:
    """All cases that the device takes."""
    tiny = sys.argv[1:] == ["--tiny"]
    if not (tiny or torch.cuda.is_available()):
        sys.exit("there is no CUDA device here; benchmarks/memory.py measures on a CPU")
    print(f"{'CPU' if tiny else torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print("| model | update: planned MB | tensors | error | sampling: planned MB | tensors | error |")
    print("|---|---|---|---|---|---|---|")
    for case in [TINY] if tiny else [*CASES, *LARGER]:
        row = measure_here(case) if tiny else measure(case)
        print(f"| {case.name} | {cells(row, 'update')} | {cells(row, 'generate')} |", flush=True)


if __name__ == "__main__":
    main()
