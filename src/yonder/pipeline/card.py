"""The run card: everything that decides a number and is not in the recipe."""

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import yonder
from yonder.assembly.judges import judge_prompt
from yonder.data.sources import fingerprint
from yonder.errors import YonderError
from yonder.judges.preference import read_preference_prompt
from yonder.judges.prompt import read_judge_prompt
from yonder.judges.rating import read_rating_prompt
from yonder.models.loading import load_tokenizer
from yonder.recipe import Recipe
from yonder.recipe.alpaca_eval import AlpacaEvalStage
from yonder.recipe.answers import LabelStage
from yonder.recipe.models import ModelReference
from yonder.recipe.references import preferring, rewards_of
from yonder.recipe.rewards import ClassifierSettings, JudgeSettings, RatingSettings
from yonder.recipe.stages import StageSettings
from yonder.reporting.redaction import redact
from yonder.storage import write_json
from yonder.teachers.build import asked_of

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "pydantic",
    "pydantic-monty",
    "math-verify",
    "numpy",
    "safetensors",
    "peft",
)


def write_card(path: Path, recipe: Recipe, checkpoints: Mapping[str, Path] | None = None) -> None:
    """Write `card.json`. Judges that are not fitted yet are described once they are."""
    card = {
        "yonder": yonder.__version__,
        "seed": recipe.seed,
        "notes": list(recipe.notes),
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "judges": {
            name: describe_judge(settings, checkpoints or {})
            for name, settings in recipe.rewards.items()
            if isinstance(settings, JudgeSettings)
        },
        "classifiers": {
            name: settings.model_dump(mode="json")
            for name, settings in recipe.rewards.items()
            if isinstance(settings, ClassifierSettings)
        },
        "ratings": {
            name: settings.model_dump(mode="json") | {"text": read_rating_prompt(settings.prompt, settings.scale)}
            for name, settings in recipe.rewards.items()
            if isinstance(settings, RatingSettings)
        },
        "data": {name: fingerprint(settings, recipe.data) for name, settings in recipe.data.items()},
    }
    write_json(path, redact(card))


def describe_judge(settings: JudgeSettings, checkpoints: Mapping[str, Path]) -> dict[str, Any]:
    """The prompt as rendered, the label tokens as resolved, tau, delta and dtype."""
    model: ModelReference = settings.model
    if isinstance(model, str) and model.startswith("stage:"):
        found = checkpoints.get(model.removeprefix("stage:"))
        if found is None:
            return {"model": model, "state": "not fitted yet"}
        model = str(found)
    facts: dict[str, Any] = {
        "model": str(settings.model),
        "tau": settings.tau,
        "delta": settings.delta,
        "dtype": settings.dtype,
    }
    if settings.backend in ("openai", "votes"):  # known by name alone; there is no tokenizer to look for
        return facts | {"prompt": read_judge_prompt(settings.prompt), "backend": settings.backend}
    try:
        prompt = judge_prompt(settings, load_tokenizer(model), settings.every_spelling)
    except YonderError as error:
        return facts | {"state": str(error)}
    labels = prompt.labels
    tokens = {
        "yes": list(zip(labels.yes_ids, labels.yes_texts, strict=True)),
        "no": list(zip(labels.no_ids, labels.no_texts, strict=True)),
    }
    return facts | {"prompt": prompt.rendered, "chat_template": prompt.chat, "label_tokens": tokens}


def outside_files(recipe: Recipe, stage: StageSettings) -> dict[str, Any]:
    """What decides a stage's outcome and lies in files of the user: prompts, reward functions, local weights."""
    found: dict[str, Any] = {}
    for name in rewards_of(recipe, stage):
        settings = recipe.rewards[name]
        if isinstance(settings, JudgeSettings):
            found[f"rewards.{name}.prompt"] = read_judge_prompt(settings.prompt)
        if isinstance(settings, RatingSettings):
            found[f"rewards.{name}.prompt"] = read_rating_prompt(settings.prompt, settings.scale)
        found |= _folder(f"rewards.{name}.model", getattr(settings, "model", None))
    if (message := asked_of(recipe, stage)) is not None:
        found["teacher.prompt"] = message
    if (judge := preferring(stage)) is not None:
        found["judge.prompt"] = "".join(read_preference_prompt(judge.prompt))
    if isinstance(stage, LabelStage) and judge is not None:
        found |= _folder("judge.model", judge.model)
    if isinstance(stage, AlpacaEvalStage):
        for path in (stage.baseline, stage.gamed):
            found |= {} if path is None else {path: hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()}
    for key in ("policy", "reference", "model"):
        found |= _folder(key, getattr(stage, key, None))
    found |= _folder("policy.model", recipe.policy.model)
    for term in getattr(stage, "terms", ()):
        spec = find_spec(term.reward.partition(":")[0]) if ":" in term.reward else None
        if spec is not None and spec.origin:
            found[term.reward] = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    return found


def _folder(key: str, model: object) -> dict[str, Any]:
    """Names, sizes and times of the files of a local model folder."""
    if not isinstance(model, str) or not Path(model).is_dir():
        return {}
    return {key: [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(Path(model).iterdir())]}


def version(package: str) -> str:
    """Installed version, or `missing`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"
