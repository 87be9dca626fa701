"""Scripts that need a GPU run small on a CPU, so that the first run on one works; the guard against getting slower."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

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
    parts = {"generate", "judge", "judge, shared prefix", "update with reference", "whole step"}
    assert set(four["seconds"]) == set(four["floors"]) == set(four["flops"]) == parts
    used = ("generate", min("judge", "judge, shared prefix", key=four["seconds"].get), "update with reference")
    for of in ("seconds", "floors", "flops"):
        assert four[of]["whole step"] == pytest.approx(sum(four[of][name] for name in used))
    assert four["hours"] == pytest.approx(385_461 * 4 / 16 * four["seconds"]["whole step"] / 3600)
    assert four["floors"]["judge, shared prefix"] < four["floors"]["judge"] == one["floors"]["judge"]
    assert four["floors"]["update with reference"] < one["floors"]["update with reference"]
    assert all(seconds > 0 for seconds in four["seconds"].values())


def test_memory_beside_its_plan_runs_small() -> None:
    script = ROOT / "benchmarks" / "gpu" / "memory.py"
    done = subprocess.run(
        [sys.executable, str(script), "--tiny"], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| llama"))
    _, planned, taken, _, *_ = row.split("|")[1:-1]
    assert float(planned) == pytest.approx(float(taken), rel=0.5)


def test_the_ways_to_sample_run_small() -> None:
    script = ROOT / "benchmarks" / "gpu" / "decoding.py"
    ways = ["dynamic", "static", "graphs", "transformers"]
    done = subprocess.run(
        [sys.executable, str(script), "--tiny", "--turns", "1", "--rows", "16", "--ways", *ways],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[1:]] == ways
    assert all(float(row[2]) > 0 for row in rows[1:])
    assert all(float(row[4]) < 0.05 for row in rows[1:4])
    assert re.search(r"goes by on a GPU: dynamic \d+\.\d+ s, static \d+\.\d+ s", done.stdout)


def test_operations_are_those_of_all_threads_and_of_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    flops = importlib.import_module("flops")

    class Judge:
        def score(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x  # 2 x 8 x 8 x 8

    score = Judge.score
    with flops.Counted(Judge, "score") as counted:
        Judge().score(torch.ones(8, 8))
        assert (counted.part, counted.total) == (1024, 1024)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(Judge().score, torch.ones(8, 8)).result()
        assert (counted.part, counted.total) == (2048, 2048)
        q, k = torch.ones(1, 2, 6, 4, requires_grad=True), torch.ones(1, 2, 10, 4)
        attention = scaled_dot_product_attention(q, k, k)
        assert counted.total == 2048 + 2 * 2 * (2 * 6 * 10 * 4)  # twice 2 heads' products
        attention.sum().backward()
        assert counted.total == 2048 + 960 * 2 + 960 * 5
    assert counted.part == 2048
    assert Judge.score is score


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
