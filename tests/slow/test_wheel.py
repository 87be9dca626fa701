"""The wheel holds all it needs: installed in a fresh environment, outside the checkout, it runs the demo's stages."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def test_the_wheel_runs_the_demo(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    wheel = next(tmp_path.glob("yonder_rl-*.whl"))
    assert wheel.stat().st_size < 20_000_000
    # The packages of the running environment are visible; Yonder itself comes from the wheel.
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    site = next((tmp_path / "env/lib").glob("python*/site-packages"))
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "packages.pth").write_text("\n".join(ours))
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed", str(wheel)], check=True
    )
    small = [
        "warmup.epochs=1",
        "check.floor=0",
        "rewards.judge.allow_unmeasured=true",  # one epoch of warm-up gives no right responses to measure with
        "verifiable_only.steps=2",
        "distill.steps=2",
        "data.held_out.options.count=20",
    ]
    command = [python, "-m", "yonder", "run", "demo", "output_dir=run", *small, "--json"]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # Monty's own program
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=900, env=os.environ | {"PATH": programs}
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert set(summary["results"]) == {"warmup", "verifiable_only", "distill"}
    assert (tmp_path / "run/report.html").is_file()
    where = [python, "-c", "import yonder; print(yonder.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) in found
