"""A judge on a server: what is not in the cache is asked in parallel; every prompt gets an answer or a reason."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, Self, TypeVar

from yonder.errors import ModelError
from yonder.judges.cache import AnswerCache
from yonder.judges.prompt import Asked
from yonder.rewards.early import Early
from yonder.rewards.judge import Verdict
from yonder.transport import Refused, Transport, Unanswered

UNDERFLOW = math.log(2.0**-149)  # of the smallest float32: a softmax never gives 0, what is smaller is rounded to it
NO_NUMBERS = "the judge server gave numbers that are no probabilities"


class ServedPrompt(Protocol):
    """Makes prompts of (question, response) pairs."""

    identity: str  # everything of template and labels that decides a verdict

    def sentence(self) -> str:
        """What is read, and after which words."""
        ...

    def asked(self, question: str, response: str, limit: int) -> Asked:
        """The prompt, cut to `limit` tokens."""
        ...


class Answer(Protocol):
    """What a judge says of one response, or why it says nothing: a verdict, or ratings."""

    @property
    def reason(self) -> str:
        """Why it says nothing."""
        ...

    @property
    def sound(self) -> bool:
        """Whether its numbers are some."""
        ...

    def cut(self, truncated: bool) -> Self:
        """The same of a response that was cut, or was not."""
        ...


A = TypeVar("A", bound=Answer)
A_co = TypeVar("A_co", bound=Answer, covariant=True)


class BackEnd(Protocol[A_co]):
    """How one kind of server is asked."""

    @property
    def transport(self) -> Transport:
        """The way to it."""
        ...

    @property
    def batch(self) -> int:
        """Prompts a request."""
        ...

    @property
    def identity(self) -> str:
        """Server kind, model, and how much of its answer is read."""
        ...

    def ask(self, prompts: Sequence[Asked]) -> Sequence[A_co]:
        """One answer a prompt. Raises Unanswered or ModelError."""
        ...

    def probe(self) -> str:
        """Find out what the server can do, before the run; returns one sentence. Raises ModelError or Unanswered."""
        ...


class Served(Generic[A]):
    """A judge over a server, whatever it answers."""

    def __init__(
        self, kind: Callable[..., A], prompt: ServedPrompt, back_end: BackEnd[A], max_tokens: int,
        cache: AnswerCache[A] | None, model: str,
    ) -> None:  # fmt: skip
        """`kind`: makes an answer of `reason` and `truncated`; `model`: the recipe's, whose tokenizer made the prompt.
        ModelError where the server cannot be reached, or cannot do what the back end needs."""
        self._kind = kind
        self.prompt = prompt
        self.back_end = back_end
        self.max_tokens = max_tokens
        self.cache = cache
        self.model = model
        workers = back_end.transport.limits.concurrency
        self._early = Early[tuple[str, str], A](self._answers, workers, back_end.batch)
        try:
            self.found = back_end.probe()
        except Unanswered as error:
            raise ModelError(f"the judge server cannot be used: {error}; start it, or mend `server.urls`") from None

    def take(self, pairs: Sequence[tuple[str, str]]) -> list[A]:
        """One answer a pair, in order. A pair that the server does not answer gets the reason instead of numbers."""
        return self._early.take(pairs)

    def begin(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Ask for these in the background, as many requests at once as `take` would."""
        self._early.begin(pairs)

    def drop(self) -> None:
        """Give up what was begun; requests that are open end by themselves, and their answers are in the cache."""
        self._early.drop()

    def _answers(self, pairs: Sequence[tuple[str, str]]) -> list[A]:
        """Those in the cache, and those of the server."""
        known = self.cache.find([self._key(pair) for pair in pairs]) if self.cache else {}
        out: dict[int, A] = {}
        asked: list[tuple[int, Asked]] = []
        for i, (question, response) in enumerate(pairs):
            if self.cache and (found := known.get(self._key((question, response)))) is not None:
                out[i] = found
                continue
            prompt = self.prompt.asked(question, response, self.max_tokens)
            if prompt.reason:
                out[i] = self._kind(reason=prompt.reason, truncated=True)
            else:
                asked.append((i, prompt))
        size = self.back_end.batch
        parts = [asked[start : start + size] for start in range(0, len(asked), size)]
        answers = self._asked([[(pairs[i], prompt) for i, prompt in part] for part in parts])
        for part, given in zip(parts, answers, strict=True):
            out |= {i: answer for (i, _), answer in zip(part, given, strict=True)}
        return [out[i] for i in range(len(pairs))]

    def _asked(self, requests: list[list[tuple[tuple[str, str], Asked]]]) -> list[list[A]]:
        """The answers to each request. One alone is asked in this very thread: a pool's would hold up the end of the
        process."""
        if len(requests) < 2:
            return [self._ask(request) for request in requests]
        with ThreadPoolExecutor(min(self.back_end.transport.limits.concurrency, len(requests))) as pool:
            return list(pool.map(self._ask, requests))

    def _ask(self, asked: list[tuple[tuple[str, str], Asked]]) -> list[A]:
        """One answer a prompt of one request, in the cache before anything else is asked."""
        prompts = [prompt for _, prompt in asked]
        try:
            answers = self.back_end.ask(prompts)
        except Unanswered as error:
            if isinstance(error, Refused) and len(asked) > 1:  # one bad prompt must not cost its neighbours
                return [answer for one in asked for answer in self._ask([one])]
            return [self._kind(reason=str(error), truncated=prompt.truncated) for prompt in prompts]
        checked = [
            answer.cut(prompt.truncated) if answer.sound or answer.reason
            else self._kind(reason=NO_NUMBERS, truncated=prompt.truncated)
            for answer, prompt in zip(answers, prompts, strict=True)
        ]  # fmt: skip
        if self.cache:
            given = zip(asked, checked, strict=True)
            self.cache.keep({self._key(pair): answer for (pair, _), answer in given if not answer.reason})
        return checked

    def _key(self, pair: tuple[str, str]) -> tuple[str, ...]:
        """Everything that decides an answer; a request's size and the order of the servers do not."""
        servers = " ".join(sorted(self.back_end.transport.urls))
        way = (self.back_end.identity, self.found, servers)
        return (*way, self.model, self.prompt.identity, str(self.max_tokens), *pair)


