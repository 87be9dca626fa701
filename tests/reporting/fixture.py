"""A synthetic run directory, as a real run leaves it, with hostile texts wherever a model or a user can write."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import zstandard

HOSTILE = '</script><img src=x onerror="window.hacked=1"><b>&amp;\u2028\u2029\'"`{{ 7*7 }}'
SECRET = "sk-proj-abcdefghijklmnop1234"
HUB_SECRET = "hf_AbCdEfGhIjKlMnOpQrSt"

RECIPE = f"""# Judge and verifier together; résumé 数学
title: {HOSTILE!r}
seed: 7
policy:
  model: stage:warm-up
  max_completion_tokens: 400
rewards:
  correct: {{kind: verifiable, partial: 0.1}}
  judge:
    kind: judge
    model: Qwen/Qwen3-8B
    api_key: {SECRET}
    api_key_env: OPENAI_API_KEY
    headers: {{Authorization: "Bearer abcdefghijk.lmnop", accept: json}}
    delta: 0.5
    private_key: |
      first line of the key
      second line of the key
    batch_tokens: 16384
stages:
  - name: warm-up
    kind: warmup
"""


def build_run(path: Path, seed: int = 0, steps: int = 240, title: str = "Arithmetic from a judge's Yes and No") -> Path:
    """Write a run directory with five stages and return its path."""
    rng = random.Random(seed)
    stages: dict[str, dict[str, Any]] = {
        "warm-up": {"kind": "warmup", "status": "done", "seconds": 412.0, "result": {"best": 0.31, "epochs": 6}},
        "judge": {"kind": "fit-judge", "status": "skipped", "seconds": 233.5, "result": {"held_out": 0.84}},
        "check": {"kind": "check-judge", "status": "done", "seconds": 31.0, "result": {"verdict": "warn"}},
        "distill-labeled": {"kind": "distill", "status": "done", "seconds": 1900.0, "result": {"steps": steps}},
        "distill-judge": {"kind": "distill", "status": "done", "seconds": 2450.0, "result": {"steps": steps}},
        "table": {"kind": "evaluate", "status": "done", "seconds": 88.0, "result": {}},
    }
    write(path / "recipe.yaml", RECIPE)
    write_json(path / "card.json", card())
    write_json(path / "summary.json", summary(path, title, stages, seed))
    for name, stage in stages.items():
        write_json(path / "stages" / name / "stage.json", {"name": name, "hash": "0" * 12, **stage})
    write_lines(path / "stages/warm-up/metrics.jsonl", [warm_row(step, rng) for step in range(1, 121)])
    write_json(path / "stages/check/judge_check.json", judge_check())
    for name, judged in (("distill-labeled", False), ("distill-judge", True)):
        folder = path / "stages" / name
        write_lines(
            folder / "metrics.jsonl", [distill_row(step, steps, rng, judged) for step in range(2, steps + 1, 2)]
        )
        for first in range(0, steps, steps // 3):
            rows = [
                row
                for step in range(first + 2, first + steps // 3 + 1, 2)
                for row in rollout_rows(step, steps, rng, judged)
            ]
            write_frames(folder / f"rollouts-{first:08d}.jsonl.zst", rows)
    write_lines(path / "stages/distill-judge/events.jsonl", [event(steps)])
    return path


def event(steps: int) -> dict[str, Any]:
    """A trip of the monitor as `Recorder.event` writes it."""
    row = rollout(steps - 10, "labeled", 3, False, 0.97, random.Random(1))
    return {
        "step": steps - 10,
        "action": "warn",
        "rule": "false-yes-growth",
        "reward": "judge",
        "stream": "labeled",
        "message": f"judge says Yes to 61% of 144 verified-wrong rollouts {HOSTILE} {SECRET}",
        "figures": {"first": 0.21, "now": 0.61, "rollouts": 144, HOSTILE: 1.0, "bad": None},
        "rollouts": [row, "not a rollout", {"scores": {"judge": {"value": None}, "odd": 3}}],
    }


def card() -> dict[str, Any]:
    prompt = (
        f"Question:\n{{question}}\n\nSolution:\n{HOSTILE}\n\nIs the solution correct? Answer only Yes or No.\nAnswer:"
    )
    return {
        "versions": {"yonder": "0.1.0", "torch": "2.9.0", "python": "3.12.4"},
        "seeds": {"run": 7},
        "hardware": {"gpu": "1 x NVIDIA H200", "cores": 16},
        "rewards": {
            "judge": {
                "model": "Qwen/Qwen3-8B",
                "prompt": prompt,
                "label_token_ids": {"yes": 9454, "no": 2753},
                "yes": {"token": "Yes", "id": 9454},
                "tau": 1.0,
                "delta": 0.5,
                "dtype": "bfloat16",
                "base_url": "https://user:hunter22@judge.example/v1?api_key=12345678",
                "api_key": SECRET,
            }
        },
        "environment": {"HF_TOKEN": HUB_SECRET, "comment": f"started with {HUB_SECRET} in the shell"},
        "notes": ["The policy is a fresh 8-million-parameter model; figures are not comparable with the paper's."],
    }


def summary(path: Path, title: str, stages: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    shift = 0.01 * seed
    return {
        "run_dir": str(path),
        "title": title,
        "notes": ["SVAMP's training questions share templates with its test questions (contamination).", HOSTILE],
        "stages": stages,
        "results": {
            "warm-up": {"gsm8k": result(0.2183, 1319), "svamp": result(0.412, 1000, categories=(0.55, 0.31, 0.38))},
            "distill-labeled": {
                "gsm8k": result(0.3048 + shift, 1319, vote=0.341),
                "svamp": result(0.447, 1000, categories=(0.61, 0.33, 0.41)),
            },
            "distill-judge": {
                "gsm8k": result(0.3313 + shift, 1319, vote=0.3685),
                "svamp": result(0.452, 1000, categories=(0.60, 0.35, 0.44)),
            },
        },
    }


def result(accuracy: float, n: int, vote: float | None = None, categories: tuple[float, ...] = ()) -> dict[str, Any]:
    half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / n)
    found: dict[str, Any] = {"accuracy": accuracy, "low": accuracy - half, "high": accuracy + half, "n": n}
    if vote is not None:
        found["vote"] = {"samples": 8, "accuracy": vote, "low": vote - half, "high": vote + half, "n": n}
    names = ("subtraction", HOSTILE, "addition")
    found["categories"] = {name: {"accuracy": a, "n": n // 3} for name, a in zip(names, categories, strict=False)}
    return found


def judge_check() -> dict[str, Any]:
    """As `JudgeCheck.to_json` writes it."""
    sizes = (310, 96, 60, 44, 41, 39, 52, 77, 140, 341)
    return {
        "admission": {"verdict": "warn", "why": "29% of the responses `wrong-operator` pass delta.", "floor": 0.7},
        "pairwise": {"value": 0.874, "low": 0.851, "high": 0.895, "n": 312},
        "about": {"auroc": "chance that a right response scores above a wrong one"},
        "auroc": figure(0.874),
        "auprc": None,
        "delta": 0.5,
        "accuracy": figure(0.812),
        "false_positive_rate": figure(0.214),
        "false_negative_rate": figure(0.161),
        "brier": figure(0.142),
        "ece": figure(0.083),
        "best_of": [
            {
                "n": 4,
                "questions": 310,
                "lift": figure(0.213),
                "chosen": figure(0.698),
                "drawn": figure(0.485),
                "oracle": figure(0.81),
            }
        ],
        "baseline": {
            "questions": 200,
            "yes_or_no": {"pairwise": figure(0.88, 200), "auroc": figure(0.871, 200)},
            "likelihood": {"pairwise": figure(0.815, 200), "auroc": figure(0.79, 200)},
            "note": "",
        },
        "fitted": {
            "tau": 1.7,
            "delta": 0.7,
            "aimed_at": 0.1,
            "fitted_on": 160,
            "measured_on": 160,
            "accuracy": figure(0.83, 160),
            "false_positive_rate": figure(0.11, 160),
            "false_negative_rate": figure(0.22, 160),
            "ece": figure(0.031, 160),
            "ece_unfitted": figure(0.09, 160),
        },
        "reliability": [
            {"low": i / 10, "high": i / 10 + 0.1, "mean_score": i / 10 + 0.05, "share_right": 0.12 + 0.08 * i, "n": n}
            for i, n in enumerate(sizes)
        ],
        "histogram_right": [18, 9, 11, 12, 15, 18, 31, 55, 112, 301],
        "histogram_wrong": [292, 87, 49, 32, 26, 21, 21, 22, 28, 40],
        "by_source": [
            source_row("warm-up", 1200, 582, 0.84, 0.18, 0.16),
            source_row("wrong-operator", 120, 0, 0.71, 0.29, None),
            source_row(HOSTILE, 120, 0, 0.93, 0.07, None),
        ],
        "attacks": {
            "questions": 100,
            "kinds": [attack_row("mistake", "", 700, 203), attack_row("injection", "", 1300, 13, withheld=True)],
            "patterns": [
                attack_row("mistake", "swapped", 100, 0),
                attack_row("injection", HOSTILE, 100, 13, withheld=True),
                attack_row("mistake", "wrong-operator", 100, 41),
            ],
            "overall": attack_row("", "", 2000, 216),
            "withheld": attack_row("", "", 1300, 13, withheld=True),
        },
        "by_length": [
            {"low": 64, "high": 140, "n": 160, "false_positive_rate": figure(0.15)},
            {"low": 141, "high": 420, "n": 160, "false_positive_rate": None},
        ],
        "by_outcome": [
            {"outcome": "wrong answer", "n": 500, "false_positive_rate": figure(0.25)},
            {"outcome": "no answer", "n": 118, "false_positive_rate": figure(0.06)},
        ],
        "n": 1200,
        "right": 582,
        "unlabeled": 0,
        "unscored": 14,
        "reasons": {"Yes and No hold 0.04 of the probability": 14},
        "mass_mean": 0.97,
        "speed": {
            "responses": 3200,
            "verdicts": 3188,
            "seconds": 12.5,
            "verdicts_per_s": 255.04,
            "tokens": 1_000_000,
            "tokens_per_s": 80_000.0,
            "cost": 0.42,
        },
    }


def figure(value: float, n: int = 320) -> dict[str, Any]:
    return {"value": value, "low": round(value - 0.02, 4), "high": round(value + 0.02, 4), "n": n}


def attack_row(kind: str, pattern: str, n: int, passed: int, withheld: bool = False) -> dict[str, Any]:
    names = {"kind": kind, "pattern": pattern, "withheld": withheld}
    return {**names, "n": n, "passed": passed, "rate": passed / n, "low": 0.0, "high": 0.5, "unscored": 3}


def source_row(
    source: str, n: int, right: int, accuracy: float, liked: float, disliked: float | None
) -> dict[str, Any]:
    figures = {"accuracy": accuracy, "false_positive_rate": liked, "false_negative_rate": disliked}
    return {"source": source, "n": n, "right": right, "mean_score": 0.4, **figures, "unscored": 2}


def warm_row(step: int, rng: random.Random) -> dict[str, Any]:
    row: dict[str, Any] = {
        "step": step,
        "epoch": 1 + step // 20,
        "time_s": 3.4 * step,
        "loss": 2.1 * math.exp(-step / 35) + 0.35 + rng.gauss(0, 0.03),
        "lr": 2e-5 * min(step / 12, (120 - step) / 108),
        "grad_norm": 1.2 + rng.random(),
        "tokens_per_s": 5200 + rng.gauss(0, 200),
    }
    if step % 20 == 0:
        row["development/accuracy"] = 0.08 + 0.23 * (step / 120)
    return row


def distill_row(step: int, steps: int, rng: random.Random, judged: bool) -> dict[str, Any]:
    done = step / steps
    verified = 0.24 + 0.14 * done + rng.gauss(0, 0.03)
    said = verified + 0.12 + (0.3 * done**2 if judged else 0.04 * done) + rng.gauss(0, 0.02)
    row: dict[str, Any] = {
        "step": step,
        "iteration": step // 2,
        "time_s": 9.1 * step,
        "lr": 3e-6,
        "grad_norm": 0.6 + rng.random(),
    }
    for term in ("correct@labeled", "judge@unlabeled") if judged else ("correct@labeled",):
        mean = verified if term.startswith("correct") else said
        row |= {
            f"terms/{term}/reward_mean": mean,
            f"terms/{term}/scored": 1.0 if rng.random() > 0.1 else 0.94,
            f"terms/{term}/policy_loss": rng.gauss(-0.01, 0.01),
            f"terms/{term}/value_loss": 0.2 * math.exp(-2 * done) + 0.03 * rng.random(),
            f"terms/{term}/explained_variance": None if step < 10 else 0.6 * done + rng.gauss(0, 0.05),
        }
    for stream in ("labeled", "unlabeled") if judged else ("labeled",):
        row[f"rollouts/{stream}/length_mean"] = 92 + 20 * done + rng.gauss(0, 3)
        row[f"rollouts/{stream}/finished"] = 0.97 + 0.02 * rng.random()
    row |= {
        "policy/kl_nats": 0.02 + 0.9 * done + rng.gauss(0, 0.02),
        "policy/clip_fraction": max(0.0, 0.06 + rng.gauss(0, 0.02)),
        "policy/entropy_nats": 0.9 - 0.45 * done + rng.gauss(0, 0.02),
        "monitor/judge/mean": said,
        "monitor/judge/verified_mean": verified,
        "monitor/judge/gap": said - verified,
        "monitor/judge/false_positive_rate": 0.2 + (0.25 * done if judged else 0.0) + rng.gauss(0, 0.03),
        "monitor/judge/accuracy": 0.82 - (0.1 * done if judged else 0.0) + rng.gauss(0, 0.02),
        "time/generate_s": 9 + rng.random(),
        "time/score_s": 3 + rng.random(),
        "time/update_s": 6 + rng.random(),
        "tokens_per_s": 3100 + rng.gauss(0, 90),
        "own/strange metric <b>": rng.random(),
    }
    if step % 40 == 0:
        row["development/accuracy"] = 0.31 + (0.11 if judged else 0.085) * done + rng.gauss(0, 0.006)
    if judged and step > 0.9 * steps:
        row["alarm"] = {
            "action": "warn",
            "message": f"judge likes labeled rollouts {0.25 + done / 10:+.2f} more than they earn",
        }
    return row


def rollout_rows(step: int, steps: int, rng: random.Random, judged: bool, each: int = 4) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for stream in ("labeled", "unlabeled") if judged else ("labeled",):
        for index in range(each):
            correct = rng.random() < 0.3
            said = min(1.0, max(0.0, rng.gauss(0.85 if correct else 0.35, 0.28)))
            rows.append(rollout(step, stream, index, correct, None if rng.random() < 0.03 else round(said, 4), rng))
    if step in (2, steps // 4, steps // 2, steps):  # one question again and again
        again = {"prompt_id": "labeled-again", "question": "What is 7 times 8?", "answer": "56"}
        rows.append(rollout(step, "labeled", 0, 2 * step >= steps, 0.5, random.Random(step)) | again)
    return rows


def rollout(
    step: int, stream: str, index: int, correct: bool, said: float | None, rng: random.Random
) -> dict[str, Any]:
    bags, price = rng.randint(2, 30), rng.randint(2, 9)
    question = f"A baker sells {bags} bags of rolls for {price} € each — naïve 数学 {step}-{index}. What does she earn?"
    if index == 3:
        question = f"{HOSTILE} What is {bags} times {price}?"
    prefix = f'def solution():\n    """{question}"""\n'
    text = (
        f"    bags = {bags}\n    price = {price}\n    result = bags {'*' if correct else '+'} price\n    return result"
    )
    completion = text + ("\n    # " + HOSTILE if index == 3 else "")
    reason = "the judge did not answer: 401 with key " + SECRET if said is None else ""
    judge = {"value": said, "reason": reason, "details": {"mass": 0.98, "logit_gap": -1.25, "truncated": None}}
    scores: dict[str, Any] = {"judge": judge}
    if stream == "labeled":
        returned = bags * price if correct else bags + price
        scores["correct"] = {
            "value": 1.0 if correct else 0.1,
            "reason": f"returned {returned}",
            "details": {"correct": correct, "status": "ok"},
        }
    return {
        "step": step,
        "stream": stream,
        "prompt_id": f"{stream}-{step}-{index}",
        "question": question,
        "response": prefix + completion,
        "completion": completion,
        "answer": str(bags * price) if stream == "labeled" else None,
        "finished": rng.random() > 0.02,
        "tokens": rng.randint(40, 140),
        "scores": scores,
    }


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write(path, json.dumps(value))


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_frames(path: Path, rows: list[dict[str, Any]], frame: int = 8) -> None:
    """As the recorder writes: one zstd frame after the other in one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compressor = zstandard.ZstdCompressor(level=3)
    with path.open("wb") as file:
        for start in range(0, len(rows), frame):
            text = "".join(json.dumps(row) + "\n" for row in rows[start : start + frame])
            file.write(compressor.compress(text.encode()))
