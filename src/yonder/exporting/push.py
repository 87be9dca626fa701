"""An exported folder to a repository of a hub."""

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx2

from yonder.errors import ModelError, RecipeError

_NAME = re.compile(r"^[\w.-]+/[\w.-]+$")


def check_name(name: str) -> None:
    """RecipeError for what is no OWNER/NAME."""
    if not _NAME.match(name):
        raise RecipeError(f"`{name}` is no name of a repository; write --push OWNER/NAME")


def push(folder: Path, name: str, public: bool = False, endpoint: str | None = None) -> str:
    """Make the repository, private unless `public`, where there is none, and upload the folder; returns its address.

    The token is that of `hf auth login` or HF_TOKEN. ModelError for whatever the hub refuses, and where the repository
    is there and public though it was not to be.
    """
    check_name(name)
    hub: Any = import_module("huggingface_hub")
    where = endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    api = hub.HfApi(endpoint=where)
    try:
        if not public and api.repo_exists(name) and not api.repo_info(name).private:
            raise ModelError(f"{name} is there and public; say --public, or name another repository")
        api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=str(folder), commit_message="Export from Yonder")
    except ModelError:
        raise
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{folder} was exported but {name} at {where} could not be written ({line}); check the name, the "
            "connection, and `hf auth whoami`"
        ) from error
    return f"{where.rstrip('/')}/{name}"
