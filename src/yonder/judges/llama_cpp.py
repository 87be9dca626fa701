"""Judges on a llama.cpp server: the largest log-probs of the next token, before any sampling changes them.

llama-server takes token ids (`/completion`); the server of llama-cpp-python takes text (`/v1/completions`).
"""

import math
from collections.abc import Sequence
from typing import Any

from yonder.errors import ModelError
from yonder.judges.prompt import Asked, LabelTokens
from yonder.judges.served import verdict_of
from yonder.judges.vllm import finite
from yonder.rewards.judge import Verdict
from yonder.transport import Transport


class LlamaCppBackEnd:
    """A `BackEnd` that finds out which of the two servers it talks to. One prompt a request."""

    batch = 1

    def __init__(self, transport: Transport, model: str, labels: LabelTokens, top: int, begin: str = "") -> None:
        """`begin`: how the tokenizer's BOS token is written; empty: it has none."""
        self.transport = transport
        self.model = model
        self.labels = labels
        self.top = top
        self.identity = f"llama.cpp {model} top {top}"
        self.native = True
        self.begin = begin
        self.adds_begin = True  # the text route puts a BOS token before every prompt

    def probe(self) -> str:
        """llama-server's own route first, as it takes token ids."""
        prompt = Asked((self.labels.yes_ids[0], self.labels.no_ids[0]), "Yes", False)
        try:
            self._native(prompt)
        except ModelError:
            self.native = False
            self.adds_begin = self._begins_twice()
            self._by_text(prompt)
        kind = "llama-server: token ids" if self.native else "llama-cpp-python: text"
        return f"{kind}, the {self.top} largest log-probs"

    def ask(self, prompts: Sequence[Asked]) -> list[Verdict]:
        """One verdict a prompt."""
        return [self._native(prompt) if self.native else self._by_text(prompt) for prompt in prompts]

    def _native(self, prompt: Asked) -> Verdict:
        body = {
            "prompt": list(prompt.ids),
            "n_predict": 1,
            "n_probs": self.top,
            "post_sampling_probs": False,
            "temperature": 1.0,
            "cache_prompt": True,
        }

        def read(answer: Any) -> Verdict:
            row = answer["completion_probabilities"][0]
            top = {int(entry["id"]): finite(entry["logprob"]) for entry in row["top_logprobs"]}
            yes = [top[i] for i in self.labels.yes_ids if i in top]
            no = [top[i] for i in self.labels.no_ids if i in top]
            return verdict_of(yes, no, min(top.values(), default=None))

        return self.transport.post("/completion", body, read)

    def _begins_twice(self) -> bool:
        """Whether the server counts more than one token in a text that is just the BOS token."""
        if not self.begin:
            return False
        body = {"model": self.model, "prompt": self.begin, "max_tokens": 1}

        def read(answer: Any) -> int:
            return int((answer.get("usage") or {}).get("prompt_tokens") or 2)

        return self.transport.post("/v1/completions", body, read) > 1

    def _by_text(self, prompt: Asked) -> Verdict:
        body = {
            "model": self.model,
            "prompt": prompt.text.removeprefix(self.begin) if self.adds_begin else prompt.text,
            "max_tokens": 1,
            "temperature": 1.0,
            "top_p": 1.0,
            "logprobs": self.top,
        }

        def read(answer: Any) -> Verdict:
            top = {name: finite(value) for name, value in answer["choices"][0]["logprobs"]["top_logprobs"][0].items()}
            yes = [top[text] for text in self.labels.yes_texts if text in top]
            no = [top[text] for text in self.labels.no_texts if text in top]
            return verdict_of(yes, no, min(top.values(), default=-math.inf))

        return self.transport.post("/v1/completions", body, read)
