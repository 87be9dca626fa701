"""The model card: what an exported model is, how it was made, how good it and its judge were, and how to load it."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import DictLoader, Environment, StrictUndefined

from yonder.exporting.choosing import Chosen
from yonder.exporting.cleaning import cleaned, cleaned_text
from yonder.exporting.lineage import base_of_all, data_used, made_by, rewards_used
from yonder.exporting.quality import benchmark_rows, checks_of_judges, contaminations, table
from yonder.exporting.reading import example
from yonder.recipe.rewards import JudgeSettings
from yonder.reporting.redaction import redact_text
from yonder.storage import read_json

PIPELINE = {"policy": "text-generation", "judge": "text-generation", "classifier": "text-classification"}


def write_card(chosen: Chosen, folder: Path, facts: dict[str, Any], licence: str | None) -> None:
    """Write README.md; without secrets, and without paths of this machine."""
    environment = Environment(
        loader=DictLoader({"card": (files("yonder.exporting") / "card.md.j2").read_text(encoding="utf-8")}),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    shown = environment.get_template("card").render(cleaned(card_facts(chosen, facts, licence)))
    text = f"---\n{metadata(chosen, licence)}\n---\n\n{cleaned_text(shown)}"
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")


def metadata(chosen: Chosen, licence: str | None) -> str:
    """The card's YAML head, as the hub reads it."""
    base, sources = base_of_all(chosen), data_used(chosen)
    known: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": PIPELINE[chosen.kind],
        "tags": ["yonder", *(["lora"] if chosen.recipe.policy.lora is not None else []), chosen.stage.kind],
    }
    if licence is not None:
        known["license"] = licence
    if base.hub_name is not None:
        known["base_model"] = base.hub_name
    if on_hub := list(dict.fromkeys(source.hub_name for source in sources if source.hub_name)):
        known["datasets"] = on_hub
    results = [
        EvalResult("text-generation", benchmark, benchmark, "accuracy", round(cell["accuracy"], 6))
        for benchmark, cell in benchmark_rows(chosen).get(chosen.stage.name, {}).items()
        if cell.get("accuracy") is not None
    ]
    if results:
        known |= {"model_name": name_of(chosen), "eval_results": results}
    return ModelCardData(**known).to_yaml()


def card_facts(chosen: Chosen, facts: dict[str, Any], licence: str | None) -> dict[str, Any]:
    """What the template shows."""
    recipe, run_card = chosen.recipe, read_json(chosen.run / "card.json")
    used = rewards_used(chosen)
    described: dict[str, Any] = run_card.get("judges", {})
    judges = {
        name: {"settings": settings.model_dump(mode="json"), "prompt": described.get(name, {}).get("prompt", "")}
        for name, settings in recipe.rewards.items()
        if isinstance(settings, JudgeSettings) and name in used
    }
    return {
        "name": name_of(chosen),
        "kind": chosen.kind,
        "stage": chosen.stage.name,
        "stage_kind": chosen.stage.kind,
        "title": recipe.title,
        "notes": [redact_text(note) for note in recipe.notes],
        "facts": facts,
        "licence": licence,
        "base": base_of_all(chosen)._asdict(),
        "data": [source._asdict() for source in data_used(chosen)],
        "steps": made_by(chosen),
        "seed": recipe.seed,
        "versions": {"yonder": run_card.get("yonder"), **run_card.get("packages", {})},
        "judges": judges,
        "other_rewards": {name: recipe.rewards[name].kind for name in used if name not in judges},
        "checks": checks_of_judges(chosen),
        "table": table(chosen),
        "contaminations": contaminations(chosen),
        "alarm": chosen.result.get("alarm") or chosen.result.get("stopped") or "",
        "sentence": chosen.result.get("sentence", ""),
        "example": example(chosen),
        "max_tokens": recipe.policy.max_completion_tokens,
    }


def name_of(chosen: Chosen) -> str:
    """A name for the card: the run's and the stage's."""
    return f"{chosen.run.resolve().name}-{chosen.stage.name}"
