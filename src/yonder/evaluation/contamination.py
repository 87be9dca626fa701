"""Whether a checkpoint was trained on the questions of a benchmark, on nearly the same, or on perturbations of them."""

from collections.abc import Sequence
from typing import Any

from yonder.core.overlap import Overlap, Question, overlap
from yonder.data.columns import ORIGINS
from yonder.data.datasets import load_data
from yonder.data.records import Record
from yonder.data.sources import read_records
from yonder.errors import DataError
from yonder.recipe import Recipe
from yonder.recipe.references import chosen_on, trained_on

WORDS = {
    "exact": "stand in the training data word for word",
    "perturbed": "perturb training questions or are perturbed by them",
    "near": "are nearly the same as training questions",
    "chosen": "helped to choose the checkpoint",
}


class Contamination:
    """Compares the benchmarks of a recipe with what its checkpoints were trained on; every data set is read once."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._questions: dict[str, list[Question] | str] = {}
        self._overlaps: dict[tuple[str, str], Overlap] = {}

    def check(self, checkpoint: str, benchmark: str) -> dict[str, Any] | None:
        """The key `contamination` of a row: counts of test questions, each counted once; None where the checkpoint was
        trained on no data of this recipe (`base`), or the test questions cannot be read."""
        names = trained_on(self.recipe, checkpoint)
        test = self._read(benchmark)
        if not names or isinstance(test, str):
            return None
        found: dict[str, dict[int, list[str]]] = {kind: {} for kind in WORDS}
        checked: list[str] = []
        unread: list[str] = []
        for name in names:
            training = self._read(name)
            if isinstance(training, str):
                unread.append(name)
                continue
            checked.append(name)
            for kind, places in self._overlap(benchmark, name, test, training)._asdict().items():
                for place in places:
                    found[kind].setdefault(place, []).append(name)
        exact, perturbed = set(found["exact"]), set(found["perturbed"])
        for name in chosen_on(self.recipe, checkpoint):
            looked_at = self._read(name)
            if isinstance(looked_at, str):
                unread.append(name)
                continue
            for place in self._overlap(benchmark, name, test, looked_at).exact:
                found["chosen"].setdefault(place, []).append(name)
        found["perturbed"] = {place: of for place, of in found["perturbed"].items() if place not in exact}
        found["near"] = {place: of for place, of in found["near"].items() if place not in exact | perturbed}
        counts = {kind: len(places) for kind, places in found.items()}
        return {"checked_against": checked} | counts | {"note": _note(found, len(test), unread)}

    def _overlap(self, benchmark: str, name: str, test: Sequence[Question], training: Sequence[Question]) -> Overlap:
        if (benchmark, name) not in self._overlaps:
            self._overlaps[benchmark, name] = overlap(test, training)
        return self._overlaps[benchmark, name]

    def _read(self, name: str) -> list[Question] | str:
        """The questions of a data set as its source has them, or why there are none."""
        if name not in self._questions:
            try:
                self._questions[name] = questions_of(name, self.recipe)
            except DataError as error:
                self._questions[name] = str(error)
        return self._questions[name]


def questions_of(name: str, recipe: Recipe) -> list[Question]:
    """The questions that a data set's prompts ask, in their order, with what they were made from. DataError where the
    source cannot be read."""
    records = _records(name, recipe)
    return [_question(records[prompt.id]) for prompt in load_data(name, recipe.data, recipe.task, recipe.seed)]


def _records(name: str, recipe: Recipe) -> dict[str, Record]:
    """The records of a data set's source, by the ids that its prompts have."""
    base = name.partition(".")[0]
    parts = recipe.data[base].mixture
    if parts is None:
        return {record.id: record for record in read_records(recipe.data[base], base)}
    nested = {part: _records(part, recipe) for part in parts}
    return {f"{part}/{name}": record for part, found in nested.items() for name, record in found.items()}


def _question(record: Record) -> Question:
    origin = next((record.extra[key] for key in ORIGINS if record.extra.get(key)), None)
    return Question(record.question, None if origin is None else str(origin))


def _note(found: dict[str, dict[int, list[str]]], total: int, unread: Sequence[str]) -> str:
    """What a reader of the number must know; empty where there is nothing."""
    said = [
        f"{len(places):,} {WORDS[kind]} ({', '.join(dict.fromkeys(name for of in places.values() for name in of))})"
        for kind, places in found.items()
        if places
    ]
    grave = any(found[kind] for kind in ("exact", "perturbed", "chosen"))
    head = "contaminated" if grave else "close to training data"
    sentences = [f"{head}: of {total:,} test questions {'; '.join(said)}"] if said else []
    if unread:
        sentences.append(f"not checked against {', '.join(unread)}, which could not be read")
    return ". ".join(sentences)
