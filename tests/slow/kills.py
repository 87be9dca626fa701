"""Kill -9 at random moments of a short run with every kind of stage and term; resume; compare with the unbroken run.

python -m tests.slow.kills [KILLS] [SEED]        # from the repository's root; a Markdown table on standard output
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import zstandard
from safetensors.torch import load_file

RECIPE = """
threads: 1
policy:
  model: "yonder:judge"
  max_completion_tokens: 24
  generation_batch: 64
  device: cpu
task: {format: program, docstring: false, numbers: named}
data:
  labeled: {source: word-problems, options: {count: 72, seed: 1}, development: 8}
  unlabeled: {source: word-problems, options: {count: 40, seed: 2}, labeled: false}
rewards:
  correct: {kind: verifiable}
  judge: {kind: judge, model: "stage:judge", mass_floor: 0.0, allow_failing: true}
  reranker: {kind: classifier, model: "stage:reranker", allow_failing: true}
benchmarks:
  dev: {data: labeled.development, votes: 2}
stages:
  - name: warmup
    kind: warmup
    data: labeled
    epochs: 4
    optimizer: {lr: 2.0e-3}
    evaluate: {data: labeled.development, every: 2}
  - {name: answers, kind: collect, data: labeled, policy: "stage:warmup", samples: 4, temperatures: [1.0, 1.5]}
  - name: judge
    kind: fit-judge
    model: "stage:warmup"
    responses: [answers]
    data: [labeled]
    negatives: {wrong-operator: 0.5}
    held_out: 0.3
    balance: undersample
    epochs: 1
    optimizer: {lr: 1.0e-3}
    lora: {rank: 4, dropout: 0.1}
  - name: reranker
    kind: fit-judge
    output: classifier
    model: "stage:warmup"
    responses: [answers]
    data: [labeled]
    held_out: 0.3
    epochs: 1
    optimizer: {lr: 1.0e-3}
  - {name: check, kind: check-judge, reward: judge, responses: [answers], stop: false, attack_questions: 4}
  - {name: check_reranker, kind: check-judge, reward: reranker, responses: [answers], stop: false, attack_questions: 4}
  - name: ppo
    kind: distill
    policy: "stage:warmup"
    steps: 20
    save_every: 4
    prompts: {labeled: 8, unlabeled: 4}
    sampling: {temperature: 1.5}
    terms: &terms
      - {reward: correct, data: labeled, weight: 0.5}
      - {reward: judge, data: unlabeled, weight: 0.25}
      - {reward: reranker, data: unlabeled, weight: 0.25}
    monitor: {probe: [judge], window: 2, min_wrong: 2, action: rollback, max_false_yes: 0.2, z: 0.0}
    optimizer: {lr: 1.0e-3}
    evaluate: {data: labeled.development, every: 12}
  - name: grpo
    kind: distill
    policy: "stage:warmup"
    algorithm: grpo
    group_size: 4
    epochs: 1
    steps: 12
    save_every: 3
    prompts: {labeled: 6, unlabeled: 2}
    sampling: {temperature: 1.5}
    terms: *terms
    monitor: {probe: [judge], window: 3}
    refit: {reward: judge, every: 4, steps: 4, lr: 1.0e-3, replay: [answers]}
    optimizer: {lr: 1.0e-3}
  - {name: end, kind: evaluate, checkpoints: [base, warmup, ppo, grpo], benchmarks: [dev]}
"""
VARYING = ("time", "seconds", "tokens_per_s", "speed", "judge_usage", "verdicts_per_second", "tokens_per_second")


class Killed(NamedTuple):
    """One run that was killed once and resumed."""

    after_s: float
    stage: str  # that was running
    resumed: str  # what the second process said it goes on from
    different: list[str]  # what does not equal the unbroken run; empty: bit for bit the same


def command(recipe: Path, output: Path) -> list[str]:
    """The run as a user starts it."""
    return [sys.executable, "-m", "yonder", "run", str(recipe), f"output_dir={output}"]


def finish(recipe: Path, output: Path) -> str:
    """Run to the end; returns what was said."""
    done = subprocess.run(command(recipe, output), capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")
    return done.stderr


def kill_and_resume(recipe: Path, output: Path, delay_s: float, whole: dict[str, str]) -> Killed:
    """Start, wait until the run directory stands and `delay_s` more, kill -9, start again, compare."""
    process = subprocess.Popen(command(recipe, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (output / "stages").is_dir() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay_s)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    running = [path.parent.name for path in output.glob("stages/*/stage.json") if status(path) == "unfinished"]
    said = finish(recipe, output)
    resumed = [line.partition(": resumed at ")[2] for line in said.splitlines() if ": resumed at " in line]
    found = outcome(output)
    different = sorted(name for name in whole.keys() | found.keys() if whole.get(name) != found.get(name))
    return Killed(delay_s, ", ".join(running) or "none", ", ".join(resumed) or "its beginning", different)


def status(record: Path) -> str:
    """What a stage's record says."""
    return str(json.loads(record.read_text())["status"])


