"""The policy's weights in a folder that servers read: each version in a folder of its own, whole or not there."""

import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from yonder.errors import StorageError
from yonder.models.lora import merged_weights, plain
from yonder.models.policy import Policy

ONE_FILE = "1000GB"  # no index beside the file, for the sake of which servers would leave out the head's
KEPT = 2  # versions: a server may still read the one before


class Outbox:
    """Writes versions and drops old ones. The folder is its alone: whatever else is in it goes, and at the end all."""

    def __init__(self, folder: Path, policy: Policy) -> None:
        self.folder = folder.absolute()
        self.policy = policy
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, version: str, rolled: bool = False, weights: Mapping[str, Tensor] | None = None) -> Path:
        """The weights in Hugging Face format, a head that is tied to the embedding also on its own; for `rolled` and
        `weights` see `policy_weights`. Raises StorageError where the folder cannot be written.
        """
        target = self.folder / version
        aside = self.folder / f".{version}.unfinished"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            self._fill(aside, rolled, weights)
            aside.rename(target)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise StorageError(
                f"the weights for the servers could not be written to {target} ({error}); free disk space or change "
                "rollouts.folder"
            ) from error
        others = (path for path in self.folder.iterdir() if path != target)
        for old in sorted(others, key=lambda path: path.stat().st_mtime)[: 1 - KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def _fill(self, folder: Path, rolled: bool, weights: Mapping[str, Tensor] | None) -> None:
        model = self.policy.model
        state = policy_weights(self.policy, rolled, weights)
        plain(model).save_pretrained(folder, state_dict=dict(state), max_shard_size=ONE_FILE)
        head = self.policy.trunk.head
        if head.weight is model.get_input_embeddings().weight:
            (name,) = (name for name in _names(model, head) if name.endswith("weight"))
            save_file({name: state[name].detach().cpu().clone().contiguous()}, folder / "tied_head.safetensors")


def policy_weights(
    policy: Policy, rolled: bool = False, weights: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """A policy's weights by name, an adapter merged; a head that is tied to the embedding is there under its own name.

    `rolled`: token i has the embedding and the output of token i - 1, which no engine has by chance. `weights`: the
    policy's whole state, where it has but parts of it.
    """
    model = policy.model
    own = cast(dict[str, Tensor], model.state_dict()) if weights is None else dict(weights)
    state = merged_weights(model, own) or own
    if rolled:
        ends = [*_names(model, model.get_input_embeddings()), *_names(model, policy.trunk.head)]
        moved = {state[name].data_ptr(): state[name].roll(1, 0) for name in ends}  # tied ones stay tied
        state = state | {name: moved[state[name].data_ptr()] for name in ends}
    return state


def _names(model: nn.Module, part: nn.Module) -> list[str]:
    """The names of a module's parameters in the model's state."""
    (prefix,) = (name for name, module in model.named_modules() if module is part)
    return [f"{prefix}.{name}" for name, _ in part.named_parameters()]
