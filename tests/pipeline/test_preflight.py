"""What is found before the first stage, without weights."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_errors import tree
from yonder.data.datasets import warn_once
from yonder.errors import ModelError
from yonder.pipeline.preflight import check_inputs, silent_judges
from yonder.recipe import Recipe, load_recipe


def recipe(folder: Path, judge: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> Recipe:
    made = tree(folder)
    made["rewards"] = {"judge": {"kind": "judge", "allow_unmeasured": True} | judge}
    made["stages"][1]["terms"][0] = {"reward": "judge", "data": made["stages"][1]["terms"][0]["data"], "weight": 1}
    made["stages"][1]["terms"] = made["stages"][1]["terms"][:1]
    if rows is not None:
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        made["data"] = {"train": {"source": str(folder / "rows.jsonl")}}
    (folder / "r.yaml").write_text(yaml.safe_dump(made))
    return load_recipe(str(folder / "r.yaml"))


def test_labels_that_begin_alike_are_found_at_once(tmp_path: Path) -> None:
    made = recipe(tmp_path, {"model": "yonder:judge", "yes": "Yes", "no": "Yes please"})
    with pytest.raises(
        ModelError, match=r"rewards\.judge: the judge's tokenizer begins `Yes` and `Yes please` with one"
    ):
        check_inputs(made, made.stages)


def test_a_judge_server_that_nobody_started_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        made = recipe(tmp_path, {"model": "m", "backend": "openai", "server": {"urls": [url]}})
        (said,) = silent_judges(made, made.stages)
        assert said == f"rewards.judge: no server answers at {url} (Connection refused); stage rl will ask it"
        free.listen()
        assert list(silent_judges(made, made.stages)) == []


def test_answers_that_cannot_be_compared_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    solution = "def solution():\n    return 1"
    rows = [
        {"question": f"Q{i}?", "answer": answer, "solution": solution}
        for i, answer in enumerate(["1", "about twelve", None])
    ]
    made = recipe(tmp_path, {"model": "yonder:judge"}, rows)
    check_inputs(made, made.stages)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "1 of 2 answers are no numbers" in said and "`about twelve`" in said
    assert "1 of 3 questions have no answer" in said
