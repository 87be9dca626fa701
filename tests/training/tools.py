"""A tiny distillation that needs no data: the policy must learn to write one word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.models.lora import AdapterOff, Lora, add_lora
from yonder.models.policy import Policy
from yonder.recipe.models import FreshModel
from yonder.schema import Prompt, Rollout, Score
from yonder.training.advantages import Estimator
from yonder.training.checkpoint import CheckpointStore
from yonder.training.distill import Distiller
from yonder.training.learner import Learner
from yonder.training.monitor import Monitor
from yonder.training.plan import Plan
from yonder.training.progress import Silent
from yonder.training.records import Recorder
from yonder.training.rollback import Safety
from yonder.training.rollout import Term
from yonder.training.update import LossSettings
from yonder.training.watches import MonitorRules

LENIENT = MonitorRules(20, 30, 3.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0)  # never trips while rewards give scores


class WordReward:
    """The share of a completion's tokens whose id is a multiple of 16: 1/16 by chance."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        found = []
        for rollout in rollouts:
            ids = rollout.completion.token_ids
            share = sum(token % 16 == 0 for token in ids) / len(ids)
            found.append(Score(share, "share of wanted tokens", {"correct": share == 1.0}))
        return found


class Cycle:
    """A stream over a few prompts."""

    def __init__(self, prompts: list[Prompt]) -> None:
        self.prompts = prompts
        self.position = 0

    def next(self, count: int) -> list[Prompt]:
        found = [self.prompts[(self.position + i) % len(self.prompts)] for i in range(count)]
        self.position += count
        return found

    def state(self) -> dict[str, object]:
        return {"position": self.position}

    def load_state(self, state: dict[str, object]) -> None:
        self.position = int(str(state["position"]))


def tiny_policy(
    outputs: int = 0, family: str = "llama", seed: int = 0, lora: Lora | None = None, layers: int = 1
) -> Policy:
    tokenizer = load_tokenizer("yonder:tokenizer")
    fresh = FreshModel(family=family, hidden_size=32, layers=layers, heads=2, context=64, seed=seed)
    model = load_causal_lm(fresh, tokenizer, "float32", torch.device("cpu"))
    if lora is not None:
        with torch.no_grad():  # a frozen random head this narrow would leave every distribution flat
            model.get_output_embeddings().weight.mul_(20)
        add_lora(model, lora, seed)
    return Policy(model, tokenizer, outputs)


def tiny_distiller(
    folder: Path,
    algorithm: str,
    steps: int,
    seed: int = 0,
    terms: int = 1,
    lora: Lora | None = None,
    value_per_term: bool = True,
    **plan: object,
) -> Distiller:
    policy = tiny_policy((terms if value_per_term else 1) if algorithm == "ppo" else 0, lora=lora)
    reference = tiny_policy() if lora is None else AdapterOff(policy, policy.model)
    encoder = PromptEncoder(policy.tokenizer, 32)
    prompts = [Prompt(id=str(i), question=f"q{i}", text=f"Question {i}:") for i in range(4)]
    streams = {f"s{k}": Cycle(prompts) for k in range(terms)}
    the_terms = [Term("word", f"s{k}", 1 / terms, WordReward()) for k in range(terms)]
    grpo = algorithm == "grpo"
    settings = Plan(
        name="tiny", seed=seed, steps=steps, epochs=2, group_size=8 if grpo else 1,
        prompts={name: 4 if grpo else 24 for name in streams}, temperature=1.0, top_p=1.0, top_k=0,
        lr=3e-2 if grpo else 1e-2, schedule="constant", warmup_fraction=0.0, weight_decay=0.0,
        save_every=4, evaluate_every=0, patience=0, max_skipped=3,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    numbers, recorder = replace(settings, **plan), Recorder(folder, 2)
    learner = Learner(
        plan=numbers,
        policy=policy,
        reference=reference,
        value_outputs=list(range(terms)) if value_per_term else [0] * terms,
        estimator=Estimator("group" if grpo else "value", 0.0 if grpo else 0.001, "group" if grpo else "batch"),
        loss=LossSettings(0.2, 0.001 if grpo else 0.0, 0.0 if grpo else 0.5, 0.2, 1.0, 1.0, 100_000),
        recorder=recorder,
        progress=Silent(),
    )
    return Distiller(
        plan=numbers,
        learner=learner,
        sampler=PolicySampler(policy, encoder, max_completion_tokens=4, batch=256),
        streams=streams,
        terms=the_terms,
        probes=[],
        monitor=Monitor(LENIENT, the_terms, [], None),
        safety=Safety("warn", 20, 0, None),
        recorder=recorder,
        store=CheckpointStore(folder / "checkpoints", 2, lora is not None),
        progress=Silent(),
    )