class ServedJudge(Served[Verdict]):
    """A `YesNoModel` over a server."""

    def __init__(
        self, prompt: ServedPrompt, back_end: BackEnd[Verdict], max_tokens: int, cache: AnswerCache[Verdict] | None,
        model: str = "",
    ) -> None:  # fmt: skip
        super().__init__(Verdict, prompt, back_end, max_tokens, cache, model)

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """One verdict a pair, in order."""
        return self.take(pairs)


def verdict_of(yes: Sequence[float], no: Sequence[float], bound: float | None) -> Verdict:
    """From the log-probs of the spellings of Yes and of No that a server returned.

    A side that is not among the returned log-probs is at most the smallest of them: `bound` stands for it, and the
    verdict says so. Without both there is no verdict.
    """
    if not yes and not no:
        return Verdict(reason="neither label is among the log-probs that the judge server returned")
    if (not yes or not no) and bound is None:
        return Verdict(reason="a label is not among the log-probs that the judge server returned")
    sides = [math.log(math.fsum(math.exp(x) for x in side)) if side else float(bound or 0.0) for side in (yes, no)]
    mass = math.fsum(math.exp(x) for side in (yes, no) for x in side)
    return Verdict(sides[0] - sides[1], min(mass, 1.0), missing_yes=not yes, missing_no=not no)


def verdict_of_probabilities(yes: Sequence[float], no: Sequence[float]) -> Verdict:
    """From the probabilities of the spellings over the whole vocabulary. One that is 0 was too small for a float32."""
    logprobs = [[math.log(p) for p in side if p > 0] for side in (yes, no)]
    if not any(logprobs):
        return Verdict(reason="the judge server gives both labels the probability 0")
    return verdict_of(logprobs[0], logprobs[1], UNDERFLOW)
