"""The newcomer's path of docs/how-to/first-run.md: its recipe and commands, with own files and a real judge server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.slow import servers
from yonder.data.sources import read_records
from yonder.models.loading import locate
from yonder.recipe.data import DataSettings

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "first-run.md"
SMALL = [  # small enough for two cores; everything else is the page's recipe
    "policy.model={family: llama, hidden_size: 128, layers: 2, heads: 4}",
    "policy.tokenizer=yonder:tokenizer",
    "policy.autocast='off'",
    "policy.max_completion_tokens=24",
    "task={format: program, docstring: false, numbers: named}",
    "rewards.judge.model=yonder:judge",
    "rewards.judge.prompt=program",
    "rewards.judge.server.model=judge",
    "warmup.epochs=13",
    "warmup.optimizer.lr=2.0e-3",
    "distill.steps=10",
    "distill.evaluate.every=5",
]


def write(path: Path, part: dict[str, object], columns: tuple[str, ...]) -> None:
    """Word problems as a user's file."""
    records = read_records(DataSettings(source="word-problems", options=part), path.stem)
    rows = [{"question": r.question, "answer": r.answer, "solution": r.program} for r in records]
    path.write_text("".join(json.dumps({name: row[name] for name in columns}) + "\n" for row in rows))


def test_the_commands_are_few() -> None:
    text = re.sub(r"^```.*?^```", "", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    assert sum(command.count("&&") + 1 for command in commands) <= 6


def test_from_the_page_to_a_run_with_a_judge_on_a_server(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.yaml").write_text(recipe, encoding="utf-8")
    write(tmp_path / "labeled.jsonl", {"count": 400, "seed": 1}, ("question", "answer", "solution"))
    write(tmp_path / "questions.jsonl", {"count": 500, "seed": 2}, ("question",))
    write(tmp_path / "test.jsonl", {"count": 100, "seed": 5, "part": "held-out"}, ("question", "answer"))
    server = servers.vllm(Path(locate("yonder:judge")), tmp_path / "log", length=512)
    begun = time.monotonic()
    server.start()
    up = time.monotonic()
    try:
        settings = [*SMALL, f"rewards.judge.server.urls=['{server.url}']"]
        ends = [re.search(rf"yonder ({name} mine\.yaml)$", text, re.MULTILINE) for name in ("plan", "run")]
        for found in ends:
            assert found is not None
            command = [sys.executable, "-m", "yonder", *found[1].split(), *settings, "--json"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
            assert done.returncode == 0, done.stderr
    finally:
        server.kill()
    print(f"server up after {up - begun:.0f} s, plan and run after {time.monotonic() - up:.0f} s more")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["stages"]["check"]["verdict"] == "pass"
    usage = summary["stages"]["distill"]["judge_usage"]["judge"]
    assert usage["requests"] > 20  # 32 prompts each
    assert {"warmup", "distill"} <= set(summary["results"])
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
