"""Completions a second by this process and by a vLLM server on the same machine, in turns, on one model and prompts.

python benchmarks/rollouts.py [TURNS] [PROMPTS] [SAMPLES] [TOKENS]        # default: 5 16 8 64

The model and its questions are those of generate.py: 3M parameters, one token in 24 ends a completion, so lengths are
mixed. The server is started here, from the environment that `python tools/install_peers.py vllm` makes, as
docs/rollouts.md says; it gives the log-probs that training needs, as our own sampler does. While we sample its
processes are stopped, since they take processor time also when nothing is asked. What sending the weights takes is told
beside.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from generate import ENDS, Bench
from turns import keep, ratio

from yonder.engines.checking import Rules
from yonder.engines.sampler import ServedSampler
from yonder.engines.vllm import VLLMServer
from yonder.transport import Limits, Transport

PYTHON = Path(__file__).parents[1] / ".servers" / "vllm" / "bin" / "python"
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_SERVER_DEV_MODE": "1",
}  # fmt: skip


@contextmanager
def server(model: Path) -> Iterator[tuple[str, int]]:
    """Its address, once it answers, and its group of processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--dtype", "float32"]
    words += ["--served-model-name", "policy", "--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"]
    words += ["--max-model-len", "512", "--enforce-eager", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with (model / "server.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | ENVIRONMENT, start_new_session=True)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(url + "/v1/models", timeout=2).close()
                break
            except OSError:
                if process.poll() is not None:
                    sys.exit((model / "server.log").read_text()[-2000:])
                time.sleep(0.5)
        yield url, process.pid
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def main(turns: int = 5, count: int = 16, samples: int = 8, longest: int = 64) -> None:
    """Measure and print."""
    if not PYTHON.exists():
        sys.exit("vLLM is not installed: python tools/install_peers.py vllm")
    bench = Bench(count, samples, longest, 2)
    bench.model.config.update({"bos_token_id": None, "eos_token_id": None})
    bench.model.generation_config.update(eos_token_id=None)
    seconds: dict[str, list[float]] = {"this process": [], "vLLM": [], "weights to vLLM": []}
    lengths: dict[str, list[float]] = {"this process": [], "vLLM": []}
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        bench.model.save_pretrained(model)
        bench.tokenizer.save_pretrained(model)
        with server(model) as (url, group):
            vllm = VLLMServer(Transport((url,), Limits(64, None, 600, 600), None, "vLLM server"), "policy")
            rules = Rules(400, longest, 512, 1.0, 0.1)
            served = ServedSampler([vllm], bench.policy, bench.sampler.encoder, rules, Path(place))
            for turn in range(turns + 1):
                begin = time.perf_counter()
                served.refresh(turn)
                sent = time.perf_counter() - begin
                for name, sampler in (("this process", bench.sampler), ("vLLM", served)):
                    os.killpg(group, signal.SIGCONT if name == "vLLM" else signal.SIGSTOP)
                    begin = time.perf_counter()
                    made = sampler.sample(bench.prompts, samples, 1.0, turn)
                    took = time.perf_counter() - begin
                    if turn:
                        seconds[name].append(took)
                        lengths[name].append(statistics.mean(len(rollout.completion.token_ids) for rollout in made))
                if turn:
                    seconds["weights to vLLM"].append(sent)
    print(f"{count} x {samples} completions of at most {longest} tokens, one token in {ENDS} ends one; {turns} turns\n")
    print("| | completions/s | mean tokens | s |\n|---|---|---|---|")
    for name, found in seconds.items():
        middle = statistics.median(found)
        rate = f"{count * samples / middle:.1f} | {statistics.mean(lengths[name]):.1f}" if name in lengths else " | "
        print(f"| {name} | {rate} | {middle:.2f} ({min(found):.2f} to {max(found):.2f}) |")
    found = ratio(seconds["vLLM"], seconds["this process"])
    print(f"\nvLLM's seconds over ours: {found}")
    keep(f"rollouts_{count * samples}_{longest}", {"seconds": seconds, "lengths": lengths, "ratio": found})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]))
