"""Judges on a llama.cpp server: the largest log-probs of the next token, before any sampling changes them.

llama-server takes token ids (`/completion`); the server of llama-cpp-python takes text (`/v1/completions`).
"""

from collections.abc import Sequence
from typing import Any

from yonder.errors import ModelError
from yonder.judges.prompt import Asked, LabelTokens
from yonder.judges.served import verdict_of
from yonder.judges.vllm import finite
from yonder.rewards.judge import Verdict
from yonder.transport import Transport


class LlamaCppReader:
    """The next token's largest log-probs, from whichever of the two servers it finds. One prompt a request."""

    batch = 1

    def __init__(
        self, transport: Transport, model: str, tokens: Sequence[int], texts: Sequence[str], top: int, begin: str = ""
    ) -> None:
        """`tokens` and their `texts`: those that are looked for; `begin`: how the tokenizer's BOS token is written;
        empty: it has none."""
        self.transport = transport
        self.model = model
        self.tokens = tuple(tokens)
        self.texts = tuple(texts)
        self.top = top
        self.identity = f"llama.cpp {model} top {top}"
        self.native = True
        self.begin = begin
        self.adds_begin = True  # the text route puts a BOS token before every prompt

    def probe(self) -> str:
        """llama-server's own route first, as it takes token ids."""
        prompt = Asked((self.tokens[0], self.tokens[-1]), "Yes", False)
        try:
            self._native(prompt)
        except ModelError:
            self.native = False
            self.adds_begin = self._begins_twice()
            self._by_text(prompt)
        kind = "llama-server: token ids" if self.native else "llama-cpp-python: text"
        return f"{kind}, the {self.top} largest log-probs"

    def logprobs(self, prompts: Sequence[Asked]) -> list[dict[int, float]]:
        """By token, of each prompt; those of `tokens` that are among the largest."""
        return [self._one(prompt)[0] for prompt in prompts]

    def _one(self, prompt: Asked) -> tuple[dict[int, float], float | None]:
        """Those, and the smallest of all that came."""
        if self.native:
            by_id = self._native(prompt)
            return {i: by_id[i] for i in self.tokens if i in by_id}, min(by_id.values(), default=None)
        by_text = self._by_text(prompt)
        found = {i: by_text[text] for i, text in zip(self.tokens, self.texts, strict=True) if text in by_text}
        return found, min(by_text.values(), default=None)

    def _native(self, prompt: Asked) -> dict[int, float]:
        body = {
            "prompt": list(prompt.ids),
            "n_predict": 1,
            "n_probs": self.top,
            "post_sampling_probs": False,
            "temperature": 1.0,
            "cache_prompt": True,
        }

        def read(answer: Any) -> dict[int, float]:
            row = answer["completion_probabilities"][0]
            return {int(entry["id"]): finite(entry["logprob"]) for entry in row["top_logprobs"]}

        return self.transport.post("/completion", body, read)

    def _begins_twice(self) -> bool:
        """Whether the server counts more than one token in a text that is just the BOS token."""
        if not self.begin:
            return False
        body = {"model": self.model, "prompt": self.begin, "max_tokens": 1}

        def read(answer: Any) -> int:
            return int((answer.get("usage") or {}).get("prompt_tokens") or 2)

        return self.transport.post("/v1/completions", body, read) > 1

    def _by_text(self, prompt: Asked) -> dict[str, float]:
        body = {
            "model": self.model,
            "prompt": prompt.text.removeprefix(self.begin) if self.adds_begin else prompt.text,
            "max_tokens": 1,
            "temperature": 1.0,
            "top_p": 1.0,
            "logprobs": self.top,
        }

        def read(answer: Any) -> dict[str, float]:
            top = answer["choices"][0]["logprobs"]["top_logprobs"][0]
            return {name: finite(value) for name, value in top.items()}

        return self.transport.post("/v1/completions", body, read)


class LlamaCppBackEnd(LlamaCppReader):
    """A `BackEnd` for Yes and No."""

    def __init__(self, transport: Transport, model: str, labels: LabelTokens, top: int, begin: str = "") -> None:
        tokens, texts = (*labels.yes_ids, *labels.no_ids), (*labels.yes_texts, *labels.no_texts)
        super().__init__(transport, model, tokens, texts, top, begin)
        self.labels = labels

    def ask(self, prompts: Sequence[Asked]) -> list[Verdict]:
        """One verdict a prompt."""
        return [self._verdict(*self._one(prompt)) for prompt in prompts]

    def _verdict(self, found: dict[int, float], least: float | None) -> Verdict:
        yes, no = ([found[i] for i in side if i in found] for side in (self.labels.yes_ids, self.labels.no_ids))
        return verdict_of(yes, no, least)
