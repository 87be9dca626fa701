"""vLLM inside this process: the newest weights alone, the policy's log-probs, the process as it was; every fault is one
sentence. Against a stand-in for `vllm`; the real one is in tests/slow/test_vllm_colocated.py."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engines.like_llm import LLM, Order, install
from tests.engines.test_served_rollouts import PROMPTS, TEMPERATURE, gap, move
from tests.test_errors import tree
from tests.training.tools import tiny_policy
from yonder.engines import vllm_inside
from yonder.engines.build import engine_room, rollout_sampler
from yonder.engines.checking import Rules
from yonder.engines.colocated import ColocatedSampler
from yonder.engines.vllm_inside import Room, VLLMInside
from yonder.errors import ModelError, RecipeError, RolloutError
from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.models.lora import Lora
from yonder.models.policy import Policy
from yonder.pipeline.running import run
from yonder.planning.machine import Machine
from yonder.planning.needs import HERE, HOST, Planner
from yonder.recipe import Recipe, parse_recipe
from yonder.recipe.rollouts import ColocateSettings
from yonder.schema import Rollout

ROOM = Room(tokens=38, sequences=8, dtype="float32", memory_share=0.3)
RULES = Rules(32, 6, 64, TEMPERATURE, 0.1)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> Order:
    return install(monkeypatch)


def sampler(policy: Policy, room: Room = ROOM) -> ColocatedSampler:
    return ColocatedSampler(lambda: VLLMInside(policy, room), policy, PromptEncoder(policy.tokenizer, 32), RULES)


def test_rollouts_come_from_the_policys_weights_after_every_change(policy: Policy, order: Order) -> None:
    live = sampler(policy)
    for step in range(3):
        live.refresh(step)
        told: list[Rollout] = []
        found = live.sample(PROMPTS, 3, TEMPERATURE, 0, finished=told.extend)
        assert [rollout.group for rollout in found] == [0, 0, 0, 1, 1, 1]
        assert [rollout.prompt for rollout in found] == [PROMPTS[0]] * 3 + [PROMPTS[1]] * 3
        assert [rollout.group for rollout in told] == [1, 1, 1, 0, 0, 0]  # as they were ready
        assert gap(policy, found) < 1e-5
        move(policy)
        assert gap(policy, found) > 1e-3
    assert len(order.engines) == 1
    assert order.engines[0].calls[:2] == ["load", "reset"]
    assert order.engines[0].calls.count("load") == order.engines[0].calls.count("reset") == 4  # shifted ones first


def test_the_engine_is_told_all_and_starts_with_none_of_the_policys_weights(
    policy: Policy,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = sampler(policy)
    live.refresh(0)
    given = order.built[0]
    wanted = {"load_format": "dummy", "generation_config": "vllm", "logprobs_mode": "processed_logprobs"}
    wanted |= {"dtype": "float32", "max_model_len": 38, "max_num_seqs": 8, "gpu_memory_utilization": 0.3}
    wanted |= {"enable_sleep_mode": False, "enforce_eager": False, "distributed_executor_backend": None}
    assert {name: given[name] for name in wanted} == wanted
    assert "kv_cache_memory_bytes" not in given
    asked: list[Any] = []
    engine = order.engines[0]
    write = engine.write
    monkeypatch.setattr(engine, "write", lambda prompt, settings: asked.append(settings) or write(prompt, settings))
    live.sample(PROMPTS[:1], 2, 0.7, 5, top_p=0.9, top_k=11)
    settings = vars(asked[0])
    wanted = {"n": 2, "max_tokens": 6, "temperature": 0.7, "top_p": 0.9, "top_k": 11, "min_p": 0.0, "ignore_eos": True}
    wanted |= {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logprobs": 0}
    wanted |= {"stop_token_ids": list(live.encoder.end_ids), "stop": [], "detokenize": False}
    assert {name: settings[name] for name in wanted} == wanted


def test_a_seed_says_what_is_drawn_and_the_process_is_left_as_it_was(policy: Policy, order: Order) -> None:
    def numbers() -> list[float]:
        return [torch.rand(1).item(), random.random(), float(np.random.rand())]

    def seed() -> None:
        torch.manual_seed(5)
        random.seed(5)
        np.random.seed(5)

    seed()
    before, threads = numbers(), torch.set_num_threads
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VLLM_")}
    seed()
    live = sampler(policy)
    live.refresh(0)
    first, again, other = (live.sample(PROMPTS, 4, TEMPERATURE, seed) for seed in (3, 3, 4))
    assert numbers() == before
    assert torch.set_num_threads is threads
    assert {k: v for k, v in os.environ.items() if not k.startswith("VLLM_")} == environment
    assert [r.completion for r in first] == [r.completion for r in again]
    assert [r.completion for r in first] != [r.completion for r in other]


def test_a_completion_ends_as_our_own_samplers_do(policy: Policy, order: Order) -> None:
    live = sampler(policy)
    live.refresh(0)
    own = PolicySampler(policy, live.encoder, 6, 8)
    (one,) = live.sample(PROMPTS[:1], 1, None, 0)
    live.encoder.end_ids = one.completion.token_ids[2:3]
    theirs, ours = live.sample(PROMPTS, 2, None, 0), own.sample(PROMPTS, 2, None, 0)
    assert [(r.completion.token_ids, r.completion.finished, r.completion.text) for r in theirs] == [
        (r.completion.token_ids, r.completion.finished, r.completion.text) for r in ours
    ]
    assert theirs[0].completion.finished


def test_an_adapter_is_merged_on_the_way(order: Order) -> None:
    pytest.importorskip("peft")
    adapted = tiny_policy(lora=Lora(rank=4))
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.3)
    live = sampler(adapted)
    live.refresh(0)
    assert gap(adapted, live.sample(PROMPTS, 3, TEMPERATURE, 0)) < 1e-4


def test_it_sleeps_between_rollouts_and_wakes_for_weights(
    policy: Policy,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vllm_inside, "_engine", lambda folder, *_: LLM(model=folder, seed=0))  # which refuses a CPU
    live = sampler(policy, replace(ROOM, sleep=True))
    live.refresh(0)
    live.sample(PROMPTS, 1, TEMPERATURE, 0)
    assert order.engines[0].calls[-1] == "sleep"
    order.engines[0].calls.clear()
    live.sample(PROMPTS, 1, TEMPERATURE, 0)
    live.refresh(1)
    assert [call for call in order.engines[0].calls if call != "answer"] == ["wake", "sleep", "wake", "load", "reset"]


def test_an_engine_that_keeps_some_weights_is_found_out(policy: Policy, order: Order) -> None:
    order.keeps_head = True
    live = sampler(policy)
    with pytest.raises(ModelError, match=r"differ from the policy's by \d.*does not renew all weights"):
        live.refresh(0)
    with pytest.raises(RuntimeError, match="`refresh` comes before"):
        live.sample(PROMPTS, 1, TEMPERATURE, 0)


@pytest.mark.parametrize(
    ("fault", "value", "says"),
    [
        ("cannot_start", True, "ValueError: No available memory for the cache blocks.*gpu_memory_utilization"),
        ("cannot_take", True, "does not take the policy's weights .KeyError: 'model.layers.0.unknown'"),
        ("cache_stays", True, "prefix cache"),
        ("old_version", True, r"answered with the weights \['default'\] instead of"),
        ("forgets", True, "answered 0 of 4 prompts"),
        ("fewer", 1, "answered 0 completions instead of 1"),
        ("off", 0.2, "by 0.200 nats a token .at most 0.1."),
        ("off", float("nan"), "log-probs that are not numbers"),
    ],
)
def test_faults_are_one_sentence(policy: Policy, order: Order, fault: str, value: Any, says: str) -> None:
    setattr(order, fault, value)
    with pytest.raises(ModelError, match=says) as caught:
        sampler(policy).refresh(0)
    assert "\n" not in str(caught.value)


def test_weights_that_were_not_taken_are_not_sampled_from(policy: Policy, order: Order) -> None:
    live = sampler(policy)
    live.refresh(0)
    order.cannot_take = True
    with pytest.raises(ModelError):
        live.refresh(1)
    with pytest.raises(RuntimeError, match="`refresh` comes before"):
        live.sample(PROMPTS, 1, TEMPERATURE, 0)


def test_what_is_left_of_a_batch_that_failed_is_ended(policy: Policy, order: Order) -> None:
    live = sampler(policy)
    live.refresh(0)
    order.dies_after = 1
    with pytest.raises(RolloutError, match=r"vLLM ended in this process .*the engine died"):
        live.sample(PROMPTS * 2, 1, TEMPERATURE, 0)
    engine = order.engines[0]
    assert len(engine.aborted) == 3
    assert engine.waiting == {}
    order.dies_after = None
    assert len(live.sample(PROMPTS, 2, TEMPERATURE, 0)) == 4


def test_another_device_and_sleep_on_a_cpu_are_refused(
    policy: Policy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, device="cuda")
    with pytest.raises(ModelError, match="built for `cuda`, and the policy is on `cpu`"):
        sampler(policy).refresh(0)
    install(monkeypatch)
    with pytest.raises(ModelError, match=r"`rollouts\.colocate\.sleep` needs a GPU"):
        sampler(policy, replace(ROOM, sleep=True)).refresh(0)


def recipe(folder: Path, **rollouts: Any) -> Recipe:
    """A small one whose second stage samples by vLLM in this process."""
    given = tree(folder)
    rollouts = rollouts or {"engine": "vllm", "colocate": {"cache_gib": 1.0}}
    given["stages"][1] |= {"algorithm": "grpo", "group_size": 2, "epochs": 1, "rollouts": rollouts}
    return parse_recipe(given, "test")


def test_a_recipe_trains_on_it(order: Order, tmp_path: Path) -> None:
    run(recipe(tmp_path))
    rows = (tmp_path / "run/stages/rl/metrics.jsonl").read_text().splitlines()
    assert len(rows) == 2
    assert order.built[0]["kv_cache_memory_bytes"] == 2**30
    assert order.engines[0].calls.count("load") == 3


def test_a_missing_package_is_found_before_the_first_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_inside, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"needs the package vllm.*pip install 'yonder-rl\[vllm\]'"):
        run(recipe(tmp_path))
    assert not (tmp_path / "run/stages/warmup/metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("rollouts", "says"),
    [
        ({"engine": "vllm"}, "needs `urls` .* or `colocate: {}`"),
        ({"engine": "vllm", "colocate": {}, "urls": ["http://a:1"]}, "one of the two"),
        ({"colocate": {}}, "`engine: in-process` needs neither"),
        ({"engine": "vllm", "colocate": {}, "seeds": True}, "`seeds` of `rollouts`: for servers only"),
        ({"engine": "vllm", "colocate": {"gpu_memory_utilization": 1.5}}, "gpu_memory_utilization"),
    ],
)
def test_recipes_say_one_of_the_two(tmp_path: Path, rollouts: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        recipe(tmp_path, **rollouts)


def test_memory_settings_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    def decisive(**colocate: Any) -> Any:
        return recipe(tmp_path, engine="vllm", colocate=colocate).stage("rl").decisive()

    assert decisive() == decisive(gpu_memory_utilization=0.5, cache_gib=2.0, sleep=True)
    assert decisive() != decisive(dtype="float32")
    assert "colocate" not in recipe(tmp_path, engine="in-process").stage("rl").decisive()["rollouts"]


def test_the_engines_type_is_what_the_policy_computes_in(policy: Policy) -> None:
    assert engine_room(ColocateSettings(), RULES, policy) == Room(38, 256, "float32", 0.3)
    policy.autocast = torch.bfloat16
    assert engine_room(ColocateSettings(), RULES, policy).dtype == "bfloat16"
    assert engine_room(ColocateSettings(dtype="float32"), replace(RULES, longest=20), policy).tokens == 20


def test_a_plan_counts_its_weights_and_its_cache(tmp_path: Path) -> None:
    def parts(**colocate: Any) -> dict[str, tuple[str, float, str]]:
        planner = Planner(recipe(tmp_path, engine="vllm", colocate=colocate), Machine(8e9))
        stage = planner.stage(planner.recipe.stage("rl"))
        return {part.what: (part.device, part.bytes, part.when) for part in stage.parts}

    size = 4.0 * Planner(recipe(tmp_path), Machine(8e9)).model(None)[0].parameters
    found = parts(cache_gib=1.0)
    assert found["vLLM: weights"] == (HERE, size, "")
    assert found["vLLM: key-value cache"] == (HERE, 2.0**30, "")
    assert "vLLM: weights, asleep" not in found
    found = parts(gpu_memory_utilization=0.5, dtype="bfloat16", sleep=True)
    assert found["vLLM: weights"] == (HERE, size / 2, "generate")
    assert found["vLLM: key-value cache"] == (HERE, 4e9 - size / 2, "generate")
    assert found["vLLM: weights, asleep"] == (HOST, size / 2, "")


def test_the_samplers_of_recipes(policy: Policy, tmp_path: Path) -> None:
    stage: Any = recipe(tmp_path).stage("rl")
    own = PolicySampler(policy, PromptEncoder(policy.tokenizer, 32), 6, 8, 64)
    built = rollout_sampler(stage, own, tmp_path)
    assert isinstance(built, ColocatedSampler)
    assert not built.beside
    assert built.rules.most_apart == 0.1
