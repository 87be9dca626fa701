"""Recipes whose judges and classifiers in this process read while others are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.stages.test_algorithms import recipe_of, stage_of
from yonder import run
from yonder.assembly.workshop import Workshop
from yonder.errors import RecipeError
from yonder.judges.grouped import GroupedReward
from yonder.models.loading import load_classifier, load_tokenizer
from yonder.recipe import Recipe
from yonder.rewards.ensemble import EnsembleReward

REWARDS: dict[str, Any] = {
    "right": {"kind": "verifiable"},
    "judge": {
        "kind": "judge",
        "model": "yonder:judge",
        "allow_unmeasured": True,
        "delta": 0,
        "mass_floor": 0,
        "guards": ["empty"],
    },
    "reranker": {"kind": "classifier", "model": "", "allow_unmeasured": True, "delta": 0},
    "both": {"kind": "ensemble", "rewards": ["judge", "reranker"], "allow_unmeasured": True},
}


def local(folder: Path, *kinds: str) -> Recipe:
    terms = [{"reward": name, "data": "train", "weight": 0.5} for name in ("reranker", "both")]
    tokenizer = load_tokenizer("yonder:judge")
    for part in (tokenizer, load_classifier("yonder:judge", tokenizer, "float32", torch.device("cpu"))):
        part.save_pretrained(folder / "reranker")
    rewards = REWARDS | {"reranker": REWARDS["reranker"] | {"model": str(folder / "reranker")}}
    return recipe_of(
        {"rewards": rewards, "output_dir": str(folder)}, terms=terms, score_early=kinds, algorithm="grpo", steps=2,
        prompts={"train": 9},
    )  # fmt: skip


def test_a_run_has_the_scores_of_one_that_reads_all_at_once(tmp_path: Path) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for name, kinds in {"early": ("local",), "late": ()}.items():
        run(local(tmp_path / name, *kinds))
        text = (tmp_path / name / "stages/rl/metrics.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        found[name] = [{k: v for k, v in row.items() if not k.startswith(("time", "tokens_per"))} for row in rows]
    scores = [name for name in found["late"][0] if name.endswith("/reward_mean") or name.endswith("/mean")]
    assert scores
    for name in scores:
        assert found["early"][0][name] == pytest.approx(found["late"][0][name], abs=1e-4)


def test_every_judge_and_classifier_in_this_process_is_grouped(tmp_path: Path) -> None:
    shop = Workshop(local(tmp_path, "local"), {})
    try:
        assert not isinstance(shop.reward("judge", shop.task("train")), GroupedReward)
    finally:
        shop.close()
    shop = Workshop(local(tmp_path, "local"), {})
    try:
        shop.groups = 4
        both = shop.reward("both", shop.task("train"))
        assert isinstance(both, EnsembleReward)
        for name, member in both.members:
            assert isinstance(member, GroupedReward)
            assert member is shop.reward(name, shop.task("train"))
            assert member.prompts == 4
        assert not isinstance(shop.reward("right", shop.task("train")), GroupedReward)
    finally:
        shop.close()


def test_it_decides_what_a_stage_makes_where_the_others_do_not() -> None:
    late, served, here = (stage_of(score_early=kinds) for kinds in ((), ("served",), ("served", "local")))
    assert late.decisive() == served.decisive() == stage_of().decisive()
    assert "score_early" not in late.decisive()
    assert here.decisive() == late.decisive() | {"score_early": ["local"]}
    assert stage_of(score_early=["local"]).decisive() == here.decisive()


@pytest.mark.parametrize("mover", [{"refit": {"reward": "judge"}}, {"follow": {"reward": "judge"}}])
def test_a_judge_that_moves_is_not_read_meanwhile(mover: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="`score_early: local` reads judges while") as caught:
        stage_of({"rewards": REWARDS}, score_early=["local"], **mover)
    assert "\n" not in str(caught.value)
