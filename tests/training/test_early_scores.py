"""Judges on servers score while other completions are still written: the same run, sooner."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engines import like_vllm
from tests.engines.test_served_rollouts import through
from tests.judges.faulty import Faulty, serving
from tests.training.test_rollback import lines
from tests.training.tools import WordReward, tiny_distiller, tiny_policy
from yonder.assembly.judges import load_judge
from yonder.errors import ModelError, Stopped
from yonder.generation.dynamic import DynamicDecoder
from yonder.generation.sampler import PolicySampler
from yonder.judges.grouped import GroupedReward
from yonder.judges.local import LocalJudge
from yonder.models.encoding import PromptEncoder
from yonder.protocols import Reward
from yonder.recipe.data import TaskSettings
from yonder.recipe.rewards import VerifiableSettings
from yonder.rewards.base import ShuffledReward
from yonder.rewards.ensemble import EnsembleReward
from yonder.rewards.judge import JudgeReward, JudgeRolloutReward, JudgeRules
from yonder.rewards.verifiable import VerifiableReward
from yonder.sandbox import ProgramResult, Sandbox
from yonder.schema import Completion, Prompt, Rollout, Score
from yonder.training.ahead import RolloutSource
from yonder.training.distill import Distiller
from yonder.training.distributed import ALONE
from yonder.training.rollout import EarlyScores, Term
from yonder.training.sharing import SharedReward

TOKEN_S = 0.02  # what a token takes in the tests that measure time


@pytest.fixture
def server() -> Iterator[Faulty]:
    with serving() as running:
        yield running


def judge(url: str, **settings: Any) -> JudgeRolloutReward:
    given = {"urls": [url], "batch": 1, "concurrency": 4, "timeout_s": 5, "deadline_s": 5} | settings
    rules = {"mass_floor": 0.0, "guards": ["empty"]}
    return JudgeRolloutReward(load_judge({"model": "yonder:judge", "backend": "sglang", "server": given} | rules))


class Slow(DynamicDecoder):
    """Takes its time for every token."""

    def _step(self, *arguments: Any) -> Tensor:
        time.sleep(TOKEN_S)
        return super()._step(*arguments)


def writing(own: PolicySampler, decoder: type[DynamicDecoder]) -> PolicySampler:
    """A sampler that writes at most four tokens with such a decoder."""
    found = PolicySampler(own.policy, own.encoder, 4, batch=8)
    found.picker.picked = decoder(own.policy, own.encoder)
    return found


def judged(folder: Path, reward: Reward, early: bool, steps: int = 3, **plan: Any) -> Distiller:
    """A tiny run with a judge and another reward, four batches an iteration, completions of many lengths."""
    made = tiny_distiller(folder, "grpo", steps, epochs=1, score_early=("served", "programs") if early else (), **plan)
    if made.plan.one_step_off:
        made.learner.loss = replace(made.learner.loss, importance_cap=2.0)
    made.terms = [Term("judge", "s0", 0.5, reward), Term("word", "s0", 0.5, WordReward())]
    own = made.sampler
    assert isinstance(own, PolicySampler)
    own.encoder.end_ids = tuple(range(0, 4096, 5))
    made.sampler = writing(own, Slow)
    made.learner.value_outputs = [0, 0]
    return begun(made)


def begun(made: Distiller) -> Distiller:
    """With what is made of its parts made again."""
    made.source = RolloutSource(made.draw, made.streams, made.sampler, made.plan.one_step_off)
    made.early = EarlyScores(made.terms, made.probes, made.plan.score_early)
    return made


def outcome(folder: Path) -> list[Any]:
    """The metrics of a run that no clock measured."""
    rows = lines(folder, "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith("time") and k != "tokens_per_s"} for row in rows]


def same_weights(first: Distiller, second: Distiller) -> bool:
    ours, theirs = first.learner.policy.state_dict(), second.learner.policy.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def no_thread_is_left() -> bool:
    end = time.monotonic() + 5
    while any(thread.name == "early" for thread in threading.enumerate()) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(thread.name == "early" for thread in threading.enumerate())


@pytest.mark.parametrize("one_step_off", [False, True])
def test_the_run_is_the_same_and_sooner(one_step_off: bool, server: Faulty, tmp_path: Path) -> None:
    server.delay_s = 0.1  # what a busy machine adds is small beside it
    runs = {
        early: judged(tmp_path / str(early), judge(server.url), early, one_step_off=one_step_off)
        for early in (False, True)
    }
    seconds: dict[bool, float] = {}
    asked: dict[bool, list[str]] = {}
    for early, made in runs.items():
        server.asked.clear()
        made.run()
        asked[early] = sorted(str(body["items"]) for body in server.asked)
        rows = lines(tmp_path / str(early), "metrics.jsonl")
        seconds[early] = sum(row[key] for row in rows for key in row if key.startswith("time/score/"))
    assert outcome(tmp_path / "True") == outcome(tmp_path / "False")
    assert same_weights(runs[True], runs[False])
    assert asked[True] == asked[False]
    assert seconds[True] < 0.85 * seconds[False], seconds
    assert no_thread_is_left()


def test_completions_of_a_server_are_judged_as_each_is_answered(server: Faulty, tmp_path: Path) -> None:
    """The judge has every rollout before the rollout server has answered the last prompt."""
    with like_vllm.serving(tiny_policy()) as rollouts:
        made = through(rollouts, tmp_path, ahead=False)
        made.plan = replace(made.plan, score_early=("served",), steps=1)
        made.terms = [replace(made.terms[0], reward=judge(server.url))]
        begun(made)
        made.sampler.refresh(0)
        made.sampler.refresh = lambda step: None  # type: ignore[method-assign]
        complete, behind = rollouts.complete, list[int]()
        answered, before = len(rollouts.versions), len(server.asked)

        def last_waits(body: dict[str, Any]) -> list[dict[str, Any]]:
            found = complete(body)
            if len(rollouts.versions) == answered + 4:  # the last of four prompts
                end = time.monotonic() + 5
                while len(server.asked) - before < 3 * 8 and time.monotonic() < end:
                    time.sleep(0.01)
                behind.append(len(server.asked) - before)
            return found

        rollouts.complete = last_waits  # type: ignore[method-assign]
        with made.early:
            made.iterate()
    assert behind == [24]
    assert len(server.asked) - before == 32


def test_what_the_judge_does_not_answer_is_unscored_either_way(server: Faulty, tmp_path: Path) -> None:
    for early in (False, True):
        reward = judge(server.url)
        server.faults = [""] * len(server.asked) + ["", "400", "", "400", "400"] + [""] * 12 + ["400"]
        judged(tmp_path / str(early), reward, early, steps=1).run()
        (row,) = lines(tmp_path / str(early), "metrics.jsonl")
        assert row["terms/judge@s0/scored"] == 28 / 32
        assert row["terms/word@s0/scored"] == 1.0


def test_a_judge_that_ends_the_run_does_so_once_with_its_sentence(server: Faulty, tmp_path: Path) -> None:
    made = judged(tmp_path, judge(server.url), True)
    server.faults = [""] * (len(server.asked) + 5) + ["404"] * 1000
    with pytest.raises(ModelError, match=r"answers 404: .*; check url and model$") as caught:
        made.run()
    assert caught.value.__context__ is None
    assert no_thread_is_left()
    assert len(server.asked) < 5 + 32  # what waited was not asked


class Broken(Slow):
    """Ends in the middle of a batch."""

    steps = 0

    def _step(self, *arguments: Any) -> Tensor:
        self.steps += 1
        if self.steps == 9:
            raise MemoryError
        return super()._step(*arguments)


def test_a_crash_while_completions_are_written_leaves_no_thread_and_no_verdict(server: Faulty, tmp_path: Path) -> None:
    server.delay_s = 0.05
    made = judged(tmp_path, judge(server.url), True)
    own = made.sampler
    assert isinstance(own, PolicySampler)
    made.sampler = writing(own, Broken)
    begun(made)
    with pytest.raises(MemoryError):
        made.run()
    asked = len(server.asked)
    assert no_thread_is_left()
    assert len(server.asked) <= asked + 4  # those that were open, or just then begun
    scorer = made.terms[0].reward
    assert isinstance(scorer, JudgeRolloutReward)
    assert not scorer.judge.model._early._answers  # type: ignore[attr-defined]


def test_a_stopped_run_goes_on_as_an_unbroken_one_with_what_was_written_ahead(server: Faulty, tmp_path: Path) -> None:
    server.delay_s = 0.02
    whole = judged(tmp_path / "whole", judge(server.url), True, one_step_off=True)
    whole.run()
    broken = judged(tmp_path / "broken", judge(server.url), True, one_step_off=True)
    advance = broken.recorder.metrics

    def stop(metrics: dict[str, Any]) -> None:
        advance(metrics)
        broken.stop.asked = metrics["step"] == 2

    broken.recorder.metrics = stop  # type: ignore[method-assign]
    with pytest.raises(Stopped, match="saved at step 2"):
        broken.run()
    assert no_thread_is_left()
    resumed = judged(tmp_path / "broken", judge(server.url), True, one_step_off=True)
    resumed.run()
    assert same_weights(whole, resumed)
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole")


def rollout(program: str, answer: str | None = "42", finished: bool = True) -> Rollout:
    return Rollout(Prompt("a", "How many?", "", answer=answer), (), Completion((1,), (0.0,), program, finished))


def test_programs_run_early_where_the_recipe_wants_it() -> None:
    threads: list[str] = []
    with Sandbox(workers=1) as sandbox:

        def run(programs: Sequence[str]) -> list[ProgramResult]:
            threads.append(threading.current_thread().name)
            return sandbox.run(programs)

        reward = VerifiableReward(VerifiableSettings(kind="verifiable"), TaskSettings(format="program"), run)
        programs = ["def solution():\n    return 42", "def solution():\n    return 6", "def solution(", "nothing"]
        rollouts = [rollout(text) for text in programs] + [rollout("def solution():\n    return 1", None)]
        late = reward.score(rollouts)
        assert EarlyScores([Term("right", "s", 1.0, reward)], [], ["served"]).of("s") is None
        scores = EarlyScores([Term("right", "s", 1.0, reward)], [Term("right", "s", 0.0, reward)], ["programs"])
        told = scores.of("s")
        assert told is not None
        with scores:
            for one in rollouts[2:]:
                told([one])
            assert reward.score(rollouts) == late
        assert threads[0] == "MainThread"
        assert set(threads[1:]) == {"early"}
        told(rollouts)  # after its end nothing begins
        assert no_thread_is_left()
        assert not reward._programs._answers


def local_judge() -> JudgeRolloutReward:
    rules = {"mass_floor": 0.0, "delta": 0.0, "guards": ["empty"]}
    return JudgeRolloutReward(load_judge({"model": "yonder:judge"} | rules))


LOCAL = local_judge()


def read_here(folder: Path, early: bool, **plan: Any) -> Distiller:
    """A tiny run whose judge is in this process and reads two prompts at once."""
    made = judged(folder, GroupedReward(LOCAL, 8), early, **plan)
    made.plan = replace(made.plan, score_early=("local",) if early else ())
    return begun(made)


@pytest.mark.parametrize("one_step_off", [False, True])
def test_a_judge_in_this_process_gives_the_same_bits_early_and_late(one_step_off: bool, tmp_path: Path) -> None:
    """Begun early or not, and in a run that was stopped."""
    runs = {name: read_here(tmp_path / name, name == "early", one_step_off=one_step_off) for name in ("early", "late")}
    for made in runs.values():
        made.run()
    assert same_weights(runs["early"], runs["late"])
    assert outcome(tmp_path / "early") == outcome(tmp_path / "late")
    broken = read_here(tmp_path / "broken", True, one_step_off=one_step_off)
    advance = broken.recorder.metrics

    def stop(metrics: dict[str, Any]) -> None:
        advance(metrics)
        broken.stop.asked = metrics["step"] == 2

    broken.recorder.metrics = stop  # type: ignore[method-assign]
    with pytest.raises(Stopped, match="saved at step 2"):
        broken.run()
    assert no_thread_is_left()
    resumed = read_here(tmp_path / "broken", True, one_step_off=one_step_off)
    resumed.run()
    assert same_weights(runs["early"], resumed)
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "early")


class Noted:
    """A reward that remembers what it read at once, and in which thread."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[tuple[int, str]], str]] = []

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        shown = [(r.group, r.completion.text) for r in rollouts]
        self.calls.append((shown, threading.current_thread().name))
        return [Score(float(r.completion.text) / 10, str(r.group)) for r in rollouts]


