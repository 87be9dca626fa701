"""Every command of README and docs is in a class of tests/doc_commands.py: it runs in a test, or is parsed here."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.doc_commands import FAST, PARSED, SLOW, classes
from tests.documents import DOCUMENTS, ROOT, Command, commands, fenced, name
from yonder.commands.cli import app
from yonder.errors import RecipeError
from yonder.recipe import Recipe, load_recipe, shipped_recipes
from yonder.sweeps.command import Asked
from yonder.sweeps.settings import shipped_sweeps

ALL = [command for path in DOCUMENTS for command in commands(path)]
INLINE = [
    Command(path, text)
    for path in DOCUMENTS
    for text in re.findall(r"`(yonder [a-z-]+ [^`\n]+)`", path.read_text(encoding="utf-8"))
    if name(path) != "docs/commands.md"
]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
OWN = ROOT / "docs" / "how-to" / "first-run.md"  # whose recipe stands for `mine.yaml` where a page has none
STAGES = ("warmup", "collect", "label", "fit-judge", "check-judge", "distill", "evaluate", "alpaca-eval")
# Python blocks that cannot run here, by a line of them.
NEEDS = {
    "Qwen/": "a model of a hub",
    "from trl import": "TRL",
    "def judge_unlabeled(": "the judge of the block before",
    "from yonder import Sandbox, load_judge, load_recipe, run": "a whole run; in tests/slow/test_doc_commands.py",
}


def test_every_command_is_in_one_class() -> None:
    wrong = {f"{name(one.document)}: {one.text}": found for one in ALL if len(found := classes(one.text)) != 1}
    assert wrong == {}, "give each command of a block one place in tests/doc_commands.py"


def test_every_class_is_used() -> None:
    texts = {command.text for command in ALL}
    known = [*FAST, *(text for text, _ in SLOW)]
    assert [text for text in known if text not in texts] == []
    assert [pattern for pattern, _ in PARSED if not any(re.fullmatch(pattern, text) for text in texts)] == []


@pytest.mark.parametrize("command", [*ALL, *INLINE], ids=lambda command: f"{command.document.name}: {command.text}")
def test_commands_are_what_the_program_takes(command: Command, tmp_path: Path) -> None:
    text = re.sub(r"\[(--[^\]]*)\]", r"\1", command.text.replace("[KEY.SUB=VALUE]...", ""))
    words = shlex.split(re.sub(r"=\$?[sS]\b", "=0", text)) if "case " not in text else ["case"]
    while words and re.fullmatch(r"[A-Z_]+=.*|srun", words[0]):
        words = words[1:]
    if words[:2] == ["python", "-m"]:
        inside = words.index("yonder") if "yonder" in words else None
        assert inside is not None or words[2] == "sglang.launch_server", "python -m of what?"
        words = words[inside:] if inside is not None else []
    if not words:
        return
    program, *rest = words
    if program == "yonder":
        parse(command.document, rest, tmp_path)
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", MAKEFILE, re.MULTILINE)
    elif program == "python":
        assert (ROOT / rest[0]).is_file()
    elif program == "pip":
        extras = re.findall(r"\[(.*)\]", rest[-1])
        known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        assert set(extras) <= set(known)


def parse(document: Path, words: list[str], folder: Path) -> None:
    """The command exists and takes these words; its recipe loads with the overrides, and has what the command runs."""
    group: Any = typer.main.get_command(app)
    kind, *rest = words
    assert kind in group.commands, f"there is no command `yonder {kind}`"
    values: dict[str, Any] = group.commands[kind].make_context(kind, rest).params
    if kind == "sweep":
        if values["name"] is not None:
            sweep(values, folder)
        return
    recipe = values.get("recipe")
    if recipe is None or (not recipe.endswith(".yaml") and recipe not in shipped_recipes()):
        assert recipe is None or recipe.isupper(), f"no recipe of that name is shipped: {recipe}"
        return
    if recipe.endswith(".yaml"):
        loaded = own(document, kind, values["overrides"] or [], folder)
    else:
        loaded = load_recipe(recipe, values["overrides"] or [])
    assert runs(loaded, kind)


def sweep(values: dict[str, Any], folder: Path) -> None:
    """Each row's recipe loads, and the run that is named is one of them."""
    name = values["name"]
    if name.endswith(".yaml"):  # the reader's own: a shipped one stands for it
        (folder / name).write_text(shipped_sweeps()["sweep-demo"].read_text(encoding="utf-8"), encoding="utf-8")
        name = str(folder / name)
    given = (values["overrides"] or [], values["grid"] or [], values["row"] or [])
    asked = Asked(name, *given, values["seeds"], values["baseline"], values["checkpoint"], folder)
    plan = asked.plan()
    if values["run_"] is not None:
        plan.chosen(values["run_"])


def own(document: Path, kind: str, overrides: list[str], folder: Path) -> Recipe:
    """A recipe of the page, as the reader saves it, that takes the overrides and has what the command runs."""
    problems: list[str] = []
    for example in [*fenced(document, "yaml"), *fenced(OWN, "yaml")]:
        (folder / "mine.yaml").write_text(example, encoding="utf-8")
        try:
            loaded = load_recipe(folder / "mine.yaml", overrides)
        except RecipeError as error:
            problems.append(str(error))
            continue
        if runs(loaded, kind):
            return loaded
    raise AssertionError(f"no recipe of {name(document)} fits: {problems}")


def runs(recipe: Recipe, kind: str) -> bool:
    """Whether a recipe has what `yonder KIND` runs."""
    return kind not in STAGES or kind in {stage.kind for stage in recipe.stages}


@pytest.mark.parametrize("command", FAST)
def test_fast_commands_run(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) > 5


PYTHON = [(path, example) for path in DOCUMENTS for example in fenced(path, "python")]


@pytest.mark.parametrize(("path", "example"), PYTHON, ids=[f"{name(path)}-{i}" for i, (path, _) in enumerate(PYTHON)])
def test_python_runs_or_its_names_are_there(
    path: Path, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if not any(mark in example for mark in NEEDS):
        exec(compile(example, name(path), "exec"), {"__name__": "example"})
        return
    for node in ast.walk(ast.parse(example)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("yonder"):
            module = importlib.import_module(str(node.module))
            assert [one.name for one in node.names if not hasattr(module, one.name)] == []


def test_every_need_is_used() -> None:
    assert [mark for mark in NEEDS if not any(mark in example for _, example in PYTHON)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_shell_scripts_are_shell(path: Path) -> None:
    for script in fenced(path, "bash"):
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.stderr == ""
