"""Endless, resumable streams of prompts."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from yonder.data.datasets import find_data, load_data, part_settings
from yonder.data.pseudo_labels import Overlay
from yonder.errors import DataError
from yonder.protocols import Stream
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.schema import Prompt

log = logging.getLogger(__name__)


class PromptStream:
    """All prompts of a data set again and again, in an order that is a pure function of (seed, name, epoch).

    No prompt comes twice within an epoch; a batch that reaches the end of an epoch goes on with the next one.
    """

    def __init__(self, prompts: Sequence[Prompt], seed: int, name: str = "data") -> None:
        """DataError where there is no prompt."""
        if not prompts:
            raise DataError(f"data.{name} has no question; a stream needs at least one")
        self.name = name
        self._prompts = prompts
        self._seed = seed
        self._epoch = 0
        self._position = 0
        self._order = self._shuffled()
        self._fingerprint = _fingerprint(prompts, seed)
        self._told = False  # that there are too few

    def next(self, count: int) -> list[Prompt]:
        """The next `count` prompts."""
        if count > len(self._prompts) and not self._told:
            self._told = True
            log.warning(
                "data.%s has %d questions for %d prompts at once: some come several times, each time as a group of its "
                "own; ask for fewer prompts, or give it more questions",
                self.name, len(self._prompts), count,
            )  # fmt: skip
        result: list[Prompt] = []
        while len(result) < count:
            if self._position == len(self._order):
                self._epoch, self._position = self._epoch + 1, 0
                self._order = self._shuffled()
            taken = self._order[self._position : self._position + count - len(result)]
            result += [self._prompts[index] for index in taken]
            self._position += len(taken)
        return result

    def state(self) -> dict[str, Any]:
        """Epoch, position in it, and the fingerprint of data and seed."""
        return {"epoch": self._epoch, "position": self._position, "fingerprint": self._fingerprint}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken. DataError if prompts, order or seed have changed, or the state is damaged."""
        _check(self.name, state, self._fingerprint)
        epoch, position = state.get("epoch"), state.get("position")
        if type(epoch) is not int or type(position) is not int or epoch < 0 or not 0 <= position <= len(self._prompts):
            raise DataError(
                f"data.{self.name}: the saved place in the data is damaged; resume from an earlier checkpoint"
            )
        self._epoch, self._position = epoch, position
        self._order = self._shuffled()

    def _shuffled(self) -> list[int]:
        order = list(range(len(self._prompts)))
        random.Random(f"{self._seed}:{self.name}:{self._epoch}").shuffle(order)
        return order


class MixtureStream:
    """Several streams in fixed shares: each draw goes to the part that is furthest behind its share, ties to the first.

    After n draws every part has had its share of n, but for less than one prompt (two parts); nothing is random.
    """

    def __init__(self, parts: Mapping[str, Stream], shares: Mapping[str, float], name: str = "mixture") -> None:
        """DataError where no part has a share."""
        total = sum(shares.values())
        self.name = name
        self._parts = {part: stream for part, stream in parts.items() if shares[part] > 0}
        if not self._parts:
            raise DataError(f"data.{name}: no part has a share; give at least one above 0")
        self._shares = {part: shares[part] / total for part in self._parts}
        self._drawn = dict.fromkeys(self._parts, 0)

    def next(self, count: int) -> list[Prompt]:
        """The next `count` prompts; ids are `part/id`."""
        turns = [self._turn() for _ in range(count)]
        drawn = {part: iter(stream.next(turns.count(part))) for part, stream in self._parts.items() if part in turns}
        return [_with_part(part, next(drawn[part])) for part in turns]

    def state(self) -> dict[str, Any]:
        """Draws so far and the states of the parts."""
        parts = {part: stream.state() for part, stream in self._parts.items()}
        return {"drawn": dict(self._drawn), "parts": parts, "fingerprint": self._fingerprint()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken. DataError if shares or parts have changed."""
        _check(self.name, state, self._fingerprint())
        for part, stream in self._parts.items():
            stream.load_state(state["parts"][part])
        self._drawn = {part: int(state["drawn"][part]) for part in self._parts}

    def _turn(self) -> str:
        draws = sum(self._drawn.values()) + 1
        part = max(self._parts, key=lambda name: round(self._shares[name] * draws - self._drawn[name], 9))
        self._drawn[part] += 1
        return part

    def _fingerprint(self) -> str:
        return hashlib.sha256(repr(sorted(self._shares.items())).encode()).hexdigest()


def build_stream(
    name: str,
    recipe_data: Mapping[str, DataSettings],
    default_task: TaskSettings,
    seed: int,
    overlay: Overlay | None = None,
) -> Stream:
    """The stream of a data set, or of a mixture over its whole parts. DataError as for `load_data`."""
    base, settings = find_data(name, recipe_data)
    if settings.mixture is None:
        return PromptStream(load_data(name, recipe_data, default_task, seed, overlay), seed, name)
    inner = part_settings(base, settings, recipe_data)
    parts = {
        part: build_stream(part, inner, default_task, seed, overlay)
        for part, share in settings.mixture.items()
        if share > 0
    }
    return MixtureStream(parts, settings.mixture, name)


def _with_part(part: str, prompt: Prompt) -> Prompt:
    return replace(prompt, id=f"{part}/{prompt.id}")


def _fingerprint(prompts: Sequence[Prompt], seed: int) -> str:
    digest = hashlib.sha256(str(seed).encode())
    for prompt in prompts:
        digest.update(repr((prompt.id, prompt.text, prompt.prefix, prompt.answer)).encode())
    return digest.hexdigest()


def _check(name: str, state: Mapping[str, Any], fingerprint: str) -> None:
    if cast(object, state.get("fingerprint")) != fingerprint:
        raise DataError(
            f"data.{name}: the questions, shares or seed are not those of the saved run; "
            "restore them, or start a new run directory"
        )
