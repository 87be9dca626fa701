"""Runs a recipe: which stages are due, which are already done for the same inputs, and what the run directory holds."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch

import yonder
from yonder.data.sources import fingerprint
from yonder.errors import RecipeError, YonderError
from yonder.pipeline.card import outside_files, write_card
from yonder.pipeline.changes import Made, difference, goes_on, refuse_changes, shown
from yonder.pipeline.preflight import check_inputs, check_rollout_servers, check_teacher, silent_judges
from yonder.pipeline.processes import Lead, Task, follow, leading
from yonder.recipe import Recipe, dump_recipe
from yonder.recipe.references import data_behind, data_of, rewards_of, samples, stage_inputs
from yonder.recipe.rewards import decisive
from yonder.recipe.stages import EvaluateStage, StageSettings
from yonder.reporting.page import write_report
from yonder.reporting.redaction import redact, redact_text, redact_yaml
from yonder.signals import StopRequest
from yonder.stages.consent import checks_of
from yonder.storage import only_one, read_json, write_json, write_whole
from yonder.trackers.starting import tracking
from yonder.training.distributed import ALONE, World
from yonder.training.progress import Progress, Silent

log = logging.getLogger("yonder")


class Shelf(Protocol):
    """Where finished stages of other runs are, for those of the same hash."""

    def turn(self, stage: str, digest: str) -> AbstractContextManager[None]:
        """Within it no other process makes a stage of this hash."""
        ...

    def take(self, stage: str, digest: str, folder: Path) -> bool:
        """Put a finished stage of this hash into `folder`; False where there is none."""
        ...


class NoShelf:
    """A run by itself."""

    def turn(self, stage: str, digest: str) -> AbstractContextManager[None]:
        """Nobody to wait for."""
        return nullcontext()

    def take(self, stage: str, digest: str, folder: Path) -> bool:
        """Nothing to take."""
        return False


def run(
    recipe: Recipe,
    stages: Collection[str] | None = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    allow_changes: bool = False,
    world: World = ALONE,
    shelf: Shelf | None = None,
) -> dict[str, Any]:
    """Run a recipe's stages in order and return the summary (also written as `summary.json`).

    `stages` limits the run to these names and whatever they read. Stages whose configuration and inputs have not
    changed are skipped; an unfinished one continues where it was, and one that changed is refused unless
    `allow_changes`. A stage that the `shelf` has finished, of the same hash, is taken from there. Raises YonderError
    subclasses for everything a user can mend; Stopped where `stop` asked for it. In a `world` of several, process 0
    does this, and the others what it tells them; their summary is empty.
    """
    if not world.first:
        follow(recipe, world, stop or StopRequest())
        return {}
    wanted = wanted_stages(recipe, stages)
    with leading(world) as lead:
        check_inputs(recipe, wanted)
        with only_one(recipe.output_dir):
            shelf = shelf or NoShelf()
            runner = Runner(recipe, progress or Silent(), stop or StopRequest(), allow_changes, lead, shelf)
            runner.begin(wanted)
            due = [stage for stage in wanted if not runner.done(stage)]
            check_rollout_servers(due)
            for sentence in silent_judges(recipe, due):
                runner.progress.say(sentence)
            with tracking(recipe.trackers, recipe.output_dir, runner.progress):
                for stage in wanted:
                    runner.stop.check("no stage is running")
                    runner.run(stage)
                runner.recall([stage for stage in recipe.stages if stage not in wanted])
                return runner.finish()


def finished(recipe: Recipe, stages: Collection[str] | None = None) -> bool:
    """Whether `run` would skip every stage and its summary is written."""
    runner = Runner(recipe, Silent())
    if not (runner.folder / "summary.json").is_file():
        return False
    return all(runner.done(stage) for stage in wanted_stages(recipe, stages))


def wanted_stages(recipe: Recipe, names: Collection[str] | None) -> list[StageSettings]:
    """The named stages and whatever they read, in the recipe's order; None: all."""
    wanted = {stage.name for stage in recipe.stages} if names is None else closure(recipe, names)
    return [stage for stage in recipe.stages if stage.name in wanted]


def closure(recipe: Recipe, names: Collection[str]) -> set[str]:
    """The named stages and all that they read, directly or not, the checks of their judges included."""
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += stage_inputs(recipe, recipe.stage(name))
            waiting += [check for checks in checks_of(recipe, recipe.stage(name)).values() for check in checks]
    return wanted


