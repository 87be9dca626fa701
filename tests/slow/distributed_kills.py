"""Kill -9 a random worker of a two-process run at random moments; torchrun starts both again; compare with the unbroken
two-process run.

python -m tests.slow.distributed_kills [KILLS] [SEED]    # from the repository's root; a table on standard output
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.slow.kills import RECIPE, outcome, status

PROCESSES = 2


class Killed(NamedTuple):
    """One run of which a worker was killed."""

    after_s: float
    rank: int
    stage: str  # that was running
    resumed: str  # what was gone on from
    different: list[str]  # what does not equal the unbroken run; empty: bit for bit the same


def start(recipe: Path, output: Path) -> subprocess.Popen[str]:
    """torchrun with one restart."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(PROCESSES), "--max-restarts", "1"]
    where = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command = [sys.executable, *launch, *where, "-m", "yonder", "run", str(recipe), f"output_dir={output}"]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=settings)


def finish(agent: subprocess.Popen[str]) -> str:
    """Wait; returns what was said."""
    _, said = agent.communicate(timeout=900)
    if agent.returncode:
        raise RuntimeError(f"exit code {agent.returncode}: {said[-3000:]}")
    return said


def workers(agent: int) -> dict[int, int]:
    """Rank -> process of what torchrun has started (Linux)."""
    found: dict[int, int] = {}
    for child in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        with suppress(OSError):
            environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            found |= {int(row[5:]): int(child) for row in environment if row.startswith(b"RANK=")}
    return found


def kill_one(recipe: Path, output: Path, delay_s: float, rank: int, whole: dict[str, str]) -> Killed:
    """Start, wait until the run directory stands and `delay_s` more, kill -9 one worker, wait, compare."""
    agent = start(recipe, output)
    while not (output / "stages").is_dir() and agent.poll() is None:
        time.sleep(0.01)
    time.sleep(delay_s)
    running = [path.parent.name for path in output.glob("stages/*/stage.json") if status(path) == "unfinished"]
    found = workers(agent.pid)
    if len(found) == PROCESSES:  # else it was over
        os.kill(found[rank], signal.SIGKILL)
    said = finish(agent)
    resumed = [line.partition(": resumed at ")[2] for line in said.splitlines() if ": resumed at " in line]
    ends = outcome(output)
    different = sorted(name for name in whole.keys() | ends.keys() if whole.get(name) != ends.get(name))
    return Killed(delay_s, rank, ", ".join(running) or "none", ", ".join(resumed) or "its beginning", different)


def table(kills: list[Killed]) -> str:
    """Markdown, a row a kill."""
    lines = [
        "| kill | after s | process | running | went on from | different from the unbroken run |",
        "|---|---|---|---|---|---|",
    ]
    for number, kill in enumerate(kills, 1):
        different = ", ".join(kill.different) or "nothing"
        lines.append(f"| {number} | {kill.after_s:.1f} | {kill.rank} | {kill.stage} | {kill.resumed} | {different} |")
    return "\n".join(lines)


def run_kills(folder: Path, count: int, seed: int) -> list[Killed]:
    """The unbroken run, then `count` of which a worker is killed, at moments spread evenly at random over it."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    finish(start(recipe, folder / "whole"))
    whole = outcome(folder / "whole")
    begun = (folder / "whole/recipe.yaml").stat().st_mtime  # imports are over
    length = (folder / "whole/summary.json").stat().st_mtime - begun
    print(f"unbroken run: {length:.1f} s, {len(whole)} digests", file=sys.stderr, flush=True)
    draw = random.Random(seed)
    kills: list[Killed] = []
    for number in range(count):
        delay, rank = length * (number + draw.random()) / count, draw.randrange(PROCESSES)
        kills.append(kill_one(recipe, folder / f"killed-{number}", delay, rank, whole))
        print(table(kills[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    return kills


def main(count: str = "10", seed: str = "0") -> None:
    """Print the table; exit code 1 if any run differs."""
    with tempfile.TemporaryDirectory() as folder:
        kills = run_kills(Path(folder), int(count), int(seed))
    print(table(kills))
    same = sum(not kill.different for kill in kills)
    print(f"\n{same} of {len(kills)} runs ended bit for bit as the unbroken one.")
    sys.exit(int(same < len(kills)))


if __name__ == "__main__":
    main(*sys.argv[1:])
