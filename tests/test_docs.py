"""What the documents say exists: files, commands, targets, functions, tests, recipe keys."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import recipe_reference

import yonder
from yonder.cli import app
from yonder.data.attacks import ATTACKS
from yonder.recipe import Recipe, load_recipe, parse_recipe, shipped_recipes
from yonder.recipe.attacks import WITHHELD

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = "core|data|evaluation|models|pipeline|recipe|reporting|rewards|sandbox|stages|training"

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def blocks(path: Path, language: str) -> list[str]:
    """Fenced examples of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def code(path: Path) -> str:
    """Everything in backticks, fences and indented blocks, one piece a line."""
    text = path.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    .*$", text, re.MULTILINE)
    return "\n".join([*re.findall(r"`([^`\n]+)`", text), *fenced, *indented])


def defined(path: Path) -> set[str]:
    """Names that a file defines, methods as `Class.method`."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


def has(dotted: str) -> bool:
    """Whether src/yonder defines this (`training.distill.Distiller.iterate`), or it is a key (`sandbox.fallback`)."""
    parts = dotted.split(".")
    section = Recipe.model_fields[parts[0]].annotation if parts[0] in Recipe.model_fields else None
    if len(parts) == 2 and parts[1] in getattr(section, "model_fields", {}):
        return True
    for length in range(len(parts), 0, -1):
        stem = ROOT.joinpath("src", "yonder", *parts[:length])
        rest = ".".join(parts[length:])
        file = stem.with_suffix(".py")
        if file.is_file():
            return not rest or rest in defined(file)
        if (stem / "__init__.py").is_file():
            first = parts[length] if rest else ""
            return not rest or re.search(rf"\b{first}\b", (stem / "__init__.py").read_text()) is not None
    return False


def test_the_recipe_reference_is_what_the_models_say():
    said = recipe_reference.TARGET.read_text(encoding="utf-8")
    assert said == recipe_reference.render(), "run: python tools/recipe_reference.py"


def test_the_attack_suite_is_what_the_table_says():
    text = (ROOT / "docs" / "judges.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| .* \| (\d+) \| (allowed|withheld) \|$", text, re.MULTILINE)
    there = [(k, str(len(p)), "withheld" if k in WITHHELD else "allowed") for k, p in ATTACKS.items()]
    assert rows == there
    total = sum(len(patterns) for patterns in ATTACKS.values())
    assert f"{total} patterns in {len(ATTACKS)} kinds" in text


@every_document
def test_links_resolve(path: Path):
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    places = [link.partition("#")[0] for link in links if not re.match(r"https?://", link)]
    assert [place for place in places if place and not (path.parent / place).exists()] == []
    if path.parent.name == "docs":  # the site has no other folder
        assert [place for place in places if ".." in place] == []


@every_document
def test_commands_and_targets_exist(path: Path):
    commands = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = code(path)
    used = re.findall(r"(?<![\w./-])(?<!from )yonder ([a-z][a-z-]*)(?![\w.:/-])", text)
    assert set(used) <= commands
    assert set(re.findall(r"(?<!\w)make ([a-z][a-z-]*)", text)) <= targets
    named = set(re.findall(r"yonder (?:run|recipes) ([a-z][a-z-]*)(?![\w./-])", text))
    assert named <= set(shipped_recipes())


@every_document
def test_files_functions_and_tests_exist(path: Path):
    text = code(path)
    files = re.findall(r"(?<![\w/.-])(?:src/yonder|tests|tools|docs)/[\w./-]+", text)
    missing = [file for file in files if "NAME" not in file and not (ROOT / file.rstrip("./")).exists()]
    assert missing == []
    for file, name in re.findall(r"(tests/[\w/]+\.py)::(\w+)", text):
        assert name in defined(ROOT / file), f"{file}::{name}"
    dotted = re.findall(rf"^(?:yonder\.)?((?:{PACKAGES})\.[a-z_.]*\.?[A-Za-z_0-9.]+)$", text, re.MULTILINE)
    names = [name for name in dotted if not name.endswith((".py", ".yaml")) and "NAME" not in name]
    assert [name for name in names if not has(name)] == []


@every_document
def test_yaml_examples_are_recipes(path: Path):
    for example in blocks(path, "yaml"):
        tree: dict[str, Any] = yaml.safe_load(example)
        if "stages" not in tree:  # a fragment: the least that makes it a recipe
            first = next(iter(tree["data"]))
            tree = {"policy": {"model": "x"}, "stages": [{"name": "a", "kind": "warmup", "data": first}]} | tree
        parse_recipe(tree, path.name)


@every_document
def test_python_examples_compile_and_import_public_names(path: Path):
    for example in blocks(path, "python"):
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.ImportFrom) and node.module == "yonder":
                assert {alias.name for alias in node.names} <= set(yonder.__all__)


def test_the_readme_recipe_loads_with_its_overrides(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(blocks(ROOT / "README.md", "yaml")[0], encoding="utf-8")
    command = re.search(r"yonder run mine\.yaml ((?:[\w.]+=\w+ ?)+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert command is not None
    recipe = load_recipe(tmp_path / "mine.yaml", command[1].split())
    assert recipe.seed == 1 and recipe.stage("distill").steps == 200  # type: ignore[union-attr]


def test_the_readme_tree_names_what_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"^    src/yonder/\n((?:      .*\n)+)", text, re.MULTILINE)
    assert tree is not None
    named = [re.match(r"(?: ?[\w./]+(?:\.py|/)(?= ))+", line.strip()) for line in tree[1].splitlines()]
    names = {name.rstrip("/") for match in named if match for name in match[0].split()}
    package = ROOT / "src" / "yonder"
    there = {path.name for path in package.iterdir() if not path.name.startswith("__")}
    assert names == there, "README.md, Where things are"
