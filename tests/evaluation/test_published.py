"""The published benchmarks as their sources give them: local files in the hub's shape, and the real shared files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_errors import tree
from yonder.data.datasets import load_data
from yonder.evaluation.benchmarks import BenchmarkResult, evaluate
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.recipe.rewards import VerifiableSettings
from yonder.rewards.verifiable import VerifiableReward
from yonder.schema import Completion, Prompt, Rollout

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
TEXT, CHOICE = TaskSettings(format="text"), TaskSettings(format="choice")


def lines(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def symbolic(template: int, instance: int) -> dict[str, Any]:
    return {
        "id": template, "instance": instance, "question": f"{template} and {instance}?",
        "answer": f"Add.\n#### {template + instance}", "original_id": template,
        "original_question": f"seed {template}?", "original_answer": "#### 1", "canary": "CANARY-1",
    }  # fmt: skip


def plus(number: int, kind: str, answer: str) -> dict[str, Any]:
    return {
        "question": f"q{number}?", "solution": "s", "answer": answer, "perturbation_type": kind,
        "seed_question": f"seed {number}?", "seed_solution": "", "seed_answer": "1",
    }  # fmt: skip


def test_rows_of_gsm_symbolic_and_gsm_plus_from_local_files(tmp_path: Path):
    files = {
        "symbolic": lines(tmp_path / "p1.jsonl", [symbolic(t, i) for t in range(3) for i in (10, 20)]),
        "plus": lines(
            tmp_path / "plus.jsonl", [plus(1, "digit expansion", "1/2"), plus(2, "critical thinking", "None")]
        ),
    }
    data = {
        "symbolic": {"source": "gsm-symbolic", "split": "test", "options": {"path": files["symbolic"]}},
        "plus": {"source": "gsm-plus", "split": "test", "options": {"path": files["plus"], "unanswerable": True}},
        "paper": {"source": "gsm-plus", "split": "test", "options": {"path": files["plus"]}},
    }
    benchmarks = {
        "symbolic": {"data": "symbolic", "seeds": 2, "votes": 2, "pass_at": [1, 2]},
        "plus": {"data": "plus", "unanswerable": True},
        "paper": {"data": "paper"},
        "flat": {"data": "symbolic", "groups": "none"},
    }
    end = {"name": "end", "kind": "evaluate", "checkpoints": ["base"], "benchmarks": list(benchmarks)}
    changes = {"data": data, "benchmarks": benchmarks, "stages": [end], "task": {"format": "text"}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(tree(tmp_path) | changes))
    run(load_recipe(str(tmp_path / "r.yaml")))
    text = (tmp_path / "run" / "evaluations.jsonl").read_text()
    rows = {row["benchmark"]: row for row in map(json.loads, text.splitlines())}
    one = rows["symbolic"]
    assert (set(one["by_group"]), one["group_spread"]["n"], one["canary"]) == (
        {"instance-10", "instance-20"},
        2,
        "CANARY-1",
    )
    assert one["by_category"] == {} and set(one["seeds"]) == {"0", "1"} and set(one["pass_at_k"]) == {"1", "2"}
    assert "by_group" not in rows["flat"] and set(rows["flat"]["by_category"]) == set(one["by_group"])
    assert (rows["plus"]["n"], rows["plus"]["subsets"]["without None"]["n"], rows["paper"]["n"]) == (2, 1, 1)
    assert set(rows["plus"]["by_category"]) == {"digit expansion", "critical thinking"}
    assert "subsets" not in rows["paper"] and "canary" not in rows["paper"]


class Says:
    """A sampler that answers each prompt as told."""

    def __init__(self, answer: Callable[[Prompt], str]) -> None:
        self.answer = answer

    def sample(
        self, prompts: Sequence[Prompt], samples: int, temperature: float | None, seed: int, *_: float
    ) -> list[Rollout]:
        return [Rollout(p, (1,), Completion((2,), (0.0,), self.answer(p), True), i) for i, p in enumerate(prompts)]


def answered(name: str, task: TaskSettings, wrong: bool = False, **settings: Any) -> BenchmarkResult:
    """The gold label, written as [ReFT] does, or one that is one off."""
    if not (SHARED / name).is_file():
        pytest.skip(f"needs {SHARED / name}")
    data = DataSettings(source=str(SHARED / name), **settings)
    prompts = load_data("test", {"test": data}, task, 0)

    def write(prompt: Prompt) -> str:
        label = prompt.answer or ""
        if wrong:
            label = chr((ord(label) - 64) % 5 + 65) if task.format == "choice" else str(float(label) + 1)
        return f"So it is.\nTherefore, the answer is: {label}"

    verifier = VerifiableReward(VerifiableSettings(kind="verifiable"), task, lambda programs: [])
    return evaluate(prompts, Says(write), verifier)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "task", "settings", "n"),
    [
        ("mathqa_test.jsonl", CHOICE, {}, 1605),
        ("mathqa_numeric_test.jsonl", TEXT, {}, 1605),
        ("gsm8k_test.jsonl", TEXT, {}, 1319),
        ("svamp_official_1000.jsonl", TEXT, {}, 1000),
        ("gsmplus_testmini_even.jsonl.gz", TEXT, {}, 1185),
    ],
)
def test_gold_labels_of_the_real_files_are_all_right(name: str, task: TaskSettings, settings: dict[str, Any], n: int):
    found = answered(name, task, **settings)
    assert (found.accuracy.n, found.accuracy.value, found.unscored) == (n, 1.0, 0)
    assert answered(name, task, wrong=True, **settings).accuracy.value == 0.0
    if name.startswith("gsmplus"):
        assert sum(part.n for part in found.by_category.values()) == 1185
        assert found.by_category["numerical substitution"].n > 200
