"""What the documents say exists: files, commands, targets, functions, tests, recipe keys."""

import ast
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from tools import command_reference, draw_figures, recipe_reference

import yonder
from tests.documents import DOCUMENTS, ROOT, anchors, links, name
from tests.documents import fenced as blocks
from yonder.commands.cli import app
from yonder.data.attacks import ATTACKS
from yonder.recipe import Recipe, load_recipe, parse_recipe, shipped_recipes
from yonder.recipe.attacks import WITHHELD

PACKAGES = "|".join(sorted(path.name for path in (ROOT / "src/yonder").iterdir() if (path / "__init__.py").is_file()))

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=name)


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


def test_the_command_reference_is_what_the_commands_say():
    said = command_reference.TARGET.read_text(encoding="utf-8")
    assert said == command_reference.render(), "run: python tools/command_reference.py"


def test_the_figures_are_what_the_script_draws():
    drawn = {file: (draw_figures.FOLDER / file).read_text(encoding="utf-8") for file in draw_figures.figures()}
    assert drawn == draw_figures.figures(), "run: python tools/draw_figures.py"
    rows = re.findall(r"^\| (rolled back|no rollback) \| (\d) \| ([\d.]+) \|.*?\| ([\d.]+) \| [\d.]+, [\d.]+ \|$",
                      (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8"), re.MULTILINE)  # fmt: skip
    told = {(how, int(seed)): (float(before), float(after)) for how, seed, before, after in rows}
    for seed, (before, watched, unwatched) in enumerate(draw_figures.HACKED):
        assert told["rolled back", seed] == (before, watched)
        assert told["no rollback", seed] == (before, unwatched)


@every_document
def test_links_lead_to_files_and_headings(path: Path):
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            parts = urlsplit(link)
            assert parts.scheme == "https" and "." in parts.netloc, link
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), link
        if path.is_relative_to(ROOT / "docs"):  # the site has no other folder
            assert target.is_relative_to(ROOT / "docs"), link
        if anchor:
            assert anchor in anchors(target), link


@every_document
def test_pictures_say_what_they_show(path: Path):
    pictures = re.findall(r"!\[([^\]]*)\]\(", path.read_text(encoding="utf-8"))
    assert [words for words in pictures if len(words) < 10] == []


def test_experiments_have_a_date():
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)\n\n(.*)$", text, re.MULTILINE)
    assert sections
    assert [head for head, first in sections if not re.match(r"\d{4}-\d\d-\d\d", first)] == []


def test_every_page_is_in_the_sites_menu_once():
    tree = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = [page for section in tree for entry in next(iter(section.values())) for page in entry.values()]
    there = [path.relative_to(ROOT / "docs").as_posix() for path in DOCUMENTS if path.is_relative_to(ROOT / "docs")]
    assert sorted(pages) == sorted(there)


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
    for file, function in re.findall(r"(tests/[\w/]+\.py)::(\w+)", text):
        assert function in defined(ROOT / file), f"{file}::{function}"
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
