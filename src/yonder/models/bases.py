"""Where the weights are that an adapter stands on: as its own file names them, and within its run by the way there."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from yonder.errors import ModelError
from yonder.storage import read_json

CONFIG_FILE = "adapter_config.json"  # peft's
BASE_FILE = "base.json"  # ours, beside it


def base_of(folder: Path) -> str | None:
    """The model that the adapter in a folder stands on; None where there is no adapter, or none is named.

    One of the same run is where that run is now, and else where it was. ModelError where it is at neither place, or
    other weights are.
    """
    name, note = _named(folder), folder / BASE_FILE
    if name is None or not note.is_file():
        return name
    noted = read_json(note)
    for base in ((folder.resolve() / str(noted.get("base"))).resolve(), Path(name)):
        if base.is_dir() and _manifest(base) == noted.get("manifest", ""):
            return str(base)
    raise ModelError(
        f"the adapter in {folder} was trained on the weights in {name}, which are not there any more, or others are; "
        "put that folder back"
    )


def note_base(folder: Path, run: Path) -> None:
    """Write beside an adapter the way to its base, where that is in the same run directory."""
    name = _named(folder)
    if name is not None and Path(name).is_absolute() and Path(name).is_relative_to(run.resolve()):
        way = os.path.relpath(name, folder.resolve())
        (folder / BASE_FILE).write_text(json.dumps({"base": Path(way).as_posix(), "manifest": _manifest(Path(name))}))


def _named(folder: Path) -> str | None:
    """What the adapter's own file names."""
    found: Any = read_json(folder / CONFIG_FILE).get("base_model_name_or_path")
    return found if isinstance(found, str) and found else None


def _manifest(model: Path) -> str | None:
    """SHA-256 of the hashes of the checkpoint that a model is in; None where it is in none."""
    try:
        return hashlib.sha256((model.parent / "manifest.json").read_bytes()).hexdigest()
    except OSError:
        return None
