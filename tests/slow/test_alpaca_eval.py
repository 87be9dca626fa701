"""The alpaca_eval package takes our files and finds our numbers, in the environment that `tools/install_peers.py
alpaca-eval` makes."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.alpaca import annotation_rows, write_gamed, write_outputs
from tests.stages.test_alpaca_eval import recipe
from yonder.evaluation.alpaca_eval import figures, read_gamed
from yonder.pipeline.running import run
from yonder.recipe import load_recipe

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".servers" / "alpaca-eval"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ENVIRONMENT / ".complete").exists(),
        reason="alpaca_eval is not installed: python tools/install_peers.py alpaca-eval",
    ),
]


def package(folder: Path) -> dict[str, Any]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    command = [str(ENVIRONMENT / "bin" / "python"), str(ROOT / "tests" / "slow" / "accept_alpaca.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))[6:])


def agree(theirs: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> None:
    ours = figures(rows, read_gamed(str(folder / "df_gamed.csv")))
    for name in ("win_rate", "standard_error", "n"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-9), name
    for name in ("length_controlled", "length_controlled_error"):
        assert ours[name] == pytest.approx(theirs[name], abs=0.01), name
    assert figures(rows, None)["length_controlled"] == pytest.approx(theirs["minimal"], abs=0.05)


def test_files_of_a_stage_are_accepted(tmp_path: Path) -> None:
    run(load_recipe(str(recipe(tmp_path, 40))))
    folder = next((tmp_path / "run").rglob("model_outputs.json")).parent
    write_gamed(folder / "df_gamed.csv")
    write_outputs(folder / "baseline.json", 40)
    found = package(folder)
    assert found["accepted"] == 40 and found["name"] == ["base"]
    assert all(1 <= preference <= 2 for preference in found["preferences"])
    agree(found, json.loads((folder / "annotations.json").read_text()), folder)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_win_rates_agree(seed: int, tmp_path: Path) -> None:
    rows = annotation_rows(seed)
    write_gamed(tmp_path / "df_gamed.csv")
    for name, of in (("baseline", "theirs"), ("model_outputs", "ours")):
        write_outputs(tmp_path / f"{name}.json", 5, of)
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    agree(package(tmp_path), rows, tmp_path)
