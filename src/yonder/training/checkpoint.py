"""Checkpoints on disk: written aside and renamed, verified by hash when read, so that nothing half-written is taken
for whole."""

import hashlib
import json
import logging
import os
import pickle
import re
import shutil
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from yonder.errors import StorageError
from yonder.models.bases import note_base
from yonder.models.lora import (
    ADAPTER_FILE,
    adapter_parameters,
    load_adapter_state,
    read_adapter,
    save_adapter,
    save_merged,
)
from yonder.storage import to_disk
from yonder.training.distributed import ALONE, World
from yonder.training.divided import (
    divided,
    gathered,
    is_divided,
    load_weights,
    put_together,
    read_weights,
    taken_apart,
    write_parts,
)
from yonder.training.parts import Trainable

log = logging.getLogger("yonder")
MANIFEST = "manifest.json"
STATE = "trainer.pt"  # what a run continues from
PARTS = "parts"  # of it: what is divided over the processes, each of which writes its own
BEFORE = "before"  # ends the name of a checkpoint while another takes its place


@contextmanager
def written_whole(target: Path) -> Generator[Path]:
    """A folder to fill; it gets the name `target` only once everything in it is on disk.

    Raises StorageError when the disk is full or read-only; what stood at `target` before is then still there. Between
    the two names that it has for a moment, `put_back` finds it.
    """
    aside, before = (target.with_name(f".{target.name}.{name}") for name in ("unfinished", BEFORE))
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        hashes = {str(path.relative_to(aside)): _hash(path) for path in sorted(aside.rglob("*")) if path.is_file()}
        (aside / MANIFEST).write_text(json.dumps(hashes, indent=1))
        for path in aside.rglob("*"):
            if path.is_file():
                to_disk(path)
        if target.exists():
            target.rename(before)
        aside.rename(target)
        to_disk(target.parent)
        shutil.rmtree(before, ignore_errors=True)
    except Exception as error:
        put_back(target.parent)
        shutil.rmtree(aside, ignore_errors=True)
        reason = _of_the_system(error)
        if reason is None:
            raise
        raise StorageError(
            f"checkpoint {target} could not be written ({reason}); free disk space or change output_dir"
        ) from error


def put_back(folder: Path) -> None:
    """Give every folder its name again that was moved out of the way of one that never came; drop the others."""
    for before in folder.glob(f".*.{BEFORE}"):
        target = before.with_name(before.name.removeprefix(".").removesuffix(f".{BEFORE}"))
        if target.exists():
            shutil.rmtree(before, ignore_errors=True)
        else:
            before.rename(target)


def _of_the_system(error: BaseException) -> str | None:
    """What the operating system said of a failed write; None: some other error. torch raises an error of its own after
    it, safetensors and tokenizers have it in the text."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if number := re.search(r"\(os error (\d+)\)", str(error)):
        return os.strerror(int(number[1]))
    return None if error.__context__ is None else _of_the_system(error.__context__)


def is_whole(folder: Path, part: str = "") -> bool:
    """Whether a checkpoint, or a folder in it, has every file of its manifest with the recorded hash. One without the
    trainer's state, or without a file of the folder, is none of ours."""
    try:
        hashes = cast(dict[str, str], json.loads((folder / MANIFEST).read_text()))
        known = any(name.startswith(part or STATE) for name in hashes)
        return known and all(_hash(folder / n) == expected for n, expected in hashes.items() if n.startswith(part))
    except (OSError, ValueError, TypeError, AttributeError):  # the last two: JSON, but no table of names
        return False


def require_whole(model: Path, stage: str) -> None:
    """Raise StorageError for a model folder of a checkpoint that is not what was written; `stage`: whose it is."""
    for checkpoint in list(model.parents)[:2]:
        if checkpoint.name.startswith("step-") and not is_whole(checkpoint, model.relative_to(checkpoint).as_posix()):
            raise StorageError(
                f"the checkpoint {model} of stage {stage} is damaged; restore it from a copy, or move the folder of "
                f"the stage away and run it again"
            )


