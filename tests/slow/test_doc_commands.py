"""The commands of README and docs that take minutes, run small, in the order and folder that a reader would have."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doc_commands import SLOW, SMALL
from tests.documents import ROOT, fenced

pytestmark = pytest.mark.slow
SITE = "make docs"
# What stands for the reader's own runs and sweeps.
MINE = {
    "runs/A": "runs/demo",
    "runs/B": "runs/demo-1",
    "runs/a": "runs/demo",
    "runs/b": "runs/demo-1",
    "sweeps/weights": "runs/sweep-demo",
}


def behind(target: str) -> str:
    """The last line of a target of the Makefile, without the folder of its program."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{target}:.*\n(?:\t.*\n)*?\t.*?\$\(BIN\)/(\S+ .*)\n(?!\t)", makefile, re.MULTILINE)
    assert found is not None
    return found[1]


def done(words: list[str], folder: Path) -> str:
    """What a program of this environment prints; it must end well."""
    found = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, timeout=900, check=False
    )
    assert found.returncode == 0, f"{words}: {found.stdout}{found.stderr}"
    return found.stdout


def test_the_commands_run_one_after_another(tmp_path: Path) -> None:
    rows = [{"question": "What is n0 plus n1?", "response": f"return n0 {sign} n1"} for sign in "+-"]
    (tmp_path / "FILE.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for text, values in SLOW:
        if text == SITE:
            continue
        for own, known in MINE.items():
            if own in text.split() and not (tmp_path / own).exists():
                shutil.copytree(tmp_path / known, tmp_path / own)
        command = behind(text.removeprefix("make ")) if text.startswith("make ") else text
        done([*shlex.split(command), *values], tmp_path)
    for run in ("demo", "demo-1", "judge-only"):
        assert (tmp_path / "runs" / run / "report.html").is_file()
    assert (tmp_path / "runs" / "both.html").is_file()
    for folder in ("FOLDER", "student"):
        assert (tmp_path / folder / "model.safetensors").is_file()
    assert (tmp_path / "runs" / "sweep-demo" / "table.md").is_file()
    assert len((tmp_path / "FILE.scored.jsonl").read_text(encoding="utf-8").splitlines()) == len(rows)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("needs mkdocs; `pip install 'yonder-rl[docs]'` has it")
    command = shlex.split(behind(SITE.removeprefix("make ")))
    assert command == ["mkdocs", "build", "--strict"]
    found = subprocess.run(
        [sys.executable, "-m", *command, "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert found.returncode == 0, found.stderr
    assert "WARNING" not in found.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    loaded = {
        one
        for page in pages
        for one in re.findall(
            r"<(?:script|img|iframe)[^>]* src=\"?(https?://[^\s\">]+)|<link[^>]*rel=\"?(?:stylesheet|preconnect|preload)"
            r"[^>]* href=\"?(https?://[^\s\">]+)",
            page.read_text(encoding="utf-8"),
        )
    }
    assert loaded == set(), "a page loads something from elsewhere"


def test_the_python_of_the_api_page_runs(tmp_path: Path) -> None:
    (example, *_) = fenced(ROOT / "docs" / "api.md", "python")
    small = ", ".join(repr(value) for value in SMALL)
    assert '"seed=1", ' in example
    (tmp_path / "example.py").write_text(example.replace('"seed=1", ', f'"seed=1", {small}, '), encoding="utf-8")
    found = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "runs" / "demo-1" / "report.html").is_file()
