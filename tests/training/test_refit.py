"""Refits: what they are fitted on, that they are exact when resumed or rolled back, what follows at a trip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.tiny import CPU, fresh
from tests.pipeline.test_pipeline import write
from tests.training.test_rollback import Fooled, Interrupt, lines, same, weights
from tests.training.tools import tiny_distiller, tiny_policy
from yonder import load_judge
from yonder.errors import RecipeError
from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt
from yonder.models.classifier import LocalClassifier
from yonder.models.loading import load_classifier
from yonder.models.lora import Lora, add_lora
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.recipe.loading import parse_recipe
from yonder.rewards.judge import JudgeReward, JudgeRolloutReward, JudgeRules
from yonder.schema import Completion, Prompt, Response, Rollout, Score, Trip
from yonder.stages.refitting import refitted_rewards
from yonder.training.distill import Distiller
from yonder.training.fit import Trainee, classifier_examples, judge_trainee
from yonder.training.monitor import Monitor
from yonder.training.progress import Silent
from yonder.training.refit import Answered, Gathered, Refit, RefitPlan, batches, distinct, too_few
from yonder.training.rollback import Safety
from yonder.training.rollout import Term
from yonder.training.supervised import Example
from yonder.training.watches import MonitorRules

PLAN = RefitPlan(
    reward="judge", rewards=("judge",), every=3, steps=4, batch_size=8, lr=1e-2, held_out=0.4, grad_clip=1.0,
    micro_batch_tokens=100_000, seed=0,
)  # fmt: skip
RULES = MonitorRules(
    window=3, min_wrong=10, z=0.0, max_false_yes=1.0, max_false_yes_growth=0.02, max_gap_growth=2.0, min_length=0.0,
    max_unscored=1.0, max_run_fall=1.0,
)  # fmt: skip


def small_judge(adapter: bool = False) -> tuple[JudgeRolloutReward, Trainee]:
    policy = tiny_policy(seed=5)
    if adapter:
        add_lora(policy.model, Lora(rank=4, dropout=0.2), seed=0)
    prompt = JudgePrompt(policy.tokenizer, "{question}\n{response}\nRight?", "off", ("Yes", "No"))
    judge = LocalJudge(policy.model, prompt, 64, 10_000)
    rules = JudgeRules(program=False, mass_floor=0.0, delta=0.0)
    return JudgeRolloutReward(JudgeReward(judge, rules)), judge_trainee(policy, judge, rules, 0.0)


class OddFirst:
    """The truth: the first token is odd."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        right = [rollout.completion.token_ids[0] % 2 == 1 for rollout in rollouts]
        return [Score(float(found), "odd", {"correct": found}) for found in right]


def everything(rollout: Rollout) -> bool:
    return True


def distiller(folder: Path, steps: int = 8, adapter: bool = False, **plan: object) -> Distiller:
    """A tiny judge on s1, watched beside the truth on s0 and fitted on what is gathered there."""
    made = tiny_distiller(folder, "grpo", steps, terms=2, epochs=1, save_every=2)
    reward, trainee = small_judge(adapter)
    made.terms = [Term("truth", "s0", 0.0, OddFirst()), Term("judge", "s1", 1.0, reward)]
    made.probes = [Term("judge", "s0", 0.0, reward)]
    made.monitor = Monitor(RULES, made.terms, made.probes, "truth")
    source = Gathered("truth", "s0", 1.0, everything, iterations=10)
    made.refit = Refit(replace(PLAN, **plan), trainee, source)
    return made


def judge_weights(made: Distiller) -> dict[str, torch.Tensor]:
    assert made.refit is not None
    return {name: tensor.clone() for name, tensor in made.refit.model.model.state_dict().items()}


def response(question: str, text: str, correct: bool | None) -> Response:
    return Response("p", question, text, correct, "test")


def rollout(question: str, text: str) -> Rollout:
    return Rollout(Prompt("p", question, question), (), Completion((1,), (0.0,), text, True))


# ----- what it is fitted on


