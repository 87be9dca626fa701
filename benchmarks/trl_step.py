"""Seconds of a whole GRPO step (rollouts, the judge's scores, the update), Yonder's and TRL's, in turns.

python benchmarks/trl_step.py [TURNS] [STEPS] [float32|bfloat16]        # default: 5 4 float32

Both start from one student that was taught GSM8K's programs for a moment, so that it ends by itself, and train it with
one judge of its size on the same questions: 8 x 8 completions of up to 64 tokens, temperature 1, KL to the start 0.04.
bfloat16: products of training in it (autocast), and the judge's weights.
Each turn runs STEPS + 1 steps of each in a process of its own, and the first is left out. TRL works in the environment
that `python tools/install_peers.py trl` makes, with the judge as its reward function (yonder.integrations.trl).

Both must have written about as many tokens, and been judged about as well, as they draw different completions. What the
judge costs is its seconds over those of the step, and over those of the rest; beside them its share of all
floating-point operations, counted in runs of their own.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from turns import keep, ratio

ROOT = Path(__file__).parents[1]
TRL = ROOT / ".servers" / "trl" / "bin" / "python"
QUESTIONS, GROUP, TOKENS, BETA = 8, 8, 64, 0.04
TRL_BATCH = int(
    os.environ.get("TRL_BATCH", "64")
)  # completions that its update reads at once; so many are fastest here
TRL_CONTINUOUS = "TRL_CONTINUOUS" in os.environ  # whether it samples by transformers' continuous batching
MOST = {"tokens": 2.0, "score": 0.02}  # by which the means of both sides may differ: tokens, the judge's P(Yes)
STUDENT = {"family": "llama", "hidden_size": 256, "layers": 4, "heads": 4, "context": 512}
JUDGE = {"prompt": "program", "max_tokens": 512, "guards": [], "mass_floor": 0.0}


def recipe(output: Path, model: Any, stages: list[dict[str, Any]], judge: str, dtype: str) -> dict[str, Any]:
    """A recipe on GSM8K's questions."""
    return {
        "seed": 0,
        "threads": 2,
        "output_dir": str(output),
        "policy": {
            "model": model,
            "tokenizer": "yonder:tokenizer",
            "max_completion_tokens": TOKENS,
            "autocast": "bfloat16" if dtype == "bfloat16" else "off",
        },
        "task": {"format": "program", "docstring": False, "numbers": "named"},
        "data": {
            "few": {"source": "gsm8k", "options": {"programs_only": True}, "limit": 800},
            "questions": {"source": "gsm8k", "labeled": False, "limit": 64},
        },
        "rewards": {"judge": {"kind": "judge", "model": judge, "allow_unmeasured": True, "dtype": dtype, **JUDGE}},
        "stages": stages,
    }


def teach(folder: Path) -> Path:
    """A student that writes programs which end by themselves."""
    from yonder import load_recipe, run

    stage = {"name": "warmup", "kind": "warmup", "data": "few", "epochs": 2, "optimizer": {"lr": 2e-3}}
    path = folder / "teach.yaml"
    path.write_text(json.dumps(recipe(folder / "taught", STUDENT, [stage], "yonder:judge", "float32")))
    run(load_recipe(path), ["warmup"])
    return max((folder / "taught" / "stages" / "warmup" / "checkpoints").glob("step-*/policy"))


def distill(folder: Path, student: Path, steps: int, dtype: str) -> Path:
    """A recipe of so many steps."""
    stage = {
        "name": "rl",
        "kind": "distill",
        "algorithm": "grpo",
        "group_size": GROUP,
        "epochs": 1,
        "steps": steps,
        "prompts": {"questions": QUESTIONS},
        "terms": [{"reward": "judge", "data": "questions", "weight": 1.0}],
        "kl": {"beta": BETA},
        "sampling": {"temperature": 1.0},
        "optimizer": {"lr": 1e-6},
        "save_every": 1000,
    }
    path = folder / "ours.yaml"
    path.write_text(json.dumps(recipe(folder / "run", str(student), [stage], str(student), dtype)))
    return path


