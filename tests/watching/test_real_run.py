"""A real run in a process of its own, watched by three others from before its beginning to after its end."""

import gzip
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
RECIPE = """
title: Watched
threads: 1
policy:
  model: {family: llama, hidden_size: 32, layers: 1, heads: 2}
  tokenizer: yonder:tokenizer
  max_completion_tokens: 16
  device: cpu
task: {format: program, docstring: false, numbers: named}
data:
  labeled: {source: word-problems, options: {count: 24, seed: 1}}
rewards:
  correct: {kind: verifiable}
benchmarks:
  same: {data: labeled}
stages:
  - {name: warmup, kind: warmup, data: labeled, epochs: 2, optimizer: {lr: 3.0e-3}}
  - name: rl
    kind: distill
    policy: stage:warmup
    algorithm: grpo
    group_size: 4
    epochs: 1
    steps: 200
    prompts: {labeled: 8}
    terms: [{reward: correct, data: labeled, weight: 1.0}]
    save_every: 10
  - {name: table, kind: evaluate, checkpoints: [warmup, rl], benchmarks: [same]}
"""


def yonder(*arguments: str, **how: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "yonder", *arguments], text=True, **how)


def first_lines(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline() + process.stdout.readline()


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as response:
        data = response.read()
        return gzip.decompress(data) if response.headers["Content-Encoding"] == "gzip" else data


def test_from_before_the_beginning_to_after_the_end(tmp_path: Path) -> None:
    recipe, run = tmp_path / "watched.yaml", tmp_path / "runs/watched"
    recipe.write_text(RECIPE + f"output_dir: {run}\n")
    server = yonder("watch", str(run), "--every", "0.5", stdout=subprocess.PIPE)
    lines = yonder("watch", str(run), "--terminal", "--every", "1", stdout=subprocess.PIPE)
    said = first_lines(server)
    found = re.search(r"http://127\.0\.0\.1:\d+/", said)
    assert found and "there is no run yet" in said
    url = found[0]
    assert json.loads(fetch(url + "status"))["state"] == "waiting"
    training = yonder("run", str(recipe), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    states, versions, steps = list[str](), set[str](), set[int]()
    while training.poll() is None:
        status = json.loads(fetch(url + "status"))
        states += [status["state"]] if status["state"] not in states else []
        if status["version"] not in versions | {""}:
            versions.add(status["version"])
            twin = json.loads(fetch(url + "report.json"))
            steps |= {
                int(curve["rows"])
                for curve in twin["curves"]
                if twin["runs"][0]["stages"][curve["stage"]]["name"] == "rl"
            }
        time.sleep(0.2)
    assert training.returncode == 0
    output, _ = lines.communicate(timeout=60)  # it ends with the run
    assert lines.returncode == 0
    assert "waiting for a run in" in output and "rl: step" in output and " of 200" in output
    assert output.splitlines()[-1].startswith("done, ")
    assert states[:2] == ["waiting", "running"] and len(versions) >= 3 and len(steps) >= 2, (states, steps)
    time.sleep(2)
    assert json.loads(fetch(url + "status"))["state"] == "done"
    assert b"Watched" in fetch(url + "page")
    server.send_signal(signal.SIGINT)
    assert server.wait(180) == 0
    listed = subprocess.run(
        [sys.executable, "-m", "yonder", "runs", str(tmp_path), "--json"], text=True, capture_output=True, check=True
    )
    row = json.loads(listed.stdout)
    assert (row["state"], row["title"]) == ("done", "Watched") and len(row["results"]) == 2
    in_a_terminal(run, b"q")


def in_a_terminal(run: Path, key: bytes) -> str:
    """What the view draws in a terminal until the key ends it."""
    handle, inner = pty.openpty()
    viewer = subprocess.Popen(
        [sys.executable, "-m", "yonder", "watch", str(run), "--terminal"],
        stdin=inner, stdout=inner, stderr=inner, env={**os.environ, "TERM": "xterm", "COLUMNS": "90", "LINES": "40"},
    )  # fmt: skip
    os.close(inner)
    seen, deadline, pressed = b"", time.monotonic() + 60, False
    while viewer.poll() is None and time.monotonic() < deadline:
        if select.select([handle], [], [], 0.2)[0]:
            try:
                seen += os.read(handle, 65536)
            except OSError:
                break
        if b"KL" in seen and not pressed:
            os.write(handle, key)
            pressed = True
    assert viewer.wait(20) == 0
    assert b"\x1b[?1049h" in seen and b"\x1b[?1049l" in seen  # the screen before is given back
    text = seen.decode("utf-8", "replace")
    assert "Watched" in text and "entropy" in text and "the run goes on" in text
    return text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["watch", "watched.yaml"], "watched.yaml is a file; give a run directory"),
        (["watch", "runs", "--every", "0"], "--every 0 is no time; give seconds above 0"),
        (["watch", "runs", "--port", "70000"], "65535"),
        (["runs", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_wrong_input_is_one_sentence(tmp_path: Path, arguments: list[str], told: str) -> None:
    (tmp_path / "watched.yaml").write_text(RECIPE)
    process = yonder(*arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 2 and told in error and "Traceback" not in error and output == ""
