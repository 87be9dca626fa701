"""Step time with a judge on a server, scoring after and while completions are written.

python benchmarks/overlap.py [DELAY_S] [CONCURRENCY] [STEPS]      # default: 0.1 16 6

The demo's student is warmed up, then trained with a judge behind a server in another process, which answers every
prompt after DELAY_S and computes nothing: a judge on another machine does not take this one's processor. A table of
medians over two turns goes to standard output; the rewards of both runs must be the same.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from yonder import load_recipe, run

RECIPE = """
threads: 1
policy:
  model: {family: llama, hidden_size: 128, layers: 2, heads: 4}
  tokenizer: yonder:tokenizer
  max_completion_tokens: 64
  generation_batch: 96
task: {format: program, docstring: false, numbers: named}
data:
  labeled: {source: word-problems, options: {count: 300, seed: 1}}
rewards:
  judge: {kind: judge, model: yonder:judge, backend: sglang, mass_floor: 0, allow_unmeasured: true}
stages:
  - {name: warmup, kind: warmup, data: labeled, epochs: 6, optimizer: {lr: 2.0e-3}}
  - name: rl
    kind: distill
    policy: stage:warmup
    algorithm: grpo
    group_size: 8
    epochs: 1
    prompts: {labeled: 24}
    terms: [{reward: judge, data: labeled, weight: 1.0}]
    sampling: {temperature: 1.2}
"""


class Judge(ThreadingHTTPServer):
    """Answers `/v1/score` after a while."""

    daemon_threads = True
    request_queue_size = 128
    delay_s = 0.0


class _Handler(BaseHTTPRequestHandler):
    server: Judge

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def do_POST(self) -> None:
        """P(yes) and P(no) are a function of the prompt's tokens."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(self.server.delay_s)
        shares = [(1 + sum(item) % 97) / 100 for item in body["items"]]
        text = json.dumps({"scores": [[yes * 0.9, (1 - yes) * 0.9] for yes in shares]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def main(delay_s: float = 0.1, concurrency: int = 16, steps: int = 6) -> None:
    """Start the server, measure, and print."""
    command = [sys.executable, __file__, "serve", str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            measure(f"http://127.0.0.1:{server.stdout.readline().strip()}", delay_s, concurrency, steps)
        finally:
            server.kill()


def serve(delay_s: float) -> None:
    """Answer until killed; the port goes to standard output."""
    server = Judge(("127.0.0.1", 0), _Handler)
    server.delay_s = delay_s
    print(server.server_address[1], flush=True)
    server.serve_forever()


def measure(url: str, delay_s: float, concurrency: int, steps: int) -> None:
    """Both runs and their table."""
    recipe: Any = yaml.safe_load(RECIPE)
    recipe["rewards"]["judge"]["server"] = {"urls": [url], "batch": 1, "concurrency": concurrency, "cache": False}
    recipe["stages"][1]["steps"] = steps
    rows: dict[str, list[dict[str, Any]]] = {"after": [], "while": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn, name in enumerate(("after", "while", "after", "while")):
            recipe["output_dir"] = f"{folder}/{turn}"
            recipe["stages"][1]["score_early"] = ["served"] if name == "while" else []
            path = Path(folder) / f"{name}.yaml"
            path.write_text(yaml.safe_dump(recipe))
            run(load_recipe(str(path)))
            text = (Path(folder) / str(turn) / "stages" / "rl" / "metrics.jsonl").read_text()
            rows[name] += [json.loads(line) for line in text.splitlines()]
    curves = [[row["terms/judge@labeled/reward_mean"] for row in found] for found in rows.values()]
    assert curves[0] == curves[1], "the runs differ"
    print(
        f"{24 * 8} completions a step; {delay_s:g} s a verdict, {concurrency} at once; medians of {2 * steps} steps\n"
    )
    print("| scored | generate | score | annotate, update | a step, s |\n|---|---|---|---|---|")
    for name, found in rows.items():
        parts = [[row[f"time/{part}_s"] for row in found] for part in ("generate", "score", "annotate", "update")]
        generate, score, *rest = (statistics.median(part) for part in parts)
        whole = statistics.median(sum(each) for each in zip(*parts, strict=True))
        print(f"| {name} | {generate:.2f} | {score:.2f} | {sum(rest):.2f} | {whole:.2f} |")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        serve(float(arguments[1]))
    else:
        main(*(float(arguments[0]), *map(int, arguments[1:3])) if arguments else ())
