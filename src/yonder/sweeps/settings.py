"""What a sweep is: its sections, and reading them from a file or from a command; imports no torch."""

import difflib
import itertools
import json
import re
import shlex
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from yonder.errors import RecipeError
from yonder.recipe import parse_section, read_tree, shipped_recipes
from yonder.recipe.base import Section


class RowSettings(Section):
    """One row of the table: what it changes in the recipe, and which checkpoint it shows."""

    name: str = Field(min_length=1)
    """What the table calls it; its folder is named after it."""
    overrides: tuple[str, ...] = ()
    """`key.sub=value`, as on the command line of `yonder run`."""
    recipe: str | None = None
    """Another recipe than the sweep's."""
    checkpoint: str | None = None
    """The stage whose model is evaluated; default: the sweep's."""
    benchmarks: dict[str, str] = {}
    """Column -> the recipe's benchmark, where they are named differently."""
    seeds: tuple[int, ...] | None = Field(default=None, min_length=1)
    """Other seeds than the sweep's."""
    figure: Literal["accuracy", "vote"] = "accuracy"
    """accuracy: greedy; vote: of the majority of samples, which the benchmark must ask for (`votes`)."""
    baseline: str | None = None
    """The row that this one is compared with; default: the sweep's."""
    reported: dict[str, float] = {}
    """Column -> per cent that a paper reports, shown beside ours."""


class SweepSettings(Section):
    """One recipe over rows and seeds."""

    title: str = ""
    """One line above the table."""
    recipe: str
    """Name or file of the recipe; a file's path is relative to the working directory."""
    notes: tuple[str, ...] = ()
    """What a reader of the table must know."""
    overrides: tuple[str, ...] = ()
    """For every row, before its own."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Every row is run with each."""
    baseline: str | None = None
    """Name of the row that the others are compared with."""
    checkpoint: str | None = None
    """The stage whose model every row shows, unless it names another; without one all stages are run, and the table
    has every checkpoint that they evaluate."""
    benchmarks: tuple[str, ...] = ()
    """The table's columns, in this order; default: all."""
    rows: tuple[RowSettings, ...] = ()
    """The rows; without any, one of the recipe as it is."""
    grid: dict[str, tuple[Any, ...]] = {}
    """Key -> values: every row with every combination of these."""

    @model_validator(mode="after")
    def _names(self) -> "SweepSettings":
        for seeds in (self.seeds, *(row.seeds or () for row in self.rows)):
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"`seeds` {list(seeds)} names one twice; leave it out")
        empty = next((key for key, values in self.grid.items() if not values), None)
        if empty is not None:
            raise ValueError(f"`grid.{empty}` has no values; give at least one")
        rows = [row.name for row in table_rows(self)]
        twice = next((name for name in rows if rows.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two rows are called `{twice}`; give them different names")
        slugs = [slug(name) for name in rows]
        alike = [name for name, short in zip(rows, slugs, strict=True) if slugs.count(short) > 1]
        if alike:
            raise ValueError(f"rows `{alike[0]}` and `{alike[1]}` would have one folder; name one otherwise")
        for name in (self.baseline, *(row.baseline for row in self.rows)):
            if name is not None and name not in rows:
                raise ValueError(f"`baseline: {name}` is no row; there are: {', '.join(rows)}")
        return self


def table_rows(sweep: SweepSettings) -> tuple[RowSettings, ...]:
    """The rows with the grid written out: `row, key=value, ...`."""
    if not sweep.grid:
        return sweep.rows or (RowSettings(name="as it is"),)
    pairs = [[f"{key}={_plain(value)}" for value in values] for key, values in sweep.grid.items()]
    found: list[RowSettings] = []
    for row in sweep.rows or (None,):
        for point in itertools.product(*pairs):
            name = ", ".join([*([row.name] if row else []), *point])
            whole = (row or RowSettings(name=name)).model_dump()
            whole |= {"name": name, "overrides": (*(row.overrides if row else ()), *point)}
            found.append(RowSettings.model_validate(whole))
    return tuple(found)


def slug(name: str) -> str:
    """A row's name as the name of a folder."""
    return re.sub(r"[^a-z0-9.=]+(?<!=-)", "-", name.lower()).strip("-.") or "row"


def shipped_sweeps() -> dict[str, Path]:
    """Name -> file of the sweeps inside the package."""
    folder = Path(str(resources.files("yonder") / "recipes" / "sweeps"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_sweep(name: str, changes: dict[str, Any] | None = None) -> tuple[SweepSettings, str]:
    """A sweep by shipped name or file, or one over a recipe; and its short name.

    `changes` replace its keys; `overrides` and `rows` are added to its own. RecipeError for whatever is wrong, with the
    key.
    """
    path = _find(name)
    tree: dict[str, Any] = read_tree(path, "a sweep") if path is not None else {"recipe": name}
    origin = str(path or "sweep")
    if "stages" in tree:
        tree = {"recipe": name}
    for key, value in (changes or {}).items():
        before = tree.get(key)
        tree[key] = [*before, *value] if key in ("overrides", "rows") and isinstance(before, list) else value
    return parse_section(SweepSettings, tree, origin), path.stem if path is not None else name


def parse_grid(texts: Sequence[str]) -> dict[str, list[str]]:
    """`KEY=V1,V2` of the command line. A comma inside brackets, braces or quotes is part of a value."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        parts = [value.strip() for value in _split(values)]
        if not key or not equals or not all(parts):
            raise RecipeError(f"--grid {text}: write KEY=VALUE,VALUE,... without empty values")
        if key in found:
            raise RecipeError(f"--grid {text}: `{key}` is given twice; put all its values into one --grid")
        found[key] = parts
    return found


def parse_rows(texts: Sequence[str]) -> list[dict[str, Any]]:
    """`NAME: KEY=VALUE KEY=VALUE` of the command line."""
    found: list[dict[str, Any]] = []
    for text in texts:
        name, colon, rest = text.partition(":")
        try:
            overrides = shlex.split(rest)
        except ValueError as error:
            raise RecipeError(f"--row {text}: {error}; close the quotes") from None
        if not name.strip() or not colon or any("=" not in part for part in overrides):
            raise RecipeError(f"--row {text}: write NAME: KEY=VALUE KEY=VALUE ...")
        found.append({"name": name.strip(), "overrides": overrides})
    return found


def parse_seeds(text: str) -> list[int]:
    """`0,1,2` of the command line."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise RecipeError(f"--seeds {text}: write whole numbers with commas between, such as 0,1,2") from None


def _find(name: str) -> Path | None:
    """The file of a sweep or a recipe; None for the name of a shipped recipe."""
    if Path(name).is_file():
        return Path(name)
    sweeps = shipped_sweeps()
    if name in sweeps:
        return sweeps[name]
    if name in shipped_recipes():
        return None
    near = difflib.get_close_matches(name, [*sweeps, *shipped_recipes()], n=3)
    mend = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "`yonder sweep --list` and `yonder recipes` list those shipped"
    )
    raise RecipeError(f"there is no sweep, recipe or file `{name}`; {mend}")


def _split(text: str) -> list[str]:
    """At the commas that are in no bracket and no quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += 0 if quote else (letter in "[{(") - (letter in "]})")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _plain(value: Any) -> str:
    """A value of a sweep file as it stands in an override."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(inner) for inner in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)
