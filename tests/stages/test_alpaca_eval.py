"""The stage `alpaca-eval`: files of the package's form, a resumed stage, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.evaluation.alpaca import write_gamed, write_outputs
from tests.pipeline.test_pipeline import Heard
from tests.test_errors import tree
from yonder.data.responses import read_lines
from yonder.errors import DataError, RecipeError, TrainingError
from yonder.evaluation.alpaca_eval import read_gamed, read_outputs
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.rewards.preference import PreferenceJudge

JUDGE = {"model": "yonder:judge", "device": "cpu", "mass_floor": 0.0}


def recipe(folder: Path, count: int = 70, **changes: Any) -> Path:
    write_outputs(folder / "baseline.json", count)
    stage = {
        "name": "alpaca", "kind": "alpaca-eval", "checkpoints": ["base"], "baseline": str(folder / "baseline.json"),
        "judge": JUDGE, "task": {"format": "open"},
    }  # fmt: skip
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(tree(folder) | {"stages": [stage | changes]}))
    return path


def test_outputs_annotations_and_win_rates(tmp_path: Path) -> None:
    heard = Heard()
    summary = run(load_recipe(str(recipe(tmp_path))), progress=heard)
    folder = next((tmp_path / "run").rglob("model_outputs.json")).parent
    outputs = json.loads((folder / "model_outputs.json").read_text())
    rows = json.loads((folder / "annotations.json").read_text())
    assert folder.name == "base" and len(outputs) == len(rows) == 70
    assert outputs[3]["instruction"] == "Say 3." and outputs[3]["generator"] == "base"
    assert [row["output_2"] for row in rows] == [output["output"] for output in outputs]
    assert rows[3]["output_1"].startswith("I say 3.") and rows[3]["generator_1"] == "theirs"
    preferences = [row["preference"] for row in rows]
    assert all(1 <= value <= 2 for value in preferences)
    stage = json.loads(next((tmp_path / "run").rglob("stage.json")).read_text())
    found = stage["result"]["win_rates"]["base"]
    assert found["win_rate"] == pytest.approx(100 * sum(value - 1 for value in preferences) / 70)
    assert found["n"] == found["instructions"] == 70 and -1 <= found["position_bias"] <= 1
    assert found["model"] == "length_controlled_minimal"
    assert any(line.startswith("alpaca: base: win rate") for line in heard.said)
    assert summary["stages"]["alpaca"]["status"] == "done"


def test_a_stopped_stage_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").mkdir()
    run(load_recipe(str(recipe(tmp_path / "whole"))))
    path, asked = recipe(tmp_path), list[int]()
    whole = PreferenceJudge.prefer

    def once(self: PreferenceJudge, cases: Any) -> Any:
        asked.append(len(cases))
        if len(asked) == 2:
            raise TrainingError("cut")
        return whole(self, cases)

    monkeypatch.setattr(PreferenceJudge, "prefer", once)
    with pytest.raises(TrainingError, match="cut"):
        run(load_recipe(str(path)))
    rows = next((tmp_path / "run").rglob("annotations.jsonl"))
    assert len(read_lines(rows)) == 64
    rows.write_bytes(rows.read_bytes() + b'{"instruction": "Say 64.')  # killed while writing
    run(load_recipe(str(path)))
    assert asked == [64, 6, 6]
    same = next((tmp_path / "whole" / "run").rglob("annotations.json"))
    assert json.loads((rows.parent / "annotations.json").read_text()) == json.loads(same.read_text())


def test_a_changed_baseline_is_judged_again(tmp_path: Path) -> None:
    path = recipe(tmp_path, 6)
    run(load_recipe(str(path)))
    heard = Heard()
    run(load_recipe(str(path)), progress=heard)
    assert heard.said == ["alpaca: unchanged, skipped"]
    write_outputs(tmp_path / "baseline.json", 7)
    again = Heard()
    run(load_recipe(str(path)), progress=again)
    assert any("of 7" in line for line in again.said)


def test_what_is_refused(tmp_path: Path) -> None:
    write_gamed(tmp_path / "df_gamed.csv")
    with pytest.raises(DataError, match="805 instructions"):
        run(load_recipe(str(recipe(tmp_path, gamed=str(tmp_path / "df_gamed.csv")))))
    with pytest.raises(RecipeError, match="nothing stands for"):
        run(load_recipe(str(recipe(tmp_path, judge=JUDGE | {"prompt": "text"}))))
    with pytest.raises(RecipeError, match="earlier stage"):
        load_recipe(str(recipe(tmp_path, checkpoints=["nothing"])))
    (tmp_path / "bad.json").write_text(json.dumps([{"instruction": "x", "generator": "y"}]))
    with pytest.raises(DataError, match=r"item 1: `output` is missing"):
        read_outputs(str(tmp_path / "bad.json"))
    two = [{"instruction": "x", "output": "y", "generator": name} for name in "ab"]
    (tmp_path / "bad.json").write_text(json.dumps(two))
    with pytest.raises(DataError, match="several generators"):
        read_outputs(str(tmp_path / "bad.json"))
    with pytest.raises(DataError, match="no column `preference`"):
        read_gamed(str(tmp_path / "bad.json"))
    assert len(read_gamed(str(tmp_path / "df_gamed.csv")).index) == 2 * 805