def ours(folder: Path, student: Path, steps: int, dtype: str) -> dict[str, Any]:
    """A distill stage as the command runs it."""
    path = distill(folder, student, steps + 1, dtype)
    subprocess.run([sys.executable, "-m", "yonder", "distill", str(path)], check=True, capture_output=True)
    lines = (folder / "run" / "stages" / "rl" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {
        "seconds": [after["time_s"] - before["time_s"] for before, after in itertools.pairwise(rows)],
        "tokens": statistics.mean(row["rollouts/questions/length_mean"] for row in rows),
        "score": statistics.mean(row["terms/judge@questions/reward_mean"] for row in rows),
        "judge": [row["time/score/judge_s"] for row in rows[1:]],
        "other": [row["time/other_s"] for row in rows[1:]],
    }


def operations(folder: Path, student: Path, dtype: str) -> dict[str, float]:
    """GFLOP of a step of ours and of the judge in it: what three steps have more than one, halved."""
    from flops import Counted

    from yonder import load_recipe, run
    from yonder.judges.local import LocalJudge

    found: list[tuple[int, int]] = []
    for steps in (1, 3):
        place = folder / f"counted-{steps}"
        place.mkdir()
        with Counted(LocalJudge, "verdicts") as counted:
            run(load_recipe(distill(place, student, steps, dtype)), ["rl"])
        found.append((counted.total, counted.part))
    step, judge = ((after - before) / 2e9 for before, after in zip(*found, strict=True))
    return {"step": step, "judge": judge}


def theirs(folder: Path, student: Path, steps: int, dtype: str, counting: bool = False) -> dict[str, Any]:
    """The same in TRL's environment."""
    words = [str(TRL), __file__, "trl", str(folder), str(student), str(steps), dtype, str(int(counting))]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def run_trl(folder: Path, student: Path, steps: int, dtype: str, counting: bool) -> None:
    """Runs where TRL is; prints what `ours` returns, and operations where they are counted."""
    import torch
    from datasets import Dataset
    from flops import Counted
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from yonder.data.datasets import load_data
    from yonder.integrations.trl import judge_reward
    from yonder.judges.local import LocalJudge
    from yonder.models.loading import load_tokenizer
    from yonder.recipe.data import DataSettings, TaskSettings

    torch.set_num_threads(2)
    source = DataSettings(source="gsm8k", labeled=False, limit=64)
    prompts = load_data("q", {"q": source}, TaskSettings(format="program", docstring=False, numbers="named"), 0)
    rows = [{"prompt": p.text + p.prefix, "question": p.question, "prefix": p.prefix} for p in prompts]
    marks: list[tuple[float, int, int]] = []
    counted = Counted(LocalJudge, "verdicts")

    class Mark(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append((time.perf_counter(), counted.total, counted.part))

    config = GRPOConfig(
        str(folder / "trl"), max_steps=steps + 1, per_device_train_batch_size=TRL_BATCH,
        gradient_accumulation_steps=QUESTIONS * GROUP // TRL_BATCH, num_generations=GROUP,
        max_completion_length=TOKENS, temperature=1.0, beta=BETA, learning_rate=1e-6, lr_scheduler_type="constant",
        loss_type="grpo", use_cpu=True, bf16=dtype == "bfloat16", gradient_checkpointing=False, report_to="none",
        save_strategy="no", disable_tqdm=True, logging_steps=1, use_transformers_continuous_batching=TRL_CONTINUOUS,
    )  # fmt: skip
    tokenizer = load_tokenizer("yonder:tokenizer")
    model = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
    judged: list[float] = []
    reward = timed(judge_reward({"model": str(student), "dtype": dtype, **JUDGE}, prefix="prefix"), judged)
    trainer = GRPOTrainer(
        model, [reward], config, Dataset.from_list(rows), processing_class=tokenizer, callbacks=[Mark()]
    )
    with counted if counting else nullcontext():
        trainer.train()
    seconds, step, judge = ([b - a for a, b in itertools.pairwise(column)] for column in zip(*marks, strict=True))
    log = [row for row in trainer.state.log_history if "reward" in row]
    found = {
        "seconds": seconds,
        "tokens": statistics.mean(row["completions/mean_length"] for row in log),
        "score": statistics.mean(row["reward"] for row in log),
        "judge": judged[1:],
        "gflop": {"step": statistics.mean(step) / 1e9, "judge": statistics.mean(judge) / 1e9},
    }
    print(json.dumps(found))


def timed(reward: Callable[..., list[float]], seconds: list[float]) -> Callable[..., list[float]]:
    """The same reward, which notes how long each call took."""

    def judge(*texts: Any, **columns: Any) -> list[float]:
        begin = time.perf_counter()
        found = reward(*texts, **columns)
        seconds.append(time.perf_counter() - begin)
        return found

    return judge


def same_work(found: dict[str, list[dict[str, Any]]]) -> None:
    """Raise AssertionError where the two sides did not write about as much, or were judged otherwise."""
    means = {name: {key: statistics.mean(row[key] for row in rows) for key in MOST} for name, rows in found.items()}
    for key, most in MOST.items():
        apart = abs(means["yonder"][key] - means["trl"][key])
        assert apart <= most, f"{key} are {apart:.3f} apart: {means}"


def main(turns: int = 5, steps: int = 4, dtype: str = "float32") -> None:
    """Measure and print."""
    if not TRL.exists():
        raise SystemExit("TRL is not installed: python tools/install_peers.py trl")
    found: dict[str, list[dict[str, Any]]] = {"yonder": [], "trl": []}
    with tempfile.TemporaryDirectory() as place:
        student = teach(Path(place))
        for turn in range(turns):
            for name, measure in (("yonder", ours), ("trl", theirs)):
                folder = Path(place) / f"{name}-{turn}"
                folder.mkdir()
                found[name].append(measure(folder, student, steps, dtype))
        work = Path(place) / "trl-counted"
        work.mkdir()
        gflop = {"yonder": operations(Path(place), student, dtype)}
        gflop["trl"] = theirs(work, student, 2, dtype, counting=True)["gflop"]
    same_work(found)
    medians = {name: [statistics.median(one["seconds"]) for one in rows] for name, rows in found.items()}
    print(f"{QUESTIONS} x {GROUP} completions of up to {TOKENS} tokens, {dtype}; {turns} turns of {steps} steps\n")
    print(
        "| | s a step | completions/s | tokens a completion | judge's mean | judge, s | of the step | of the rest | "
        "GFLOP a step | the judge's |"
    )
    print("|---" * 10 + "|")
    for name, rows in found.items():
        step, judge = statistics.median(medians[name]), statistics.median(s for row in rows for s in row["judge"])
        tokens, score = (statistics.mean(row[key] for row in rows) for key in ("tokens", "score"))
        rate, shares = QUESTIONS * GROUP / step, f"{judge / step:.1%} | {judge / (step - judge):.1%}"
        counts = f"{gflop[name]['step']:.0f} | {gflop[name]['judge'] / gflop[name]['step']:.1%}"
        print(f"| {name} | {step:.2f} | {rate:.1f} | {tokens:.1f} | {score:.3f} | {judge:.3f} | {shares} | {counts} |")
    faster = ratio(medians["trl"], medians["yonder"])
    other = statistics.median(s for row in found["yonder"] for s in row["other"]) / statistics.median(medians["yonder"])
    print(f"\nTRL / Yonder: {faster}; Yonder's time that is no part's: {other:.1%}")
    settings = {"batch": TRL_BATCH, "continuous": TRL_CONTINUOUS}
    trial = "_trial" if {"TRL_BATCH", "TRL_CONTINUOUS"} & set(os.environ) else ""
    keep(f"trl_step_{dtype}{trial}", {"trl": settings, "turns": found, "ratio": faster, "other": other, "gflop": gflop})


if __name__ == "__main__":
    if sys.argv[1:2] == ["trl"]:
        run_trl(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6] == "1")
    else:
        main(*map(int, sys.argv[1:3]), *sys.argv[3:4])
