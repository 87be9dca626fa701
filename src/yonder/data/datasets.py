"""From the data sets of a recipe to prompts: development split, limit, task format, labels."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from yonder.core.overlap import normal
from yonder.data.pseudo_labels import Overlay
from yonder.data.records import Record
from yonder.data.shots import with_shots
from yonder.data.sources import read_records
from yonder.data.tasks import build_prompt, label_of
from yonder.errors import DataError
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.schema import Prompt

DEVELOPMENT = ".development"
MOST_OPTIONS = 10  # the verifier reads the letters A to J

log = logging.getLogger(__name__)


@cache
def warn_once(message: str) -> None:
    """A warning that several stages would repeat."""
    log.warning(message)


def load_data(
    name: str,
    recipe_data: Mapping[str, DataSettings],
    default_task: TaskSettings,
    seed: int,
    overlay: Overlay | None = None,
) -> list[Prompt]:
    """The prompts of a data set, in its source's order.

    `NAME.development` is the part set apart by `development`, NAME the rest. Both depend on the recipe's seed and the
    source's questions alone, so two data sets over one source set the same questions apart, and neither trains on the
    other's.
    `limit` keeps questions drawn by the seed: a smaller limit is a subset of a larger one, also of another data set
    over the same source, unless `without` leaves that one's questions out. A labeled data set leaves
    out rows that have neither a label nor a solution. A mixture is one pass over its parts in the given shares, as long
    as no part is repeated. `overlay` puts other labels in the place of the source's, part for part.
    DataError for an unknown name, a source that cannot be read, and a data set that ends up empty.
    """
    base, settings = find_data(name, recipe_data)
    if settings.mixture is not None:
        return _load_mixture(base, settings, recipe_data, default_task, seed, overlay)
    task = settings.task or default_task
    chosen = _chosen(name, recipe_data, default_task, seed)
    prompts = [build_prompt(record, task, settings.labeled) for record in chosen]
    if settings.shots_from is not None:
        if not task.chat and not task.stop:
            raise DataError(
                f"data.{base}: a policy that has read worked questions writes another one after its answer; set the "
                'task\'s `stop: ["\\nQuestion:"]`, or `chat: true`'
            )
        worked = _worked(base, settings.shots_from, recipe_data, task, seed)
        prompts = with_shots(prompts, worked, settings.shots, base)
    return prompts if overlay is None else overlay(name, settings, prompts)


def _chosen(name: str, recipe_data: Mapping[str, DataSettings], default_task: TaskSettings, seed: int) -> list[Record]:
    """The rows of a data set over one source."""
    base, settings = find_data(name, recipe_data)
    chosen = _part(name, settings, read_records(settings, base), recipe_data, seed)
    if not chosen:
        raise DataError(f"data.{name}: no question is left after the development splits; make `development` smaller")
    chosen = _usable(base, settings, settings.task or default_task, chosen)
    for other in settings.without:
        theirs = {normal(record.question) for record in _chosen(other, recipe_data, default_task, seed)}
        chosen = [record for record in chosen if normal(record.question) not in theirs]
        if not chosen:
            raise DataError(f"data.{base}.without: every question of `{base}` is one of `{other}`; leave it out there")
    if settings.limit is not None and not name.endswith(DEVELOPMENT):
        chosen = _drawn(chosen, settings.limit, f"{seed}:limit")
    return chosen


def _worked(
    name: str, source: str, recipe_data: Mapping[str, DataSettings], task: TaskSettings, seed: int
) -> list[Prompt]:
    """The data set that gives the worked questions, in the task format of the one that asks for them."""
    base, settings = find_data(source, recipe_data)
    if base == name or settings.shots_from is not None:
        raise DataError(f"data.{name}.shots_from: `{source}` needs worked questions itself; name a data set without")
    return load_data(source, dict(recipe_data) | {base: settings.model_copy(update={"task": task})}, task, seed)


def find_data(name: str, recipe_data: Mapping[str, DataSettings]) -> tuple[str, DataSettings]:
    """The name without `.development`, and its settings. DataError where the recipe has no such data set or split."""
    base = name.removesuffix(DEVELOPMENT)
    settings = recipe_data.get(base)
    if settings is None:
        raise DataError(f"there is no data set `{base}`; the recipe has {', '.join(recipe_data) or 'none'}")
    if base != name and (settings.mixture is not None or not settings.development):
        raise DataError(f"data.{base} has no development split; set `development` to a number of questions there")
    if settings.mixture is not None:
        for key, value in (("development", settings.development), ("limit", settings.limit)):
            if value:
                raise DataError(f"data.{base}: a mixture takes no `{key}`; set it on the mixture's parts")
    return base, settings


def part_settings(
    name: str, settings: DataSettings, recipe_data: Mapping[str, DataSettings]
) -> dict[str, DataSettings]:
    """The recipe's data sets as a mixture's parts: its task is their default, and it may hide their answers.

    DataError for a mixture that contains itself.
    """
    if name in (settings.mixture or {}):
        raise DataError(f"data.{name}: a mixture cannot contain itself; leave `{name}` out of its shares")
    result: dict[str, DataSettings] = {}
    for other, data in recipe_data.items():
        if other != name:
            update = {
                "task": data.task or settings.task,
                "labeled": data.labeled and settings.labeled,
                "labels": data.labels if settings.labeled else None,
            }
            result[other] = data.model_copy(update=update)
    return result


def with_solutions(prompts: Sequence[Prompt], name: str = "the data set") -> list[Prompt]:
    """The prompts with a solution, which SFT can use. The rest is counted in the log; DataError when none is left."""
    kept = [prompt for prompt in prompts if prompt.solution is not None]
    if not kept:
        mend = "use labeled data with programs or reasoning, or map their column with `columns: {solution: NAME}`"
        raise DataError(f"{name}: none of its {len(prompts)} questions has a solution for this task format; {mend}")
    if len(kept) < len(prompts):
        several = len({(prompt.id, prompt.question) for prompt in prompts})  # a question may have several solutions
        warn_once(f"{name}: left out {len(prompts) - len(kept)} of {several} questions without a solution")
    return kept


def resampled(prompts: Sequence[Prompt], task: TaskSettings, seed: int, epoch: int) -> list[Prompt]:
    """`augment: resample-numbers` for SFT: each program prompt with new numbers, a pure function of seed, epoch and id.

    Prompts whose numbers cannot be changed safely stay as they are. A changed prompt has no answer: none was computed.
    """
    from yonder.data.augmentation import resample_numbers
    from yonder.data.programs import HEADER

    result: list[Prompt] = []
    for prompt in prompts:
        changed = None
        if task.format == "program" and prompt.solution is not None:
            rng = random.Random(f"{seed}:{epoch}:{prompt.id}")
            changed = resample_numbers(prompt.question, HEADER + prompt.solution, rng)
        if changed is None:
            result.append(prompt)
            continue
        record = Record(prompt.id, changed[0], program=changed[1], category=prompt.category)
        rebuilt = build_prompt(record, task, labeled=True)
        result.append(rebuilt if rebuilt.solution is not None else prompt)
    return result


def _usable(name: str, settings: DataSettings, task: TaskSettings, records: list[Record]) -> list[Record]:
    """Without the rows that this task format cannot use; DataError when none is left."""
    kept = [record for record in records if record.options or task.format != "choice"]
    if not kept:
        raise DataError(f"data.{name}: `format: choice` needs options; map them with `columns: {{options: NAME}}`")
    if task.format == "choice":
        readable = [record for record in kept if len(record.options) <= MOST_OPTIONS]
        if len(readable) < len(kept):
            many = f"have more than {MOST_OPTIONS} options, whose letters are not read"
            if not readable:
                raise DataError(f"data.{name}: all {len(kept)} questions {many}; shorten the lists")
            warn_once(f"data.{name}: left out {len(kept) - len(readable)} of {len(kept)} questions, which {many}")
        kept = records = readable
    if settings.labeled and task.format != "open":
        kept = [record for record in kept if label_of(record, task) is not None or _has_solution(record, task)]
    if not kept:
        raise DataError(
            f"data.{name}: no row has an answer or a solution for `format: {task.format}`; "
            "set `labeled: false`, or map them with `columns`"
        )
    if len(kept) < len(records):
        warn_once(f"data.{name}: left out {len(records) - len(kept)} of {len(records)} questions without a label")
    return kept


def _has_solution(record: Record, task: TaskSettings) -> bool:
    return task.format == "program" and record.program is not None


def _part(
    name: str, settings: DataSettings, records: list[Record], recipe_data: Mapping[str, DataSettings], seed: int
) -> list[Record]:
    """The development part, or the rest: without every question that any data set over this source sets apart, also
    where case, spaces or punctuation differ.

    Decided on all rows of the source, usable or not, so that it does not depend on task or labels.
    """
    salt = f"{seed}:development"
    if name.endswith(DEVELOPMENT):
        return _drawn(records, settings.development, salt)
    apart: set[str] = set()
    for other, data in recipe_data.items():
        if data.development and (data.source, data.split) == (settings.source, settings.split):
            same = (data.options, data.columns) == (settings.options, settings.columns)
            theirs = records if same else read_records(data, other)
            apart.update(normal(record.question) for record in _drawn(theirs, data.development, salt))
    return [record for record in records if normal(record.question) not in apart]


def _drawn(records: Iterable[Record], count: int, salt: str) -> list[Record]:
    """`count` records whose questions have the smallest hashes, in their order: the same whatever else is there."""
    order = sorted(
        enumerate(records),
        key=lambda item: hashlib.sha256(f"{salt}:{_key(item[1].question)}".encode()).digest(),
    )
    return [record for _, record in sorted(order[:count], key=lambda item: item[0])]


def _key(question: str) -> str:
    return " ".join(question.lower().split())


def _load_mixture(
    name: str,
    settings: DataSettings,
    recipe_data: Mapping[str, DataSettings],
    default_task: TaskSettings,
    seed: int,
    overlay: Overlay | None,
) -> list[Prompt]:
    shares = {part: share for part, share in (settings.mixture or {}).items() if share > 0}
    inner = part_settings(name, settings, recipe_data)
    parts = {part: load_data(part, inner, default_task, seed, overlay) for part in shares}
    size = min(len(parts[part]) / share for part, share in shares.items())
    result: list[Prompt] = []
    for part, share in shares.items():
        prompts = parts[part]
        kept = sorted(
            random.Random(f"{seed}:{name}:{part}").sample(
                range(len(prompts)), min(int(share * size + 1e-9), len(prompts))
            )
        )
        result += [replace(prompts[i], id=f"{part}/{prompts[i].id}") for i in kept]
    if not result:
        raise DataError(f"data.{name}: its parts are too small for these shares; add questions or change the shares")
    return result
