"""Copy the judge of a finished `demo-judge` run into the package, as fp16: `python tools/ship_judge.py RUN`."""

import argparse
import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TARGET = Path(__file__).parents[1] / "src" / "yonder" / "assets" / "judge"


def ship(run: Path, target: Path = TARGET) -> None:
    """Replace the shipped judge by the checkpoint that stage `judge` of this run handed on."""
    stage = run / "stages" / "judge"
    record = json.loads((stage / "stage.json").read_text(encoding="utf-8"))
    if record["status"] != "done":
        raise SystemExit(f"{stage} is {record['status']}; finish the run first")
    checkpoint = stage / record["result"]["checkpoint"]
    shutil.rmtree(target, ignore_errors=True)
    AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float16).save_pretrained(target)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(target)
    (target / "generation_config.json").unlink(missing_ok=True)  # no default of ours hides in a model folder
    for path in target.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory of demo-judge")
    ship(parser.parse_args().run)
