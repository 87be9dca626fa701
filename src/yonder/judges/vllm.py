"""Judges on a vLLM server: prompts as token ids, both labels' raw log-probs from one request.

Three ways, found out at the start. Where the completions route honours `logprob_token_ids` it returns just the labels.
Else the top log-probs are read, and what they lack is asked of `/generative_scoring`. Else the smallest returned
log-prob stands for the missing label, and the verdict says so.
"""

import math
from collections.abc import Sequence
from typing import Any

from yonder.errors import ModelError
from yonder.judges.prompt import Asked, LabelTokens
from yonder.judges.served import verdict_of, verdict_of_probabilities
from yonder.rewards.judge import Verdict
from yonder.transport import Transport, Unanswered


class VLLMReader:
    """The next token's log-probs after prompts: of `tokens`, where the server honours `logprob_token_ids`, else the
    largest."""

    def __init__(self, transport: Transport, model: str, tokens: Sequence[int], batch: int, top: int) -> None:
        self.transport = transport
        self.model = model
        self.tokens = list(tokens)
        self.batch = batch
        self.top = top
        self.identity = f"vllm {model} top {top}"
        self.by_id = False

    def probe(self) -> str:
        """Which of the two ways this server offers."""
        (top,) = self._top_logprobs([self.tokens[:2]], {"logprob_token_ids": self.tokens})
        self.by_id = set(top) >= set(self.tokens) and len(top) <= len(self.tokens) + 1
        which = "labels'" if self.by_id else f"{self.top} largest"
        return f"vLLM returns the {which} log-probs"

    def logprobs(self, prompts: Sequence[Asked]) -> list[dict[int, float]]:
        """Of one request, by token."""
        more: dict[str, Any] = {"logprob_token_ids": self.tokens} if self.by_id else {}
        return self._top_logprobs([list(prompt.ids) for prompt in prompts], more)

    def _top_logprobs(self, prompts: list[list[int]], more: dict[str, Any]) -> list[dict[int, float]]:
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": prompts,
            "max_tokens": 1,
            "temperature": 0.0,  # greedy needs no random numbers; raw log-probs are taken before it
            "logprobs": self.top,
            "return_tokens_as_token_ids": True,
            "add_special_tokens": False,
        }

        def read(answer: Any) -> list[dict[int, float]]:
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            if [choice["index"] for choice in choices] != list(range(len(prompts))):
                raise ValueError(f"{len(choices)} choices for {len(prompts)} prompts")
            found: list[dict[int, float]] = []
            for choice in choices:
                top = choice["logprobs"]["top_logprobs"][0]
                found.append({token_id(name): finite(value) for name, value in top.items()})
            return found

        return self.transport.post("/v1/completions", body | more, read)


class VLLMBackEnd(VLLMReader):
    """A `BackEnd` over `/v1/completions` and `/generative_scoring`."""

    def __init__(self, transport: Transport, model: str, labels: LabelTokens, batch: int, top: int) -> None:
        super().__init__(transport, model, [*labels.yes_ids, *labels.no_ids], batch, top)
        self.labels = labels
        self.scoring = False

    def probe(self) -> str:
        """Which of the three ways this server offers."""
        found = super().probe()
        try:
            self._exact(Asked((self.labels.yes_ids[0], self.labels.no_ids[0]), "", False))
            self.scoring = True
        except (Unanswered, ModelError):
            self.scoring = False
        if self.by_id:
            return found
        return f"{found}; {'/generative_scoring' if self.scoring else 'a bound'} for the rest"

    def ask(self, prompts: Sequence[Asked]) -> list[Verdict]:
        """One verdict a prompt."""
        verdicts = [self._verdict(top) for top in self.logprobs(prompts)]
        if not self.scoring:
            return verdicts
        return [
            self._exact(prompt) if verdict.missing_yes or verdict.missing_no or verdict.reason else verdict
            for prompt, verdict in zip(prompts, verdicts, strict=True)
        ]

    def _verdict(self, top: dict[int, float]) -> Verdict:
        yes = [top[i] for i in self.labels.yes_ids if i in top]
        no = [top[i] for i in self.labels.no_ids if i in top]
        return verdict_of(yes, no, min(top.values(), default=None))

    def _exact(self, prompt: Asked) -> Verdict:
        """From the scoring route: P(first label) over the whole vocabulary, label after label."""
        yes, no = ([self._probability(prompt, i) for i in side] for side in (self.labels.yes_ids, self.labels.no_ids))
        return verdict_of_probabilities(yes, no)

    def _probability(self, prompt: Asked, label: int) -> float:
        body = {
            "model": self.model,
            "query": list(prompt.ids[:-1]),
            "items": [[prompt.ids[-1]]],
            "label_token_ids": [label],
            "apply_softmax": False,
            "add_special_tokens": False,
        }
        return self.transport.post("/generative_scoring", body, lambda answer: finite(answer["data"][0]["score"]))


def token_id(name: str) -> int:
    """The token that vLLM names `token_id:17`. ModelError for a server that gives the token's text instead."""
    number = name.removeprefix("token_id:")
    if not number.isdecimal() or number == name:
        raise ModelError(
            f"the judge server does not answer with token ids as vLLM does (it says {name[:40]!r}), so `backend: vllm` "
            "cannot read it; use `backend: llama-cpp` where its /v1/completions gives the texts of tokens, or `openai` "
            "for chat completions"
        )
    return int(number)


def finite(value: Any) -> float:
    """A number; ValueError for NaN, infinity and what is none."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number
