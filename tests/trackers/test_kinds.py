"""Each real tracker, offline: what it got is read back by its own means. `tools/install_peers.py trackers` installs
them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.test_errors import tree
from tests.trackers import reading
from tests.trackers.folders import begin, finish, rows, trip
from yonder.data.responses import read_lines
from yonder.storage import read_json
from yonder.trackers.following import Follower
from yonder.trackers.sending import KINDS

SETTINGS = {
    "tensorboard": {"kind": "tensorboard", "folder": "tensorboard"},
    "wandb": {"kind": "wandb", "project": "yonder", "entity": None, "mode": "offline", "tags": ["mine"]},
    "mlflow": {"kind": "mlflow", "uri": "sqlite:///mlflow.db", "experiment": "yonder"},
    "trackio": {"kind": "trackio", "project": "yonder", "space": None},
}
READERS: dict[str, Callable[[Path], reading.Kept]] = {
    "tensorboard": reading.tensorboard,
    "wandb": reading.wandb,
    "mlflow": reading.mlflow,
    "trackio": reading.trackio,
}
EVERY = pytest.mark.parametrize("kind", list(SETTINGS))


def need(kind: str) -> None:
    found = find_spec(kind)
    if found is None or found.origin is None:
        pytest.skip(f"{kind} is not installed; `python tools/install_peers.py trackers` does it")


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        "TRACKIO_DIR": str(folder / "trackio"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


@EVERY
def test_what_was_sent_is_there_once(kind: str, tmp_path: Path) -> None:
    """In two processes, as a run that was interrupted; its own process each, since trackers keep global state."""
    need(kind)
    script = (
        "from tests.trackers.test_kinds import send; from pathlib import Path; import sys; "
        "send(sys.argv[1], Path.cwd(), sys.argv[2] == 'second')"
    )
    for part in ("first", "second"):
        command = [sys.executable, "-c", script, kind, part]
        subprocess.run(command, check=True, cwd=tmp_path, env=environment(tmp_path), timeout=120)
    check = f"from tests.trackers.test_kinds import check; from pathlib import Path; check({kind!r}, Path.cwd())"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=tmp_path, env=environment(tmp_path), timeout=120)


def send(kind: str, folder: Path, second: bool) -> None:
    """Two halves of a run."""
    if not second:
        begin(folder)
        rows(folder, 2, 4, own_strange="text")
        trip(folder, 4)
    one = Follower(kind, SETTINGS[kind], folder, KINDS[kind])
    one.send()
    if second:
        rows(folder, 4, 6, again=True)
        cell = {"accuracy": 0.25, "low": 0.125, "high": 0.5, "n": 12, "vote": {"accuracy": None}}
        finish(folder, {"steps": 6, "results": {"base": {"svamp": cell}}})
        (folder / "report.html").write_text("<p>page</p>")
    one.finish("done" if second else "failed")


def check(kind: str, folder: Path) -> None:
    """What the tracker has."""
    found = READERS[kind](folder)
    assert found.metrics["rl/loss"] == [(2, 1.0), (4, 2.0), (6, 3.0)], found.metrics
    assert found.metrics["rl/event/gap"] == [(4, 1.0)]
    assert found.metrics["evaluation/base/svamp/accuracy"] == [(6, 0.25)]
    assert not any(name.endswith("vote/accuracy") for name in found.metrics)
    assert "gap" in found.notes and "it grew (warn)" in found.notes, found.notes
    assert "small" in found.config and "sk-proj" not in found.config
    assert found.pages == (kind != "tensorboard")


@pytest.mark.slow
@EVERY
def test_a_run_that_is_killed_and_goes_on_has_every_step_once(kind: str, tmp_path: Path) -> None:
    need(kind)
    recipe = tree(tmp_path)
    recipe["policy"]["max_completion_tokens"] = 40
    recipe["stages"][1] |= {"steps": 24, "save_every": 6}
    recipe["trackers"] = [SETTINGS[kind] | ({"uri": f"sqlite:///{tmp_path}/run/mlflow.db"} if kind == "mlflow" else {})]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "yonder", "run", "small.yaml"]
    env = environment(tmp_path)
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL) as process:
        sent = tmp_path / "run" / "trackers" / f"{kind}.json"
        while read_json(sent).get("stages", {}).get("rl", {}).get("step", 0) < 4:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.05)
        process.kill()
    subprocess.run(command, cwd=tmp_path, env=env, check=True, timeout=300)
    script = (
        "from tests.trackers.test_kinds import READERS; from pathlib import Path; import json, sys; "
        "print(json.dumps(READERS[sys.argv[1]](Path.cwd() / 'run').metrics))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, kind], cwd=tmp_path, env=env, check=True, timeout=120, capture_output=True
    )
    metrics = yaml.safe_load(told.stdout.decode().splitlines()[-1])
    for stage in ("warmup", "rl"):
        written = {int(row["step"]): row for row in read_lines(tmp_path / "run/stages" / stage / "metrics.jsonl")}
        there = [step for step, _ in metrics[f"{stage}/tokens_per_s"]]
        assert sorted(there) == sorted(written)
