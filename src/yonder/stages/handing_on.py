"""Which model of a finished stage others get."""

from collections.abc import Mapping
from typing import Any

from yonder.errors import StorageError
from yonder.models.bases import base_of
from yonder.recipe.recipe import Recipe
from yonder.recipe.references import learned_from
from yonder.training.checkpoint import CheckpointStore
from yonder.training.parts import Trainable


def handed_on(recipe: Recipe, name: str, store: CheckpointStore, result: Mapping[str, Any], policy: Trainable) -> str:
    """The chosen checkpoint's policy, relative to the stage's folder: an adapter merged in, unless the recipe wants it
    alone, no later stage trains on it, and what it stands on can be loaded."""
    chosen, lora = checkpoint_of(store, result), recipe.policy.lora
    if lora is None:
        return chosen
    if lora.save == "adapter" and not learned_from(recipe, name) and base_of(store.folder.parent / chosen):
        return chosen
    return str(store.merge(int(result["chosen_step"]), policy).relative_to(store.folder.parent))


def checkpoint_of(store: CheckpointStore, result: Mapping[str, Any], model: str = "policy") -> str:
    """The chosen checkpoint's model, relative to the stage's folder."""
    path = store.path(int(result["chosen_step"]))
    if not path.is_dir():
        raise StorageError(f"the chosen checkpoint {path} is gone; delete the stage's folder and run it again")
    return str((path / model).relative_to(store.folder.parent))
