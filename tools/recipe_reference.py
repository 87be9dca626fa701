"""Write docs/recipe-reference.md: every recipe section and field, from the docstrings of the models themselves.

python tools/recipe_reference.py
"""

import json
import re
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from yonder.recipe.base import Section
from yonder.recipe.recipe import Recipe

TARGET = Path(__file__).resolve().parents[1] / "docs" / "recipe-reference.md"
HEAD = """\
# Recipe reference

Every section and field that a recipe may have. This page is written by `tools/recipe_reference.py` from the
docstrings in `src/yonder/recipe`: edit those, run the script, commit both. The introduction is [Recipes](recipes.md).

NAME stands for a name of your own. Values are YAML; an unknown key is an error. Marks in brackets: [J] and [R] are the
two papers, [ReFT] the public code of Trung et al. 2024, see [Algorithms](algorithms.md).
"""
BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def render() -> str:
    """The whole page."""
    places = sections()
    parts = [HEAD]
    for section, paths in places.items():
        parts.append(f"## {title(paths[0])}\n\n{' '.join((section.__doc__ or '').split())}\n")
        if len(paths) > 1:
            parts.append("The same section is read at " + ", ".join(f"`{path}`" for path in paths[1:]) + ".\n")
        rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
        rows += [row(name, field, places) for name, field in section.model_fields.items()]
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def sections() -> dict[type[Section], list[str]]:
    """Every section that can be reached from the root, with the keys under which it stands, in reading order."""
    found: dict[type[Section], list[str]] = {Recipe: ["recipe"]}
    waiting: list[type[Section]] = [Recipe]
    while waiting:
        section = waiting.pop(0)
        for name, field in section.model_fields.items():
            for inner in inner_sections(field.annotation):
                path = key(section, found, name, field.annotation, inner)
                if inner not in found:
                    waiting.append(inner)
                found.setdefault(inner, []).append(path)
    return found


def inner_sections(annotation: Any) -> list[type[Section]]:
    """The sections inside a type, in order."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    if get_origin(annotation) is Literal:
        return []
    return [section for argument in get_args(annotation) for section in inner_sections(argument)]


def key(
    section: type[Section], found: dict[type[Section], list[str]], name: str, annotation: Any, inner: type[Section]
) -> str:
    """The dotted key of a section inside another; a kind in parentheses where a field takes several."""
    kind = inner.model_fields.get("kind")
    tag = f" ({get_args(kind.annotation)[0]})" if kind is not None else ""
    place = name + (".NAME" if get_origin(annotation) is dict else "")
    if section is Recipe:
        return place + tag
    above = re.sub(r"^.*\((.*)\)$", r"\1", found[section][0])  # "stages (distill)" is `distill` before a field
    return f"{above}.{place}{tag}"


def title(path: str) -> str:
    """A heading."""
    return f"`{path}`"


def anchor(path: str) -> str:
    """The anchor that both GitHub and MkDocs give to a section's heading."""
    return re.sub(r"[^\w\s-]", "", path.lower()).strip().replace(" ", "-")


def row(name: str, field: FieldInfo, places: dict[type[Section], list[str]]) -> str:
    """One line of a section's table."""
    kind = type_text(field.annotation, places)
    bounds = [
        f"{sign} {getattr(constraint, bound):g}"
        for constraint in field.metadata
        for bound, sign in BOUNDS.items()
        if getattr(constraint, bound, None) is not None
    ]
    meaning = " ".join((field.description or "").split()).replace("|", "\\|")
    return f"| `{name}` | {', '.join([kind, *bounds])} | {default_text(name, field)} | {meaning} |"


def type_text(annotation: Any, places: dict[type[Section], list[str]]) -> str:
    """A type in the words of YAML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0], places)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(argument, places) for argument in arguments))
    if origin is tuple:
        return f"list of {type_text(arguments[0], places)}"
    if origin is dict:
        return f"{type_text(arguments[0], places)} -> {type_text(arguments[1], places)}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return f"[{places[annotation][0]}](#{anchor(places[annotation][0])})"
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", type(None): "null"}
    return words.get(annotation, "any value")


def default_text(name: str, field: FieldInfo) -> str:
    """The default as YAML; a section's own defaults stand in its own table."""
    if name == "kind" or field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, Section):
        return "its defaults"
    value = str(field.default) if isinstance(field.default, Path) else field.default
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(TARGET)