def outcome(output: Path) -> dict[str, str]:
    """A digest of everything that a run leaves and that must not depend on being killed."""
    found: dict[str, str] = {}
    for record in sorted(output.glob("stages/*/stage.json")):
        folder = record.parent
        row = json.loads(record.read_text())
        found[f"{folder.name} result"] = digest(steady([row["status"], row["hash"], row["result"]]))
        for name in ("metrics.jsonl", "events.jsonl", "responses.jsonl", "evaluations.jsonl", "judge_check.json"):
            if (folder / name).is_file():
                text = (folder / name).read_text()
                rows = (
                    [json.loads(text)] if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
                )
                found[f"{folder.name} {name}"] = digest(steady(rows))
        if "checkpoint" in row["result"]:
            checkpoint = (folder / row["result"]["checkpoint"]).parent
            found[f"{folder.name} weights"] = digest(dict(tensors(checkpoint)))
            trained = folder / "checkpoints" / checkpoint.name  # another one where an adapter was merged
            found[f"{folder.name} trainer"] = digest(steady(torch.load(trained / "trainer.pt")))
        logged = [line for path in sorted(folder.glob("rollouts-*.zst")) for line in unpacked(path)]
        if logged:
            found[f"{folder.name} rollouts"] = digest(logged)
    return found


def tensors(checkpoint: Path) -> Iterator[tuple[str, str]]:
    """Name and digest of every weight in a checkpoint, those of refitted judges too."""
    for path in sorted(checkpoint.rglob("*.safetensors")):
        for name, tensor in sorted(load_file(path).items()):
            yield f"{path.relative_to(checkpoint)} {name}", digest(tensor)
    for path in sorted(checkpoint.rglob("value_head.pt")):
        for name, tensor in sorted(torch.load(path).items()):
            yield f"{path.relative_to(checkpoint)} {name}", digest(tensor)


def unpacked(path: Path) -> list[str]:
    """The lines of a rollout log of several frames."""
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return reader.read().decode().splitlines()


def steady(value: Any) -> Any:
    """Without whatever a clock measured."""
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if not str(key).startswith(VARYING)}
        return {str(key): steady(inner) for key, inner in kept.items()}
    if isinstance(value, list | tuple):
        return [steady(inner) for inner in value]
    return digest(value) if isinstance(value, torch.Tensor) else value


def digest(value: Any) -> str:
    """SHA-256 of a tensor's type, shape and bytes, or of JSON-like values."""
    if isinstance(value, torch.Tensor):
        head = f"{value.dtype} {tuple(value.shape)}".encode()
        return hashlib.sha256(head + value.contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def table(kills: list[Killed]) -> str:
    """Markdown, a row a kill."""
    lines = ["| kill | after s | running | went on from | different from the unbroken run |", "|---|---|---|---|---|"]
    for number, kill in enumerate(kills, 1):
        different = ", ".join(kill.different) or "nothing"
        lines.append(f"| {number} | {kill.after_s:.1f} | {kill.stage} | {kill.resumed} | {different} |")
    return "\n".join(lines)


def run_kills(folder: Path, count: int, seed: int) -> list[Killed]:
    """The unbroken run, then `count` that are killed once each, at moments spread evenly at random over it."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    start = time.monotonic()
    finish(recipe, folder / "whole")
    whole, length = outcome(folder / "whole"), time.monotonic() - start
    begun = (folder / "whole/recipe.yaml").stat().st_mtime  # imports are over
    length -= max(0.0, length - (time.time() - begun))
    print(f"unbroken run: {length:.1f} s, {len(whole)} digests", file=sys.stderr, flush=True)
    draw = random.Random(seed)
    kills: list[Killed] = []
    for number in range(count):
        delay = length * (number + draw.random()) / count
        kills.append(kill_and_resume(recipe, folder / f"killed-{number}", delay, whole))
        print(table(kills[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    return kills


def main(count: str = "50", seed: str = "0") -> None:
    """Print the table; exit code 1 if any run differs."""
    with tempfile.TemporaryDirectory() as folder:
        kills = run_kills(Path(folder), int(count), int(seed))
    print(table(kills))
    same = sum(not kill.different for kill in kills)
    print(f"\n{same} of {len(kills)} runs ended bit for bit as the unbroken one.")
    sys.exit(int(same < len(kills)))


if __name__ == "__main__":
    main(*sys.argv[1:])
