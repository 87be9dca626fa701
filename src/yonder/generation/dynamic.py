"""A decoder whose cache grows: rows that have written the same so far are one, rows that are over leave. The host looks
at every token, so it is for devices on which that costs nothing."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from yonder.generation.cache import RoomyCache
from yonder.generation.decoding import Over, Row, left_pad
from yonder.generation.drawing import Numbers, Sampling, choose
from yonder.models.encoding import PromptEncoder
from yonder.models.policy import Policy


class DynamicDecoder:
    """A `decoding.Decoder`. The cache is left-padded; a row that ended stays until a quarter of the rows did."""

    longest_first = False

    def __init__(self, policy: Policy, encoder: PromptEncoder) -> None:
        self.policy = policy
        self.encoder = encoder

    def decode(
        self, prompts: Sequence[tuple[int, ...]], rows: Sequence[Row], settings: Sampling, numbers: Numbers, over: Over
    ) -> None:
        """See `decoding.Decoder`."""
        of = {i: row.prompt for i, row in enumerate(rows)}  # the beginning in the cache that each row goes on from
        cache, logits, mask = prefill(self.policy, prompts)
        live = list(of)  # rows that numbers are drawn for
        for _ in range(max(row.limit for row in rows)):
            from_ = [of.get(row, 0) for row in live]
            drawn = choose(logits.float(), settings, partial(numbers.some, live), from_)
            ids, logprobs = (x.tolist() for x in drawn)
            written = zip(live, ids, logprobs, strict=True)
            last = [rows[i] for i, token, logprob in written if rows[i].add(token, logprob, self.encoder)]
            if last:
                over(last)
            going = {row: token for row, token in zip(live, ids, strict=True) if not rows[row].over}
            if not going:
                break
            if len(going) <= 0.75 * len(live):
                live = list(going)
            tokens, mask, of = go_on(going, of, cache, mask)
            logits = self._step(tokens, mask, cache)

    def rest(self) -> None:
        """Nothing is kept."""

    def _step(self, ids: Tensor, mask: Tensor, cache: RoomyCache) -> Tensor:
        positions = (mask.sum(-1, keepdim=True) - 1).clamp(max=self.encoder.context - 1)  # rows that are over go on
        hidden = self.policy.trunk.hidden(
            ids.unsqueeze(-1), mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        return self.policy.trunk.head(hidden[:, -1])


def prefill(policy: Policy, prompts: Sequence[Sequence[int]]) -> tuple[RoomyCache, Tensor, Tensor]:
    """Each prompt once, left-padded: keys and values, logits of the next token (B, V), mask (B, W)."""
    tokens, mask = left_pad(prompts, policy.device)
    cache = RoomyCache()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    hidden = policy.trunk.hidden(tokens, mask, position_ids=positions, past_key_values=cache, use_cache=True)
    return cache, policy.trunk.head(hidden[:, -1]), mask


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
    more = [1] * len(parents)
    if len(set(parents)) == len(parents) and len(parents) > 0.75 * mask.shape[0]:
        ids, more = [0] * mask.shape[0], [0] * mask.shape[0]  # those that are over: anything, and no position further
        for parent, token in number:
            ids[parent], more[parent] = token, 1
        following = {row: of[row] for row in tokens}
    else:
        ids, index = written, torch.tensor(parents, device=mask.device)
        cache.batch_select_indices(index)
        mask = mask[index]
        following = {row: number[of[row], token] for row, token in tokens.items()}
    mask = torch.cat([mask, mask.new_tensor(more).unsqueeze(1)], dim=1)
    return torch.tensor(ids, device=mask.device), mask, following