def test_batches_are_half_right_and_half_replayed_where_both_are_there() -> None:
    fresh_right, old_right, fresh_wrong = (
        [Example((kind, i), target=1, label=int(kind < 2)) for i in range(3)] for kind in range(3)
    )
    found = batches([[fresh_right, old_right], [fresh_wrong, []]], steps=6, size=5, seed=0)
    for batch in found:
        kinds = [example.ids[0] for example in batch]
        assert (kinds.count(0), kinds.count(1), kinds.count(2)) == (1, 1, 3)
    for pool in (fresh_right, old_right):  # each comes once before one comes again
        order = [example for batch in found for example in batch if example in pool]
        assert sorted(order[:3], key=str) == sorted(order[3:6], key=str) == pool
    assert found == batches([[fresh_right, old_right], [fresh_wrong, []]], steps=6, size=5, seed=0)
    assert found != batches([[fresh_right, old_right], [fresh_wrong, []]], steps=6, size=5, seed=1)


@pytest.mark.parametrize(
    ("right", "wrong", "enough"),
    [((8, 0), (0, 8), True), ((4, 4), (4, 4), True), ((0, 8), (7, 9), False), ((7, 0), (8, 0), False)],
)
def test_it_needs_both_labels_and_something_fresh(right: tuple[int, int], wrong: tuple[int, int], enough: bool) -> None:
    sides = [[[Example((1, 2), 1)] * count for count in side] for side in (right, wrong)]
    assert (too_few(sides) == "") is enough


def test_unscored_unread_and_double_rollouts_are_left_out_and_old_ones_drop() -> None:
    source = Gathered("truth", "s", 1.0, lambda rollout: rollout.completion.text != "cut", iterations=2)
    yes, no = Score(1.0, "", {"correct": True}), Score(0.1, "", {"correct": False})
    source.gather({"s": [rollout("a", "old")]}, {("truth", "s"): [yes]})
    texts = [("a", "x", yes), ("a", "y", no), ("a", "x", yes), ("b", "z", Score(None, "outage")), ("b", "cut", no)]
    source.gather(
        {"s": [rollout(question, text) for question, text, _ in texts]}, {("truth", "s"): [s for *_, s in texts]}
    )
    assert [(r.response, r.correct) for r in source.take(0)] == [("old", True), ("x", True), ("y", False)]
    other = Gathered("truth", "s", 1.0, everything, iterations=2)
    other.load_state(json.loads(json.dumps(source.state())))
    assert other.take(0) == source.take(0)
    source.gather({"s": [rollout("c", "w")]}, {("truth", "s"): [no]})
    assert [r.response for r in source.take(0)] == ["x", "y", "w"]
    source.clear()
    assert source.take(0) == []


def test_prompts_of_their_own_are_answered_for_the_refit_alone() -> None:
    class Ten:
        place = 0

        def next(self, count: int) -> list[Prompt]:
            self.place += count
            return [Prompt(str(i), f"q{i}", "t") for i in range(self.place - count, self.place)]

        def state(self) -> dict[str, int]:
            return {"place": self.place}

        def load_state(self, state: dict[str, int]) -> None:
            self.place = state["place"]

    seeds = []

    def answer(prompts: list[Prompt], seed: int) -> list[Rollout]:
        seeds.append(seed)
        return [Rollout(p, (), Completion((i,), (0.0,), f"{p.id} {i}", True)) for p in prompts for i in range(2)]

    source = Answered("more", Ten(), 3, answer, OddFirst(), 1.0, everything, seed=0)
    first = source.take(4)
    assert [(r.question, r.correct) for r in first] == [(f"q{i}", right) for i in range(3) for right in (False, True)]
    state = source.state()
    second = source.take(8)
    assert second[0].question == "q3" and seeds[0] != seeds[1]
    source.load_state(state)
    assert source.take(8) == second and seeds[2] == seeds[1]