class CheckpointStore:
    """The checkpoints of one stage: `step-00000120/policy` in Hugging Face format beside `trainer.pt`, and the
    `parts` of an optimizer state that is divided over processes."""

    def __init__(self, folder: Path, keep: int, adapter_alone: bool = False, world: World = ALONE) -> None:
        """`adapter_alone`: of the policy only its adapter is written; see `merge`."""
        self.folder = folder
        self.keep = keep
        self.adapter_alone = adapter_alone
        self.world = world

    @property
    def run(self) -> Path:
        """The directory of the run: this is `stages/NAME/checkpoints` in it."""
        return self.folder / "../../.."

    def path(self, step: int, part: int = 0) -> Path:
        """Where the checkpoint of a step stands; `part`: how much of the next one is done."""
        return self.folder / (f"step-{step:08d}" + (f".{part:08d}" if part else ""))

    def save(
        self,
        step: int,
        policy: Trainable,
        state: dict[str, Any],
        best_step: int | None,
        also: Collection[int] = (),
        beside: Mapping[str, Trainable] | None = None,
        part: int = 0,
    ) -> Path:
        """Write one, then drop the oldest beyond `keep`; the best one and `also` stay. Later ones are damaged (see
        `latest`) and go too. `beside`: models in folders of their own."""
        target = self.path(step, part)
        models = {"policy": policy, **(beside or {})}
        alone = {name: self.adapter_alone and name == "policy" for name in models}
        tensors: dict[str, torch.Tensor] = {}
        rest, parts = taken_apart(state, tensors), target.with_name(f".{target.name}.{PARTS}")
        if tensors:
            write_parts(self.world, parts, tensors)
        weights = {name: self._weights(model, alone[name]) for name, model in models.items()}

        def write() -> None:
            with written_whole(target) as aside:
                if tensors:
                    parts.rename(aside / PARTS)
                for name, model in models.items():
                    save_policy(aside / name, model, alone[name], *weights[name])
                    if alone[name]:
                        note_base(aside / name, self.run)
                _save(rest, aside / STATE)
            for left in [*self.folder.glob(".step-*.unfinished"), *self.folder.glob(f".step-*.{PARTS}")]:
                shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
            found = self.all()
            here = found.index(target) + 1
            for old in [*found[: max(0, here - self.keep)], *found[here:]]:
                if old not in {self.path(kept) for kept in (best_step, *also) if kept is not None}:
                    shutil.rmtree(old, ignore_errors=True)

        self.world.one_after_first(write)
        return target

    def restore(self, checkpoint: Path, policy: Trainable, verified: bool = False) -> dict[str, Any]:
        """Put a checkpoint's weights into the policy; returns the rest. StorageError where it is damaged, as its hashes
        tell unless they are `verified` already."""
        if not (verified or is_whole(checkpoint)):
            raise StorageError(f"the checkpoint {checkpoint} to return to is damaged; delete it to fall back")
        state = load_state(checkpoint)
        load_policy_weights(checkpoint, policy)
        return state

    def merge(self, step: int, policy: Trainable) -> Path:
        """A checkpoint's adapter merged into the weights that `policy` has below its own: the model's folder, in
        `merged` beside the checkpoints."""
        target = self.folder.with_name("merged") / self.path(step).name
        load_policy_weights(self.path(step), policy)
        weights = self._weights(policy)

        def write() -> None:
            shutil.rmtree(target.parent, ignore_errors=True)
            with written_whole(target) as aside:
                save_policy(aside / "policy", policy, False, *weights)

        self.world.one_after_first(write)
        return target / "policy"

    def _weights(self, model: Trainable, adapter_alone: bool = False) -> tuple[Any, Any]:
        """Weights, or the adapter's, and those of the value head, gathered; None where the model has them at hand."""
        if not is_divided(model.model):
            return None, None
        own = adapter_parameters(model.model) if adapter_alone else model.model.state_dict(keep_vars=True)
        head = None if model.value_head is None else model.value_head.state_dict()
        return gathered(own, self.world), gathered(head, self.world)

    def all(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("step-*") if path.is_dir())

    def latest(self) -> Path | None:
        """The newest whole checkpoint; a damaged one is skipped with a warning. None: there is nothing to go on
        from."""
        return self.world.agreed(self._latest() if self.world.first else None)

    def _latest(self) -> Path | None:
        put_back(self.folder)
        found = self.all()
        for path in reversed(found):
            if is_whole(path):
                return path
            then = "starting again" if path == found[0] else "using the one before it"
            log.warning("checkpoint %s is damaged; %s", path, then)
        return None


def save_policy(
    folder: Path, policy: Trainable, adapter_alone: bool = False, weights: Any = None, head: Any = None
) -> None:
    """Model and tokenizer in Hugging Face format, an adapter merged into the weights (or alone, without them), and the
    value head beside them. `weights`, `head`: these, where the model has but parts of them."""
    (save_adapter if adapter_alone else save_merged)(policy.model, folder, weights)
    policy.tokenizer.save_pretrained(folder)
    if policy.value_head is not None:
        _save(policy.value_head.state_dict() if head is None else head, folder / "value_head.pt")


def _save(value: Mapping[str, Any], path: Path) -> None:
    """`torch.save` through a file of ours: given a path, it loses what the operating system said of a failed write."""
    with path.open("wb") as file:
        torch.save(value, file)


def load_state(checkpoint: Path) -> dict[str, Any]:
    """The trainer state of a checkpoint; StorageError when it cannot be read. Plain values and tensors only, no
    code."""
    try:
        found = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
        return cast(dict[str, Any], put_together(found, checkpoint / PARTS))
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise StorageError(f"{checkpoint}/{STATE} cannot be read ({first}); delete the folder to fall back") from error


def load_policy_weights(checkpoint: Path, policy: Trainable, folder: str = "policy") -> None:
    """Put a checkpoint's weights, or its adapter, into an existing policy, or the model of another folder, exactly."""
    if (checkpoint / folder / ADAPTER_FILE).is_file():
        load_adapter_state(policy.model, divided(policy.model, read_adapter(policy.model, checkpoint / folder)))
    else:
        _load_weights(checkpoint, policy, folder)
    if policy.value_head is not None:
        load_weights(policy.value_head, torch.load(checkpoint / folder / "value_head.pt", weights_only=True))


def _load_weights(checkpoint: Path, policy: Trainable, folder: str) -> None:
    missing = read_weights(policy.model, checkpoint / folder)
    tied = set(getattr(policy.model, "all_tied_weights_keys", {}) or {})
    if set(missing) - tied:
        raise StorageError(
            f"{checkpoint}/{folder} lacks {sorted(set(missing) - tied)[:3]}; delete the folder to fall back"
        )
    policy.model.tie_weights()


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
