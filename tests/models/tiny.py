"""Tiny random models of every family, made once a session."""

from __future__ import annotations

from functools import cache
from typing import get_args

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.models.loading import load_causal_lm, load_classifier, load_tokenizer
from yonder.models.policy import Policy
from yonder.recipe.models import Family, FreshModel
from yonder.schema import Prompt

FAMILIES: tuple[str, ...] = get_args(Family)
CPU = torch.device("cpu")
torch.set_num_threads(1)  # matrices this small lose by being shared out
UNEQUAL = ("How many?", "Two plus two is what number, when written in words:", "Question: 7 * 6 =")


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer("yonder:tokenizer")


def fresh(family: str, **other: int) -> FreshModel:
    shape = {"hidden_size": 32, "layers": 2, "heads": 4, "context": 128, "seed": 1}
    return FreshModel(**{"family": family} | shape | other)


@cache
def causal_lm(family: str) -> PreTrainedModel:
    """A shared model; tests must not train it. Its weights are spread wide: no distribution is flat."""
    model = load_causal_lm(fresh(family), tokenizer(), "float32", CPU)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


@cache
def classifier(family: str) -> PreTrainedModel:
    model = load_classifier(fresh(family), tokenizer(), "float32", CPU)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


@cache
def policy(family: str) -> Policy:
    return Policy(causal_lm(family), tokenizer())


def sampler(family: str, most: int = 12, stop: tuple[str, ...] = (), batch: int = 256) -> PolicySampler:
    return PolicySampler(policy(family), PromptEncoder(tokenizer(), 64, stop=stop), most, batch)


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt(id=str(i), question=text, text=text) for i, text in enumerate(texts or UNEQUAL)]
