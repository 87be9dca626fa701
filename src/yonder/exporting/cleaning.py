"""What others may not get: secrets, and where files lie on this machine."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yonder.errors import StorageError
from yonder.reporting.redaction import MARK, redact, redact_text

_PATH = re.compile(
    r"(?:(?<=file:)/+|(?<=sqlite:)/+|(?<![\w.:/<)\]}-])~?/)(?:[\w.+@~-][\w.+@~ -]*/)+"
    r"|(?<!\w)[A-Za-z]:\\(?:[\w.+@~ -]+\\)+"
)
_NAMES = ("_name_or_path", "name_or_path")  # of a model or tokenizer: the folder that it was loaded from
_TEXTS = (".json", ".md", ".yaml", ".txt", ".jinja")


def cleaned(value: Any) -> Any:
    """A copy of JSON-like data without secrets, absolute paths cut to their last part."""
    return _without_paths(redact(value))


def cleaned_text(text: str) -> str:
    """The same for a text: `/home/me/models/mine` becomes `mine`."""
    return _PATH.sub("", redact_text(text))


def clean_files(folder: Path) -> None:
    """Take the names of folders out of the configuration files of a saved model."""
    for path in folder.rglob("*.json"):
        try:
            known: Any = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(known, dict) and any(name in known for name in _NAMES):
            kept = {key: value for key, value in known.items() if key not in _NAMES}
            path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def require_clean(folder: Path, *places: Path) -> None:
    """StorageError where a text file of an export still names one of these folders, or has what looks like a secret."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix not in _TEXTS or path.name == "tokenizer.json":
            continue
        text = path.read_text(encoding="utf-8")
        for place in places:
            if place != place.parent and str(place) in text:
                raise StorageError(f"{path.name} would name the folder {place} of this machine; nothing was exported")
        if redact_text(text).count(MARK) > text.count(MARK):
            raise StorageError(f"{path.name} would hold what looks like a secret; nothing was exported")


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_without_paths(key): _without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(item) for item in value]
    return _PATH.sub("", value) if isinstance(value, str) else value