@dataclass(slots=True)
class Runner:
    """One run directory while its stages run."""

    recipe: Recipe
    progress: Progress
    stop: StopRequest = field(default_factory=StopRequest)
    allow_changes: bool = False
    lead: Lead = field(default_factory=Lead)
    shelf: Shelf = field(default_factory=NoShelf)
    records: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    made_from: dict[str, Made] = field(default_factory=dict[str, Made])  # of every stage up to the one that runs

    def begin(self, stages: Sequence[StageSettings]) -> None:
        """Refuse changes that are not allowed, before anything is run or written; then write recipe and card."""
        for stage in stages:
            made = self.made(stage)
            known = read_json(self.stage_folder(stage.name) / "stage.json")
            if made.hash != known.get("hash") and not self.allow_changes:
                refuse_changes(stage, self.stage_folder(stage.name), known, made.of)
            if made.hash != known.get("hash") or known.get("status") != "done":
                check_teacher(stage)
        write_whole(self.folder / "recipe.yaml", redact_yaml(dump_recipe(self.recipe)))
        if self.recipe.threads:
            torch.set_num_threads(self.recipe.threads)
        write_card(self.folder / "card.json", self.recipe)

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.recipe.output_dir

    def stage_folder(self, name: str) -> Path:
        """A stage's own folder."""
        return self.folder / "stages" / name

    def done(self, stage: StageSettings) -> bool:
        """Whether a stage was finished before, with the same inputs."""
        known = read_json(self.stage_folder(stage.name) / "stage.json")
        return known.get("status") == "done" and known.get("hash") == self.made(stage).hash

    def run(self, stage: StageSettings) -> None:
        """Run one stage, or skip it when it is done for the same inputs, here or on the shelf."""
        with self.shelf.turn(stage.name, self.made(stage).hash):
            self._run(stage)

    def _run(self, stage: StageSettings) -> None:
        folder = self.stage_folder(stage.name)
        made = self.made(stage)
        known = read_json(folder / "stage.json")
        if self.done(stage):
            self.records[stage.name] = known | {"status": "skipped"}
            self.progress.say(f"{stage.name}: unchanged, skipped")
            return
        known, changed = self._settle(stage, known, made)
        if self.shelf.take(stage.name, made.hash, folder):
            self.records[stage.name] = read_json(folder / "stage.json") | {"status": "shared"}
            self.progress.say(f"{stage.name}: taken from another run, which made it from the same")
            return
        folder.mkdir(parents=True, exist_ok=True)
        record = {"name": stage.name, "kind": stage.kind, "hash": made.hash, "status": "unfinished"}
        record |= {"made_from": made.of, "changes": [*known.get("changes", []), *changed]}
        record["begun"] = known.get("begun") or datetime.now(UTC).isoformat()
        write_json(folder / "stage.json", record | {"seconds": known.get("seconds", 0.0)})
        seconds = float(known.get("seconds", 0.0))
        start = time.perf_counter()
        folders = {name: self.stage_folder(name) for name in self.records}
        task = Task(stage.name, folder, folders, self.checkpoints(), bool(record["changes"]))
        ended: dict[str, Any] = {}
        try:
            result = self.lead.run(self.recipe, task, self.progress, self.stop)
        except BaseException as error:
            ended = {"ended": why_ended(error)}
            raise
        finally:
            write_json(folder / "stage.json", record | {"seconds": seconds + time.perf_counter() - start} | ended)
        record |= {"status": "done", "seconds": seconds + time.perf_counter() - start, "result": result}
        write_json(folder / "stage.json", record)
        self.records[stage.name] = record

    def _settle(self, stage: StageSettings, known: dict[str, Any], made: Made) -> tuple[dict[str, Any], list[Any]]:
        """What of a stage's folder is gone on from: its record with the changes since, or nothing, the folder then set
        aside."""
        folder = self.stage_folder(stage.name)
        if known.get("hash") == made.hash:
            return known, []
        if not known:
            if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
                self._set_aside(folder, "its record stage.json is missing or damaged")
            return {}, []
        changes = difference(known.get("made_from"), made.of)
        if self.allow_changes and goes_on(stage, folder, known, changes):
            self.progress.say(f"{stage.name}: goes on, changed ({shown(changes)})")
            return known, [changes]
        self._set_aside(folder, f"configuration or inputs changed ({shown(changes)})")
        return {}, []

    def made(self, stage: StageSettings) -> Made:
        """What a stage is made from; the stages that it reads come first."""
        if stage.name not in self.made_from:
            for name in stage_inputs(self.recipe, stage):
                self.made(self.recipe.stage(name))
            parts = self._parts(stage)
            digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
            self.made_from[stage.name] = Made(digest, json.loads(json.dumps(redact(parts), default=str)))
        return self.made_from[stage.name]

    def _parts(self, stage: StageSettings) -> dict[str, Any]:
        """Everything that decides a stage's outcome: its settings, what it uses of the recipe, and its inputs'
        hashes."""
        recipe = self.recipe
        parts: dict[str, Any] = {
            "version": yonder.__version__,
            f"stages.{stage.name}": stage.decisive(),
            "seed": recipe.seed,
            "threads": recipe.threads,
            "policy": recipe.policy.decisive(samples(stage)),
            "task": recipe.task.model_dump(mode="json"),
            "sandbox": recipe.sandbox.model_dump(mode="json"),
            **self._data_parts(stage),
            "rewards": {name: decisive(recipe.rewards[name]) for name in rewards_of(recipe, stage)},
            "files": outside_files(recipe, stage),
            "results of": {name: self.made_from[name].hash for name in stage_inputs(recipe, stage)},
        }
        if recipe.parallel.seeds != "auto":
            parts["parallel.seeds"] = recipe.parallel.seeds
        if isinstance(stage, EvaluateStage):
            parts["benchmarks"] = {name: recipe.benchmarks[name].decisive() for name in stage.benchmarks}
        return parts

    def _data_parts(self, stage: StageSettings) -> dict[str, Any]:
        """The data sets that decide what the stage reads, and contents."""
        names = [name for _, name in data_of(stage)]
        if isinstance(stage, EvaluateStage):
            names += [self.recipe.benchmarks[name].data for name in stage.benchmarks]
        if not names:
            return {}
        settings = {name: self.recipe.data[name].model_dump(mode="json") for name in data_behind(self.recipe, names)}
        used = {name.partition(".")[0] for name in names}
        contents = {name: fingerprint(self.recipe.data[name], self.recipe.data) for name in sorted(used)}
        return {"data": settings, "contents of": {f"data.{name}": digest for name, digest in contents.items()}}

    def checkpoints(self) -> dict[str, Path]:
        """Stage name -> the model folder it hands on."""
        found: dict[str, Path] = {}
        for name, record in self.records.items():
            relative = record.get("result", {}).get("checkpoint")
            if relative:
                found[name] = self.stage_folder(name) / relative
        return found

    def recall(self, others: Sequence[StageSettings]) -> None:
        """Know of stages that were not asked for, but were finished before for this very recipe."""
        for stage in others:
            known = read_json(self.stage_folder(stage.name) / "stage.json")
            try:
                if known.get("status") == "done" and self.done(stage):
                    self.records[stage.name] = known | {"status": "skipped"}
            except (YonderError, OSError, ImportError, ValueError):  # what it was made from cannot be read any more
                continue
        order = [stage.name for stage in self.recipe.stages]
        self.records = {name: self.records[name] for name in order if name in self.records}

    def finish(self) -> dict[str, Any]:
        """Write summary, card and page."""
        evaluations = [
            {"stage": stage, "benchmark": benchmark} | figures
            for record in self.records.values()
            for stage, row in record.get("result", {}).get("results", {}).items()
            for benchmark, figures in row.items()
        ]
        summary = redact(self.summary())
        write_json(self.folder / "summary.json", summary)
        write_whole(self.folder / "evaluations.jsonl", "".join(json.dumps(row) + "\n" for row in evaluations))
        write_card(self.folder / "card.json", self.recipe, self.checkpoints())
        write_report([self.folder])
        return summary

    def summary(self) -> dict[str, Any]:
        """What `--json` prints."""
        results: dict[str, dict[str, Any]] = {}
        stages: dict[str, Any] = {}
        for name, record in self.records.items():
            result = dict(record.get("result", {}))
            for row, cells in result.pop("results", {}).items():
                results.setdefault(row, {}).update({name: brief(figures) for name, figures in cells.items()})
            stages[name] = {key: record[key] for key in ("kind", "status", "seconds") if key in record} | result
        return {
            "run_dir": str(self.folder),
            "title": self.recipe.title,
            "notes": list(self.recipe.notes),
            "seed": self.recipe.seed,
            "stages": stages,
            "results": results,
        }

    def _set_aside(self, folder: Path, why: str) -> None:
        """Keep what was made before, out of the way."""
        kept = folder.parent / ".replaced" / f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        while kept.exists():  # set aside twice within a second
            kept = kept.with_name(f"{kept.name}-again")
        kept.parent.mkdir(exist_ok=True)
        os.replace(folder, kept)
        self.progress.say(f"{folder.name}: {why}; the earlier results are kept in {kept}")


def why_ended(error: BaseException) -> dict[str, str]:
    """What a stage that did not finish leaves in its record: the kind of error and its sentence, without secrets."""
    kind = type(error).__name__
    said = str(error) if isinstance(error, YonderError) else ": ".join(filter(None, (kind, str(error))))
    return {"by": kind, "said": redact_text(said)}


def brief(figures: Mapping[str, Any]) -> dict[str, Any]:
    """A table cell without the verdict on every single question, which `evaluations.jsonl` has."""
    found = {key: value for key, value in figures.items() if key != "correct"}
    return found | ({"vote": brief(found["vote"])} if found.get("vote") else {})


def names_of_kind(recipe: Recipe, kind: str, name: str | None) -> list[str]:
    """Stages that a command such as `yonder distill` runs; RecipeError when there is none."""
    found = [stage.name for stage in recipe.stages if stage.kind == kind and name in (None, stage.name)]
    if not found:
        have = ", ".join(f"{stage.name} ({stage.kind})" for stage in recipe.stages)
        raise RecipeError(f"the recipe has no {kind} stage{f' named {name}' if name else ''}; it has: {have}")
    return found
