"""Kill -9 one of two processes at random moments; torchrun starts both again; compare with the unbroken run.

python -m tests.slow.distributed_kills [KILLS] [SEED]    # from the repository's root; a table on standard output
"""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.slow.kills import RECIPE, Outcome, outcome, status, trained

PROCESSES = 2
STRATEGIES = ("ddp", "fsdp2")
TARGETS = ("ppo", "grpo", "another stage", "ppo", "grpo")  # four of five kills fall in reinforcement learning
TRIES = 4  # of a kill that came too late


class Moment(NamedTuple):
    """When to kill: so long after a stage has begun, or after so many of its iterations are over."""

    stage: str
    iterations: int
    delay_s: float
    rank: int


class Killed(NamedTuple):
    """One run of which a worker was killed."""

    strategy: str
    moment: Moment
    stage: str  # that was running
    resumed: str  # what was gone on from
    different: list[str]  # what does not equal the unbroken run; empty: bit for bit the same


class TooLate(Exception):
    """The run was over, or was not started again: nothing was shown."""


class Agent:
    """torchrun with one restart, around one run."""

    def __init__(self, recipe: Path, output: Path) -> None:
        launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(PROCESSES), "--max-restarts", "1"]
        where = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
        command = [sys.executable, *launch, *where, "-m", "yonder", "run", str(recipe), f"output_dir={output}"]
        self.said = output.with_suffix(".said.txt")
        with self.said.open("wb") as said:
            settings = os.environ | {"OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=settings)

    def workers(self, attempt: int) -> dict[int, int]:
        """Rank -> process of what it started the n-th time (Linux); none where it is over."""
        found: dict[int, int] = {}
        with suppress(OSError):
            for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                with suppress(OSError):
                    rows = Path(f"/proc/{child}/environ").read_bytes().decode(errors="replace").split("\0")
                    settings = dict(row.split("=", 1) for row in rows if "=" in row)
                    if settings.get("TORCHELASTIC_RESTART_COUNT") == str(attempt):
                        found[int(settings["RANK"])] = int(child)
        return found

    def kill(self, rank: int) -> None:
        """Kill -9 one worker and see both started again. Raises TooLate where that cannot be."""
        found = self.workers(0)
        if len(found) < PROCESSES:
            raise TooLate
        with suppress(ProcessLookupError):  # then it was not started again either
            os.kill(found[rank], signal.SIGKILL)
        while len(self.workers(1)) < PROCESSES:
            if self.process.poll() is not None:
                raise TooLate
            time.sleep(0.05)

    def finish(self) -> str:
        """Wait; returns what was said."""
        try:
            code = self.process.wait(3600)
        finally:
            self.process.terminate()
        if code:
            raise RuntimeError(f"exit code {code}: {self.said.read_text()[-3000:]}")
        return self.said.read_text()


def wait_for(agent: Agent, output: Path, moment: Moment) -> None:
    """Until the moment has come, or the run is over."""
    folder = output / "stages" / moment.stage
    file = folder / ("metrics.jsonl" if moment.iterations else "stage.json")
    while agent.process.poll() is None:
        if file.is_file() and (not moment.iterations or file.read_bytes().count(b"\n") >= moment.iterations):
            time.sleep(moment.delay_s)
            return
        time.sleep(0.01)


def kill_one(recipe: Path, output: Path, strategy: str, moment: Moment, whole: Outcome) -> Killed:
    """Start, wait for the moment, kill -9 one worker, see both started again, wait, compare. A kill that comes too late
    shows nothing: it is made again, in a run begun anew, after half the delay."""
    for attempt in range(TRIES):
        here, agent = output.with_name(f"{output.name}-{attempt}"), None
        try:
            agent = Agent(recipe, here)
            wait_for(agent, here, moment)
            running = [path.parent.name for path in here.glob("stages/*/stage.json") if status(path) == "unfinished"]
            agent.kill(moment.rank)
        except TooLate:
            agent.finish()
            print(f"too late: {moment}; once more", file=sys.stderr, flush=True)
            moment = moment._replace(delay_s=moment.delay_s / 2)
            continue
        said = agent.finish()
        resumed = [re.sub("^.*yonder: |: resumed", "", row) for row in said.splitlines() if ": resumed at " in row]
        ends = outcome(here)
        different = sorted(name for name in whole.keys() | ends.keys() if whole.get(name) != ends.get(name))
        return Killed(strategy, moment, ", ".join(running) or "none", ", ".join(resumed) or "no checkpoint", different)
    raise RuntimeError(f"{TRIES} kills came too late: {moment}")


def lengths(whole: Path) -> dict[str, float]:
    """Seconds that each stage of a finished run took, in order."""
    ends = sorted((path.stat().st_mtime, path.parent.name) for path in whole.glob("stages/*/stage.json"))
    begins = [(whole / "recipe.yaml").stat().st_mtime, *(end for end, _ in ends)]
    return {name: end - begin for begin, (end, name) in zip(begins, ends, strict=False)}


def drawn(draw: random.Random, target: str, whole: Path) -> Moment:
    """A random moment of a stage: of one that learns by reinforcement, up to an iteration's length after a random one
    but the last; of the others, anywhere in their time."""
    took, rank = lengths(whole), draw.randrange(PROCESSES)
    if target in took:
        count = (whole / "stages" / target / "metrics.jsonl").read_bytes().count(b"\n")
        return Moment(target, draw.randrange(1, count), draw.random() * took[target] / count, rank)
    others = {name: length for name, length in took.items() if name not in TARGETS}
    (name,) = draw.choices(list(others), list(others.values()))
    return Moment(name, 0, draw.random() * others[name], rank)


def table(kills: list[Killed]) -> str:
    """Markdown, a row a kill."""
    lines = [
        "| kill | strategy | process | drawn | running | went on from | different from the unbroken run |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, kill in enumerate(kills, 1):
        when = kill.moment
        after = f", iteration {when.iterations}" if when.iterations else ""
        cells = [kill.strategy, str(when.rank), f"{when.stage}{after} + {when.delay_s:.1f} s", kill.stage, kill.resumed]
        lines.append(f"| {number} | {' | '.join(cells)} | {', '.join(kill.different) or 'nothing'} |")
    return "\n".join(lines)


def run_kills(folder: Path, count: int, seed: int) -> list[Killed]:
    """An unbroken run of each strategy, then `count` of which a worker is killed, the strategies in turn."""
    draw = random.Random(seed)
    recipes, wholes = {}, {}
    for strategy in STRATEGIES[:count]:
        recipes[strategy] = folder / f"{strategy}.yaml"
        recipes[strategy].write_text(f"{RECIPE}parallel: {{strategy: {strategy}}}\n")
        begun, output = time.monotonic(), folder / f"{strategy}-whole"
        Agent(recipes[strategy], output).finish()
        wholes[strategy] = outcome(output)
        took = f"{time.monotonic() - begun:.0f} s, stages {sum(lengths(output).values()):.0f} s"
        print(f"unbroken run, {strategy}: {took}, {len(wholes[strategy])} digests", file=sys.stderr, flush=True)
    kills: list[Killed] = []
    for number in range(count):
        strategy = STRATEGIES[number % 2]
        target = TARGETS[(number // 2 + number % 2) % len(TARGETS)]
        moment = drawn(draw, target, folder / f"{strategy}-whole")
        kills.append(kill_one(recipes[strategy], folder / f"killed-{number}", strategy, moment, wholes[strategy]))
        print(table(kills[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    return kills


def main(count: str = "10", seed: str = "0") -> None:
    """Print the table; exit code 1 if any run differs."""
    with tempfile.TemporaryDirectory() as folder:
        kills = run_kills(Path(folder), int(count), int(seed))
    print(table(kills))
    same = sum(not kill.different for kill in kills)
    print(f"\n{same} of {len(kills)} runs ended bit for bit as the unbroken one of their strategy.")
    print(f"{sum(trained(kill.resumed) for kill in kills)} went on from a trained step of reinforcement learning.")
    sys.exit(int(same < len(kills)))


if __name__ == "__main__":
    main(*sys.argv[1:])
