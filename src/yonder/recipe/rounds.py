"""`rounds: N` in a recipe: what has `{round}` in its name is repeated, before the recipe is checked."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from yonder.errors import RecipeError

ROUND, BEFORE = "{round}", "{before}"
NAMED = ("data", "rewards", "benchmarks")  # sections whose entries may be repeated, besides stages
Tree = dict[str, Any]


def expanded(tree: Tree, origin: str) -> Tree:
    """The tree with every stage, data set, reward and benchmark of each round, and without `rounds`.

    Consecutive stages with `{round}` in their names are one block: all of round 1, then all of round 2. `{round}` and
    `{before}` (the round before) stand for numbers in all of their texts; elsewhere a text with `{round}` in a list
    becomes the texts of all rounds. RecipeError for what that does not make sense of; `origin` is named in it.
    """
    count, used = tree.get("rounds", 1), _mentions(tree)
    if not used and count == 1:
        return tree
    if type(count) is not int or count < 1:
        raise RecipeError(f"{origin}: rounds: {count!r} is no number of rounds; write 1, 2, 3...")
    if "rounds" not in tree:
        raise RecipeError(f"{origin}: `{used[0]}` names a round, but there is no `rounds`; add `rounds: 2` at the top")
    if not repeated_names(tree):
        raise RecipeError(
            f"{origin}: `rounds: {count}` repeats nothing; put `{ROUND}` into the names of the stages of a round"
        )
    _check_first([stage for stage in tree.get("stages") or [] if isinstance(stage, dict)], origin)
    found = {key: value for key, value in tree.items() if key != "rounds"}
    for section in NAMED:
        if isinstance(found.get(section), dict):
            found[section] = _entries(cast(Tree, found[section]), count, f"{origin}: {section}")
    if isinstance(found.get("stages"), list):
        found["stages"] = _stages(cast(list[Any], found["stages"]), count, origin)
    for key in found:
        if key not in (*NAMED, "stages"):
            found[key] = _everywhere(found[key], count, f"{origin}: {key}")
    return found


def repeated_names(tree: Mapping[str, Any]) -> list[str]:
    """Names with `{round}` in them, as written."""
    names = [str(stage.get("name")) for stage in tree.get("stages") or [] if isinstance(stage, dict)]
    for section in NAMED:
        names += [str(name) for name in tree.get(section) or () if isinstance(tree.get(section), dict)]
    return [name for name in names if ROUND in name]


def names_of_rounds(tree: Mapping[str, Any]) -> set[str]:
    """Names that expanding makes."""
    count = tree.get("rounds")
    rounds = range(1, count + 1) if type(count) is int else ()
    return {name.replace(ROUND, str(number)) for name in repeated_names(tree) for number in rounds}


def _mentions(node: Any) -> list[str]:
    """Every text below a node that has a round in it."""
    if isinstance(node, dict):
        return [text for pair in cast(Tree, node).items() for part in pair for text in _mentions(part)]
    if isinstance(node, list):
        return [text for part in cast(list[Any], node) for text in _mentions(part)]
    return [node] if isinstance(node, str) and (ROUND in node or BEFORE in node) else []


def _in_round(node: Any, number: int) -> Any:
    """A copy of one round."""
    if isinstance(node, dict):
        return {_in_round(key, number): _in_round(value, number) for key, value in cast(Tree, node).items()}
    if isinstance(node, list):
        return [_in_round(part, number) for part in cast(list[Any], node)]
    return node.replace(ROUND, str(number)).replace(BEFORE, str(number - 1)) if isinstance(node, str) else node


def _everywhere(node: Any, count: int, where: str) -> Any:
    """Outside of a round: texts in lists stand for those of all rounds, and there is no other place for one."""
    if isinstance(node, dict):
        entries = cast(Tree, node)
        for key in entries:
            if _mentions(key):
                raise RecipeError(f"{where}.{key}: a round is named in what is not repeated; {_MEND}")
        return {key: _everywhere(value, count, f"{where}.{key}") for key, value in entries.items()}
    if isinstance(node, list):
        found: list[Any] = []
        for part in cast(list[Any], node):
            whole = isinstance(part, str) and ROUND in part and BEFORE not in part
            found += (
                [_in_round(part, number) for number in range(1, count + 1)]
                if whole
                else [_everywhere(part, count, where)]
            )
        return found
    if _mentions(node):
        raise RecipeError(f"{where}: `{node}` names a round in what is not repeated; {_MEND}")
    return node


_MEND = f"put `{ROUND}` into its name too, or name one round by its number"


def _entries(section: Tree, count: int, where: str) -> Tree:
    found: Tree = {}
    for name, value in section.items():
        if ROUND in str(name):
            for number in range(1, count + 1):
                found[_in_round(name, number)] = _in_round(value, number)
        else:
            found[name] = _everywhere(value, count, f"{where}.{name}")
    return found


def _stages(stages: Sequence[Any], count: int, origin: str) -> list[Any]:
    found: list[Any] = []
    block: list[Any] = []
    for stage in [*stages, None]:
        if isinstance(stage, dict) and ROUND in str(cast(Tree, stage).get("name")):
            block.append(stage)
            continue
        found += [_in_round(one, number) for number in range(1, count + 1) for one in block]
        block = []
        if stage is not None:
            name = cast(Tree, stage).get("name", "") if isinstance(stage, dict) else ""
            found.append(_everywhere(stage, count, f"{origin}: stages.{name}"))
    return found


def _check_first(stages: Sequence[Tree], origin: str) -> None:
    """What round 1 takes from the round before must be there."""
    names = {str(stage.get("name")) for stage in stages}
    for stage in stages:
        for text in _mentions(stage):
            reference = text.removeprefix("stage:")
            if BEFORE in reference and reference.replace(BEFORE, ROUND) in names:
                first = reference.replace(BEFORE, "0")
                if first not in names:
                    raise RecipeError(
                        f"{origin}: stages.{stage.get('name')}: `{text}` is `{first}` in round 1, and no stage has "
                        "this name; give it to the stage that round 1 starts from"
                    )
