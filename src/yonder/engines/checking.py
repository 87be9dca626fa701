"""What every engine with weights of its own is held to: a completion ends by our rules, and its log-probs are the
policy's, at weights that no engine has by chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from yonder.engines.vllm import Answer, Ask
from yonder.models.encoding import PromptEncoder
from yonder.models.policy import Policy
from yonder.schema import Completion

PROBE = (4, 8, 16)  # prompts, tokens of each, tokens of its answer


@dataclass(frozen=True, slots=True)
class Rules:
    """How a policy is sampled; lengths in tokens."""

    longest_prompt: int
    longest_completion: int
    longest: int  # both together
    temperature: float  # of the comparisons with the policy
    most_apart: float  # nats a token that an engine's log-probs may differ from the policy's
    concurrency: int = 64  # prompts that a process has open at once at servers
    seeds: bool = False  # sent to servers with every prompt

    def limit(self, prompt: Sequence[int]) -> int:
        """Most tokens of a completion."""
        return max(1, min(self.longest_completion, self.longest - len(prompt)))

    @property
    def room(self) -> int:
        """Tokens of the longest sequence."""
        return min(self.longest, self.longest_prompt + self.longest_completion)


def vocabulary_of(policy: Policy) -> int:
    """Rows of its head."""
    return policy.trunk.head.out_features


def probes(policy: Policy, rules: Rules, shift: int) -> list[Ask]:
    """The prompts of a comparison. shift: the engine's token i is the policy's i - shift."""
    count, width, length = PROBE
    vocabulary, length = vocabulary_of(policy), min(length, rules.longest - width)
    prompts = [[(i * 1009 + k * 31 + 7 + shift) % vocabulary for k in range(width)] for i in range(count)]
    return [Ask(tuple(ids), 1, length, rules.temperature) for ids in prompts]


@torch.no_grad()
def apart(
    policy: Policy, asks: Sequence[Ask], answers: Sequence[Answer], temperature: float, shift: int
) -> tuple[float, float]:
    """Mean difference of an engine's log-probs, nats a token: from the policy's at the temperature, and from those
    without it."""
    vocabulary, width = vocabulary_of(policy), len(asks[0].prompt)
    whole = [[(t - shift) % vocabulary for t in (*ask.prompt, *a.ids)] for ask, a in zip(asks, answers, strict=True)]
    device = policy.device
    tokens, theirs = torch.tensor(whole, device=device), torch.tensor([a.logprobs for a in answers], device=device)
    starts, ones = torch.full((len(asks),), width, device=device), torch.ones_like(theirs)
    found = [
        float((policy(tokens, torch.ones_like(tokens), starts, ones, t).logprobs - theirs).abs().mean())
        for t in (temperature, 1.0)
    ]
    return found[0], found[1]


def completion_of(answer: Answer, encoder: PromptEncoder) -> Completion:
    """Up to the first token with which it ends by our own rules."""
    ids = list(answer.ids)
    for end in range(1, len(ids) + 1):
        if ids[end - 1] in encoder.end_ids or (encoder.stop and encoder.stopped(ids[:end])):
            return Completion(tuple(ids[:end]), answer.logprobs[:end], encoder.decode(ids[:end]), True)
    return Completion(tuple(ids), answer.logprobs, encoder.decode(ids), answer.stopped)
