"""AlpacaEval's files: outputs of a model, annotations of a judge, and the gamed baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from yonder.core.length_control import Gamed, WinRate, win_rate
from yonder.data.files import read_rows
from yonder.errors import DataError
from yonder.recipe.alpaca_eval import AlpacaEvalStage
from yonder.rewards.preference import Preference
from yonder.schema import Prompt, Rollout

INSTRUCTIONS = 805  # of the whole benchmark
_GAMED = ("preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline")


class Answered(NamedTuple):
    """One row of `model_outputs.json`."""

    instruction: str
    output: str
    generator: str
    dataset: str


def read_outputs(path: str) -> list[Answered]:
    """A model's outputs in the package's format; DataError names the row that cannot be used."""
    rows = read_rows(path)
    if not rows:
        raise DataError(f"{path} is empty; give the outputs of a baseline")
    found: list[Answered] = []
    for row in rows:
        for key in ("instruction", "output"):
            if not isinstance(row.values.get(key), str):
                raise DataError(f"{row.where}: `{key}` is missing or no text; write instruction, output and generator")
        more = [str(row.values.get(key) or "") for key in ("generator", "dataset")]
        found.append(Answered(row.values["instruction"], row.values["output"], more[0] or "baseline", more[1]))
    if len({one.generator for one in found}) > 1:
        raise DataError(f"{path} has outputs of several generators; give those of one")
    return found


def read_gamed(path: str) -> Gamed:
    """The rows of `df_gamed.csv`; DataError for another file."""
    rows = read_rows(path)
    missing = [name for name in _GAMED if not rows or name not in rows[0].values]
    if missing:
        raise DataError(f"{path} has no column `{missing[0]}`; give df_gamed.csv of tatsu-lab/alpaca_eval")
    kept = [row.values for row in rows if str(row.values["not_gamed_baseline"]).lower() in ("false", "0", "0.0")]

    def column(name: str) -> list[float]:
        return [float(values[name]) for values in kept]

    try:
        return Gamed(
            preference=np.array(column("preference")),
            index=np.array(column("index")).astype(np.int64),
            std_delta_len=np.array(column("std_delta_len")),
            difficulty=np.array(column("instruction_difficulty")),
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}; give df_gamed.csv of tatsu-lab/alpaca_eval") from error


def read_inputs(stage: AlpacaEvalStage) -> tuple[list[Answered], Gamed | None]:
    """The baseline's outputs, and the gamed rows where they are given. DataError where they don't fit together."""
    baseline = read_outputs(stage.baseline)
    whole = len(baseline) == INSTRUCTIONS and stage.limit is None
    if stage.gamed is not None and not whole:
        raise DataError(
            f"stages.{stage.name}.gamed: its difficulties belong to the {INSTRUCTIONS} instructions in their order; "
            "leave `gamed` out with another number, and `limit` out with it"
        )
    return baseline[: stage.limit], None if stage.gamed is None else read_gamed(stage.gamed)


def model_outputs(rollouts: Sequence[Rollout], baseline: Sequence[Answered], generator: str) -> list[dict[str, Any]]:
    """Rows of `model_outputs.json`; `finished` is ours, the package leaves it alone."""
    return [
        {
            "dataset": of.dataset,
            "instruction": of.instruction,
            "output": rollout.response.strip(),
            "generator": generator,
            "finished": rollout.completion.finished,
        }
        for rollout, of in zip(rollouts, baseline, strict=True)
    ]


def annotation_rows(
    baseline: Sequence[Answered], ours: Sequence[Mapping[str, Any]], preferences: Sequence[Preference], annotator: str
) -> list[dict[str, Any]]:
    """Rows of `annotations.json`: output_1 is the baseline's, `preference` 1 + P(ours is better), null if not judged.

    `preferences`: of our output over the baseline's. `bias`, `mass` and `reason` are ours.
    """
    return [
        {
            "instruction": of.instruction,
            "output_1": of.output,
            "generator_1": of.generator,
            "dataset": of.dataset,
            "output_2": our["output"],
            "generator_2": our["generator"],
            "annotator": annotator,
            "preference": None if found.value is None else 1 + found.value,
            "bias": found.bias,
            "mass": found.mass,
            "truncated": found.truncated,
            "bounded": found.bounded,
            "reason": found.reason,
        }
        for of, our, found in zip(baseline, ours, preferences, strict=True)
    ]


def figures(rows: Sequence[Mapping[str, Any]], gamed: Gamed | None) -> dict[str, Any]:
    """Win rates from annotations, with what made them; null where too little was judged."""
    preferences = [None if row["preference"] is None else row["preference"] - 1 for row in rows]
    lengths = [(len(row["output_1"]), len(row["output_2"])) for row in rows]
    biases = [row["bias"] for row in rows if row["bias"] is not None]
    reasons = [row["reason"] for row in rows if row["preference"] is None]
    try:
        found: WinRate | None = win_rate(preferences, lengths, gamed)
    except ValueError as error:
        found, reasons = None, [*reasons, str(error)]
    names = ("win_rate", "standard_error", "wins", "losses", "draws", "n", "length_controlled", "model")
    return {
        **{name: getattr(found, name, None) for name in (*names, "length_controlled_error")},
        "instructions": len(rows),
        "unjudged": preferences.count(None),
        "reasons": sorted(set(reasons))[:5],
        "position_bias": float(np.mean(biases)) if biases else None,
        "length": float(np.mean([ours for _, ours in lengths])),
        "baseline_length": float(np.mean([theirs for theirs, _ in lengths])),
    }


def prompts_of(baseline: Sequence[Answered], chat: bool) -> list[Prompt]:
    """The instructions as the policy reads them."""
    return [
        Prompt(
            f"alpaca-{i}", one.instruction, one.instruction if chat else one.instruction + "\n", category=one.dataset
        )
        for i, one in enumerate(baseline)
    ]


def sentence(found: Mapping[str, Any]) -> str:
    """The figures in words."""
    if found["win_rate"] is None:
        return f"not measured: {'; '.join(found['reasons'])}"
    bias = "" if found["position_bias"] is None else f", position bias {found['position_bias']:+.2f}"
    unjudged = f", {found['unjudged']} not judged" if found["unjudged"] else ""
    return (
        f"win rate {found['win_rate']:.1f} % (standard error {found['standard_error']:.1f}) of {found['n']}{unjudged}, "
        f"length-controlled {found['length_controlled']:.1f} % ({found['model']}){bias}, "
        f"{found['length']:.0f} characters, the baseline's {found['baseline_length']:.0f}"
    )