def test_what_is_read_together_is_decided_by_places_not_by_time() -> None:
    """With 8 completions of a prompt two prompts; here of 5 prompts, so that the last stands alone."""

    def one(group: int, sample: int) -> Rollout:
        return Rollout(Prompt(f"p{group}", "?", ""), (), Completion((sample,), (0.0,), str(sample), True), group)

    written = [one(group, sample) for group in range(5) for sample in range(8)]
    late, inner = Noted(), Noted()
    expected = GroupedReward(late, 8).score(written)
    assert [(s.value, s.reason) for s in expected] == [(i % 8 / 10, str(i // 8)) for i in range(40)]
    assert [len(read) for read, _ in late.calls] == [16, 16, 8]
    reward = GroupedReward(inner, 8)
    scores = EarlyScores([Term("x", "s", 1.0, reward)], [], ["local"])
    with scores:
        tell = scores.of("s")
        assert tell is not None
        for _ in range(2):  # iterations
            inner.calls.clear()
            for rollout in sorted(written, key=lambda r: r.completion.token_ids, reverse=True):
                tell([rollout])
            assert reward.score(written) == expected
            assert sorted(read for read, _ in inner.calls) == sorted(read for read, _ in late.calls)
            assert {name for _, name in inner.calls} == {"early"}
        tell(written[:7])
        assert not reward.asked._answers
        tell(written[7:16])
        assert reward.asked._answers
        reward.score(written)
        inner.calls.clear()
        tell(written[:9])  # of a batch that ended otherwise
        tell = scores.of("s")
        assert tell is not None
        for rollout in [*written[8:16], *written]:  # the second prompt is thrown away and written again
            tell([rollout])
        assert reward.score(written) == expected
        assert sorted(read for read, _ in inner.calls) == sorted(read for read, _ in late.calls)
        tell(written[:16])
    assert not reward.asked._answers
    assert [len(part) for part, _ in _calls(1)] == [16, 16, 8]
    assert [len(part) for part, _ in _calls(40)] == [1, 1, 1]


def _calls(samples: int) -> list[tuple[list[tuple[int, str]], str]]:
    """What is read at once of 40 prompts with 1 completion, or 3 with 40."""
    inner = Noted()
    rollouts = [
        Rollout(Prompt("p", "?", ""), (), Completion((1,), (0.0,), "1", True), group)
        for group in range(40 if samples == 1 else 3)
    ]
    GroupedReward(inner, samples).score(rollouts)
    return inner.calls


def test_read_some_at_once_the_scores_are_those_of_all_at_once() -> None:
    """Up to rounding."""
    policy = tiny_policy()
    sampler = PolicySampler(policy, PromptEncoder(policy.tokenizer, 32), 12, 256)
    prompts = [Prompt(str(i), f"What is {i} and {i}?", f"Question {i}:") for i in range(5)]
    rollouts = sampler.sample(prompts, 8, 1.0, 3)
    apart = [score.value for score in GroupedReward(LOCAL, 8).score(rollouts)]
    whole = [score.value for score in LOCAL.score(rollouts)]
    assert apart == pytest.approx(whole, abs=1e-4)
    assert len(set(whole)) > 20


def test_who_begins_early_is_found_through_what_is_made_of_rewards(server: Faulty) -> None:
    """Once, however often it is used; a reward in this process begins nothing."""
    served, word = judge(server.url), WordReward()
    both = EnsembleReward([("judge", served), ("word", word)], "mean")
    made: list[Reward] = [served, both, ShuffledReward(served, 0), SharedReward(ALONE, both)]
    for reward in made:
        assert EarlyScores([Term("x", "s", 1.0, reward)], [], ["served"])._scorers["s"] == {id(served): served}
        assert EarlyScores([Term("x", "s", 1.0, reward)], [], []).of("s") is None
    local = JudgeRolloutReward(JudgeReward(LocalJudge.__new__(LocalJudge), JudgeRules()))
    for reward in (word, local):
        assert EarlyScores([Term("x", "s", 1.0, reward)], [], ["served", "programs"]).of("s") is None
    assert EarlyScores([Term("x", "s", 1.0, GroupedReward(local, 4))], [], ["served"]).of("s") is None
    before = len(server.asked)
    told = EarlyScores([Term("x", "s", 1.0, reward) for reward in made], [], ["served"])
    with told:
        tell = told.of("s")
        assert tell is not None
        tell([rollout("return 1"), rollout("return 1"), rollout(" ")])
        assert both.score([rollout("return 1")])[0].value is not None
    assert len(server.asked) == before + 1
    assert told.of("other") is None
