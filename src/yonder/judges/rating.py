"""The local judge that rates: P of every rating from 1 to `scale` after its prompt, from one forward or two."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from yonder.core.judging import split_rating
from yonder.errors import ModelError
from yonder.judges.local import LocalJudge
from yonder.judges.prompt import Asked, JudgePrompt, LabelTokens, read_template, too_long
from yonder.models.loading import CausalLM, Tokenizer
from yonder.rewards.rating import Ratings

SCALE = "{scale}"


def read_rating_prompt(name: str, scale: int) -> str:
    """A shipped template or a file with {question}, {response} and perhaps {scale}, the best rating."""
    return read_template(name, ("{question}", "{response}"), (SCALE,)).replace(SCALE, str(scale))


class RatingPrompt(JudgePrompt):
    """A judge prompt with the tokens of the ratings as they follow it.

    `lead`: tokens that all ratings begin with (a space, in tokenizers that keep digits apart), which belong to the
    prompt. `first`: the token of 1, 2, ...; `goes_on`: the token that makes a 10 of a 1, where 10 is two tokens.
    """

    def __init__(self, tokenizer: Tokenizer, template: str, chat: str, scale: int) -> None:
        """ModelError where ratings cannot be told apart by a token."""
        self.scale = scale
        super().__init__(tokenizer, template, chat, ("1", str(scale)))
        self.identity = f"{self.rendered}|{self.lead}|{self.first}|{self.goes_on}"

    @property
    def read(self) -> tuple[int, ...]:
        """Every token whose probability decides a rating."""
        return self.first if self.goes_on is None else (*self.first, self.goes_on)

    @property
    def texts(self) -> tuple[str, ...]:
        """How these are written."""
        return tuple(cast(str, self.tokenizer.decode([token])) for token in self.read)

    @property
    def room(self) -> int:
        """Tokens that stand behind the prompt where they are read."""
        return len(self.lead) + (self.goes_on is not None)

    def asked(self, question: str, response: str, limit: int) -> Asked:
        """The prompt with what all ratings begin with, for servers."""
        found = super().asked(question, response, limit - self.room)
        if found.reason:
            return found._replace(reason=too_long(limit))
        return found._replace(ids=(*found.ids, *self.lead), text=found.text + (self._space if self.lead else ""))

    def behind_one(self, asked: Asked) -> Asked:
        """The same with a 1 behind it, of which the next token may make a 10."""
        text = asked.text + ("" if self.lead else self._space) + "1"
        return asked._replace(ids=(*asked.ids, self.first[0]), text=text)

    def _labels(self, tail: str, labels: tuple[str, str], every_spelling: bool) -> LabelTokens:
        """Resolves the ratings; there are no other labels."""
        self._space = "" if self.chat or tail[-1:].isspace() else " "
        written = [self._after(tail, f"{self._space}{rating}") for rating in range(1, self.scale + 1)]
        shared = 0
        while all(len(ids) > shared + 1 and ids[shared] == written[0][shared] for ids in written):
            shared += 1
        self.lead = tuple(written[0][:shared])
        rest = [ids[shared:] for ids in written]
        split = self.scale == 10 and len(rest[-1]) == 2 and rest[-1][0] == rest[0][0]
        self.goes_on = rest[-1][1] if split else None
        single = rest[:-1] if split else rest
        self.first = tuple(ids[0] for ids in single)
        if any(len(ids) != 1 for ids in single) or len(set(self.first)) < len(single):
            raise ModelError("the judge's tokenizer does not write each rating as one token; use another judge")
        return LabelTokens((), (), (), ())

    def _after(self, tail: str, text: str) -> list[int]:
        """The tokens of a text right after the tail; alone where the two would merge."""
        before, whole = self._encode(tail), self._encode(tail + text)
        return whole[len(before) :] if whole[: len(before)] == before else self._encode(text)

    def sentence(self) -> str:
        """What is read, and after which words."""
        how = f"10 as 1 and then token {self.goes_on}" if self.goes_on is not None else "each one token"
        return f"reads the ratings 1 to {self.scale}, {how}"


class LocalRater(LocalJudge):
    """Rates (question, response) pairs with a causal language model in this process."""

    prompt: RatingPrompt

    def __init__(self, model: CausalLM, prompt: RatingPrompt, max_tokens: int, batch_tokens: int | None) -> None:
        super().__init__(model, prompt, max_tokens, batch_tokens, "auto")

    def ratings(self, pairs: Sequence[tuple[str, str]]) -> list[Ratings]:
        """The ratings of each pair, in order. A 10 of two tokens takes a second forward, behind the 1."""
        room = self.max_tokens - self.prompt.room
        encoded = [self.prompt.tokens(question, response, room) for question, response in pairs]
        asked = [i for i, (ids, _) in enumerate(encoded) if ids]
        sequences = [[*encoded[i][0], *self.prompt.lead] for i in asked]
        found = self._probabilities(sequences, self.prompt.first)
        if self.prompt.goes_on is not None:
            behind = self._probabilities([[*ids, self.prompt.first[0]] for ids in sequences], (self.prompt.goes_on,))
            found = [with_ten(first, more[0]) for first, more in zip(found, behind, strict=True)]
        out = [Ratings(truncated=True, reason=too_long(self.max_tokens)) for _ in pairs]
        for i, probabilities in zip(asked, found, strict=True):
            out[i] = Ratings(tuple(probabilities), encoded[i][1])
        return out

    def _probabilities(self, sequences: list[list[int]], tokens: Sequence[int]) -> list[list[float]]:
        """P of each of `tokens` after each sequence, float32."""
        self.tokens_read += sum(map(len, sequences))
        found: list[list[float]] = [[] for _ in sequences]
        for rows, last in self._passes(sequences):
            for row, probabilities in zip(rows, self._shares(last, tokens).tolist(), strict=True):
                found[row] = probabilities
        return found

    @torch.no_grad()
    def _shares(self, last: Tensor, tokens: Sequence[int]) -> Tensor:
        logits = self.trunk.head(last).float()
        return (logits[:, list(tokens)] - logits.logsumexp(-1, keepdim=True)).exp()


def with_ten(first: list[float], goes_on: float) -> list[float]:
    """Probabilities of "1", "2", ..., "9" with that of 10, P("0" | "1") being `goes_on`."""
    one, ten = split_rating(first[0], goes_on)
    return [one, *first[1:], ten]
