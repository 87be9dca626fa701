"""What is found before the first stage, without weights."""

import importlib
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.models.tiny import tokenizer
from tests.test_errors import tree
from yonder.data.datasets import warn_once
from yonder.errors import DataError, ModelError
from yonder.models.fresh import fresh_model
from yonder.pipeline.preflight import check_inputs, silent_judges
from yonder.recipe import Recipe, load_recipe
from yonder.recipe.models import FreshModel

SOLUTION = "def solution():\n    return 1"


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
    rows = [
        {"question": f"Q{i}?", "answer": answer, "solution": SOLUTION}
        for i, answer in enumerate(["1", "about twelve", None])
    ]
    made = recipe(tmp_path, {"model": "yonder:judge"}, rows)
    check_inputs(made, made.stages)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "1 of 2 answers are no numbers" in said and "`about twelve`" in said
    assert "1 of 3 questions have no answer" in said


@pytest.mark.parametrize(("words", "overrides", "said"), [
    (400, [], "more than policy.max_prompt_tokens = 300; raise it, leave the question out"),
    (400, ["policy.long_prompts=cut"], None),
    (250, [], None),
    (250, ["policy.max_prompt_tokens=200"], "more than policy.max_prompt_tokens = 200"),
    (400, ["policy.max_prompt_tokens=5000", "policy.model.context=256"], "and the policy only 256 positions"),
])  # fmt: skip
def test_prompts_that_are_too_long_are_found_at_once(
    words: int, overrides: list[str], said: str | None, tmp_path: Path
) -> None:
    rows = [{"question": "How many?", "answer": "1", "solution": SOLUTION}] * 3
    recipe(tmp_path, {"model": "yonder:judge"}, [*rows, {"question": "pens " * words, "answer": "2"}])
    made = load_recipe(str(tmp_path / "r.yaml"), overrides)
    check_inputs(made, made.stages[:1])  # SFT leaves out what has no solution
    if said is None:
        check_inputs(made, made.stages)
        return
    with pytest.raises(DataError, match=rf"data\.train: prompt `row-3` has \d+ tokens.*{re.escape(said)}"):
        check_inputs(made, made.stages)


def test_another_model_has_another_tokenizer(tmp_path: Path) -> None:
    """What the recipe's own would make of the prompts says nothing then."""
    recipe(tmp_path, {"model": "yonder:judge"}, [{"question": "pens " * 400, "answer": "1", "solution": SOLUTION}])
    fresh_model(FreshModel(hidden_size=32, layers=1, heads=2), tokenizer()).save_pretrained(tmp_path / "other")
    tokenizer().save_pretrained(tmp_path / "other")
    other = load_recipe(str(tmp_path / "r.yaml"), [f"warmup.policy={tmp_path / 'other'}"])
    check_inputs(other, other.stages)
    own = load_recipe(str(tmp_path / "r.yaml"))
    with pytest.raises(DataError, match=r"data\.train: prompt `row-0` has"):
        check_inputs(own, own.stages)


def test_a_compiler_that_is_missing_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe(tmp_path, {"model": "yonder:judge"})
    compiled, static = (
        load_recipe(str(tmp_path / "r.yaml"), [f"policy.decoding={way}"]) for way in ("compiled", "static")
    )

    def missing() -> str:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(importlib.import_module("torch._inductor.cpp_builder"), "get_cpp_compiler", missing)
    check_inputs(static, static.stages)
    with pytest.raises(ModelError, match="compiled needs a C\\+\\+ compiler, and none is here; install g\\+\\+, or"):
        check_inputs(compiled, compiled.stages)
