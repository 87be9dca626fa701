"""Steps whose loss or gradient is not finite: skipped, counted, and after several in a row the end, with a dump."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from yonder.errors import NotFinite, TrainingError
from yonder.training.batch import Batch
from yonder.training.parts import Records
from yonder.training.rollout import StreamRollouts, StreamScores, Term, rollout_row


@dataclass(slots=True)
class Skips:
    """Counts the steps that were not made; resumable. Weights and optimizer are then as before, so training goes on.

    Neither paper says what to do about them; three in a row as the limit is ours.
    """

    most: int  # in a row, at which it is over
    total: int = 0
    in_row: int = 0

    def made(self) -> None:
        """A step was made."""
        self.in_row = 0

    def skipped(self) -> bool:
        """A step was skipped; True when there were too many in a row."""
        self.total += 1
        self.in_row += 1
        return self.in_row >= self.most

    def state(self) -> dict[str, int]:
        """Plain values for a checkpoint."""
        return {"total": self.total, "in_row": self.in_row}

    def load_state(self, state: dict[str, int]) -> None:
        """Continue from a state."""
        self.total, self.in_row = state["total"], state["in_row"]


def give_up(name: str, step: int, skips: Skips, error: NotFinite, recorder: Records, facts: dict[str, Any]) -> None:
    """Write the dump and raise TrainingError with its name. `facts`: what the last of the steps was made from."""
    numbers = {"step": step, "loss": repr(error.loss), "grad_norm": repr(error.norm), "skipped_in_a_row": skips.in_row}
    path = recorder.dump(f"not-finite-{step:08d}.json", numbers | facts)
    raise TrainingError(
        f"{name}, step {step}: {error}, {skips.in_row} steps in a row; lower `optimizer.lr` or use float32 "
        f"({path} has what the last of them was made from)"
    )


def batch_facts(
    batch: Batch, rollouts: StreamRollouts, scores: StreamScores, terms: Sequence[Term], step: int
) -> dict[str, Any]:
    """Every rollout of a batch with its scores and the range of each number that the loss reads."""
    rows: list[dict[str, Any]] = []
    for stream, members in rollouts.items():
        given = {reward: found for (reward, of), found in scores.items() if of == stream}
        for i, rollout in enumerate(members):
            row = rollout_row(step, stream, rollout, {name: found[i] for name, found in given.items()})
            rows.append(row | {"numbers": _row_numbers(batch, len(rows), terms)})
    return {"terms": {term.name: term.weight for term in terms}, "rollouts": rows}


def _row_numbers(batch: Batch, row: int, terms: Sequence[Term]) -> dict[str, Any]:
    kept = batch.completion_mask[row].bool()
    per_token = {
        name: _range(getattr(batch, name)[row][kept])
        for name in ("rollout_logprobs", "old_logprobs", "reference_logprobs")
    }
    per_term = {
        term.name: {
            "scored": bool(batch.scored[row, k]),
            "reward": repr(float(batch.scores[row, k])),
            **{name: _range(getattr(batch, name)[row, :, k][kept]) for name in ("advantages", "returns", "old_values")},
        }
        for k, term in enumerate(terms)
    }
    return per_token | per_term


def _range(values: Tensor) -> list[str]:
    """Smallest and largest value as text, since JSON has no inf and nan; both are nan where one is."""
    return [repr(float(values.min())), repr(float(values.max()))] if values.numel() else []
