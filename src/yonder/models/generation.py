"""The in-process sampler: what several rows have in common is read once, a key-value cache, rows dropped as they end.

Every sampling setting is an argument; nothing comes from a model's generation settings. The completion mask is born
here: the tokens
of a `Completion` are exactly those that were sampled.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from yonder.core.logprobs import keep_top
from yonder.errors import ModelError
from yonder.models.cache import RoomyCache
from yonder.models.encoding import PromptEncoder
from yonder.models.policy import Policy
from yonder.protocols import Finished
from yonder.schema import Completion, Prompt, Rollout


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of one call. `temperature` None is greedy."""

    temperature: float | None
    top_p: float = 1.0
    top_k: int = 0


Points = Callable[[list[int]], Tensor]  # rows that are drawn for -> (N, 1) numbers in [0, 1), float64


@dataclass(slots=True)
class _Row:
    """One sequence while it grows."""

    prompt: int
    limit: int  # most tokens of its completion
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    finished: bool = False

    @property
    def over(self) -> bool:
        """Whether it takes no more tokens: it ended itself, or is as long as it may be."""
        return self.finished or len(self.ids) >= self.limit


class PolicySampler:
    """Samples completions from the live policy; the weights are shared with training."""

    beside = False

    def __init__(
        self,
        policy: Policy,
        encoder: PromptEncoder,
        max_completion_tokens: int,
        batch: int,
        max_total_tokens: int | None = None,
        by_prompt: bool = False,
    ) -> None:
        """`by_prompt`: each prompt of a call has random numbers of its own, whatever it is batched with; else a batch
        has them together."""
        if not policy.trunk.takes_positions:
            raise ModelError(
                f"{type(policy.model).__name__} takes no position_ids; batches of unequal prompts would be wrong"
            )
        self.policy = policy
        self.encoder = encoder
        self.max_completion_tokens = max_completion_tokens
        self.max_total_tokens = max_total_tokens
        self.batch = batch
        self.by_prompt = by_prompt

    def refresh(self, step: int) -> None:
        """Nothing: these are the weights that are trained."""

    def sample(
        self,
        prompts: Sequence[Prompt],
        samples: int,
        temperature: float | None,
        seed: int,
        top_p: float = 1.0,
        top_k: int = 0,
        first: int = 0,
        *,
        finished: Finished | None = None,
    ) -> list[Rollout]:
        """`samples` completions of each prompt, prompt by prompt; a pure function of weights, prompts, settings and
        seed.

        Prompts are batched by length. `first`: the place of the first prompt among those of a larger call, where
        groups begin to count. `finished` is told of a rollout at its last token. Raises DataError for a prompt that is
        too long.
        """
        encoded = [self.encoder.encode(prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
        each = max(1, self.batch // samples)
        settings = Sampling(temperature, top_p, top_k)
        generator = torch.Generator(device=self.policy.device).manual_seed(seed)
        done: dict[int, list[_Row]] = {}

        def rollout(i: int, row: _Row) -> Rollout:
            return Rollout(prompts[i], encoded[i], self._completion(row), group=first + i)

        for start in range(0, len(order), each):
            part = order[start : start + each]
            points = together(generator)
            if self.by_prompt:
                numbers = [own_numbers(seed, first + i, samples, self.max_completion_tokens) for i in part]
                points = apart(torch.cat(numbers).to(self.policy.device))

            def over(rows: Sequence[_Row], part: Sequence[int] = part) -> None:
                if finished is not None and rows:
                    finished([rollout(part[row.prompt], row) for row in rows])

            for row in self._generate([encoded[i] for i in part], samples, settings, points, over):
                done.setdefault(part[row.prompt], []).append(row)
        return [rollout(i, row) for i in range(len(prompts)) for row in done[i]]

    def _limit(self, prompt: tuple[int, ...]) -> int:
        total = self.max_total_tokens
        return (
            self.max_completion_tokens
            if total is None
            else max(1, min(self.max_completion_tokens, total - len(prompt)))
        )

    def _completion(self, row: _Row) -> Completion:
        return Completion(tuple(row.ids), tuple(row.logprobs), self.encoder.decode(row.ids), row.finished)

    @torch.no_grad()
    def _generate(
        self,
        prompts: list[tuple[int, ...]],
        samples: int,
        settings: Sampling,
        points: Points,
        over: Callable[[Sequence[_Row]], None],
    ) -> list[_Row]:
        """One batch to the end; `over` is told of rows that took their last token. The cache is left-padded; a row that
        ended stays until a quarter of the rows did."""
        rows = [_Row(prompt, self._limit(ids)) for prompt, ids in enumerate(prompts) for _ in range(samples)]
        of = {i: row.prompt for i, row in enumerate(rows)}  # the beginning in the cache that each row goes on from
        with self.policy.mixed_precision():
            cache, logits, mask = self._prefill(prompts)
            live = list(of)  # rows that numbers are drawn for
            for _ in range(max(row.limit for row in rows)):
                from_ = [of.get(row, 0) for row in live]
                ids, logprobs = (x.tolist() for x in choose(logits.float(), settings, partial(points, live), from_))
                over(self._append(rows, live, ids, logprobs))
                going = {row: token for row, token in zip(live, ids, strict=True) if not rows[row].over}
                if not going:
                    break
                if len(going) <= 0.75 * len(live):
                    live = list(going)
                tokens, mask, of = go_on(going, of, cache, mask)
                logits = self._step(tokens, mask, cache)
        return rows

    def _prefill(self, prompts: list[tuple[int, ...]]) -> tuple[RoomyCache, Tensor, Tensor]:
        """Run each prompt once, left-padded."""
        width = max(len(ids) for ids in prompts)
        device = self.policy.device
        tokens = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.zeros(len(prompts), width, dtype=torch.long)
        for i, ids in enumerate(prompts):
            tokens[i, width - len(ids) :] = torch.tensor(ids)
            mask[i, width - len(ids) :] = 1
        tokens, mask = tokens.to(device), mask.to(device)
        cache = RoomyCache()
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        hidden = self.policy.trunk.hidden(tokens, mask, position_ids=positions, past_key_values=cache, use_cache=True)
        return cache, self.policy.trunk.head(hidden[:, -1]), mask

    def _step(self, ids: Tensor, mask: Tensor, cache: RoomyCache) -> Tensor:
        positions = (mask.sum(-1, keepdim=True) - 1).clamp(max=self.encoder.context - 1)  # rows that are over go on
        hidden = self.policy.trunk.hidden(
            ids.unsqueeze(-1), mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        return self.policy.trunk.head(hidden[:, -1])

    def _append(self, rows: list[_Row], live: list[int], ids: list[int], logprobs: list[float]) -> list[_Row]:
        """Add a token to each row that goes on; returns those that are over with it."""
        last: list[_Row] = []
        for row_index, token, logprob in zip(live, ids, logprobs, strict=True):
            row = rows[row_index]
            if row.over:
                continue
            row.ids.append(token)
            row.logprobs.append(logprob)
            row.finished = token in self.encoder.end_ids or self.encoder.stopped(row.ids)
            if row.over:
                last.append(row)
        return last


def together(generator: torch.Generator) -> Points:
    """One generator for all rows."""
    return lambda rows: torch.rand(len(rows), 1, generator=generator, device=generator.device, dtype=torch.float64)


def apart(numbers: Tensor) -> Points:
    """Numbers of each row's own, one after the other. (rows, tokens)."""
    columns = iter(numbers.split(1, -1))
    return lambda rows: next(columns)[torch.tensor(rows, device=numbers.device)]


def own_numbers(seed: int, prompt: int, samples: int, tokens: int) -> Tensor:
    """The random numbers of one prompt, (samples, tokens), float64: the same on every device."""
    generator = torch.Generator().manual_seed(random.Random(f"{seed}/{prompt}").getrandbits(63))
    return torch.rand(samples, tokens, generator=generator, dtype=torch.float64)


def go_on(
    tokens: Mapping[int, int], of: Mapping[int, int], cache: RoomyCache, mask: Tensor
) -> tuple[Tensor, Tensor, dict[int, int]]:
    """The next token of each beginning in the cache, its mask with it, and which beginning each row then goes on from.

    tokens: of each row that goes on; of: the beginning that it went on from. Rows that wrote the same stay one. Nothing
    moves in the cache as long as no beginning splits and three quarters of them go on.
    """
    number: dict[tuple[int, int], int] = {}
    for row, token in tokens.items():
        number.setdefault((of[row], token), len(number))
    parents, written = [parent for parent, _ in number], [token for _, token in number]
    if len(set(parents)) == len(parents) and len(parents) > 0.75 * mask.shape[0]:
        ids = [0] * mask.shape[0]  # of those that are over: anything
        for parent, token in number:
            ids[parent] = token
        following = {row: of[row] for row in tokens}
    else:
        ids, index = written, torch.tensor(parents, device=mask.device)
        cache.batch_select_indices(index)
        mask = mask[index]
        following = {row: number[of[row], token] for row, token in tokens.items()}
    mask = torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1)
    return torch.tensor(ids, device=mask.device), mask, following


def choose(
    logits: Tensor, settings: Sampling, points: Callable[[], Tensor], of: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """The next token of each row and its log-prob at the sampling temperature (before top-p and top-k). `points`: a
    random number for each row, (R, 1); `of`: the logits that each row is drawn from, None: its own. (N, V) -> (R,),
    (R,)."""
    rows = torch.tensor(range(logits.shape[0]) if of is None else of, device=logits.device)
    if settings.temperature is None:
        ids = logits.argmax(-1)[rows]
        return ids, torch.log_softmax(logits, -1)[rows, ids]
    logits = logits / settings.temperature
    kept = keep_top(logits, settings.top_k, settings.top_p)
    ids = draw(kept.softmax(-1), points(), range(logits.shape[0]) if of is None else of)
    return ids, torch.log_softmax(logits, -1)[rows, ids]


def draw(probabilities: Tensor, points: Tensor, of: Sequence[int]) -> Tensor:
    """An index for each row by the inverse of the cumulative distribution that it is drawn from: one random number a
    row, not one an entry. (N, V), (R, 1) -> (R,)."""
    mass = probabilities.double().cumsum(-1)
    total = mass[:, -1:].contiguous()
    last = torch.searchsorted(mass, total)  # the first index that reaches the total: nothing beyond it has mass
    seen = [0] * mass.shape[0]
    column = [0] * len(of)  # of each row among those of its distribution
    for row, number in enumerate(of):
        column[row], seen[number] = seen[number], seen[number] + 1
    at = (torch.tensor(of, device=mass.device), torch.tensor(column, device=mass.device))
    asked = mass.new_zeros(mass.shape[0], max(seen))
    asked[at] = points.squeeze(-1) * total.squeeze(-1)[at[0]]
    return torch.minimum(torch.searchsorted(mass, asked, right=True), last)[at]
