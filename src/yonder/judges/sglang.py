"""Judges on an SGLang server: `/v1/score` returns the probabilities of the label tokens after each prompt."""

from collections.abc import Sequence
from typing import Any

from yonder.judges.prompt import Asked, LabelTokens
from yonder.judges.served import verdict_of_probabilities
from yonder.judges.vllm import finite
from yonder.rewards.judge import Verdict
from yonder.transport import Transport


class SGLangBackEnd:
    """A `BackEnd` over the scoring route, which takes token ids and many items at once."""

    def __init__(self, transport: Transport, model: str, labels: LabelTokens, batch: int) -> None:
        self.transport = transport
        self.model = model
        self.labels = labels
        self.batch = batch
        self.identity = f"sglang {model}"

    def probe(self) -> str:
        """Ask for one verdict."""
        self.ask([Asked((self.labels.yes_ids[0], self.labels.no_ids[0]), "", False)])
        return "SGLang returns the labels' probabilities"

    def ask(self, prompts: Sequence[Asked]) -> list[Verdict]:
        """One verdict a prompt: the query is empty, the item is the whole prompt."""
        labels = [*self.labels.yes_ids, *self.labels.no_ids]
        body = {
            "model": self.model,
            "query": [],
            "items": [list(prompt.ids) for prompt in prompts],
            "label_token_ids": labels,
            "apply_softmax": False,
        }

        def read(answer: Any) -> list[Verdict]:
            rows = answer["scores"]
            if len(rows) != len(prompts) or any(len(row) != len(labels) for row in rows):
                raise ValueError(f"{len(rows)} rows of scores for {len(prompts)} prompts")
            return [self._verdict([finite(value) for value in row]) for row in rows]

        return self.transport.post("/v1/score", body, read)

    def _verdict(self, probabilities: list[float]) -> Verdict:
        cut = len(self.labels.yes_ids)
        return verdict_of_probabilities(probabilities[:cut], probabilities[cut:])
