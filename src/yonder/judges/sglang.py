"""Judges on an SGLang server: `/v1/score` returns the probabilities of the label tokens after each prompt."""

import math
from collections.abc import Sequence
from typing import Any

from yonder.judges.prompt import Asked, LabelTokens
from yonder.judges.served import verdict_of_probabilities
from yonder.judges.vllm import finite
from yonder.rewards.judge import Verdict
from yonder.transport import Transport


class SGLangReader:
    """The probabilities of `tokens` after prompts, over the scoring route, which takes token ids and many items."""

    def __init__(self, transport: Transport, model: str, tokens: Sequence[int], batch: int) -> None:
        self.transport = transport
        self.model = model
        self.tokens = list(tokens)
        self.batch = batch
        self.identity = f"sglang {model}"

    def probe(self) -> str:
        """Ask about one prompt."""
        self.probabilities([Asked((self.tokens[0], self.tokens[-1]), "", False)])
        return "SGLang returns the labels' probabilities"

    def logprobs(self, prompts: Sequence[Asked]) -> list[dict[int, float]]:
        """By token; without those of probability 0."""
        rows = self.probabilities(prompts)
        return [{i: math.log(p) for i, p in zip(self.tokens, row, strict=True) if p > 0} for row in rows]

    def probabilities(self, prompts: Sequence[Asked]) -> list[list[float]]:
        """Of `tokens`, after each prompt: the query is empty, the item is the whole prompt."""
        body = {
            "model": self.model,
            "query": [],
            "items": [list(prompt.ids) for prompt in prompts],
            "label_token_ids": self.tokens,
            "apply_softmax": False,
        }

        def read(answer: Any) -> list[list[float]]:
            rows = answer["scores"]
            if len(rows) != len(prompts) or any(len(row) != len(self.tokens) for row in rows):
                raise ValueError(f"{len(rows)} rows of scores for {len(prompts)} prompts")
            return [[finite(value) for value in row] for row in rows]

        return self.transport.post("/v1/score", body, read)


class SGLangBackEnd(SGLangReader):
    """A `BackEnd` for Yes and No."""

    def __init__(self, transport: Transport, model: str, labels: LabelTokens, batch: int) -> None:
        super().__init__(transport, model, [*labels.yes_ids, *labels.no_ids], batch)
        self.labels = labels

    def ask(self, prompts: Sequence[Asked]) -> list[Verdict]:
        """One verdict a prompt."""
        cut = len(self.labels.yes_ids)
        return [verdict_of_probabilities(row[:cut], row[cut:]) for row in self.probabilities(prompts)]
