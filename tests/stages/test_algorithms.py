"""Algorithms in recipes: what a name stands for, what may be set beside it, and a run with a teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from yonder import run
from yonder.errors import ModelError, RecipeError
from yonder.recipe import Recipe, dump_recipe, load_recipe, parse_recipe
from yonder.recipe.algorithms import PRESETS
from yonder.recipe.stages import DistillStage
from yonder.stages.plans import completions_per_step, estimator, kl_control, loss_settings
from yonder.training.advantages import Estimator
from yonder.training.kl_control import KLControl
from yonder.training.update import LossSettings

FRESH = {"family": "llama", "hidden_size": 32, "layers": 1, "heads": 2}


def recipe_of(other: dict[str, Any] | None = None, **knobs: Any) -> Recipe:
    stage = {
        "name": "rl", "kind": "distill", "prompts": {"train": 2}, "group_size": 2, "steps": 4, "epochs": 2,
        "terms": [{"reward": "right", "data": "train", "weight": 1.0}],
    }  # fmt: skip
    tree = {
        "policy": {"model": FRESH, "tokenizer": "yonder:tokenizer", "max_completion_tokens": 8},
        "data": {"train": {"source": "word-problems", "options": {"count": 20, "seed": 1}}},
        "rewards": {"right": {"kind": "verifiable"}, "big": {"kind": "teacher", "model": FRESH | {"seed": 7}}},
        "stages": [stage | knobs],
    }
    return parse_recipe(tree | (other or {}), "test")


def stage_of(other: dict[str, Any] | None = None, **knobs: Any) -> DistillStage:
    stage = recipe_of(other, **knobs).stages[0]
    assert isinstance(stage, DistillStage)
    return stage


@pytest.mark.parametrize(
    ("name", "baseline", "surrogate", "normalise", "average", "clips", "kl"),
    [
        ("ppo", "value", "token", "batch", "sequence-mean", (0.2, None), (0.01, "reward", "k1")),
        ("grpo", "group", "token", "group", "sequence-mean", (0.2, None), (0.01, "loss", "k3")),
        ("dr-grpo", "group", "token", "none", "fixed-length", (0.2, None), (0.0, "loss", "k3")),
        ("dapo", "group", "token", "group", "token-mean", (0.2, 0.28), (0.0, "loss", "k3")),
        ("gspo", "group", "sequence", "group", "sequence-mean", (3e-4, 4e-4), (0.01, "loss", "k3")),
        ("cispo", "group", "cispo", "group", "token-mean", (1.0, 4.0), (0.01, "loss", "k3")),
        ("rloo", "leave-one-out", "token", "none", "fixed-length", (0.2, None), (0.01, "reward", "k1")),
        ("reinforce++", "none", "token", "batch", "sequence-mean", (0.2, None), (0.01, "reward", "k1")),
        ("reinforce++-baseline", "group", "token", "batch", "sequence-mean", (0.2, None), (0.01, "loss", "k2")),
    ],
)
def test_what_a_name_stands_for(
    name: str, baseline: str, surrogate: str, normalise: str, average: str, clips: Any, kl: Any
) -> None:
    recipe, stage = recipe_of(algorithm=name), stage_of(algorithm=name)
    assert (stage.kl.beta, stage.kl.place, stage.kl.estimator) == kl
    made, loss = estimator(stage, recipe), loss_settings(stage, recipe, torch.device("cpu"))
    assert (made.baseline, made.normalise, made.kl_in_reward) == (baseline, normalise, kl[0] * (kl[1] == "reward"))
    assert (loss.surrogate, loss.average, (loss.clip, loss.clip_high)) == (surrogate, average, clips)
    assert (loss.kl_in_loss, loss.kl_estimator, loss.length) == (kl[0] * (kl[1] == "loss"), kl[2], 8)
    assert (loss.value_coef > 0) is (name == "ppo")
    assert stage.dynamic.refills == (3 if name == "dapo" else 0)


def test_what_is_given_goes_before_the_name_and_the_rest_stays() -> None:
    stage = stage_of(algorithm="dapo", clip_high=0.5, kl={"beta": 0.2}, dynamic={"tolerance": 0.1})
    assert (stage.clip_high, stage.average) == (0.5, "token-mean")
    assert (stage.kl.beta, stage.kl.place, stage.kl.estimator) == (0.2, "loss", "k3")
    assert (stage.dynamic.refills, stage.dynamic.tolerance) == (3, 0.1)
    assert stage_of(kl={"place": "loss"}).kl.estimator == "k3"
    assert set(PRESETS) == {*DistillStage.model_fields["algorithm"].annotation.__args__}  # type: ignore[union-attr]


def test_every_key_reaches_the_advantages_and_the_loss() -> None:
    knobs: dict[str, Any] = {
        "clip": 0.1, "clip_high": 0.3, "dual_clip": 3.0, "importance_cap": 2.5, "truncated": "bootstrap",
        "overlong": {"margin": 3, "weight": 0.5}, "average": "fixed-length", "sampling": {"temperature": 0.7},
        "optimizer": {"grad_clip": 0.4, "micro_batch_tokens": 600}, "kl": {"place": "loss", "beta": 0.3},
        "ppo": {"gamma": 0.9, "gae_lambda": 0.8, "value_coef": 0.7, "value_clip": 0.6, "stop_gradient": True,
                "head_warmup": 2},
    }  # fmt: skip
    recipe, stage = recipe_of(algorithm="ppo", **knobs), stage_of(algorithm="ppo", **knobs)
    assert estimator(stage, recipe) == Estimator("value", 0.0, "batch", 0.9, 0.8, "bootstrap", (8, 3, 0.5))
    assert loss_settings(stage, recipe, torch.device("cpu")) == LossSettings(
        clip=0.1, kl_in_loss=0.3, value_coef=0.7, value_clip=0.6, temperature=0.7, grad_clip=0.4,
        micro_batch_tokens=600, clip_high=0.3, dual_clip=3.0, surrogate="token", average="fixed-length", length=8,
        kl_estimator="k3", importance_cap=2.5, stop_gradient=True, head_warmup=2,
    )  # fmt: skip
    other = stage_of(kl={"beta": 0.3, "target": 0.2, "gain": 0.4})
    assert estimator(other, recipe).kl_in_reward == 0.3
    assert kl_control(other) == KLControl(0.2, 0.4)
    assert (estimator(other, recipe).overlong, loss_settings(other, recipe, torch.device("cpu")).dual_clip) == (
        None,
        None,
    )


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_recipe_written_out_says_every_number_and_reads_the_same(tmp_path: Path, name: str) -> None:
    recipe = recipe_of(algorithm=name)
    (tmp_path / "out.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(str(tmp_path / "out.yaml")).stages == recipe.stages


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"algorithm": "rloo", "group_size": 1}, "`algorithm: rloo` compares completions of one prompt"),
        ({"algorithm": "rloo", "normalise": "group"}, "`normalise: group` is for algorithms like grpo"),
        ({"normalise": "group"}, "with `ppo` use none or batch"),
        ({"algorithm": "grpo", "truncated": "bootstrap"}, "`truncated: bootstrap` needs the value head of ppo"),
        ({"algorithm": "cispo", "dual_clip": 3.0}, "`dual_clip` does nothing in cispo"),
        ({"dynamic": {"tolerance": 0.1}}, "`dynamic.tolerance` does nothing without `refills`"),
        ({"dynamic": {"refills": 1}, "group_size": 1}, "`dynamic` looks for differences within a group"),
        ({"one_step_off": True}, "`one_step_off` needs `importance_cap`"),
        (
            {"one_step_off": True, "importance_cap": 2, "group_size": 4, "dynamic": {"refills": 1}},
            "`one_step_off` excludes `dynamic.refills`",
        ),
        ({"kl": {"estimator": "k3"}}, "`estimator: k3` is for `place: loss`"),
        ({"kl": {"beta": 0.0, "target": 0.1}}, "`target` steers `beta`, which is 0"),
        ({"ppo": {"head_warmup": 4}}, "`ppo.head_warmup` (4) leaves none of `steps` (4)"),
        ({"overlong": {"margin": 9}}, "9 tokens are more than policy.max_completion_tokens (8)"),
        ({"monitor": {"probe": ["big"]}}, "`big` is a teacher, which gives no score"),
        ({"terms": [{"reward": "big", "data": "train", "weight": 1.0}], "ppo": {"head_warmup": 2}}, "no term has a"),
        ({"terms": [{"reward": "big", "data": "train", "weight": 0.5}]}, "sum to 0.5"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(knobs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(**knobs)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_completions_a_step_are_those_that_were_drawn() -> None:
    """2 groups of 2 are asked for, and an iteration makes 2 updates."""
    rows = [{"rollouts/train/groups_drawn": drawn, "rollouts/other/groups_drawn": 9} for drawn in (2, 3, 7, 2)]
    assert completions_per_step(stage_of(algorithm="grpo"), []) == 2
    assert completions_per_step(stage_of(algorithm="dapo"), rows) == 14 * 2 / (4 * 2)
    for without in ([], [{}]):  # no iteration yet, and one from before it had refills
        assert completions_per_step(stage_of(algorithm="dapo"), without) == 2


def test_a_summary_counts_what_refills_drew(tmp_path: Path) -> None:
    summary = run(recipe_of({"output_dir": str(tmp_path)}, algorithm="dapo", steps=2, dynamic={"refills": 2}))
    (row,) = [json.loads(line) for line in (tmp_path / "stages/rl/metrics.jsonl").read_text().splitlines()]
    assert row["rollouts/train/groups_drawn"] > 2  # so small a policy answers nothing
    assert summary["stages"]["rl"]["completions_per_step"] == row["rollouts/train/groups_drawn"]


def test_a_teacher_is_no_member_of_other_rewards() -> None:
    rewards = {"big": {"kind": "teacher", "model": "x"}, "right": {"kind": "shuffled", "reward": "big"}}
    with pytest.raises(RecipeError, match="`big` is a teacher, which gives no score"):
        recipe_of({"rewards": rewards})


def with_teacher(folder: Path, teacher: Any, **knobs: Any) -> Recipe:
    terms = [
        {"reward": "right", "data": "train", "weight": 0.4},
        {"reward": "big", "data": "train", "weight": 0.6},
    ]
    rewards = {"right": {"kind": "verifiable"}, "big": {"kind": "teacher", "model": teacher, "top_k": 50}}
    return recipe_of({"rewards": rewards, "output_dir": str(folder)}, terms=terms, **knobs)


@pytest.mark.parametrize("algorithm", ["ppo", "dapo"])
def test_a_run_with_a_teacher_beside_a_reward(tmp_path: Path, algorithm: str) -> None:
    summary = run(with_teacher(tmp_path, FRESH | {"seed": 7}, algorithm=algorithm))
    assert summary["stages"]["rl"]["weights"] == {"right@train": 0.4, "big@train": 0.6}
    rows = [json.loads(line) for line in (tmp_path / "stages/rl/metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(row["terms/big@train/reverse_kl"] > 0 for row in rows)
    assert (tmp_path / "report.html").is_file()


def test_a_teacher_of_another_tokenizer_is_refused_in_one_sentence(tmp_path: Path) -> None:
    run(with_teacher(tmp_path / "first", FRESH))  # leaves a model with the policy's tokenizer
    folder = next((tmp_path / "first/stages/rl/checkpoints").glob("step-*/policy"))
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    word = next(word for word, number in vocabulary["model"]["vocab"].items() if number == 300)
    vocabulary["model"]["vocab"] = {
        (f"{key}?" if key == word else key): n for key, n in vocabulary["model"]["vocab"].items()
    }
    vocabulary["model"]["merges"] = [m for m in vocabulary["model"]["merges"] if word not in m and "".join(m) != word]
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ModelError, match="teacher and policy have different tokenizers") as caught:
        run(with_teacher(tmp_path / "second", str(folder)))
    assert "\n" not in str(caught.value)
