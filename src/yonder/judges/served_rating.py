"""Raters on servers: the ratings' probabilities from the next token's log-probs, or from sampled ratings.

What a server does not show of the ratings counts as no probability: the mass that is seen is smaller by it.
"""

import math
import re
from collections.abc import Sequence
from typing import Protocol

from yonder.errors import ModelError
from yonder.judges.cache import AnswerCache
from yonder.judges.openai import ChatReader, VotesReader, alternatives
from yonder.judges.prompt import TAIL_SHOWN, Asked, WrittenPrompt
from yonder.judges.rating import RatingPrompt, with_ten
from yonder.judges.served import BackEnd, Served, ServedPrompt
from yonder.rewards.rating import Ratings
from yonder.transport import Transport

UNSEEN = "no rating is among the log-probs that the judge server returned"
NUMBER = re.compile(r"[^\w-]*(\d+)(?![.,]?\d)")  # the number that an answer begins with: 8, "8.", 8/10; not 8.5, not -8


class ServedRater(Served[Ratings]):
    """A judge on a server that rates."""

    def __init__(
        self, prompt: ServedPrompt, back_end: BackEnd[Ratings], max_tokens: int, cache: AnswerCache[Ratings] | None,
        model: str = "",
    ) -> None:  # fmt: skip
        super().__init__(Ratings, prompt, back_end, max_tokens, cache, model)

    def ratings(self, pairs: Sequence[tuple[str, str]]) -> list[Ratings]:
        """The ratings of each pair, in order."""
        return self.take(pairs)


class TokenReader(Protocol):
    """One kind of server, asked for the log-probs of known tokens."""

    transport: Transport
    batch: int
    identity: str

    def probe(self) -> str:
        """Find out what the server can do; returns one sentence."""
        ...

    def logprobs(self, prompts: Sequence[Asked]) -> list[dict[int, float]]:
        """Those that the server shows after each prompt, by token."""
        ...


class TokenRatings:
    """A `BackEnd` over the tokens of the ratings. A 10 of two tokens takes a second request, behind the 1."""

    def __init__(self, reader: TokenReader, prompt: RatingPrompt) -> None:
        """`reader` reads the tokens `prompt.read`."""
        self.reader = reader
        self.prompt = prompt
        self.transport, self.batch, self.identity = reader.transport, reader.batch, reader.identity

    def probe(self) -> str:
        """The reader's."""
        return self.reader.probe()

    def ask(self, prompts: Sequence[Asked]) -> list[Ratings]:
        """The ratings after each prompt."""
        found = [self._shares(shown, self.prompt.first) for shown in self.reader.logprobs(prompts)]
        if (goes_on := self.prompt.goes_on) is not None:
            ones = [i for i, shares in enumerate(found) if shares[0] > 0]
            behind = self.reader.logprobs([self.prompt.behind_one(prompts[i]) for i in ones]) if ones else []
            tens = {i: self._shares(shown, (goes_on,))[0] for i, shown in zip(ones, behind, strict=True)}
            found = [with_ten(shares, min(1.0, tens.get(i, 0.0))) for i, shares in enumerate(found)]
        return [Ratings(tuple(shares)) if any(shares) else Ratings(reason=UNSEEN) for shares in found]

    @staticmethod
    def _shares(shown: dict[int, float], tokens: Sequence[int]) -> list[float]:
        return [math.exp(shown[token]) if token in shown else 0.0 for token in tokens]


class ChatRatings(ChatReader):
    """A `BackEnd` over a chat API's log-probs. Ratings are matched by text; space around them does not count."""

    def __init__(self, transport: Transport, model: str, scale: int, top: int) -> None:
        super().__init__(transport, model, top)
        self.names = [str(rating) for rating in range(1, scale + 1)]

    def probe(self) -> str:
        """ModelError where no log-probs come back, or where a 10 is not one token: a chat API shows only what follows
        the token that it drew, so the 1 could not be divided."""
        best = self.names[-1]
        shown = self.first(f"Answer with the number {best} and nothing else.", "ratings")
        if len(best) > 1 and best not in [name.strip() for name, _ in shown]:
            raise ModelError(
                f"model `{self.model}` does not write {best} as one token, as far as its log-probs show; set the "
                "reward's `scale: 9`, or ask a server that takes tokens (vllm, llama-cpp)"
            )
        return f"chat API, the {self.top} largest log-probs"

    def ask(self, prompts: Sequence[Asked]) -> list[Ratings]:
        """The ratings after each prompt."""
        shown = [self.post(prompt.text, self._read) for prompt in prompts]
        return [Ratings(shares) if any(shares) else Ratings(reason=UNSEEN) for shares in shown]

    def _read(self, answer: object) -> tuple[float, ...]:
        shown = [(name.strip(), math.exp(value)) for name, value in alternatives(answer)]
        return tuple(math.fsum(p for name, p in shown if name == rating) for rating in self.names)


class SampledRatings(VotesReader):
    """A `BackEnd` for APIs without log-probs: the shares of k sampled ratings, whose mean is the rating. Costly and
    coarse. The mass is the share of answers that begin with a rating."""

    def __init__(self, transport: Transport, model: str, scale: int, votes: int) -> None:
        super().__init__(transport, model, votes)
        self.scale = scale

    def ask(self, prompts: Sequence[Asked]) -> list[Ratings]:
        """The ratings after each prompt."""
        return [self._ratings(prompt.text) for prompt in prompts]

    def _ratings(self, text: str) -> Ratings:
        given = [read_rating(answer, self.scale) for answer in self.sampled(text)]
        if not any(given):
            return Ratings(reason=f"none of {self.votes} sampled answers is a rating")
        return Ratings(tuple(given.count(rating) / self.votes for rating in range(1, self.scale + 1)))


def read_rating(answer: str, scale: int) -> int | None:
    """The whole number from 1 to `scale` that an answer begins with."""
    found = NUMBER.match(answer)
    rating = int(found[1]) if found else 0
    return rating if 1 <= rating <= scale else None


class WrittenRating(WrittenPrompt):
    """A rating prompt for a server whose tokenizer is not known."""

    def __init__(self, template: str, scale: int) -> None:
        super().__init__(template, ("1", str(scale)))
        self.scale = scale

    def sentence(self) -> str:
        """What is read, and after which words."""
        return f"reads the ratings 1 to {self.scale} after {self.template[-TAIL_SHOWN:]!r}"
