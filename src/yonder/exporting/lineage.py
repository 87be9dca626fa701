"""Where a model comes from: the weights it began as, the stages before it, and the data that they read."""

from pathlib import Path
from typing import NamedTuple

from yonder.data.hub import KNOWN
from yonder.exporting.choosing import Chosen
from yonder.recipe.models import FreshModel, ModelReference
from yonder.recipe.references import data_behind, data_of, rewards_of, stage_inputs
from yonder.recipe.stages import StageSettings
from yonder.storage import read_json

_EMBEDDED = {  # source -> (hub name, licence); NOTICE has the notices
    "gsm8k": ("openai/gsm8k", "MIT"),
    "svamp": ("ChilleD/SVAMP", "MIT; programs of the ReFT code: Apache 2.0"),
    "word-problems": (None, "made by Yonder, Apache 2.0"),
}


class Base(NamedTuple):
    """The weights that a model began as."""

    sentence: str
    hub_name: str | None


class Source(NamedTuple):
    """A data set of the recipe."""

    name: str
    sentence: str
    licence: str
    hub_name: str | None


def base_of_all(chosen: Chosen) -> Base:
    """The weights below all stages."""
    reference = _start(chosen, chosen.stage)
    while isinstance(reference, str) and reference.startswith("stage:"):
        reference = _start(chosen, chosen.recipe.stage(reference.removeprefix("stage:")))
    if isinstance(reference, FreshModel):
        size = f"{reference.layers} layers of width {reference.hidden_size}"
        return Base(f"random weights, family {reference.family}, {size}", None)
    if reference.startswith("yonder:"):
        return Base(f"`{reference}`, shipped with Yonder", None)
    local = reference.startswith((".", "/", "~")) or reference.count("/") != 1 or Path(reference).is_dir()
    return Base(f"a local folder, `{reference}`" if local else f"`{reference}`", None if local else reference)


def lineage(chosen: Chosen) -> list[StageSettings]:
    """The stage and all that it reads, directly or not, in the recipe's order."""
    names, waiting = set[str](), [chosen.stage.name]
    while waiting:
        if (name := waiting.pop()) not in names:
            names.add(name)
            waiting += stage_inputs(chosen.recipe, chosen.recipe.stage(name))
    return [stage for stage in chosen.recipe.stages if stage.name in names]


def made_by(chosen: Chosen) -> list[str]:
    """A line on each stage that led to the model."""
    lines: list[str] = []
    for stage in lineage(chosen):
        record = read_json(chosen.run / "stages" / stage.name / "stage.json")
        result = record.get("result", {})
        counts = [f"{result[key]} {key}" for key in ("epochs", "steps", "examples", "training") if result.get(key)]
        if "chosen_step" in result:
            counts.append(f"checkpoint {result['chosen_step']} chosen on the development split or as the last")
        terms = [f"{term.weight:g} x {term.reward} on {term.data}" for term in getattr(stage, "terms", ())]
        lines.append(f"`{stage.name}` ({stage.kind}): " + "; ".join(terms + counts) if terms or counts else "")
        if not lines[-1]:
            lines[-1] = f"`{stage.name}` ({stage.kind})"
    return lines


def rewards_used(chosen: Chosen) -> list[str]:
    """Names of the recipe's rewards that any of these stages used."""
    names = [name for stage in lineage(chosen) for name in rewards_of(chosen.recipe, stage)]
    return [name for name in dict.fromkeys(names) if name in chosen.recipe.rewards]


def data_used(chosen: Chosen) -> list[Source]:
    """The data sets that these stages read, those inside mixtures too."""
    named = [name for stage in lineage(chosen) for _, name in data_of(stage)]
    found: list[Source] = []
    for name in dict.fromkeys(one.partition(".")[0] for one in data_behind(chosen.recipe, named)):
        settings = chosen.recipe.data[name]
        if settings.source is None:
            continue
        hub_name, licence = _EMBEDDED.get(settings.source, (None, "see its source"))
        if settings.source in KNOWN:
            hub_name = KNOWN[settings.source].repository
        elif settings.source.startswith("hub:"):
            hub_name = settings.source.removeprefix("hub:")
        use = "" if settings.labeled else ", without its answers"
        split = "" if settings.source == "word-problems" else f", split {settings.split}"
        found.append(Source(name, f"`{settings.source}`{split}{use}", licence, hub_name))
    return found


def _start(chosen: Chosen, stage: StageSettings) -> ModelReference:
    named = getattr(stage, "model", None) or getattr(stage, "policy", None)
    return chosen.recipe.policy.model if named is None else named
