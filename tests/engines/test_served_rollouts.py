"""Rollouts from servers: from the newest weights alone, with the policy's log-probs; every fault is one sentence."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engines.like_vllm import LikeVLLM, serving
from tests.pipeline.test_pipeline import WARMUP, write
from tests.training.tools import tiny_distiller, tiny_policy
from yonder.engines.build import rollout_sampler, weights_folder
from yonder.engines.checking import Rules
from yonder.engines.sampler import ServedSampler
from yonder.engines.vllm import VLLMServer
from yonder.errors import ModelError, RecipeError, RolloutError, StorageError, TrainingError
from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.models.policy import Policy
from yonder.pipeline.running import run
from yonder.recipe import load_recipe, parse_recipe
from yonder.recipe.rollouts import RolloutSettings
from yonder.recipe.stages import DistillStage
from yonder.schema import Prompt, Rollout
from yonder.training.ahead import RolloutSource
from yonder.training.checkpoint import load_state
from yonder.training.distill import Distiller
from yonder.transport import Limits, Transport

PROMPTS = [Prompt(id=str(i), question=text, text=text) for i, text in enumerate(("How many?", "Two and two is"))]
TEMPERATURE = 1.3
LIMITS = Limits(concurrency=4, timeout_s=5, deadline_s=1.0)


@pytest.fixture
def server(policy: Policy) -> Iterator[LikeVLLM]:
    with serving(policy) as running:
        yield running


def sampler(policy: Policy, folder: Path, *servers: LikeVLLM, seeds: bool = False, longest: int = 64) -> ServedSampler:
    rules = Rules(32, 6, longest, TEMPERATURE, 0.1, seeds=seeds)
    asked = [VLLMServer(Transport((one.url,), LIMITS, None, "vLLM server"), "policy") for one in servers]
    return ServedSampler(asked, policy, PromptEncoder(policy.tokenizer, 32), rules, folder)


@torch.no_grad()
def gap(policy: Policy, rollouts: list[Rollout], temperature: float = TEMPERATURE) -> float:
    """Mean difference of the rollouts' log-probs from the model's own, nats a token."""
    apart: list[float] = []
    for rollout in rollouts:
        ids, made = rollout.prompt_ids, rollout.completion
        logits = policy.model(input_ids=torch.tensor([[*ids, *made.token_ids]])).logits[0, len(ids) - 1 : -1]
        ours = (logits / temperature).log_softmax(-1)
        apart += (ours.gather(1, torch.tensor([made.token_ids]).T)[:, 0] - torch.tensor(made.logprobs)).abs().tolist()
    return sum(apart) / len(apart)


def move(policy: Policy) -> None:
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.05)


def test_rollouts_come_from_the_policys_weights_after_every_change(
    policy: Policy, server: LikeVLLM, tmp_path: Path
) -> None:
    served = sampler(policy, tmp_path, server)
    for _ in range(3):
        served.refresh(0)
        found = served.sample(PROMPTS, 3, TEMPERATURE, 0)
        assert [rollout.group for rollout in found] == [0, 0, 0, 1, 1, 1]
        assert [rollout.prompt for rollout in found] == [PROMPTS[0]] * 3 + [PROMPTS[1]] * 3
        assert gap(policy, found) < 1e-5
        move(policy)
        assert gap(policy, found) > 1e-3
    assert len(list(tmp_path.iterdir())) == 2  # versions


def test_a_completion_holds_its_end_token_and_says_whether_it_was_cut(
    policy: Policy, server: LikeVLLM, tmp_path: Path
) -> None:
    served = sampler(policy, tmp_path, server)
    served.refresh(0)
    (one,) = served.sample(PROMPTS[:1], 1, None, 0)
    assert len(one.completion.token_ids) == 6
    assert not one.completion.finished
    served.encoder.end_ids = (one.completion.token_ids[0],)
    (other,) = served.sample(PROMPTS[:1], 1, None, 0)
    assert other.completion.token_ids == one.completion.token_ids[:1]
    assert len(other.completion.logprobs) == 1
    assert other.completion.finished


def test_nothing_is_left_to_the_servers_defaults(policy: Policy, server: LikeVLLM, tmp_path: Path) -> None:
    served = sampler(policy, tmp_path, server)
    served.refresh(0)
    (rollout, _) = served.sample(PROMPTS[:1], 2, 0.7, 5, top_p=0.9, top_k=11)
    path, body = server.asked[-1]
    assert path == "/v1/completions"
    assert body["prompt"] == list(rollout.prompt_ids)
    wanted = {"n": 2, "max_tokens": 6, "temperature": 0.7, "top_p": 0.9, "top_k": 11, "min_p": 0.0, "ignore_eos": True}
    wanted |= {
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "add_special_tokens": False,
    }
    assert {name: body[name] for name in wanted} == wanted
    assert body["stop_token_ids"] == list(served.encoder.end_ids)
    assert "seed" not in body


def test_seeds_are_sent_where_the_recipe_wants_them(policy: Policy, server: LikeVLLM, tmp_path: Path) -> None:
    served = sampler(policy, tmp_path, server, seeds=True)
    served.refresh(0)
    served.sample(PROMPTS, 1, 1.0, 2**40 + 5)
    assert sorted(body["seed"] for _, body in server.asked if "seed" in body) == [5, 6]


def test_a_long_prompt_leaves_less_to_write(policy: Policy, server: LikeVLLM, tmp_path: Path) -> None:
    served = sampler(policy, tmp_path, server, longest=12)
    served.refresh(0)
    for rollout in served.sample(PROMPTS, 1, 1.0, 0):
        assert len(rollout.completion.token_ids) <= 12 - len(rollout.prompt_ids)


def test_a_server_that_is_started_again_gets_the_weights_before_any_of_its_rollouts_counts(
    policy: Policy, server: LikeVLLM, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = sampler(policy, tmp_path, server)
    served.refresh(0)
    server.restart_at = {len(server.versions) + 1}
    found = served.sample(PROMPTS * 3, 2, TEMPERATURE, 0)
    assert "default" in server.versions
    assert server.weights == served.weights.name  # type: ignore[union-attr]
    assert len(found) == 12
    assert gap(policy, found) < 1e-5
    assert "lost the weights that it was sent, and gets them again" in caplog.text


def test_servers_that_another_run_uses_are_given_up(policy: Policy, server: LikeVLLM, tmp_path: Path) -> None:
    served = sampler(policy, tmp_path, server)
    served.refresh(0)
    server.restart_at = set(range(100))
    with pytest.raises(RolloutError, match="does another run use it"):
        served.sample(PROMPTS, 1, 1.0, 0)


def test_one_of_two_servers_may_go_and_come_back(policy: Policy, server: LikeVLLM, tmp_path: Path) -> None:
    with serving(policy) as other:
        served = sampler(policy, tmp_path, server, other)
        served.refresh(0)
        assert gap(policy, served.sample(PROMPTS * 8, 1, TEMPERATURE, 0)) < 1e-5
        asked = len(other.asked)
        other.down = True
        move(policy)
        served.refresh(0)
        found = served.sample(PROMPTS * 4, 1, TEMPERATURE, 0)
        assert [rollout.prompt for rollout in found] == PROMPTS * 4
        assert gap(policy, found) < 1e-5
        assert len(other.asked) == asked
        other.restart()
        other.down = False
        assert gap(policy, served.sample(PROMPTS * 8, 1, TEMPERATURE, 0)) < 1e-5
        assert gap(policy, served.sample(PROMPTS * 8, 1, TEMPERATURE, 0)) < 1e-5
        server.down = other.down = True
        with pytest.raises(RolloutError, match="no rollouts from any of 2 servers"):
            served.sample(PROMPTS, 1, 1.0, 0)
        with pytest.raises(RolloutError, match="no rollouts from any of 2 servers"):
            served.refresh(0)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"raw": True}, "start it with --logprobs-mode processed_logprobs"),
        ({"keeps_head": True}, r"does it renew all of its weights\?"),
        ({"off": 0.2}, r"differ from the policy's by 0.200 nats a token \(at most 0.1\)"),
        ({"cannot_read": True}, r"must see the folder by this path \(rollouts.folder\).*no weights in"),
        ({"dev_mode": False}, "start it with VLLM_SERVER_DEV_MODE=1"),
        ({"room": 30}, "takes sequences of 30 tokens, and the recipe's may have 38; start it with --max-model-len 38"),
        ({"busy": 1000}, "does not empty its prefix cache"),
    ],
)
def test_a_server_that_cannot_do_it_is_found_out_at_the_start(
    fault: dict[str, object], sentence: str, policy: Policy, server: LikeVLLM, tmp_path: Path
) -> None:
    for name, value in fault.items():
        setattr(server, name, value)
    with pytest.raises(ModelError, match=sentence):
        sampler(policy, tmp_path, server).refresh(0)


def test_a_kept_head_is_found_out_where_it_is_the_policys_own(policy: Policy, server: LikeVLLM, tmp_path: Path) -> None:
    """Without the weights with shifted tokens it would agree at the start and drift apart with training."""
    state = policy.model.state_dict()
    server.model.load_state_dict(state)
    server.keeps_head = True
    with pytest.raises(ModelError, match="does it renew all of its weights"):
        sampler(policy, tmp_path, server).refresh(0)


@pytest.mark.parametrize(("rows", "said"), [(-8, "fewer"), (8, "more")])
def test_another_vocabulary_is_found_out_before_any_weights_are_sent(
    rows: int, said: str, policy: Policy, server: LikeVLLM, tmp_path: Path
) -> None:
    server.model.resize_token_embeddings(server.model.config.vocab_size + rows)
    with pytest.raises(ModelError, match=f"with {said} than the policy's 4096 tokens"):
        sampler(policy, tmp_path, server).refresh(0)
    assert not any(path == "/collective_rpc" for path, _ in server.asked)


def test_another_name_is_named(policy: Policy, server: LikeVLLM, tmp_path: Path) -> None:
    served = sampler(policy, tmp_path, server)
    served.servers[0].model = "student"
    with pytest.raises(ModelError, match=r"serves \['policy'\] and not `student`"):
        served.refresh(0)


def test_weights_that_cannot_be_written_are_one_sentence(policy: Policy, server: LikeVLLM, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"change rollouts\.folder"):
        sampler(policy, tmp_path / "file" / "weights", server).refresh(0)


def through(server: LikeVLLM, folder: Path, ahead: bool) -> Distiller:
    """A tiny run whose rollouts come from the server."""
    job = tiny_distiller(folder, "grpo", 8, epochs=1, save_every=100, one_step_off=ahead)
    job.learner.sampler_apart = True
    if ahead:
        job.learner.loss = replace(job.learner.loss, importance_cap=2.0)
    served = sampler(job.learner.policy, folder / "weights", server)
    served.rules = replace(served.rules, longest_completion=4, temperature=1.0)
    job.sampler = served
    job.source = RolloutSource(job.draw, job.streams, served, ahead)
    return job


@pytest.mark.parametrize("ahead", [False, True])
def test_a_run_whose_server_is_gone_is_saved_and_goes_on(ahead: bool, tmp_path: Path) -> None:
    """The steps that were made are kept, and every prompt is trained on once."""
    with serving(tiny_policy()) as server:
        first = through(server, tmp_path, ahead)
        served, asked = first.sampler, first.sampler.sample

        def sample(*arguments: object, **told: object) -> list[Rollout]:
            server.down = served.sent == 5  # type: ignore[attr-defined]  # those with shifted tokens come first
            return asked(*arguments, **told)  # type: ignore[arg-type]

        served.sample = sample  # type: ignore[method-assign]
        with pytest.raises(RolloutError, match="saved at step 3, the same command continues"):
            first.run()
        assert first.streams["s0"].state()["position"] == 3 * 4
        server.down = False
        server.restart()
        second = through(server, tmp_path, ahead)
        assert second.run()["steps"] == 8
        assert second.streams["s0"].state()["position"] == 8 * 4
        assert not second.learner.rollout_is_old
        assert ahead or second.learner.rollout_gap_nats < 1e-5


def test_log_probs_that_stay_apart_are_saved_and_no_reason_to_try_again(tmp_path: Path) -> None:
    with serving(tiny_policy()) as server:
        job = through(server, tmp_path, ahead=False)
        refresh = job.sampler.refresh

        def then_apart(step: int) -> None:
            server.off = 0.0
            refresh(step)  # finds nothing
            server.off = 0.2 * (step == 3)

        job.sampler.refresh = then_apart  # type: ignore[method-assign]
        with pytest.raises(TrainingError, match=r"tiny: .* by 0.200 nats a token.*; saved at step 3$") as caught:
            job.run()
        assert caught.value.exit_code == TrainingError.exit_code == 2
        assert job.streams["s0"].state()["position"] == 3 * 4
        assert job.store.latest() == job.store.path(3)


RL: dict[str, Any] = {
    "name": "rl", "kind": "distill", "policy": "stage:warmup", "algorithm": "grpo", "group_size": 2, "steps": 2,
    "prompts": {"train": 1},
    "terms": [{"reward": "correct", "data": "train", "weight": 1.0}],
}  # fmt: skip


def test_missing_servers_are_found_before_the_stages_ahead_are_trained(policy: Policy, tmp_path: Path) -> None:
    with serving(policy) as server:
        rollouts: dict[str, Any] = {"engine": "vllm", "urls": [server.url], "deadline_s": 0.3}
        path = str(write(tmp_path, [WARMUP | {"epochs": 1}, RL | {"rollouts": rollouts}]))
        server.down = True
        with pytest.raises(ModelError, match=rf"stage rl: no vLLM server .* at {server.url} .*; start it .* or mend"):
            run(load_recipe(path))
        assert not list(tmp_path.glob("**/stage.json"))
        server.down, server.dev_mode = False, False
        with pytest.raises(ModelError, match="start it with VLLM_SERVER_DEV_MODE=1"):
            run(load_recipe(path))
        with pytest.raises(ModelError, match=r"serves \['policy'\] and not `student`"):
            run(load_recipe(path, ["rl.rollouts.model=student"]))
        assert not list(tmp_path.glob("**/stage.json"))
        server.dev_mode = True
        run(load_recipe(path), ["warmup"])
        server.down = True
        with pytest.raises(RolloutError, match="no rollouts from"):  # the next stage: waited for as the recipe says
            run(load_recipe(path))


def test_weights_that_cannot_be_sent_leave_what_was_written_ahead(tmp_path: Path) -> None:
    with serving(tiny_policy()) as server:
        first = through(server, tmp_path, ahead=True)
        refresh = first.sampler.refresh

        def gone(step: int) -> None:
            server.down = step == 3
            refresh(step)

        first.sampler.refresh = gone  # type: ignore[method-assign]
        with pytest.raises(RolloutError, match="saved at step 3, the same command continues"):
            first.run()
        assert first.streams["s0"].state()["position"] == 4 * 4
        server.down = False
        versions = len(server.versions)
        second = through(server, tmp_path, ahead=True)
        second.source.load_state(load_state(second.store.path(3))["pending"])
        assert second.source.take(3, None)[1] == 2  # of the weights then; without a word from the server
        assert len(server.versions) == versions


def test_every_stage_has_a_folder_of_its_own_for_weights(tmp_path: Path) -> None:
    shared = RolloutSettings(engine="vllm", urls=("http://a",), folder=tmp_path / "shared")
    places = {weights_folder(shared, tmp_path / name) for name in ("one", "two")}
    assert len(places) == 2
    assert {place.parent for place in places} == {tmp_path / "shared"}
    assert weights_folder(RolloutSettings(), tmp_path) == tmp_path / "weights"


def test_weights_go_when_the_sampler_does(policy: Policy, server: LikeVLLM, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    served = sampler(policy, tmp_path / "mine", server)
    served.refresh(0)
    assert len(list((tmp_path / "mine").iterdir())) == 2
    del served
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rollouts": {"engine": "vllm"}}, "`engine: vllm` needs `urls`"),
        ({"rollouts": {"urls": ["http://a"]}}, "`engine: in-process` needs neither"),
        ({"rollouts": {"engine": "vllm", "urls": ["http://a"]}, "sampling": {"top_p": 0.9}}, "leave both out"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], sentence: str) -> None:
    term = {"reward": "right", "data": "labeled", "weight": 1.0}
    stage = {"name": "rl", "kind": "distill", "steps": 2, "prompts": {"labeled": 1}, "terms": [term]}
    tree = {
        "policy": {"model": "x"},
        "data": {"labeled": {"source": "gsm8k"}},
        "rewards": {"right": {"kind": "verifiable"}},
        "stages": [stage | settings],
    }
    with pytest.raises(RecipeError, match=sentence) as caught:
        parse_recipe(tree, "r.yaml")
    assert "more)" not in str(caught.value)  # the list of stages is not too short besides


def test_a_missing_key_is_one_sentence(tmp_path: Path, policy: Policy) -> None:
    rollouts = {"engine": "vllm", "urls": ["http://a"], "key_env": "NO_SUCH_KEY"}
    term = {"reward": "right", "data": "labeled", "weight": 1.0}
    stage = DistillStage.model_validate(
        {"name": "rl", "kind": "distill", "steps": 2, "prompts": {"labeled": 1}, "terms": [term], "rollouts": rollouts}
    )
    own = PolicySampler(policy, PromptEncoder(policy.tokenizer, 32), 4, 8)
    with pytest.raises(ModelError, match=r"NO_SUCH_KEY \(rollouts.key_env\) is not set"):
        rollout_sampler(stage, own, tmp_path)
    assert rollout_sampler(stage.model_copy(update={"rollouts": RolloutSettings()}), own, tmp_path) is own
