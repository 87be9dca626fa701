"""Every source of questions by its name in a recipe."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from yonder.data import embedded, hub
from yonder.data.files import SUFFIXES, check_file, is_file_name, read_file
from yonder.data.records import Record
from yonder.errors import DataError
from yonder.recipe.data import DataSettings

EMBEDDED: dict[str, Callable[[str, Mapping[str, Any]], list[Record]]] = {
    "svamp": embedded.svamp,
    "gsm8k": embedded.gsm8k,
    "word-problems": embedded.generated,
}
NAMES = (*EMBEDDED, *(name for name in hub.KNOWN if not name.startswith("hub:")))


def on_hub(settings: DataSettings) -> bool:
    """Whether the questions have to be fetched from a hub first."""
    source = settings.source or ""
    return source.startswith("hub:") or source in hub.KNOWN


def read_records(settings: DataSettings, name: str) -> list[Record]:
    """The records of a data set's source, whole and in the source's order; `name` is its name in the recipe.

    DataError for a mixture, an unknown source (near names are shown), and whatever the source refuses.
    """
    source = settings.source
    if source is None:
        raise DataError(f"data.{name} is a mixture and has no questions of its own; read its parts")
    try:
        records = _read(source, settings)
    except DataError as error:
        raise DataError(f"data.{name}: {error}") from error
    if not records:
        raise DataError(f"data.{name}: {source} has no usable question; choose another split or source")
    return records


def fingerprint(settings: DataSettings, data: Mapping[str, DataSettings] | None = None) -> str:
    """SHA-256 of what decides a data set's prompts: its settings and the content of files that are at hand.

    Content is hashed for local files, embedded data and the generator of word-problems; a hub data set counts by name,
    split and options. A mixture counts its parts, few-shot prompts the worked
    questions, and a rest what it is without, looked up in `data`. DataError where a file is missing.
    """
    excluded = {"source"} if settings.source and is_file_name(settings.source) else set[str]()
    parts = [json.dumps(settings.model_dump(mode="json", exclude=excluded), sort_keys=True), _content(settings)]
    shots = [settings.shots_from] if settings.shots_from else []
    for name in [*(settings.mixture or {}), *shots, *settings.without]:
        part = (data or {}).get(name.removesuffix(".development"))
        parts.append(fingerprint(part, data) if part is not None else name)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read(source: str, settings: DataSettings) -> list[Record]:
    if source in EMBEDDED or (source in hub.KNOWN and not source.startswith("hub:")):
        if settings.columns:
            raise DataError(f"`columns` are for files and hub: sources; leave them out with `{source}`")
        if source in EMBEDDED:
            return EMBEDDED[source](settings.split, settings.options)
    if source in hub.KNOWN or source.startswith("hub:"):
        return hub.read_hub(source, settings.split, settings.options, settings.columns)
    if is_file_name(source) or Path(source).is_file():
        return _file(source, settings)
    near = difflib.get_close_matches(source.lower(), NAMES, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"sources are {', '.join(NAMES)},"
    raise DataError(
        f"there is no source `{source}`; {hint} hub:OWNER/NAME, or the path of a {', '.join(SUFFIXES)} file"
    )


def _file(source: str, settings: DataSettings) -> list[Record]:
    if settings.split != "train":
        raise DataError(f"{source} is a file and has no split `{settings.split}`; leave `split` out")
    if settings.options:
        raise DataError(f"{source} is a file and takes no `options`; leave them out")
    return read_file(source, settings.columns)


def _content(settings: DataSettings) -> str:
    source = settings.source
    if source is None:
        return "mixture"
    if source in EMBEDDED:
        return embedded.content_hash(source, settings.split)
    path = Path(source if is_file_name(source) else str(settings.options.get("path", ""))).expanduser()
    if is_file_name(source):
        check_file(path)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if settings.options.get("path") and path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and ".cache" not in file.parts)
        return json.dumps([(str(file.relative_to(path)), file.stat().st_size) for file in files])
    return "hub"
