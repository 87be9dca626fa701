"""A judge on a server: what is not in the cache is asked in parallel; every prompt gets a verdict or a reason."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from yonder.errors import ModelError
from yonder.judges.cache import VerdictCache
from yonder.judges.prompt import Asked
from yonder.rewards.early import Early
from yonder.rewards.judge import Verdict
from yonder.transport import Refused, Transport, Unanswered

UNDERFLOW = math.log(2.0**-149)  # of the smallest float32: a softmax never gives 0, what is smaller is rounded to it


class ServedPrompt(Protocol):
    """Makes prompts of (question, response) pairs."""

    identity: str  # everything of template and labels that decides a verdict

    def sentence(self) -> str:
        """What is read, and after which words."""
        ...

    def asked(self, question: str, response: str, limit: int) -> Asked:
        """The prompt, cut to `limit` tokens."""
        ...


class BackEnd(Protocol):
    """How one kind of server is asked."""

    transport: Transport
    batch: int  # prompts a request
    identity: str  # server kind, model, and how much of its answer is read

    def ask(self, prompts: Sequence[Asked]) -> list[Verdict]:
        """One verdict a prompt. Raises Unanswered or ModelError."""
        ...

    def probe(self) -> str:
        """Find out what the server can do, before the run; returns one sentence. Raises ModelError or Unanswered."""
        ...


class ServedJudge:
    """A `YesNoModel` over a server."""

    def __init__(
        self, prompt: ServedPrompt, back_end: BackEnd, max_tokens: int, cache: VerdictCache | None, model: str = ""
    ) -> None:
        """`model`: the recipe's, whose tokenizer made the prompt. ModelError where the server cannot be reached, or
        cannot do what the back end needs."""
        self.prompt = prompt
        self.back_end = back_end
        self.max_tokens = max_tokens
        self.cache = cache
        self.model = model
        workers = back_end.transport.limits.concurrency
        self._early = Early[tuple[str, str], Verdict](self._verdicts, workers, back_end.batch)
        try:
            self.found = back_end.probe()
        except Unanswered as error:
            raise ModelError(f"the judge server cannot be used: {error}; start it, or mend `server.urls`") from None

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """One verdict a pair, in order. A pair that the server does not answer gets the reason instead of numbers."""
        return self._early.take(pairs)

    def begin(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Ask for these in the background, as many requests at once as `verdicts` would."""
        self._early.begin(pairs)

    def drop(self) -> None:
        """Give up what was begun; requests that are open end by themselves, and their verdicts are in the cache."""
        self._early.drop()

    def _verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Those in the cache, and those of the server."""
        known = self.cache.find([self._key(pair) for pair in pairs]) if self.cache else {}
        out: dict[int, Verdict] = {}
        asked: list[tuple[int, Asked]] = []
        for i, (question, response) in enumerate(pairs):
            if self.cache and (found := known.get(self._key((question, response)))) is not None:
                out[i] = found
                continue
            prompt = self.prompt.asked(question, response, self.max_tokens)
            if prompt.reason:
                out[i] = Verdict(reason=prompt.reason, truncated=True)
            else:
                asked.append((i, prompt))
        size = self.back_end.batch
        parts = [asked[start : start + size] for start in range(0, len(asked), size)]
        answers = self._asked([[(pairs[i], prompt) for i, prompt in part] for part in parts])
        for part, verdicts in zip(parts, answers, strict=True):
            out |= {i: verdict for (i, _), verdict in zip(part, verdicts, strict=True)}
        return [out[i] for i in range(len(pairs))]

    def _asked(self, requests: list[list[tuple[tuple[str, str], Asked]]]) -> list[list[Verdict]]:
        """The verdicts of each request. One alone is asked in this very thread: a pool's would hold up the end of the
        process."""
        if len(requests) < 2:
            return [self._ask(request) for request in requests]
        with ThreadPoolExecutor(min(self.back_end.transport.limits.concurrency, len(requests))) as pool:
            return list(pool.map(self._ask, requests))

    def _ask(self, asked: list[tuple[tuple[str, str], Asked]]) -> list[Verdict]:
        """One verdict a prompt of one request, in the cache before anything else is asked."""
        prompts = [prompt for _, prompt in asked]
        try:
            verdicts = self.back_end.ask(prompts)
        except Unanswered as error:
            if isinstance(error, Refused) and len(asked) > 1:  # one bad prompt must not cost its neighbours
                return [verdict for one in asked for verdict in self._ask([one])]
            return [Verdict(reason=str(error), truncated=prompt.truncated) for prompt in prompts]
        checked = [
            verdict._replace(truncated=prompt.truncated) if math.isfinite(verdict.logit_gap) or verdict.reason
            else Verdict(reason="the judge server gave a number that is not finite", truncated=prompt.truncated)
            for verdict, prompt in zip(verdicts, prompts, strict=True)
        ]  # fmt: skip
        if self.cache:
            answered = zip(asked, checked, strict=True)
            self.cache.keep({self._key(pair): verdict for (pair, _), verdict in answered if not verdict.reason})
        return checked

    def _key(self, pair: tuple[str, str]) -> tuple[str, ...]:
        """Everything that decides a verdict; a request's size and the order of the servers do not."""
        servers = " ".join(sorted(self.back_end.transport.urls))
        way = (self.back_end.identity, self.found, servers)
        return (*way, self.model, self.prompt.identity, str(self.max_tokens), *pair)


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
