"""Judges behind an OpenAI-compatible chat API: the first token's top log-probs, or sampled votes without them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from yonder.errors import ModelError
from yonder.judges.prompt import Asked
from yonder.judges.served import verdict_of
from yonder.judges.vllm import finite
from yonder.rewards.judge import Verdict
from yonder.transport import Transport

T = TypeVar("T")


class ChatReader:
    """The largest log-probs of the first token of a chat API's answer. One prompt a request."""

    batch = 1

    def __init__(self, transport: Transport, model: str, top: int) -> None:
        self.transport = transport
        self.model = model
        self.top = top
        self.identity = f"openai {model} top {top}"

    def first(self, text: str, sampled: str) -> list[tuple[str, float]]:
        """The alternatives of the first token of the answer to a text; ModelError where no log-probs come back.
        `sampled`: what `backend: votes` would sample instead."""
        found = self.post(text, lambda answer: alternatives(answer) if _has_logprobs(answer) else None)
        if found is None:
            raise ModelError(
                f"model `{self.model}` returns no log-probs; use `backend: votes`, which samples {sampled}"
            )
        return found

    def post(self, text: str, read: Callable[[Any], T]) -> T:
        """What is read of the answer to a text."""
        return self.transport.post("/v1/chat/completions", self._body(text), read)

    def _body(self, text: str) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 1,
            "temperature": 1.0,
            "logprobs": True,
            "top_logprobs": self.top,
        }


class ChatBackEnd(ChatReader):
    """A `BackEnd` for Yes and No. They are matched by text: case and space around them do not count."""

    def __init__(self, transport: Transport, model: str, labels: tuple[str, str], top: int) -> None:
        super().__init__(transport, model, top)
        self.labels = labels

    def probe(self) -> str:
        """Ask something simple; ModelError where no log-probs come back."""
        self.first("Answer with the word Yes.", "Yes and No")
        return f"chat API, the {self.top} largest log-probs"

    def ask(self, prompts: Sequence[Asked]) -> list[Verdict]:
        """One verdict a prompt."""
        return [self.post(prompt.text, self._read) for prompt in prompts]

    def _read(self, answer: Any) -> Verdict:
        read = reading(self.labels)
        pairs = [(read(name), value) for name, value in alternatives(answer)]
        yes, no = ([value for name, value in pairs if name == read(label)] for label in self.labels)
        return verdict_of(yes, no, min((value for _, value in pairs), default=None))


class VotesReader:
    """Sampled answers of a chat API. One prompt a request, or several answers where the API takes `n`."""

    batch = 1

    def __init__(self, transport: Transport, model: str, votes: int) -> None:
        self.transport = transport
        self.model = model
        self.votes = votes
        self.identity = f"votes of {votes} {model}"
        self.several = True

    def probe(self) -> str:
        """Whether one request may bring several answers."""
        answers = self._sample("Answer with the word Yes.", 2)
        self.several = len(answers) == 2
        return f"{self.votes} sampled votes a verdict, {'one request' if self.several else 'one request each'}"

    def sampled(self, text: str) -> list[str]:
        """The answers to a text, `votes` of them."""
        answers: list[str] = []
        while len(answers) < self.votes:
            answers += self._sample(text, self.votes - len(answers) if self.several else 1)
        return answers[: self.votes]

    def _sample(self, text: str, count: int) -> list[str]:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 3,
            "temperature": 1.0,
            "n": count,
        }

        def read(answer: Any) -> list[str]:
            found = [str(choice["message"]["content"] or "") for choice in answer["choices"]]
            if not found:
                raise ValueError("no choices")
            return found

        return self.transport.post("/v1/chat/completions", body, read)


class VotesBackEnd(VotesReader):
    """A `BackEnd` for APIs without log-probs: k sampled answers. Costly and coarse: the gap is that of the shares.

    Half a vote is added to either side, so that k of k is not infinite. The mass is the share of answers that were a
    label at all.
    """

    def __init__(self, transport: Transport, model: str, labels: tuple[str, str], votes: int) -> None:
        super().__init__(transport, model, votes)
        self.labels = labels

    def ask(self, prompts: Sequence[Asked]) -> list[Verdict]:
        """One verdict a prompt."""
        return [self._verdict(prompt.text) for prompt in prompts]

    def _verdict(self, text: str) -> Verdict:
        read = reading(self.labels)
        words = [read(answer).rstrip(".!,") for answer in self.sampled(text)]
        yes, no = (words.count(read(label)) for label in self.labels)
        if not yes + no:
            return Verdict(reason=f"none of {self.votes} sampled answers is a label")
        return Verdict(math.log((yes + 0.5) / (no + 0.5)), (yes + no) / self.votes)


def reading(labels: tuple[str, str]) -> Callable[[str], str]:
    """How a token is compared with these labels: case counts only where they differ in nothing else (m, M)."""
    return fold if fold(labels[0]) != fold(labels[1]) else str.strip


def fold(text: str) -> str:
    """A token's text without case and space."""
    return text.strip().lower()


def alternatives(answer: Any) -> list[tuple[str, float]]:
    """The first token's largest log-probs, as the API writes the tokens."""
    entries = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    return [(str(entry["token"]), finite(entry["logprob"])) for entry in entries]


def _has_logprobs(answer: Any) -> bool:
    given = answer["choices"][0].get("logprobs")
    return bool(given and given.get("content"))