def test_held_out_questions_are_never_trained_on_not_even_replayed() -> None:
    _, trainee = small_judge()
    trained: list[Response] = []

    def examples(responses: Sequence[Response]) -> list[Example]:
        trained.extend(responses)
        return trainee.examples(responses)

    texts = [response(f"q{i}", f"{i} {right}", right) for i in range(40) for right in (True, False)]
    source = Gathered("truth", "s", 1.0, everything, iterations=1)
    source.load_state({"recent": [[r.to_json() for r in texts]]})
    old = [replace(r, response=r.response + " old") for r in texts] + texts[:2]
    refit = Refit(PLAN, replace(trainee, examples=examples), source, old)
    refit.trainee = replace(
        trainee, examples=examples, quality=lambda held: held_out.extend(held) or trainee.quality(held)
    )
    held_out: list[Response] = []
    found = refit.fit(3)
    held = {r.question for r in held_out}
    read = [r for r in trained if r.question not in held]
    assert 8 < len(held) < 24
    assert found.figures["fresh"] + found.figures["held_out"] == len(texts)
    assert found.figures["replayed"] == len([r for r in distinct(old) if r.question not in held and r not in texts])
    assert {r.question for r in read} == {f"q{i}" for i in range(40)} - held


def test_it_learns_what_it_was_wrong_about_and_says_so() -> None:
    _, trainee = small_judge()
    source = Gathered("truth", "s", 1.0, everything, iterations=1)
    texts = [response(f"q{i}", word, word == "good") for i in range(40) for word in ("good", "bad")]
    source.load_state({"recent": [[r.to_json() for r in texts]]})
    refit = Refit(replace(PLAN, steps=16), trainee, source)
    found = refit.fit(3)
    assert found.done and refit.count == 1
    assert found.figures["accuracy_before"] < 0.8
    assert found.figures["accuracy_after"] == 1.0
    assert found.message.startswith("judge was fitted again on ") and "right on 100.0%, before on" in found.message
    assert source.take(4) == []  # used
    assert all(parameter.grad is None for parameter in trainee.model.model.parameters())


def test_a_refit_that_makes_it_worse_is_undone() -> None:
    _, trainee = small_judge()
    source = Gathered("truth", "s", 1.0, everything, iterations=1)
    texts = [response(f"q{i}", word, word == "good") for i in range(40) for word in ("good", "bad")]
    source.load_state({"recent": [[r.to_json() for r in texts]]})
    assert Refit(replace(PLAN, steps=16), trainee, source).fit(3).done
    before = {name: tensor.clone() for name, tensor in trainee.model.model.state_dict().items()}
    source.load_state({"recent": [[r.to_json() for r in texts]]})
    refit = Refit(replace(PLAN, lr=3.0), trainee, source)
    found = refit.fit(6)
    assert not found.done and refit.count == 0
    assert found.message.endswith("their likelihood fell: it stays as it was")
    assert same(before, trainee.model.model.state_dict())
    assert len(source.take(7)) == len(texts)


@pytest.mark.parametrize("correct_label", [0, 1])
def test_a_classifiers_labels_are_its_own(correct_label: int) -> None:
    network = load_classifier(fresh("llama"), tiny_policy().tokenizer, "float32", CPU)
    scorer = LocalClassifier(network, tiny_policy().tokenizer, correct_label, 100, 1000)
    found = classifier_examples([response("q", "a", True), response("q", "b", False)], scorer)
    assert [example.label for example in found] == [correct_label, 1 - correct_label]


# ----- in the loop


@pytest.mark.parametrize("adapter", [False, True])
def test_resumed_equals_unbroken(tmp_path: Path, adapter: bool) -> None:
    if adapter:
        pytest.importorskip("peft")
    whole = distiller(tmp_path / "whole", adapter=adapter)
    start = judge_weights(whole)
    refits = whole.run()["refits"]
    events = lines(tmp_path / "whole", "events.jsonl")
    told = [(e["step"], e["action"]) for e in events if e["rule"] == "refit"]
    assert [step for step, _ in told] == [3, 6] and told[0][1] == "refitted"
    assert refits == [action for _, action in told].count("refitted")
    rows = lines(tmp_path / "whole", "metrics.jsonl")
    assert [row["step"] for row in rows if "refit/judge/accuracy_after" in row] == [3, 6]
    assert not same(start, judge_weights(whole))
    for cut in (3, 4):  # the checkpoints are those of steps 2 and 4: before and after the first refit
        folder = tmp_path / f"cut{cut}"
        broken = distiller(folder, adapter=adapter)
        broken.progress = Interrupt(cut)
        with pytest.raises(KeyboardInterrupt):
            broken.run()
        resumed = distiller(folder, adapter=adapter)
        resumed.run()
        assert same(weights(whole), weights(resumed))
        assert same(judge_weights(whole), judge_weights(resumed))
        assert lines(folder, "events.jsonl") == events


