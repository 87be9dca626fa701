"""Seconds to write and to score a batch with a judge on a server, asked after and while completions are written.

python benchmarks/overlap.py [VERDICT_S] [TOKEN_S] [TURNS]        # default: 0.1 0 3

A student of the demo's size writes 24 x 8 completions of up to 64 tokens in this process. The judge is a server in
another process that answers each prompt after VERDICT_S and computes nothing, 16 at once: a judge on another machine.
TOKEN_S: what each step of the sampler waits besides, as for an accelerator. The scores of both ways must be the same.
"""

import json
import statistics
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from torch import Tensor

from yonder.assembly.judges import load_judge
from yonder.data.datasets import load_data
from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.models.loading import load_causal_lm, load_tokenizer, pick_device
from yonder.models.policy import Policy
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.recipe.models import FreshModel
from yonder.rewards.judge import JudgeRolloutReward
from yonder.training.rollout import EarlyScores, Term, score_streams


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


class Waiting(PolicySampler):
    """Waits at every step."""

    token_s = 0.0

    def _step(self, *arguments: Any, **settings: Any) -> Tensor:
        time.sleep(self.token_s)
        return super()._step(*arguments, **settings)


def main(verdict_s: float = 0.1, token_s: float = 0.0, turns: int = 3) -> None:
    """Start the server, measure, and print."""
    command = [sys.executable, __file__, "serve", str(verdict_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            measure(f"http://127.0.0.1:{server.stdout.readline().strip()}", verdict_s, token_s, turns)
        finally:
            server.kill()


def serve(delay_s: float) -> None:
    """Answer until killed; the port goes to standard output."""
    server = Judge(("127.0.0.1", 0), _Handler)
    server.delay_s = delay_s
    print(server.server_address[1], flush=True)
    server.serve_forever()


def student(token_s: float) -> Waiting:
    """Every fortieth token is an end, so that completions have many lengths."""
    tokenizer = load_tokenizer("yonder:tokenizer")
    shape = FreshModel(family="llama", hidden_size=128, layers=2, heads=4, seed=0)
    policy = Policy(load_causal_lm(shape, tokenizer, "float32", pick_device("auto")), tokenizer)
    encoder = PromptEncoder(tokenizer, 300)
    encoder.end_ids = tuple(range(0, policy.trunk.head.out_features, 40))
    made = Waiting(policy, encoder, 64, batch=96)
    made.token_s = token_s
    return made


def measure(url: str, verdict_s: float, token_s: float, turns: int) -> None:
    """Both ways in turns, and their table."""
    task = TaskSettings(format="program", docstring=False, numbers="named")
    prompts = load_data(
        "words", {"words": DataSettings(source="word-problems", options={"count": 24, "seed": 1})}, task, 0
    )
    settings = {"model": "yonder:judge", "backend": "sglang", "mass_floor": 0, "guards": ["empty"]}
    reward = JudgeRolloutReward(load_judge(settings | {"server": {"urls": [url], "batch": 1, "concurrency": 16}}))
    terms, sampler = [Term("judge", "words", 1.0, reward)], student(token_s)
    seconds: dict[str, list[tuple[float, float]]] = {"after": [], "while": []}
    for turn in range(turns):
        found: list[Any] = []
        for name, kinds in (("after", ()), ("while", ("served",))):
            early = EarlyScores(terms, [], kinds)
            with early:
                begin = time.perf_counter()
                rollouts = {"words": sampler.sample(prompts, 8, 1.0, turn, finished=early.of("words"))}
                written = time.perf_counter()
                found.append(score_streams(rollouts, terms, []))
                seconds[name].append((written - begin, time.perf_counter() - written))
        assert found[0] == found[1], "the scores differ"
    print(f"{verdict_s:g} s a verdict, {token_s:g} s of waiting a token, medians of {turns} turns\n")
    print("| asked | written, s | then scored, s | both, s |\n|---|---|---|---|")
    for name, spent in seconds.items():
        medians = [statistics.median(part) for part in (*zip(*spent, strict=True), [sum(each) for each in spent])]
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in medians) + " |")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        serve(float(arguments[1]))
    else:
        verdict, token, count = arguments + ["0.1", "0", "3"][len(arguments) :]
        main(float(verdict), float(token), int(count))
