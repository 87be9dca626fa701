"""The command `yonder export`: a folder, whole or not at all."""

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from yonder.errors import StorageError
from yonder.exporting.card import write_card
from yonder.exporting.choosing import Chosen, choose
from yonder.exporting.cleaning import clean_files, cleaned, require_clean
from yonder.exporting.weights import save_weights


def export(
    run: Path,
    target: Path,
    stage: str | None = None,
    dtype: str | None = None,
    value_head: bool = False,
    licence: str | None = None,
) -> Chosen:
    """Write the model of a finished stage with tokenizer, card and recipe into a new or empty folder.

    Raises StorageError, RecipeError or ModelError before anything is written; what fails later leaves nothing.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StorageError(f"{target} is there already and not empty; name another folder with --to, or empty it")
    if run.resolve() in target.resolve().parents:
        raise StorageError(f"{target} is inside the run directory {run}; name a folder outside with --to")
    chosen = choose(run, stage)
    aside = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        _fill(chosen, aside, dtype, value_head, licence)
        if target.exists():
            target.rmdir()
        os.replace(aside, target)
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"{target} cannot be written ({reason}); free disk space or name another folder") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return chosen


def _fill(chosen: Chosen, folder: Path, dtype: str | None, value_head: bool, licence: str | None) -> None:
    facts = save_weights(chosen, folder, dtype, value_head)
    clean_files(folder)
    recipe: Any = cleaned(yaml.safe_load((chosen.run / "recipe.yaml").read_text(encoding="utf-8")))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    write_card(chosen, folder, facts, licence)
    require_clean(folder, chosen.run.resolve(), Path.cwd(), Path.home())
