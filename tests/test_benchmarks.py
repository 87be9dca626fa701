"""Scripts that need a GPU run small on a CPU, so that the first run on one works; the guard against getting slower."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_the_ways_to_sample_run_small() -> None:
    script = ROOT / "benchmarks" / "gpu" / "decoding.py"
    ways = ["dynamic", "static", "transformers"]
    done = subprocess.run(
        [sys.executable, str(script), "--tiny", "--turns", "1", "--rows", "16", "--ways", *ways],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[1:]] == ways
    assert all(float(row[2]) > 0 for row in rows[1:])
    assert all(float(row[4]) < 0.05 for row in rows[1:3])


@pytest.mark.parametrize(
    ("count", "ratio", "said"),
    [
        (100, 2.0, ""),
        (88, 2.3, ""),  # within 15 % of what is found
        (86, 2.0, "worse by more than 15%: calls;"),
        (100, 2.4, "worse by more than 15%: times;"),
        (None, 2.0, "worse by more than 15%: calls;"),
    ],
)
def test_the_guard_fails_where_something_got_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int | None, ratio: float, said: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    smoke = importlib.import_module("smoke")
    tried: list[float] = []

    def times() -> float:
        tried.append(2.0)
        return 2.0

    monkeypatch.setattr(smoke, "counts", lambda: {"calls": 100})
    monkeypatch.setattr(smoke, "RATIOS", {"times": times})
    monkeypatch.setattr(smoke, "STORED", tmp_path / "smoke.json")
    monkeypatch.setattr(sys, "argv", ["smoke.py"])
    stored = {"times": ratio} | ({} if count is None else {"calls": count})
    smoke.STORED.write_text(json.dumps(stored))
    if said:
        with pytest.raises(SystemExit, match=said):
            smoke.main()
    else:
        smoke.main()
    assert len(tried) == (3 if "times" in said else 1)  # a busy machine has three tries
