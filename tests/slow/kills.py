"""Kill -9 at random moments of a short run with every kind of stage and term; resume; compare with the unbroken run.

python -m tests.slow.kills [KILLS] [SEED]        # from the repository's root; a Markdown table on standard output
"""

import contextlib
import hashlib
import importlib
import itertools
import json
import math
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
import zstandard
from safetensors.torch import load_file

from tests.judges.faulty import serving
from yonder.commands.cli import app
from yonder.commands.endings import guarded

RECIPE = """
threads: 1
policy:
  model: "yonder:judge"
  max_completion_tokens: 24
  generation_batch: 64
  device: cpu
task: {format: program, docstring: false, numbers: named}
data:
  labeled: {source: word-problems, options: {count: 48, seed: 1}, development: 6}
  unlabeled: {source: word-problems, options: {count: 24, seed: 2}, labeled: false}
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
    epochs: 3
    optimizer: {lr: 3.0e-3}
    evaluate: {data: labeled.development, every: 2}
  - {name: answers, kind: collect, data: labeled, policy: "stage:warmup", samples: 2, temperatures: [1.0, 1.5]}
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
  - {name: check, kind: check-judge, reward: judge, responses: [answers], stop: false, attack_questions: 1}
  - {name: check_reranker, kind: check-judge, reward: reranker, responses: [answers], stop: false, attack_questions: 1}
  - name: ppo
    kind: distill
    policy: "stage:warmup"
    steps: 24
    save_every: 2
    prompts: {labeled: 4, unlabeled: 2}
    sampling: {temperature: 1.5}
    terms: &terms
      - {reward: correct, data: labeled, weight: 0.5}
      - {reward: judge, data: unlabeled, weight: 0.25}
      - {reward: reranker, data: unlabeled, weight: 0.25}
    monitor: {probe: [judge], window: 2, min_wrong: 2, action: rollback, max_gap_growth: 0.0, z: 0.0}
    optimizer: {lr: 1.0e-3}
    evaluate: {data: labeled.development, every: 4}
  - name: grpo
    kind: distill
    policy: "stage:warmup"
    algorithm: grpo
    one_step_off: true
    importance_cap: 2.0
    group_size: 3
    epochs: 1
    steps: 16
    save_every: 1
    prompts: {labeled: 4, unlabeled: 2}
    sampling: {temperature: 1.5}
    terms: *terms
    monitor: {probe: [judge], window: 2}
    refit: {reward: judge, every: 6, steps: 2, lr: 1.0e-3, replay: [answers]}
    optimizer: {lr: 1.0e-3}
  - {name: end, kind: evaluate, checkpoints: [base, warmup, ppo, grpo], benchmarks: [dev]}
"""
SERVED_REWARD = """  served: {kind: judge, model: "yonder:judge", backend: sglang, server: {urls: ["URL"]}, guards: [],
    mass_floor: 0.0, allow_unmeasured: true}
"""
SERVED_TERM = "{reward: judge, data: unlabeled, weight: 0.1}\n      - {reward: served, data: unlabeled, weight: 0.15}"
IMPORTS = ("peft", "transformers.models.llama.modeling_llama", "yonder.pipeline.running", "yonder.commands.terminal")
TIMES = 3  # kills of one run
LONGER = 1.3  # a killed run computes longer than the unbroken one: what was lost, and loading, come again
WHILE_SAVING = 0.2  # share of the kills that wait for a checkpoint
VARYING = ("time", "seconds", "tokens_per_s", "speed", "judge_usage", "verdicts_per_second", "tokens_per_second")

Outcome = dict[str, str]  # what a run leaves -> its digest


class Killed(NamedTuple):
    """One kill, and what became of it."""

    run: int
    at_s: float  # processor time that the run had had
    stage: str  # that was running
    torn: str  # what the killed process left half-written
    resumed: str  # checkpoints from which the next process said it goes on
    damaged: int  # checkpoints that the next process found damaged: none is ever half-written under its name
    different: list[str]  # in what the run ended otherwise than the unbroken one; empty: bit for bit the same


