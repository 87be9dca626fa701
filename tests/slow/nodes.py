"""Two simulated nodes: network namespaces with addresses of their own, joined by a cable, and a shared disk.

python -m tests.slow.nodes    # as root; an undisturbed run, then one of which a node is cut off and killed
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.slow.kills import outcome

RECIPE = """
threads: 1
policy:
  model: yonder:judge
  max_completion_tokens: 24
task: {format: program, docstring: false, numbers: named}
data:
  labeled: {source: word-problems, options: {count: 72, seed: 1}}
  unlabeled: {source: word-problems, options: {count: 72, seed: 2}, labeled: false}
rewards:
  correct: {kind: verifiable}
  judge: {kind: judge, model: yonder:judge, allow_unmeasured: true}
stages:
  - {name: warmup, kind: warmup, data: labeled, epochs: 4, optimizer: {lr: 2.0e-3}}
  - name: distill
    kind: distill
    policy: stage:warmup
    algorithm: grpo
    group_size: 4
    epochs: 1
    steps: 24
    save_every: 4
    prompts: {labeled: 2, unlabeled: 4}
    terms:
      - {reward: correct, data: labeled, weight: 0.3}
      - {reward: judge, data: unlabeled, weight: 0.7}
    kl: {beta: 0.003}
    sampling: {temperature: 1.5}
    optimizer: {lr: 1.0e-3}
"""
CUT_AFTER = 6  # iterations


class Node(NamedTuple):
    """A namespace, its end of the cable, its address."""

    name: str
    device: str
    address: str


NODES = (Node("yonder-a", "yonder-va", "10.211.77.1"), Node("yonder-b", "yonder-vb", "10.211.77.2"))


def why_not() -> str:
    """Why no node can be simulated here; empty where it can."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need Linux, root and the command ip"
    try:
        with wired():
            return ""
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.strip()}"


def ip(*words: str) -> str:
    """Run `ip`."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@contextmanager
def wired() -> Generator[None]:
    """Two nodes with a cable between them; afterwards nothing of them is left."""
    with ExitStack() as undo:
        for node in NODES:
            ip("netns", "add", node.name)
            undo.callback(ip, "netns", "del", node.name)
            undo.callback(fell, node)
            ip("-n", node.name, "link", "set", "lo", "up")
        a, b = NODES
        ip("-n", a.name, "link", "add", a.device, "type", "veth", "peer", "name", b.device, "netns", b.name)
        for node in NODES:
            ip("-n", node.name, "addr", "add", f"{node.address}/24", "dev", node.device)
            ip("-n", node.name, "link", "set", node.device, "up")
        yield


def fell(node: Node) -> None:
    """Kill -9 whatever runs on a node."""
    for process in ip("netns", "pids", node.name).split():
        os.kill(int(process), signal.SIGKILL)


def start(node: Node, recipe: Path, output: Path) -> subprocess.Popen[str]:
    """torchrun on a node, one process; the rendezvous is on the first node."""
    launch = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3"]
    where = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{NODES[0].address}:29400", "--rdzv-id", output.name]
    host = f"is_host={int(node == NODES[0])}"  # both namespaces have the machine's name
    where += ["--rdzv-conf", host, "--local-addr", node.address]
    run = ["-m", "yonder", "run", str(recipe), f"output_dir={output}"]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": node.device}
    settings |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # without it a node that is started anew waits in vain
    command = ["ip", "netns", "exec", node.name, sys.executable, *launch, *where, *run]
    log = (output.parent / f"{output.name}-{node.name}.log").open("a")
    with log:
        return subprocess.Popen(command, stdout=log, stderr=log, text=True, env=settings)


def finished(agents: list[subprocess.Popen[str]], output: Path) -> dict[str, str]:
    """Wait for both; the digests of what they leave."""
    codes = [agent.wait(timeout=900) for agent in agents]
    if any(codes):
        logs = "\n".join(path.read_text()[-3000:] for path in output.parent.glob(f"{output.name}-*.log"))
        raise RuntimeError(f"exit codes {codes}: {logs}")
    return outcome(output)


def undisturbed(recipe: Path, output: Path) -> dict[str, str]:
    """Both nodes to the end."""
    with wired():
        return finished([start(node, recipe, output) for node in NODES], output)


def disturbed(recipe: Path, output: Path) -> dict[str, str]:
    """The second node's cable is pulled in mid-training, then it dies; repaired, it is started again."""
    metrics, second = output / "stages/distill/metrics.jsonl", NODES[1]
    with wired():
        agents = [start(node, recipe, output) for node in NODES]
        while not metrics.is_file() or len(metrics.read_text().splitlines()) < CUT_AFTER:
            if any(agent.poll() for agent in agents):
                return finished(agents, output)
            time.sleep(0.05)
        ip("-n", second.name, "link", "set", second.device, "down")
        time.sleep(5)
        reached = len(metrics.read_text().splitlines())
        time.sleep(5)
        if len(metrics.read_text().splitlines()) != reached:
            raise RuntimeError("training went on without the second node")
        fell(second)
        agents[1].wait()
        ip("-n", second.name, "link", "set", second.device, "up")
        agents[1] = start(second, recipe, output)
        return finished(agents, output)


def resumed(output: Path) -> list[str]:
    """What was gone on from."""
    said = "".join(path.read_text() for path in output.parent.glob(f"{output.name}-*.log"))
    return [line.partition(": resumed at ")[2] for line in said.splitlines() if ": resumed at " in line]


def main() -> None:
    """Print what differs; exit code 1 if anything does."""
    if reason := why_not():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(RECIPE)
        begun = time.monotonic()
        whole = undisturbed(recipe, Path(folder) / "whole")
        between = time.monotonic()
        broken = disturbed(recipe, Path(folder) / "broken")
        different = sorted(name for name in whole.keys() | broken.keys() if whole.get(name) != broken.get(name))
        print(f"undisturbed: {between - begun:.0f} s; cut off and killed: {time.monotonic() - between:.0f} s")
        print(f"went on from: {resumed(Path(folder) / 'broken')}")
        print(f"{len(whole)} digests, different: {json.dumps(different)}")
        sys.exit(int(bool(different)))


if __name__ == "__main__":
    main()