def tripping(folder: Path, action: str, most: int = 1, **plan: object) -> Distiller:
    """The judge is asked the truth about nothing; a probe that is fooled stands for it."""
    made = distiller(folder, steps=40, **{"every": 0} | plan)
    made.probes = [Term("judge", "s0", 0.0, Fooled())]
    made.terms = [made.terms[0], Term("judge", "s1", 1.0, Fooled())]
    rules = replace(RULES, z=3.0, min_wrong=20, max_false_yes_growth=0.1)
    made.terms[0] = Term("truth", "s0", 0.0, Mod3())
    made.monitor = Monitor(rules, made.terms, made.probes, "truth")
    made.safety = Safety(action, rules.window, most, made.terms[0], ("judge",) if action == "refit" else ())
    return made


class Mod3:
    """The truth: the first token is a multiple of 3."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        right = [rollout.completion.token_ids[0] % 3 == 0 for rollout in rollouts]
        return [Score(float(found), "", {"correct": found}) for found in right]


def test_at_a_trip_the_judge_is_fitted_and_the_policy_goes_back(tmp_path: Path) -> None:
    made = tripping(tmp_path, "refit")
    before = judge_weights(made)
    result = made.run()
    events = lines(tmp_path, "events.jsonl")
    assert [(e["rule"], e["action"]) for e in events[:2]] == [("false-yes-growth", "refit"), ("refit", "refitted")]
    assert result["rollbacks"] >= 1 and result["refits"] == 1
    assert result["weights"] == {"truth@s0": 0.0, "judge@s1": 1.0}  # no weight moves
    assert not same(before, judge_weights(made))
    tripped = events[0]["step"]
    rows = {row["step"]: row for row in lines(tmp_path, "metrics.jsonl")}
    assert rows[tripped]["alarm"]["action"] == "refit"
    assert "monitor/judge/window/false_positive_rate" in rows[tripped + 1]


def test_where_it_cannot_be_fitted_the_stage_stops_at_the_good_checkpoint(tmp_path: Path) -> None:
    made = tripping(tmp_path, "refit")
    assert made.refit is not None
    before = judge_weights(made)
    made.refit.source = Gathered("truth", "s0", 1.0, lambda rollout: False, iterations=3)
    result = made.run()
    trip, refit = lines(tmp_path, "events.jsonl")[-2:]
    assert (trip["action"], refit["action"]) == ("stop-at-good", "not-refitted")
    assert "; judge cannot be fitted again: of 8 fresh, 8 right and 8 wrong" in trip["message"]
    assert result["stopped"] == trip["message"] and result["steps"] < 40
    assert same(before, judge_weights(made))


def test_a_rollback_puts_the_judge_of_that_step_back(tmp_path: Path) -> None:
    made = distiller(tmp_path, every=0)
    made.safety = Safety("rollback", 3, 2, made.terms[0])
    start = judge_weights(made)
    made.save()  # what is good
    for _ in range(4):
        made.iterate()
    assert made.refit is not None and made.refit.fit(made.step).done
    assert not same(start, judge_weights(made))
    assert made.monitor.state()["watches"]["probe judge@s0"]["first"]
    assert made.react([Trip("false-yes", "judge", "s0", "fooled", {})], {}) == ""
    assert same(start, judge_weights(made)) and made.refit.count == 0
    assert not made.monitor.state()["watches"]["probe judge@s0"]["first"]
    assert [term.weight for term in made.terms] == [1.0, 0.0]


def test_after_a_refit_the_probe_is_compared_with_a_new_start(tmp_path: Path) -> None:
    made = distiller(tmp_path, steps=4, every=0)
    made.run()
    monitor, before = made.monitor, made.monitor.state()
    assert before["watches"]["probe judge@s0"]["first"]
    monitor.restart(("another",))
    assert monitor.state() == before
    monitor.restart(("judge",))
    after = monitor.state()
    assert after["watches"]["probe judge@s0"] == {"window": [], "fooled": [], "first": {}}
    assert {n: w for n, w in after["watches"].items() if "probe" not in n} == {
        n: w for n, w in before["watches"].items() if "probe" not in n
    }


# ----- the whole of it


def weak_judge(folder: Path) -> Path:
    """A recipe whose judge was fitted on right responses only, and so says Yes to nearly everything; the policy makes
    mistakes and is watched."""
    stages = [
        {"name": "warm", "kind": "warmup", "data": "train", "epochs": 6, "optimizer": {"lr": 2e-3}},
        {"name": "answers", "kind": "collect", "data": "train", "policy": "stage:warm", "samples": 2},
        {
            "name": "weak", "kind": "fit-judge", "model": "yonder:judge", "data": ["train"],
            "epochs": 4, "batch_size": 8, "optimizer": {"lr": 1e-3},
        },
        {
            "name": "rl", "kind": "distill", "policy": "stage:warm", "algorithm": "grpo", "group_size": 4, "epochs": 1,
            "steps": 8, "prompts": {"train": 12, "free": 4}, "sampling": {"temperature": 1.5}, "save_every": 2,
            "terms": [
                {"reward": "correct", "data": "train", "weight": 0.0},
                {"reward": "judge", "data": "free", "weight": 1.0},
            ],
            "monitor": {"probe": ["judge"], "window": 2},
            "refit": {"reward": "judge", "every": 3, "lr": 1e-3, "steps": 12, "replay": ["answers"]},
        },
    ]  # fmt: skip
    policy = {"model": "yonder:judge", "max_completion_tokens": 24, "device": "cpu"}
    data = {
        "train": {"source": "word-problems", "options": {"count": 100, "seed": 1}},
        "free": {"source": "word-problems", "options": {"count": 40, "seed": 2}, "labeled": False},
    }
    rewards = {
        "correct": {"kind": "verifiable"},
        "judge": {"kind": "judge", "model": "stage:weak", "allow_unmeasured": True},
    }
    task = {"docstring": False, "numbers": "named"}
    folder.mkdir()
    return write(folder, stages, policy=policy, data=data, rewards=rewards, task=task)


class Dies(Silent):
    """Ends the run when the stage `rl` has made an iteration after `step`."""

    def __init__(self, step: int) -> None:
        self.step, self.title = step, ""

    def start(self, title: str, total: int, done: int = 0) -> None:
        self.title = title

    def advance(self, done: int, facts: dict[str, str]) -> None:
        if self.title == "rl" and done > self.step:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_judge_that_likes_mistakes_is_mended_in_training_and_the_run_resumes_exactly(tmp_path: Path) -> None:
    whole, broken = weak_judge(tmp_path / "whole"), weak_judge(tmp_path / "broken")
    result = run(load_recipe(str(whole)))["stages"]["rl"]
    rows = lines(whole.parent / "run/stages/rl", "metrics.jsonl")
    liked = [row["monitor/judge/false_positive_rate"] for row in rows]
    assert min(liked[:3]) > 0.8  # fitted after iteration 3
    assert max(liked[3:]) < 0.5
    assert rows[2]["refit/judge/accuracy_after"] > rows[2]["refit/judge/accuracy_before"] + 0.2
    assert result["refits"] >= 1
    page = (whole.parent / "run/report.html").read_text(encoding="utf-8")
    assert "judge was fitted again on" in page and "reward fitted again" in page
    judge = whole.parent / "run/stages/rl" / result["judge"]
    assert (
        load_judge({"model": str(judge)}).score([("How many?", "def solution():\n    return 1")])[0].value is not None
    )
    with pytest.raises(KeyboardInterrupt):
        run(load_recipe(str(broken)), progress=Dies(4))
    run(load_recipe(str(broken)))
    again = lines(broken.parent / "run/stages/rl", "metrics.jsonl")

    def untimed(row: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in row.items() if k not in ("time_s", "tokens_per_s") and not k.startswith("time/")}

    assert [untimed(row) for row in rows] == [untimed(row) for row in again]
    hashes = [
        json.loads((path.parent / f"run/stages/rl/{result['judge']}/../../manifest.json").read_text())
        for path in (whole, broken)
    ]
    weights_of = [{name: found for name, found in of.items() if "safetensors" in name} for of in hashes]
    assert weights_of[0] == weights_of[1] and len(weights_of[0]) == 2


# ----- the recipe


TREE = {
    "policy": {"model": {}, "tokenizer": "yonder:tokenizer"},
    "data": {"train": {"source": "word-problems"}, "free": {"source": "word-problems", "labeled": False}},
    "rewards": {
        "correct": {"kind": "verifiable"},
        "judge": {"kind": "judge", "model": "m"},
        "half": {"kind": "judge", "model": "m", "dtype": "bfloat16"},
        "served": {"kind": "judge", "model": "m", "backend": "vllm", "server": {"urls": ["http://h:1"]}},
        "packed": {"kind": "judge", "model": "m", "quantize": "4bit"},
        "copies": {"kind": "judge", "model": "m", "device": ["cuda:0", "cuda:1"]},
        "both": {"kind": "ensemble", "rewards": ["judge", "half"]},
        "unused": {"kind": "judge", "model": "m"},
    },
}


def recipe(
    refit: dict | None, reward: str = "both", labeled: bool = True, action: str = "warn", probe: Sequence[str] = ()
):
    terms = [{"reward": reward, "data": "free", "weight": 1.0}]
    terms += [{"reward": "correct", "data": "train", "weight": 0.0}] if labeled else []
    stage = {
        "name": "rl", "kind": "distill", "steps": 2, "terms": terms, "prompts": {t["data"]: 2 for t in terms},
        "monitor": {"action": action, "probe": list(probe)},
    }  # fmt: skip
    answers = {"name": "answers", "kind": "collect", "data": "train"}
    warm = {"name": "warm", "kind": "warmup", "data": "train"}
    stages = [answers, warm, stage | ({"refit": refit} if refit else {})]
    return parse_recipe(TREE | {"stages": stages}, "test")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"refit": {"reward": "unused"}},
            r"rl.refit.reward: there is no reward of this stage `unused`; there is: both",
        ),
        ({"refit": {"reward": "correct"}}, "`correct` has no weights here"),
        ({"refit": {"reward": "both"}}, "`both` has no weights here"),
        ({"refit": {"reward": "served"}, "reward": "served"}, "`served` has no weights here to fit"),
        ({"refit": {"reward": "packed"}, "reward": "packed"}, "set rewards.packed.quantize to none"),
        ({"refit": {"reward": "copies"}, "reward": "copies"}, "its `device` to one device"),
        ({"refit": {"reward": "half"}}, "lost in `bfloat16` weights; set rewards.half.dtype to float32, or `lora`"),
        ({"refit": {"reward": "judge"}, "labeled": False}, "no term is verifiable.*set `data`"),
        ({"refit": {"reward": "judge", "data": "free"}}, "refit.data: data set `free` has `labeled: false`"),
        ({"refit": {"reward": "judge", "replay": ["warm"]}}, "stage `warm` collects no responses"),
        ({"refit": {"reward": "judge", "replay": ["later"]}}, "there is no earlier stage `later`"),
        (
            {"refit": {"reward": "judge", "every": 20}, "probe": ["both"]},
            "monitor's window of 20 iterations never fills",
        ),
        ({"refit": None, "action": "refit"}, "needs a section `refit`"),
    ],
)
def test_what_cannot_be_refitted_is_refused(given: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe(**given)


def test_what_can_be_refitted_is_taken() -> None:
    found = recipe({"reward": "judge", "replay": ["answers"]}, action="refit")
    assert refitted_rewards(found, "judge") == {"judge", "both"}
    recipe({"reward": "half", "lora": {}, "every": 20})
    recipe({"reward": "judge", "every": 21}, probe=["both"])
    recipe({"reward": "judge", "data": "train"}, labeled=False)
