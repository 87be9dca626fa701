"""Scripts that need a GPU run small on a CPU, so that the first run on a GPU works."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.documents import ROOT


def test_a_step_at_paper_scale_runs_small() -> None:
    script = ROOT / "benchmarks" / "gpu" / "paper_scale.py"
    done = subprocess.run(
        [sys.executable, str(script), "--tiny", "--repeats", "1", "--groups", "1", "4"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, four = json.loads(done.stdout.splitlines()[-1])
    assert (one["group"], four["group"]) == (1, 4)
    assert set(four["seconds"]) == {"generate", "judge", "judge, shared prefix", "update with reference"}
    assert four["floors"]["judge, shared prefix"] < four["floors"]["judge"] == one["floors"]["judge"]
    assert four["floors"]["update with reference"] < one["floors"]["update with reference"]
    assert all(seconds > 0 for seconds in four["seconds"].values())
