"""Results kept for other runs: the same weights, questions, settings, code and packages are not answered again.

The key is a hash of all that decides a result, of content and never of names: one bit of a weight or one letter of a
question makes another key. What a key cannot know is not kept: weights with an adapter beside them, and results in
which the sandbox failed.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import yonder
from yonder.errors import StorageError
from yonder.models.policy import Policy
from yonder.schema import Prompt
from yonder.storage import read_json, write_json

PLACE = "YONDER_CACHE"  # where to keep results instead of the user's cache folder; empty: nowhere
CODE = ("core", "data", "models", "rewards", "sandbox", "evaluation", "schema.py", "assembly", "stages/evaluate.py",
        "training/rollout.py")  # fmt: skip
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "math-verify", "sympy", "pydantic-monty", "numpy")
_PIECE = 1 << 24  # elements hashed at a time


class ResultCache:
    """A folder with one small file a result; several processes may share it."""

    def __init__(self, folder: Path | None) -> None:
        """None: nothing is found and nothing kept."""
        self.folder = folder

    def find(self, key: str | None) -> dict[str, Any] | None:
        """The result of that key; None where there is none, or its file is not whole."""
        if self.folder is None or key is None:
            return None
        found = read_json(self.folder / f"{key}.json")
        result = found.get("result")
        return result if found.get("key") == key and isinstance(result, dict) else None

    def keep(self, key: str | None, result: Mapping[str, Any]) -> None:
        """Keep a result, where the folder can be written and the sandbox ran everything."""
        outage = any(reason.startswith("the program was not run") for reason in result["reasons"])
        if self.folder is None or key is None or outage:
            return
        try:
            write_json(self.folder / f"{key}.json", {"key": key, "result": dict(result)})
        except StorageError:
            return  # a full disk or a read-only home costs time only


def cache_folder() -> Path | None:
    """Where results are kept: $YONDER_CACHE, or the user's cache folder; None where the former is empty."""
    place = os.environ.get(PLACE)
    if place is not None:
        return Path(place).expanduser() / "evaluations" if place else None
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path("~/.cache").expanduser()) / "yonder" / "evaluations"


def key_of(policy: Policy, prompts: Sequence[Prompt], settings: Mapping[str, Any]) -> str | None:
    """SHA-256 of all that decides a result; None where that is not known. `settings`: plain values."""
    weights = policy_hash(policy)
    if weights is None:
        return None
    device = policy.device
    asked = [[p.question, p.text, p.prefix, p.answer, list(p.options), p.category] for p in prompts]
    parts = {
        "weights": weights,
        "prompts": asked,
        "settings": settings,
        "code": code_hash(),
        "packages": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def policy_hash(policy: Policy) -> str | None:
    """SHA-256 of weights, configuration and tokenizer, wherever they were loaded from; None for a model with an adapter
    that is not merged, whose scale no weight shows."""
    if hasattr(policy.model, "peft_config"):
        return None
    digest = hashlib.sha256()
    for name, tensor in sorted(policy.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().reshape(-1)
        for start in range(0, flat.numel(), _PIECE):
            piece = flat[start : start + _PIECE].cpu().contiguous()
            digest.update(piece.view(torch.uint8).numpy().data)
    config = {key: value for key, value in policy.model.config.to_dict().items() if key != "_name_or_path"}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(_tokenizer_text(policy.tokenizer).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


@cache
def code_hash() -> str:
    """SHA-256 of Yonder's own code that decides a result."""
    root = Path(yonder.__file__).parent
    digest = hashlib.sha256()
    for part in CODE:
        path = root / part
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        if not files:
            raise FileNotFoundError(f"CODE names {part}, which Yonder does not have")
        for file in files:
            digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _tokenizer_text(tokenizer: Any) -> str:
    """All of a tokenizer that decides token ids and text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    added = {str(number): str(token) for number, token in tokenizer.added_tokens_decoder.items()}
    more = [type(tokenizer).__name__, added, tokenizer.special_tokens_map, tokenizer.chat_template]
    more += [getattr(tokenizer, "add_bos_token", None), getattr(tokenizer, "clean_up_tokenization_spaces", None)]
    return text + json.dumps(more, sort_keys=True, default=str)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"
