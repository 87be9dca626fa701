"""Tokens a second of rollouts in this process and by a vLLM server, in turns, on the same model and prompts.

python benchmarks/rollouts.py FOLDER URL [PROMPTS] [SAMPLES] [TOKENS]        # FOLDER: the server's model

All completions go to the full length, so that both make the same number of tokens. Start the server as docs/rollouts.md
says. A table goes to standard output: the median of three turns, and what sending the weights takes.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from yonder.data.datasets import load_data
from yonder.engines.checking import Rules
from yonder.engines.sampler import ServedSampler
from yonder.engines.vllm import VLLMServer
from yonder.models.encoding import PromptEncoder
from yonder.models.generation import PolicySampler
from yonder.models.loading import load_causal_lm, load_tokenizer, pick_device
from yonder.models.policy import Policy
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.transport import Limits, Transport

TURNS = 3


def main(folder: str, url: str, count: int = 24, samples: int = 8, longest: int = 24) -> None:
    """Measure and print."""
    tokenizer = load_tokenizer(folder)
    policy = Policy(load_causal_lm(folder, tokenizer, "float32", pick_device("auto")), tokenizer)
    task = TaskSettings(format="program", docstring=False, numbers="named")
    data = {"words": DataSettings(source="word-problems", options={"count": count, "seed": 1})}
    prompts = load_data("words", data, task, 0)
    encoder = PromptEncoder(tokenizer, 300)
    encoder.end_ids = ()  # nothing ends early
    with tempfile.TemporaryDirectory() as place:
        server = VLLMServer(Transport((url,), Limits(64, None, 600, 600), None, "vLLM server"), "policy")
        served = ServedSampler([server], policy, encoder, Rules(300, longest, 512, 1.0, 0.1), Path(place))
        served.refresh(0)
        own = PolicySampler(policy, encoder, longest, 256)
        seconds: dict[str, list[float]] = {"this process": [], "vLLM": [], "weights to vLLM": []}
        for turn in range(TURNS):
            for name, sampler in (("this process", own), ("vLLM", served)):
                begin = time.perf_counter()
                made = sampler.sample(prompts, samples, 1.0, turn)
                seconds[name].append(time.perf_counter() - begin)
                assert sum(len(rollout.completion.token_ids) for rollout in made) == count * samples * longest
            begin = time.perf_counter()
            served.refresh(0)
            seconds["weights to vLLM"].append(time.perf_counter() - begin)
    tokens = count * samples * longest
    size = sum(parameter.numel() for parameter in policy.model.parameters()) / 1e6
    print(f"{size:.1f} M parameters, {count} prompts, {samples} completions of {longest} tokens each\n")
    print("| | seconds (median of 3; least, most) | tokens a second |\n|---|---|---|")
    for name, found in seconds.items():
        middle = statistics.median(found)
        rate = "" if name == "weights to vLLM" else f"{tokens / middle:,.0f}"
        print(f"| {name} | {middle:.2f} ({min(found):.2f}, {max(found):.2f}) | {rate} |")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(number) for number in sys.argv[3:6]))
