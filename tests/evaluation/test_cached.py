"""Results kept for other runs: found where everything is the same, and nowhere else."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.test_errors import tree
from yonder.evaluation import cached
from yonder.evaluation.cached import ResultCache, cache_folder, key_of, policy_hash
from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.models.policy import Policy
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.recipe.models import FreshModel
from yonder.schema import Prompt

CPU = torch.device("cpu")


def policy(seed: int = 0, dtype: str = "float32") -> Policy:
    family = {"family": "llama", "hidden_size": 16, "layers": 1, "heads": 2, "context": 64, "seed": seed}
    tokenizer = load_tokenizer("yonder:tokenizer")
    return Policy(load_causal_lm(FreshModel.model_validate(family), tokenizer, dtype, CPU), tokenizer)


def test_a_bit_of_a_weight_or_a_letter_of_a_question_is_another_key():
    one, prompts = policy(), [Prompt("a", "q?", "q?\n", answer="1")]
    key = key_of(one, prompts, {"votes": 0})
    assert key == key_of(policy(), [replace(prompts[0], id="b", solution="s")], {"votes": 0})
    others = [
        key_of(policy(1), prompts, {"votes": 0}),
        key_of(policy(dtype="bfloat16"), prompts, {"votes": 0}),
        key_of(one, prompts, {"votes": 1}),
        *(
            key_of(one, [replace(prompts[0], **change)], {"votes": 0})
            for change in ({"question": "Q?"}, {"text": "Q?\n"}, {"answer": "2"}, {"category": "c"}, {"prefix": "p"})
        ),
    ]
    with torch.no_grad():
        next(one.model.parameters())[0, 0] += 1e-6
    others.append(key_of(one, prompts, {"votes": 0}))
    assert key not in others and len(set(others)) == len(others)


def test_tokenizer_configuration_code_and_packages_count(monkeypatch: pytest.MonkeyPatch):
    one = policy()
    before, key = policy_hash(one), key_of(one, [], {})
    one.model.config._name_or_path = "elsewhere"
    assert policy_hash(one) == before
    one.model.config.rms_norm_eps = 0.5
    changed = policy_hash(one)
    one.tokenizer.chat_template = "{{ messages }}"
    assert len({before, changed, policy_hash(one)}) == 3
    monkeypatch.setattr(cached, "code_hash", lambda: "other")
    other = key_of(policy(), [], {})
    monkeypatch.undo()
    monkeypatch.setattr(cached, "_version", lambda name: "other")
    assert len({key, other, key_of(policy(), [], {})}) == 3
    one.model.peft_config = {}
    assert policy_hash(one) is None and key_of(one, [], {}) is None


def test_the_code_that_decides_is_all_there(monkeypatch: pytest.MonkeyPatch):
    before = cached.code_hash.__wrapped__()
    monkeypatch.setattr(cached, "CODE", (*cached.CODE, "gone.py"))
    with pytest.raises(FileNotFoundError, match=r"gone\.py"):
        cached.code_hash.__wrapped__()
    monkeypatch.setattr(cached, "CODE", tuple(part for part in cached.CODE if part != "assembly"))
    monkeypatch.setattr(cached, "CODE", cached.CODE[:-1])
    assert cached.code_hash.__wrapped__() != before


def test_weights_are_hashed_in_pieces(monkeypatch: pytest.MonkeyPatch):
    whole = policy_hash(policy())
    monkeypatch.setattr(cached, "_PIECE", 7)
    assert policy_hash(policy()) == whole


def test_files_that_are_not_whole_are_not_found(tmp_path: Path):
    kept = ResultCache(tmp_path / "c")
    kept.keep("k", {"accuracy": 0.5, "reasons": {}})
    assert kept.find("k") == {"accuracy": 0.5, "reasons": {}}
    (tmp_path / "c" / "k.json").rename(tmp_path / "c" / "other.json")
    assert kept.find("other") is None  # the key stands inside too
    (tmp_path / "c" / "k.json").write_text('{"key": "k", "resu')
    assert kept.find("k") is None
    kept.keep("down", {"reasons": {"the program was not run: no sandbox": 3}})
    assert kept.find("down") is None
    ResultCache(None).keep("k", {"reasons": {}})
    assert ResultCache(None).find("k") is None and kept.find(None) is None
    (tmp_path / "file").write_text("")
    ResultCache(tmp_path / "file" / "below").keep("k", {"reasons": {}})  # cannot be written: only time is lost


def test_where_results_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("YONDER_CACHE", "/a")
    assert cache_folder() == Path("/a/evaluations")
    monkeypatch.setenv("YONDER_CACHE", "")
    assert cache_folder() is None
    monkeypatch.delenv("YONDER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/yonder/evaluations")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path(os.path.expanduser("~/.cache/yonder/evaluations"))


def test_another_run_of_the_same_checkpoint_answers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("YONDER_CACHE", str(tmp_path / "cache"))
    warm = {"name": "warmup", "kind": "warmup", "data": "train", "epochs": 1}
    end = {"name": "end", "kind": "evaluate", "checkpoints": ["warmup"], "benchmarks": ["t"]}
    changes: dict[str, Any] = {"stages": [warm, end], "benchmarks": {"t": {"data": "train", "votes": 2}}}

    def row(name: str, *overrides: str) -> dict[str, Any]:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree(tmp_path) | changes | {"output_dir": str(tmp_path / name)}))
        run(load_recipe(str(path), list(overrides)))
        (found,) = (tmp_path / name / "evaluations.jsonl").read_text().splitlines()
        return json.loads(found)

    first, second = row("a"), row("b")
    assert "cached" not in first and second.pop("cached") is True
    assert second == first
    assert "cached" not in row("c", "end.cache=false")
    assert "cached" not in row("d", "benchmarks.t.vote_temperature=0.5")
    assert "cached" not in row("e", "warmup.epochs=2")
    assert len(list((tmp_path / "cache" / "evaluations").iterdir())) == 3  # a, d, e
