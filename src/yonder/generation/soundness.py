"""Whether a decoder writes what the trainer says that it writes: a trial at the start of a run."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from yonder.generation.decoding import Decoder, Row
from yonder.generation.drawing import Apart, Sampling
from yonder.generation.dynamic import prefill
from yonder.models.encoding import PromptEncoder
from yonder.models.padding import right_pad
from yonder.models.policy import Policy
from yonder.models.sharing import windowed

KERNELS = ("sdpa", "eager")  # of attention, that take any mask
PROMPTS = ((1, 2, 3, 4, 5), (6, 7, 8), (9, 10, 11, 12))  # of the trial
TOKENS, FEW, EACH = 20, 6, 6  # of a row, of half of the rows, rows of a prompt: so many that rows leave on the way
# of a model's code, a missing compiler or kernel
FAULTS = (
    RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, NameError, ArithmeticError,
    ImportError, OSError,
)  # fmt: skip
APART = 0.1  # nats: log-probs that differ by less are the same


def refusal(policy: Policy, encoder: PromptEncoder, static: Decoder) -> str | None:
    """Why the model does not write with a cache of fixed size what the trainer says it writes; None if it does.

    Windows of attention are longer than what is tried, so the configuration is asked about them.
    """
    name, kernel = type(policy.model).__name__, policy.trunk.attention
    if policy.home is not None:
        return "its weights move between devices"
    if windowed(policy.trunk):
        return f"{name} attends to a window of the last tokens"
    if rotates_together(policy.trunk.model.config.get_text_config()):
        return f"{name} turns all rows by the longest one's position"
    if kernel not in KERNELS:
        return f"attention by {kernel} takes no mask of its own"
    try:
        with torch.no_grad():
            gap = _gap(policy, encoder.context, static)
    except torch.OutOfMemoryError:
        raise
    except FAULTS as error:
        return f"{name} does not run with it ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    return None if gap <= APART else f"{name} gives other log-probs with it, {gap:.2f} nats a token apart"


class Endless(Row):
    """A row that nothing but its limit ends."""

    def add(self, token: int, logprob: float, encoder: PromptEncoder) -> bool:
        """See `Row.add`."""
        super().add(token, logprob, encoder)
        self.finished = False
        return len(self.ids) == self.limit


def rotates_together(config: Any) -> bool:
    """Whether rotary frequencies of all rows depend on the largest position among them, also of rows that are over."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [found, *(value for value in found.values() if isinstance(value, dict))]  # one for each kind of layer
    return any(kind.get("rope_type", kind.get("type")) in ("longrope", "dynamic") for kind in kinds)


def _gap(policy: Policy, context: int, decoder: Decoder) -> float:
    """Largest difference of a row's log-probs, the decoder's and the trainer's, nats a token, in two calls of which the
    second finds a room that was used. A first token says nothing: it does not come from the cache."""
    tokens = max(3, min(TOKENS, context - max(map(len, PROMPTS))))
    worst = 0.0
    for seed in (0, 1):
        limits = (min(FEW, tokens), tokens)
        rows = [Endless(prompt, limits[i % 2]) for prompt in range(len(PROMPTS)) for i in range(EACH)]
        numbers = torch.rand(len(rows), tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with policy.mixed_precision():
            spread = max(1e-3, float(prefill(policy, PROMPTS)[1].float().std()))  # at this temperature nothing is flat
            decoder.decode(PROMPTS, rows, Sampling(spread), Apart(numbers.to(policy.device)), nobody)
        ids, mask = right_pad([[*PROMPTS[row.prompt], *row.ids] for row in rows], policy.device)
        written, _ = right_pad([[1] * len(row.ids) for row in rows], policy.device)
        starts = torch.tensor([len(PROMPTS[row.prompt]) for row in rows], device=policy.device)
        theirs = policy(ids, mask, starts, written, spread).logprobs.tolist()
        for row, found in zip(rows, theirs, strict=True):
            gaps = [abs(a - b) for a, b in zip(row.logprobs[1:], found[1:], strict=False)]
            worst = max(worst, sum(gaps) / len(gaps))
            if not math.isfinite(sum(gaps)):
                return math.inf
    return worst


def nobody(rows: Sequence[Row]) -> None:
    """Nobody is told."""
