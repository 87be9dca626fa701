"""The house rules, read off the source: layers, cycles, sizes, light imports, one home for heavy things."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import yonder

ROOT = Path(yonder.__file__).parent
LAYERS = [
    ("schema", "protocols", "errors", "signals", "storage", "recipe"),
    ("core", "sandbox", "transport"),
    ("data", "rewards"),
    ("models",),
    ("judges", "generation"),
    ("training",),
    ("evaluation", "reporting", "engines", "teachers"),
    ("assembly",),
    ("stages", "integrations", "planning", "watching", "trackers", "exporting"),
    ("pipeline",),
    ("sweeps",),
    ("commands",),
    ("__main__",),
]
SHARED = (0,)  # single modules, which may import each other (without a cycle)
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(path for path in ROOT.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = ("yonder", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Every module that a file imports anywhere, also inside functions and for type checking only."""
    found: list[str] = []
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            whole = [f"{source}.{alias.name}" for alias in node.names]
            found += [name if name in MODULES else source for name in whole]
    return tuple(dict.fromkeys(found))


def ours(path: Path) -> list[str]:
    """Modules of Yonder that a file imports."""
    return [name for name in imported(path) if name == "yonder" or name.startswith("yonder.")]


def part(module: str) -> str:
    """`yonder.core.kl` -> `core`."""
    return module.removeprefix("yonder").removeprefix(".").split(".")[0]


def importers(library: str) -> set[str]:
    """Files that import a library, as paths inside the package."""
    return {
        str(path.relative_to(ROOT))
        for path in FILES
        if any(name == library or name.startswith(library + ".") for name in imported(path))
    }


def test_every_module_has_a_layer() -> None:
    parts = {part(module) for module in MODULES} - {""}
    assert sorted(parts - set(LAYER)) == [], "give these a place in LAYERS (and in docs)"
    assert sorted(set(LAYER) - parts) == [], "these are gone"


def test_imports_point_downward() -> None:
    wrong: list[str] = []
    for path in FILES:
        here = part(module_of(path))
        if here not in LAYER:  # yonder/__init__.py is exempt: its names are loaded lazily
            continue
        level = LAYER[here]
        for name in ours(path):
            there = -1 if name == "yonder" else LAYER.get(part(name), 99)  # plain `yonder`: its version
            if not (there < level or part(name) == here or (there == level and level in SHARED)):
                wrong.append(f"{path.relative_to(ROOT)} (layer {level}) imports {name} (layer {there})")
    assert wrong == []


def test_no_import_cycle() -> None:
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> Iterator[str]:
        if module in trail:
            yield " -> ".join((*trail[trail.index(module) :], module))
        elif module not in done:
            for name in ours(MODULES[module]):
                if name in MODULES and module != "yonder" and name != module:
                    yield from visit(name, (*trail, module))
            done.add(module)

    assert [cycle for module in MODULES for cycle in visit(module, ())] == []


def test_no_file_over_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_no_class_over_300_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and (node.end_lineno or 0) - node.lineno >= 300
    ]
    assert long == []


def test_no_function_over_60_lines() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": lines
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > 60
    }
    assert long == {}


@pytest.mark.parametrize(
    "code",
    [
        "import yonder",
        "from yonder.recipe import load_recipe; load_recipe(PATH)",
        "from yonder import load_recipe; load_recipe(PATH)",
        "import sys; from yonder.commands.cli import main; sys.argv = ['yonder', '--help']; main()",
    ],
)
def test_what_must_answer_at_once_loads_nothing_heavy(code: str) -> None:
    """Without torch, transformers or datasets in sys.modules, and so usable where they are slow or broken."""
    recipes = sorted((ROOT / "recipes").glob("*.yaml"))
    assert recipes, "no recipe is shipped"
    script = (
        f"PATH = {str(recipes[0])!r}\n"
        f"try:\n    exec({code!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "import sys\n"
        "print('HEAVY', [n for n in ('torch', 'transformers', 'datasets') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "HEAVY []"
    if "--help" in code:
        assert "Usage" in found.stdout
        assert "run" in found.stdout


def test_the_distill_loop_can_be_read_in_an_evening() -> None:
    """Distill and all of ours that it imports, however indirectly, under 3,500 lines."""
    reached: set[str] = set()
    waiting = ["yonder.training.distill"]
    while waiting:
        module = waiting.pop()
        if module in MODULES and module not in reached:
            reached.add(module)
            parents = [module.rsplit(".", cut)[0] for cut in range(1, module.count(".") + 1)]
            waiting += [*ours(MODULES[module]), *(name for name in parents if name != "yonder")]
    lines = {module: len(MODULES[module].read_text(encoding="utf-8").splitlines()) for module in reached}
    assert "yonder.core.losses" in reached
    assert sum(lines.values()) < 3500, sorted(lines.items(), key=lambda item: -item[1])


def test_torch_distributed_has_one_home() -> None:
    """The processes, and what is divided over them."""
    home = {"training/distributed.py", "training/divided.py", "training/meeting.py"}
    assert importers("torch.distributed") <= home
    text = {str(path.relative_to(ROOT)) for path in FILES if "torch.distributed" in ast.unparse(tree(path))}
    assert text <= home  # `import torch` and then torch.distributed.x counts as well


def test_transformers_is_known_to_models_and_generation_alone() -> None:
    inside = ("models/", "generation/")
    allowed = {name for name in importers("transformers") if name.startswith(inside)} | {"training/parts.py"}
    assert sorted(importers("transformers") - allowed) == []


def test_the_core_is_pure() -> None:
    """It never sees a recipe, a file, a process or a logger."""
    forbidden = {"yonder.recipe", "pathlib", "os", "io", "subprocess", "logging", "json", "transformers", "datasets"}
    seen = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in FILES
        if part(module_of(path)) == "core"
        for name in imported(path)
        if any(name == banned or name.startswith(banned + ".") for banned in forbidden)
    }
    assert seen == set()
