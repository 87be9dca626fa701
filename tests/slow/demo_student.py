"""The demo's student and its questions, for rollouts by a real vLLM; without pytest, which vLLM's environments lack."""

from __future__ import annotations

import torch

from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.models.policy import Policy
from yonder.recipe.models import FreshModel
from yonder.schema import Prompt, Rollout

AGREE = 1e-5  # nats a token, both in float32
TEMPERATURE = 1.2
TEXTS = ("Tom had 3 apples and", "Question: 7 * 6 =", "How many?", "def solution():\n    a = 5\n    b = 7\n")
PROMPTS = [Prompt(id=str(i), question=text, text=text) for i, text in enumerate(TEXTS)]
DEMO = """
threads: 1
policy:
  model: {family: llama, hidden_size: 128, layers: 2, heads: 4}
  tokenizer: yonder:tokenizer
  max_completion_tokens: 24
task: {format: program, docstring: false, numbers: named}
data:
  labeled:
    source: word-problems
    options: {count: 300, seed: 1, templates: [buys, finds]}
rewards:
  correct: {kind: verifiable}
stages:
  - {name: warmup, kind: warmup, data: labeled, epochs: 8, optimizer: {lr: 2.0e-3}}
  - name: distill
    kind: distill
    policy: stage:warmup
    algorithm: grpo
    group_size: 16
    epochs: 1
    steps: 16
    prompts: {labeled: 24}
    terms: [{reward: correct, data: labeled, weight: 1.0}]
    kl: {beta: 0.003}
    sampling: {temperature: 1.2}
    optimizer: {lr: 1.0e-3, schedule: constant}
    rollouts: {engine: vllm}
"""


def demo_policy(seed: int) -> Policy:
    """The demo's student, its weights spread wide: no distribution is flat."""
    tokenizer = load_tokenizer("yonder:tokenizer")
    shape = FreshModel(family="llama", hidden_size=128, layers=2, heads=4, seed=seed)
    policy = Policy(load_causal_lm(shape, tokenizer, "float32", torch.device("cpu")), tokenizer)
    move(policy, 0.1, seed)
    return policy


def move(policy: Policy, size: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def gap(policy: Policy, rollouts: list[Rollout]) -> float:
    """Largest difference of a log-prob from the model's own, nats."""
    largest = 0.0
    for rollout in rollouts:
        ids, made = rollout.prompt_ids, rollout.completion
        logits = policy.model(input_ids=torch.tensor([[*ids, *made.token_ids]])).logits[0, len(ids) - 1 : -1]
        ours = (logits / TEMPERATURE).log_softmax(-1).gather(1, torch.tensor([made.token_ids]).T)[:, 0]
        largest = max(largest, float((ours - torch.tensor(made.logprobs)).abs().max()))
    return largest
