"""A judge that follows the policy: how far it moves, when, and that a resumed run has the same one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tests.models.tiny import CPU, fresh, tokenizer
from tests.training.test_refit import distiller, small_judge
from tests.training.test_rollback import Interrupt, lines, same, weights
from tests.training.tools import tiny_policy
from yonder.errors import ModelError, RecipeError
from yonder.models.loading import load_causal_lm
from yonder.models.lora import Lora, add_lora, merged_weights
from yonder.models.policy import Policy
from yonder.recipe.loading import parse_recipe
from yonder.rewards.judge import JudgeReward, JudgeRolloutReward
from yonder.training.distill import Distiller
from yonder.training.follow import Follow

RECIPE = """
policy: {model: {family: llama, hidden_size: 32, layers: 1, heads: 2}, tokenizer: "yonder:tokenizer"}
data:
  questions: {source: svamp, labeled: false}
rewards:
  self: {kind: judge, model: MODEL, allow_unmeasured: true}
  other: {kind: judge, model: "yonder:judge", allow_unmeasured: true}
stages:
  - {name: start, kind: warmup, data: labeled}
  - name: rl
    kind: distill
    policy: "stage:start"
    algorithm: grpo
    group_size: 4
    steps: 4
    prompts: {questions: 2}
    terms: [{reward: self, data: questions, weight: 0.5}, {reward: other, data: questions, weight: 0.5}]
    follow: {reward: self}
""".replace("data:\n", "data:\n  labeled: {source: svamp}\n", 1)


def following(folder: Path, share: float, steps: int = 8) -> Distiller:
    """The tiny judge of the refit's tests, without guards before it; it follows every third iteration."""
    made = distiller(folder, steps)
    guarded, trainee = small_judge()
    judge = guarded.judge
    reward = JudgeRolloutReward(JudgeReward(judge.model, replace(judge.rules, guards=())))
    made.terms = [made.terms[0], replace(made.terms[1], reward=reward)]
    made.refit = Follow("judge", trainee.model, made.learner.policy, every=3, share=share)
    return made


def test_it_moves_by_the_share_and_no_further() -> None:
    judge, policy = tiny_policy(seed=5), tiny_policy(seed=6)
    before = {name: tensor.clone() for name, tensor in judge.model.state_dict().items()}
    goal = policy.model.state_dict()
    found = Follow("judge", judge, policy, 1, 0.25).fit(1)
    for name, tensor in judge.model.state_dict().items():
        assert torch.allclose(tensor, 0.75 * before[name] + 0.25 * goal[name], atol=1e-6)
    apart = sum(float((goal[name] - before[name]).square().sum()) for name in distinct(judge))
    size = sum(float(goal[name].square().sum()) for name in distinct(judge))
    assert found.figures["distance"] == pytest.approx((apart / size) ** 0.5, rel=1e-5)
    Follow("judge", judge, policy, 1, 1.0).fit(1)
    assert same(judge.model.state_dict(), goal)


def distinct(policy: Policy) -> list[str]:
    return [name for name, _ in policy.model.named_parameters()]


def test_an_adapter_counts_as_a_part_of_the_policy() -> None:
    model = load_causal_lm(fresh("llama", layers=1), tokenizer(), "float32", CPU)
    add_lora(model, Lora(rank=2), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    judge = Policy(load_causal_lm(fresh("llama", layers=1), tokenizer(), "float32", CPU), tokenizer())
    Follow("judge", judge, Policy(model, tokenizer()), 1, 1.0).fit(1)
    merged = merged_weights(model)
    assert merged is not None
    assert same(judge.model.state_dict(), merged)


def test_another_model_does_not_follow() -> None:
    _, trainee = small_judge()
    other = Policy(load_causal_lm(fresh("llama", layers=2), tokenizer(), "float32", CPU), tokenizer())
    with pytest.raises(ModelError, match="this judge is no copy of the policy"):
        Follow("judge", trainee.model, other, 1, 1.0)


def test_it_follows_when_due_and_a_resumed_run_has_the_same_judge(tmp_path: Path) -> None:
    whole = following(tmp_path / "whole", 0.5)
    result = whole.run()
    assert result["refits"] == 2
    events = lines(tmp_path / "whole", "events.jsonl")
    assert [event["step"] for event in events if event["rule"] == "refit"] == [3, 6]
    broken = following(tmp_path / "broken", 0.5)
    broken.progress = Interrupt(5)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    again = following(tmp_path / "broken", 0.5)
    again.run()
    assert again.refit is not None and whole.refit is not None
    assert same(weights(whole), weights(again))
    assert same(again.refit.model.model.state_dict(), whole.refit.model.model.state_dict())
    assert again.refit.count == 2
    still = following(tmp_path / "still", 0.5)
    still.refit = replace(still.refit, every=100)  # type: ignore[type-var]
    still.run()
    assert not same(weights(whole), weights(still))  # the policy learned from what moved


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ("reward: self}", "reward: other}"),
            "`other` is no copy of the policy; set rewards.other.model",
        ),
        (("reward: self}", "reward: third}"), "there is no reward of this stage `third`"),
        (("follow: {reward: self}", "follow: {reward: self, share: 0}"), "greater than 0"),
        (("follow: {reward: self}", "follow: {reward: self}\n    refit: {reward: self}"), "leave one out"),
    ],
)
def test_what_cannot_follow_is_refused(change: tuple[str, str], sentence: str) -> None:
    text = RECIPE.replace("MODEL", '"stage:start"')
    parse_recipe(yaml.safe_load(text), "here")
    with pytest.raises(RecipeError, match=sentence.replace(".", r"\.")):
        parse_recipe(yaml.safe_load(text.replace(*change)), "here")
