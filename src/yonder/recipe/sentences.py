"""What a recipe's reader is told of a mistake: one sentence with the key, what is wrong and how to mend it."""

import difflib
import re
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_KINDS = {  # pydantic's names of what it wanted, where its own words are Python's
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
}
_NEAR = 0.75  # of a choice: `float64` is no slip of the pen for `float32`
_FEW = 8  # keys of a section that are listed


def sentence(error: ValidationError, tree: dict[str, Any], section: type[BaseModel]) -> str:
    """The first mistake in the values `tree` of a section as `key: what is wrong; how to mend it`; an unknown key
    before any other."""
    found = [one for one in error.errors(include_url=False) if not _follows(one, error)]
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    key = _key(list(first["loc"]), tree)
    same = [one for one in found if _key(list(one["loc"]), tree) == key and one["type"] != "extra_forbidden"]
    others = len(found) - max(1, len(same)) if first["type"] != "extra_forbidden" else len(found) - 1
    more = f" (and {others} more)" if others else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key `{key}`{_hint(list(first['loc']), tree, section)}{more}"
    if first["type"] == "missing":
        return f"missing key `{key}`; add it{more}"
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
        return f"{key}: {message}{more}" if key else f"{message}{more}"
    if first["type"] == "too_short" and "ctx" in first:
        least, has = first["ctx"]["min_length"], first["ctx"]["actual_length"]
        what = "is an empty list" if not has else f"has {has} of the {least} entries that it needs at least"
        return f"{key}: {what}; name {'one' if least == 1 else least} or more{more}"
    given = first.get("input")
    shown = f", not {given!r}" if isinstance(given, str | int | float | bool) or given is None else ""
    wanted = [_wanted(one) for one in same]
    if all(wanted) and any(one["type"] in _KINDS for one in same):
        return f"{key}: write {' or '.join(dict.fromkeys(wanted))}{shown}{more}"
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}{shown}{_choice(first)}{more}"


def _follows(one: Any, error: ValidationError) -> bool:
    """Whether it is no mistake of its own: a list is too short when the only item in it is wrong, and a section that is
    wrong is no text, where one could stand instead."""
    place = one["loc"]
    others = [other["loc"] for other in error.errors(include_url=False) if other["loc"] != place]
    if one["type"] == "string_type" and place[-1] == "str" and isinstance(one["input"], dict):
        return any(loc[: len(place) - 1] == place[:-1] for loc in others)
    return one["type"] == "too_short" and any(loc[: len(place)] == place for loc in others)


def _wanted(error: Any) -> str:
    """What would be accepted, in words; empty where only pydantic's message says so."""
    if error["type"] == "literal_error":
        return error["ctx"]["expected"]
    return _KINDS.get(error["type"], "")


def _choice(error: Any) -> str:
    """`; did you mean ...?` where one of the words that may be chosen is near the given one."""
    given = error.get("input")
    words = str(error.get("ctx", {}).get("expected_tags" if "tag" in error["type"] else "expected", ""))
    if isinstance(given, dict) and "tag" in error.get("ctx", {}):
        given = error["ctx"]["tag"]
    if error["type"] not in ("literal_error", "union_tag_invalid") or not isinstance(given, str):
        return ""
    choices = re.findall("'([^']*)'", words)
    near = difflib.get_close_matches(given.lower().replace("_", "-"), choices, n=1, cutoff=_NEAR)
    return f"; did you mean `{near[0]}`?" if near else ""


def _hint(location: Sequence[str | int], tree: dict[str, Any], root: type[BaseModel]) -> str:
    """How an unknown key is mended: a near one of the same section, or where in the sections below it stands."""
    name = str(location[-1])
    sections = _sections_at(location[:-1], root)
    below = [path for section in sections for path in _paths(section) if path.rpartition(".")[2] == name]
    if below:
        return f"; did you mean `{min(below, key=lambda path: path.count('.'))}`?"
    keys = sorted({key for section in sections for key in section.model_fields})
    stages = [str(one["name"]) for one in tree.get("stages") or [] if isinstance(one, dict) and "name" in one]
    top = len(location) == 1 and "stages" in root.model_fields
    if top and name in stages:
        return f", but a stage has this name; write {name}.KEY=value"
    near = difflib.get_close_matches(name, keys + stages if top else keys, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    if top and isinstance(tree.get(name), dict):
        return f", and no stage has this name; there is: {', '.join(stages) or 'none'}"
    return f"; there is: {', '.join(keys)}" if 0 < len(keys) <= _FEW else "; remove it"


def _sections_at(location: Sequence[str | int], root: type[BaseModel]) -> list[type[BaseModel]]:
    """The sections that may stand at pydantic's location of an error; tags of unions choose among them."""
    here: list[Any] = [root]
    for part in location:
        parts = _members(here)
        tagged = [one for one in parts if _is_section(one) and _has_tag(one, part)]
        if tagged and len(parts) > 1:
            here = tagged
            continue
        inside: list[Any] = []
        for one in parts:
            if _is_section(one):
                inside += [one.model_fields[part].annotation] if part in one.model_fields else []
            else:
                inside += get_args(one)[-1 if getattr(one, "__origin__", None) is dict else 0 :][:1]
        here = inside or here
    return [one for one in _members(here) if _is_section(one)]


def _is_section(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, BaseModel)


def _has_tag(section: type[BaseModel], tag: str | int) -> bool:
    return "kind" in section.model_fields and tag in get_args(section.model_fields["kind"].annotation)


def _members(annotations: Sequence[Any]) -> list[Any]:
    """The sections, mappings and lists of these annotations, unions taken apart."""
    found: list[Any] = []
    waiting = list(annotations)
    for item in waiting:  # grows
        if _is_section(item) or getattr(item, "__origin__", None) in (dict, tuple, list):
            found.append(item)
        else:
            waiting += [one for one in get_args(item) if not isinstance(one, str)]
    return found


def _paths(section: type[BaseModel]) -> list[str]:
    """Dotted keys of the sections below one, lists and mappings left out."""
    found: list[str] = []
    for key, field in section.model_fields.items():
        for one in _members([field.annotation]):
            if _is_section(one):
                found += [f"{key}.{name}" for name in [*one.model_fields, *_paths(one)]]
    return found


def _key(location: Sequence[str | int], tree: dict[str, Any]) -> str:
    """A dotted key as a user writes it: stages by name, no union tags."""
    parts: list[str] = []
    node: Any = tree
    for part in location:
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
            part = node.get("name", part) if isinstance(node, dict) else part
        elif (
            (isinstance(node, dict) and part == node.get("kind"))
            or part in ("str", "FreshModel", "PreferenceSettings")
            or str(part).startswith(("function-", "literal[", "tuple["))
        ):
            continue
        else:
            node = None
        parts.append(str(part))
    return ".".join(parts)
