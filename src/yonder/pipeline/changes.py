"""What changed between a stage's record and the recipe at hand, and whether an unfinished stage goes on with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from yonder.errors import RecipeError
from yonder.recipe.stages import StageSettings

LONGEST = 40  # characters of a value in a sentence
MOST = 6  # changes in a sentence
ANEW = {
    "distill": (
        "policy", "reference", "algorithm", "epochs", "terms", "ppo.value_per_term", "monitor.probe", "monitor.window",
        "refit", "follow",
    ),
    "warmup": ("policy",),
    "fit-judge": (
        "model", "tokenizer", "output", "loss", "margin", "pairs", "lora", "responses", "data", "negatives", "held_out",
        "balance", "prompt",
    ),
}  # fmt: skip
"""Settings by kind of stage of which a checkpoint is made: it cannot be gone on from with others. Stages of other kinds
have no checkpoint; rows made under two recipes would stand in one file."""
ANEW_FOR_ALL = ("seed", "task", "policy.model", "policy.tokenizer", "results of")


class Made(NamedTuple):
    """What a stage is made from."""

    hash: str
    of: dict[str, Any]  # as it is recorded: without secrets


def difference(old: object, new: object) -> dict[str, list[Any]]:
    """Dotted key -> [old, new] where two records differ; a value that one of them lacks is `(none)`."""
    before, after = _flat(old), _flat(new)
    keys = [*after, *(key for key in before if key not in after)]
    found = {key: [before.get(key, "(none)"), after.get(key, "(none)")] for key in keys}
    return {key: pair for key, pair in found.items() if pair[0] != pair[1]}


def shown(changes: Mapping[str, list[Any]]) -> str:
    """Changes for a sentence."""
    texts = [f"{key.replace(' of.', ' of ')}: {_short(old)} -> {_short(new)}" for key, (old, new) in changes.items()]
    more = [f"and {len(texts) - MOST} more"] if len(texts) > MOST else []
    return "; ".join([*texts[:MOST], *more]) or "in a secret"


def has_work(folder: Path) -> bool:
    """Whether an unfinished stage has anything that would have to be made again."""
    files = ("responses.jsonl", "answers.jsonl", "read.jsonl", "evaluations.jsonl")
    return any((folder / name).is_file() for name in files) or any((folder / "checkpoints").glob("step-*"))


def goes_on(stage: StageSettings, folder: Path, known: Mapping[str, Any], changes: Mapping[str, list[Any]]) -> bool:
    """Whether a changed stage can go on from its checkpoint: it is unfinished, and none of what the checkpoint is made
    of changed."""
    if known.get("status") == "done" or not has_work(folder) or stage.kind not in ANEW or not known.get("made_from"):
        return False
    fixed = [*ANEW_FOR_ALL, *(f"stages.{stage.name}.{name}" for name in ANEW[stage.kind])]
    if stage.kind == "fit-judge":  # held-out questions could have been trained on
        fixed += ["data", "contents of"]
    return not any(key == name or key.startswith(f"{name}.") for key in changes for name in fixed)


def refuse_changes(stage: StageSettings, folder: Path, known: Mapping[str, Any], made_from: dict[str, Any]) -> None:
    """Raise RecipeError for a stage that is unfinished and was begun with something else."""
    if not known or known.get("status") == "done" or not has_work(folder):
        return
    changes = difference(known.get("made_from"), made_from)
    then = "goes on" if goes_on(stage, folder, known, changes) else "is set aside and begun anew"
    raise RecipeError(
        f"stage {stage.name} is unfinished and was begun with something else ({shown(changes)}); undo that, change "
        f"output_dir, or add --allow-changes, with which it {then}"
    )


def _flat(value: object, key: str = "") -> dict[str, Any]:
    """Nested mappings, and lists of them, as one mapping with dotted keys."""
    if isinstance(value, Mapping) and value:
        parts = cast(Mapping[str, Any], value).items()
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in cast(list[Any], value)):
        parts = [(str(i), item) for i, item in enumerate(cast(list[Any], value))]
    else:
        return {} if value is None and not key else {key: value}
    found: dict[str, Any] = {}
    for name, inner in parts:
        found |= _flat(inner, f"{key}.{name}" if key else str(name))
    return found


def _short(value: Any) -> str:
    text = str(value)
    is_hash = len(text) in (16, 64) and not set(text) - set("0123456789abcdef")
    return text[:12] if is_hash else text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
