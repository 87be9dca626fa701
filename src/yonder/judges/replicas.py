"""The same judge on several devices: questions are dealt out among the copies, which work side by side."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from yonder.judges.local import LocalJudge
from yonder.rewards.judge import Verdict


class Replicas:
    """Copies of one local judge, each on its own device."""

    def __init__(self, copies: Sequence[LocalJudge]) -> None:
        self.copies = copies
        self.prompt = copies[0].prompt

    @property
    def tokens_read(self) -> int:
        """Tokens of prompts so far, without pads."""
        return sum(copy.tokens_read for copy in self.copies)

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """One verdict a pair, in order. Responses to one question go to one copy."""
        parts = deal(pairs, len(self.copies))
        with ThreadPoolExecutor(len(self.copies)) as pool:
            found = list(pool.map(LocalJudge.verdicts, self.copies, [[pairs[i] for i in rows] for rows in parts]))
        out = [Verdict()] * len(pairs)
        for rows, verdicts in zip(parts, found, strict=True):
            for i, verdict in zip(rows, verdicts, strict=True):
                out[i] = verdict
        return out


def deal(pairs: Sequence[tuple[str, str]], copies: int) -> list[list[int]]:
    """Indices of the pairs for each copy: whole questions, longest first, to the copy with the least text."""
    questions: dict[str, list[int]] = {}
    for i, (question, _) in enumerate(pairs):
        questions.setdefault(question, []).append(i)

    def size(rows: Sequence[int]) -> int:
        return sum(len(pairs[i][0]) + len(pairs[i][1]) for i in rows)

    parts: list[list[int]] = [[] for _ in range(copies)]
    loads = [0] * copies
    for rows in sorted(questions.values(), key=size, reverse=True):
        least = loads.index(min(loads))
        parts[least] += rows
        loads[least] += size(rows)
    return parts
