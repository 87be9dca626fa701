"""A run directory as a run leaves it, a row at a time."""

import json
from pathlib import Path
from typing import Any

from yonder.storage import write_json

RECIPE = """\
title: small
seed: 3
policy: {model: x, temperature: null}
rewards: {judge: {kind: judge, api_key: sk-proj-abcdefghijklmnop1234}}
stages: [{name: rl, kind: distill}]
"""


def begin(folder: Path, stage: str = "rl", begun: str = "2026-01-01") -> None:
    """A stage that has begun, in a run with a recipe."""
    (folder / "stages" / stage).mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    write_json(folder / "stages" / stage / "stage.json", {"status": "unfinished", "begun": begun})


def rows(folder: Path, *steps: int, stage: str = "rl", again: bool = False, **more: Any) -> None:
    """Metrics of these steps, added, or in a new file as after a resume."""
    path = folder / "stages" / stage / "metrics.jsonl"
    before = path.read_text() if path.is_file() and not again else ""
    lines = [json.dumps({"step": step, "time_s": 100.0 + step, "loss": step / 2, **more}) + "\n" for step in steps]
    aside = path.with_suffix(".aside")
    aside.write_text(before + "".join(lines))
    if again:
        aside.replace(path)
    else:
        path.open("a").write("".join(lines))


def trip(folder: Path, step: int, rule: str = "gap", stage: str = "rl") -> None:
    """An event, as the recorder writes it."""
    row = {"step": step, "action": "warn", "rule": rule, "reward": "judge", "stream": "a", "message": "it grew"}
    with (folder / "stages" / stage / "events.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def finish(folder: Path, result: dict[str, Any], stage: str = "rl", begun: str = "2026-01-01") -> None:
    """A stage that is done."""
    path = folder / "stages" / stage / "stage.json"
    write_json(path, {"status": "done", "begun": begun, "result": result})
