"""From a YAML file and overrides to a checked `Recipe`; every mistake becomes one sentence that names the key."""

import difflib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.composer import ComposerError

from yonder.errors import RecipeError
from yonder.recipe.recipe import Recipe
from yonder.recipe.rewards import JudgeSettings
from yonder.recipe.rounds import expanded, names_of_rounds
from yonder.recipe.sentences import sentence

S = TypeVar("S", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML with 1.2's booleans: `on`, `off`, `yes` and `no` are words. A key that occurs twice is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise ComposerError(None, None, f"the key `{key.value}` occurs twice", key.start_mark)
            seen.add(str(key.value))
        return node


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def _read_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)  # a SafeLoader


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes inside the package."""
    folder = Path(str(resources.files("yonder") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str | Path) -> Path:
    """The file of a shipped recipe's name or of a path; RecipeError with near names when there is none."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if str(name) in shipped:
        return shipped[str(name)]
    near = difflib.get_close_matches(str(name), list(shipped), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"shipped recipes: {', '.join(shipped)}"
    raise RecipeError(f"there is no recipe file or shipped recipe `{name}`; {hint}")


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by shipped name or path, apply `key.sub=value` overrides, check it.

    Raises RecipeError with one sentence that names the key and the mend.
    """
    path = find_recipe(name)
    tree = read_tree(path, "a recipe")
    tree = _overridden(tree, overrides, str(path))
    tree.setdefault("output_dir", f"runs/{path.stem}")
    return parse_recipe(tree, str(path))


def read_tree(path: Path, what: str) -> dict[str, Any]:
    """The plain values of a YAML file; RecipeError where it cannot be read or is no mapping. `what`: what it ought to
    be."""
    try:
        tree = _read_yaml(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise RecipeError(
            f"{path}, line {line}: not valid YAML: {error.problem}; check indentation and colons"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error
    if not isinstance(tree, dict):
        holds = "nothing" if tree is None else f"a {type(tree).__name__}"
        raise RecipeError(f"{path}: {what} is a mapping of keys; this file holds {holds}")
    return _unshared(tree)


def _overridden(tree: dict[str, Any], overrides: Sequence[str], origin: str) -> dict[str, Any]:
    """The tree with all overrides and its rounds written out. `rounds` comes first; what names a stage, data set or
    reward of one round (`student-2.steps`) comes when that is there."""
    for override in overrides:
        if override.startswith("rounds="):
            apply_override(tree, override)
    later = names_of_rounds(tree)
    parts = {override: set(override.partition("=")[0].split(".")) for override in overrides}
    for override in overrides:
        if not override.startswith("rounds=") and not parts[override] & later:
            apply_override(tree, override)
    tree = expanded(tree, origin)
    for override in overrides:
        if parts[override] & later:
            apply_override(tree, override)
    return tree


def parse_recipe(tree: dict[str, Any], origin: str) -> Recipe:
    """Check a tree of plain values, its rounds written out; `origin` is named in the error."""
    tree = expanded(tree, origin)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{origin}: {sentence(error, tree, Recipe)}") from None


def parse_section(section: type[S], tree: Mapping[str, Any], origin: str) -> S:
    """Check the plain values of one section alone; `origin` is named in the error."""
    try:
        return section.model_validate(dict(tree))
    except ValidationError as error:
        raise RecipeError(f"{origin}: {sentence(error, dict(tree), section)}") from None


RECIPES_ONLY = {
    "guards": "are for completions of a policy",
    "min_code_lines": "is for completions of a policy",
    "allow_failing": "is a consent to training",
    "allow_unmeasured": "is a consent to training",
    "server.cache": "is a file of a run directory",
    "server.price_per_million": "is for a stage's result",
}
"""Keys of a judge that say nothing where a file is scored, and why."""


def judge_settings(
    model: str, prompt: str, overrides: Sequence[str], unused: Mapping[str, str] = RECIPES_ONLY
) -> JudgeSettings:
    """The settings of a judge outside of a recipe; `overrides` are `key=value` or `server.key=value`.

    RecipeError for wrong ones, for a stage's model, and for keys switched on that would do nothing: `unused`, key ->
    why.
    """
    tree: dict[str, Any] = {"model": model, "prompt": prompt}
    for override in overrides:
        apply_override(tree, override)
    checked = parse_section(JudgeSettings, tree, "judge")
    if isinstance(checked.model, str) and checked.model.startswith("stage:"):
        raise RecipeError(
            f"judge: `{checked.model}` is known inside its recipe only; give the folder that the stage's stage.json "
            "names as `checkpoint`"
        )
    for key, why in unused.items():
        section, _, name = key.rpartition(".")
        given = tree.get(section) if section else tree
        if isinstance(given, dict) and given.get(name):
            raise RecipeError(f"judge: `{key}` {why}, nothing for a file of responses; remove it")
    return checked


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set `key.sub=value` in place; a stage is reached by its name, or by its kind where only one stage has it."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override `{override}`: write key.sub=value")
    try:
        value = _read_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"override `{override}`: the value is not valid YAML; quote it") from error
    if isinstance(value, str):
        value = _number(value)
    node: Any = tree
    parts = _stage_path(tree, key.split("."))
    for part in parts[:-1]:
        node = _descend(node, part, override)
    if isinstance(node, list):
        node[_index(node, parts[-1], override)] = value
    elif isinstance(node, dict):
        node[parts[-1]] = value
    else:
        raise RecipeError(f"override `{override}`: `{'.'.join(parts[:-1])}` is a value, not a section")


def _unshared(node: Any) -> Any:
    """A copy in which what YAML anchors made one object is several, so that an override changes one place."""
    if isinstance(node, dict):
        return {key: _unshared(value) for key, value in node.items()}
    return [_unshared(value) for value in node] if isinstance(node, list) else node


def _number(text: str) -> Any:
    """YAML reads 1e-4 as a string; people mean a number."""
    try:
        return float(text)
    except ValueError:
        return text


def _stage_path(tree: dict[str, Any], parts: list[str]) -> list[str]:
    """Put `stages.NAME` before a path that begins with a stage's name or with the kind of exactly one stage."""
    stages = [stage for stage in tree.get("stages") or [] if isinstance(stage, dict)]
    if parts[0] in Recipe.model_fields or len(parts) < 2:
        return parts
    named = [stage["name"] for stage in stages if stage.get("name") == parts[0]]
    kinds = [str(stage.get("name")) for stage in stages if stage.get("kind") == parts[0]]
    if not named and len(kinds) > 1:
        raise RecipeError(
            f"override `{'.'.join(parts)}`: {len(kinds)} stages are of kind {parts[0]}; use the name: {kinds}"
        )
    target = named or kinds
    return ["stages", str(target[0]), *parts[1:]] if target else parts


def _descend(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, override)]
    if isinstance(node, dict):
        if node.get(part) is None:
            node[part] = {}
        return node[part]
    raise RecipeError(f"override `{override}`: `{part}` is inside a value, not a section")


def _index(node: list[Any], part: str, override: str) -> int:
    """The place of a list's entry: by its name (a term's is that of its reward, where one term alone has it), or by its
    number."""
    entries = [item for item in node if isinstance(item, dict)]
    key = next((key for key in ("name", "reward") if any(key in item for item in entries)), "name")
    found = [i for i, item in enumerate(node) if isinstance(item, dict) and key in item and item[key] == part]
    if found and (key == "name" or len(found) == 1):
        return found[0]
    if part.isdigit() and int(part) < len(node):
        return int(part)
    if found:
        raise RecipeError(f"override `{override}`: {len(found)} entries have `{key}: {part}`; use a number: {found}")
    names = [item.get(key) for item in entries if key in item]
    raise RecipeError(f"override `{override}`: no entry `{part}`; there is: {names or f'0 to {len(node) - 1}'}")