@contextlib.contextmanager
def judge_server() -> Iterator[str]:
    """The address of a judge server, in a process of its own; it answers by a formula."""
    here, there = get_context("fork").Pipe(duplex=False)

    def serve() -> None:
        with serving() as server:
            there.send(server.url)
            signal.pause()

    process = get_context("fork").Process(target=serve, daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def with_server(url: str) -> str:
    """The recipe with one more judge, on a server, whose verdicts a run keeps."""
    recipe = RECIPE.replace("benchmarks:\n", SERVED_REWARD.replace("URL", url) + "benchmarks:\n", 1)
    return recipe.replace("{reward: judge, data: unlabeled, weight: 0.25}", SERVED_TERM)


def begin(recipe: Path, output: Path) -> ForkProcess:
    """A run in a process of its own, forked from this one, where the imports (most of a short run) are over; what it
    says goes to `said.txt`."""
    output.mkdir(parents=True, exist_ok=True)
    process = get_context("fork").Process(target=run_command, args=(recipe, output))
    process.start()
    return process


def run_command(recipe: Path, output: Path) -> None:
    """`yonder run` in this process."""
    with (output / "said.txt").open("wb") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    guarded(lambda: app(["run", str(recipe), f"output_dir={output}"], standalone_mode=False))


def finish(recipe: Path, output: Path) -> str:
    """Run to the end; returns what was said."""
    process = begin(recipe, output)
    process.join(900)
    said = (output / "said.txt").read_text()
    if process.exitcode != 0:
        process.kill()
        raise RuntimeError(f"exit code {process.exitcode}: {said}")
    return said


def watch(process: ForkProcess, until_s: float, saving: Path | None = None) -> float:
    """Wait until a process has computed so long (and then begins to write a checkpoint in the run directory `saving`),
    or is over; returns the seconds of processor time it had. On a busy machine they say where in the run it is, as the
    clock does not."""
    seconds, begun = 0.0, time.time_ns()
    while process.is_alive():
        with contextlib.suppress(OSError, IndexError):  # it, or what it wrote, has just gone
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            if seconds >= until_s and (saving is None or fresh(saving.glob("stages/*/checkpoints/.step-*"), begun)):
                break
        time.sleep(0.002)
    return seconds


def killed_run(recipe: Path, output: Path, number: int, times: int, length_s: float, whole: Outcome) -> list[Killed]:
    """A run that is killed -9 so many times (fewer where it ends first), each time started again, and compared in the
    end. The moments are drawn evenly over the processor time of a run; every fifth waits for a checkpoint, and kills
    while it is written."""
    draw = random.Random(number)
    kills: list[tuple[float, str, str]] = []
    said: list[str] = []
    seconds = 0.0
    while len(kills) < times:
        share = 1 - (1 - draw.random()) ** (1 / (times - len(kills)))  # the first of those that are left
        begun, process = time.time_ns(), begin(recipe, output)
        ahead = share * max(0.0, length_s * LONGER - seconds)
        seconds += watch(process, ahead, output if draw.random() < WHILE_SAVING else None)
        process.kill()
        process.join()
        said.append((output / "said.txt").read_text())
        if process.exitcode != -signal.SIGKILL:
            break
        running = [path.parent.name for path in output.glob("stages/*/stage.json") if status(path) == "unfinished"]
        kills.append((seconds, ", ".join(running) or "none", half_written(output / "stages", begun)))
    said.append(finish(recipe, output))
    found = outcome(output)
    different = sorted(name for name in whole.keys() | found.keys() if whole.get(name) != found.get(name))
    return [
        Killed(number, *kill, went_on(then), then.count("is damaged"), different)
        for kill, then in zip(kills, said[1:], strict=False)
    ]


def went_on(said: str) -> str:
    """What a process said of the checkpoints from which it goes on."""
    found = [line.replace(": resumed", "") for line in said.splitlines() if ": resumed at " in line]
    return ", ".join(found) or "no checkpoint"


def trained(resumed: str) -> bool:
    """Whether one of the checkpoints has weights that reinforcement learning had moved."""
    return re.search(r"\b(ppo|grpo) at step [1-9]", resumed) is not None


def half_written(stages: Path, begun: int) -> str:
    """Files and folders not yet renamed, and files of rows that end within a row, of a process begun at that time."""
    cut = [path for path in stages.rglob("*.jsonl") if path.stat().st_size and path.read_bytes()[-1:] != b"\n"]
    found = fresh([*stages.rglob(".*.unfinished"), *stages.rglob(".*.parts"), *cut], begun)
    return ", ".join(sorted(str(path.relative_to(stages)) for path in found)) or "nothing"


def fresh(paths: Iterable[Path], begun: int) -> list[Path]:
    """Those that changed since (nanoseconds since 1970)."""
    return [path for path in paths if path.stat().st_ctime_ns >= begun]


def status(record: Path) -> str:
    """What a stage's record says."""
    return str(json.loads(record.read_text())["status"])


def outcome(output: Path) -> Outcome:
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
            if (trained / "parts").is_dir():
                found[f"{folder.name} parts"] = digest(dict(tensors(trained / "parts")))
            found[f"{folder.name} trainer"] = digest(steady(torch.load(trained / "trainer.pt")))
        logged = [line for path in sorted(folder.glob("rollouts-*.zst")) for line in unpacked(path)]
        if logged:
            found[f"{folder.name} rollouts"] = digest(logged)
    if (output / "judge_cache.sqlite").is_file():
        with contextlib.closing(sqlite3.connect(output / "judge_cache.sqlite")) as cache:
            found["judge cache"] = digest(cache.execute("SELECT * FROM verdicts ORDER BY key").fetchall())
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
    lines = [
        "| kill | run | at s | stage | left half-written | went on from | different from the unbroken run |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, kill in enumerate(kills, 1):
        cells = [str(kill.run), f"{kill.at_s:.1f}", kill.stage, kill.torn, kill.resumed]
        lines.append(f"| {number} | {' | '.join(cells)} | {', '.join(kill.different) or 'nothing'} |")
    return "\n".join(lines)


def run_kills(folder: Path, count: int, seed: int) -> list[Killed]:
    """The unbroken run, then runs that are killed three times each, until there were so many kills."""
    with judge_server() as url:
        return killed_runs(folder, with_server(url), count, seed)


def killed_runs(folder: Path, text: str, count: int, seed: int) -> list[Killed]:
    """... of a recipe."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(text)
    length = watch(begin(recipe, folder / "whole"), math.inf)
    whole = outcome(folder / "whole")
    print(f"unbroken run: {length:.1f} s of processor time, {len(whole)} digests", file=sys.stderr, flush=True)
    kills: list[Killed] = []
    for number in itertools.count(1 + 1000 * seed):
        output = folder / f"killed-{number}"
        found = killed_run(recipe, output, number, min(TIMES, count - len(kills)), length, whole)
        shutil.rmtree(output)
        kills += found
        print("\n".join(table(found).splitlines()[2:]), file=sys.stderr, flush=True)
        if len(kills) == count:
            break
    return kills


def main(count: str = "50", seed: str = "0") -> None:
    """Print the table; exit code 1 if any run differs."""
    with tempfile.TemporaryDirectory() as folder:
        kills = run_kills(Path(folder), int(count), int(seed))
    same, damaged = sum(not kill.different for kill in kills), sum(kill.damaged for kill in kills)
    print(table(kills))
    print(f"\nAfter {same} of {len(kills)} kills the run ended bit for bit as the unbroken one.")
    print(f"{sum(trained(kill.resumed) for kill in kills)} went on from a trained step of reinforcement learning.")
    print(f"{damaged} damaged checkpoints were met.")
    sys.exit(int(same < len(kills) or damaged > 0))


if __name__ == "__main__":
    for module in IMPORTS:
        importlib.import_module(module)
    torch.set_num_threads(1)  # threads do not survive a fork
    main(*sys.argv[1:])
