"""A judge trains when a check did not fail it, or with the user's word."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.test_pipeline import WARMUP, Heard, write
from tests.test_errors import tree
from yonder.errors import RecipeError, TrainingError
from yonder.pipeline.running import Runner, closure, run
from yonder.recipe import Recipe, load_recipe, parse_recipe, shipped_recipes
from yonder.recipe.stages import DistillStage
from yonder.stages.consent import admit_judges, checks_of, require_checks
from yonder.training.progress import Silent

JUDGE = {"kind": "judge", "model": "yonder:judge"}
REWARDS: dict[str, Any] = {
    "correct": {"kind": "verifiable"},
    "judge": JUDGE,
    "other": JUDGE,
    "both": {"kind": "ensemble", "rewards": ["judge", "other"]},
    "ranker": {"kind": "classifier", "model": "some/model"},
    "shuffled": {"kind": "shuffled", "reward": "judge"},
}
ANSWERS = {"name": "answers", "kind": "collect", "data": "train", "samples": 2}


def check(name: str, reward: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "kind": "check-judge", "reward": reward, "responses": ["answers"], **settings}


def distill(*terms: tuple[str, float], **settings: Any) -> dict[str, Any]:
    return {
        "name": "rl",
        "kind": "distill",
        "steps": 2,
        "prompts": {"train": 2},
        "terms": [{"reward": reward, "data": "train", "weight": weight} for reward, weight in terms],
        **settings,
    }


def recipe(folder: Path, *stages: dict[str, Any], **trust: dict[str, Any]) -> Recipe:
    rewards = {name: settings | trust.get(name, {}) for name, settings in REWARDS.items()}
    return parse_recipe(tree(folder) | {"rewards": rewards, "stages": list(stages)}, "test")


@pytest.mark.parametrize("name", ["judge", "both", "ranker"])
def test_an_unchecked_judge_is_refused_before_anything_runs(tmp_path: Path, name: str) -> None:
    stages = (ANSWERS, check("check", "other"), distill((name, 1.0)))
    words = (
        rf"^stages.rl: `{name}` would train the policy, and nothing has measured it; add a stage `kind: check-judge` "
        rf"with `reward: {name}` before it, or set rewards.{name}.allow_unmeasured: true$"
    )
    with pytest.raises(RecipeError, match=words):
        run(recipe(tmp_path, *stages))
    assert not (tmp_path / "run").exists()
    for key in ("allow_unmeasured", "allow_failing"):
        vouched = recipe(tmp_path, *stages, **{name: {key: True}})
        require_checks(vouched, vouched.stages)
        said = admit_judges(vouched, stage_of(vouched), {})
        assert said == [f"`{name}` was never checked, which the recipe allows"]
    checked = recipe(tmp_path, ANSWERS, check("check", name), distill((name, 1.0)))
    require_checks(checked, checked.stages)
    with pytest.raises(RecipeError, match="nothing has measured it"):
        late = recipe(tmp_path, ANSWERS, distill((name, 1.0)), check("check", name))
        require_checks(late, late.stages)


def stage_of(found: Recipe) -> DistillStage:
    stage = found.stage("rl")
    assert isinstance(stage, DistillStage)
    return stage


def test_what_trains_nothing_needs_no_check(tmp_path: Path) -> None:
    watched = distill(("correct", 0.5), ("shuffled", 0.5), ("judge", 0.0), monitor={"probe": ["other"]})
    found = recipe(tmp_path, watched)
    require_checks(found, found.stages)
    assert checks_of(found, found.stage("rl")) == {}
    user = recipe(tmp_path, distill(("my_rewards:f", 1.0)))
    require_checks(user, user.stages)


def test_one_rollout_shuffled_is_the_judge_itself(tmp_path: Path) -> None:
    words = (
        r"stages.rl.terms.0: `shuffled` has one rollout an iteration, which shuffled is itself; raise `prompts.train`"
    )
    with pytest.raises(RecipeError, match=words):
        recipe(tmp_path, distill(("shuffled", 1.0), prompts={"train": 1}))
    recipe(tmp_path, distill(("shuffled", 1.0), prompts={"train": 1}, group_size=2))


def result(folder: Path, verdict: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "judge_check.json").write_text(json.dumps({"admission": {"verdict": verdict, "why": f"why {verdict}."}}))
    return folder


@pytest.mark.parametrize(
    ("verdicts", "trust", "refused"),
    [
        (["pass"], None, None),
        (["warn"], None, None),
        (
            ["fail"],
            None,
            "failed its check `c0`: why fail. Train with a better judge, or set rewards.judge.allow_failing",
        ),
        (["fail"], "allow_unmeasured", "failed its check `c0`"),
        (["fail"], "allow_failing", None),
        (["unmeasured"], None, "could not be measured in `c0`: why unmeasured. Collect more"),
        (["unmeasured"], "allow_unmeasured", None),
        (["unmeasured"], "allow_failing", None),
        (["pass", "fail"], None, "failed its check `c1`"),
        (["fail", "pass"], None, "failed its check `c0`"),
        (["unmeasured", "pass"], None, None),
    ],
)
def test_verdicts(tmp_path: Path, verdicts: list[str], trust: str | None, refused: str | None) -> None:
    checks = [check(f"c{i}", "judge", stop=False) for i in range(len(verdicts))]
    found = recipe(tmp_path, ANSWERS, *checks, distill(("judge", 1.0)), judge={trust: True} if trust else {})
    folders = {f"c{i}": result(tmp_path / f"c{i}", verdict) for i, verdict in enumerate(verdicts)}
    if refused is not None:
        with pytest.raises(TrainingError, match=f"^stage rl: `judge` {refused}"):
            admit_judges(found, stage_of(found), folders)
        return
    said = admit_judges(found, stage_of(found), folders)
    assert said == [f"`judge` in `c{i}`: {verdict}: why {verdict}." for i, verdict in enumerate(verdicts)]


def test_a_distill_command_runs_the_check_first_and_prints_its_verdict(tmp_path: Path) -> None:
    stages = [WARMUP | {"epochs": 1}, ANSWERS, check("check", "judge", attack_questions=1), distill(("judge", 1.0))]
    rewards = {"judge": JUDGE, "correct": {"kind": "verifiable"}}
    path = write(tmp_path, stages, rewards=rewards)
    assert closure(load_recipe(str(path)), ["rl"]) == {"answers", "check", "rl"}
    heard = Heard()
    with pytest.raises(TrainingError, match=r"stage rl: `judge` could not be measured in `check`: only 0 questions"):
        run(load_recipe(str(path)), ["rl"], progress=heard)
    assert not (tmp_path / "run/stages/rl/metrics.jsonl").exists()
    assert any(line.startswith("check: unmeasured: only 0 questions") for line in heard.said)
    heard = Heard()
    summary = run(load_recipe(str(path), ["rewards.judge.allow_unmeasured=true"]), ["rl"], progress=heard)
    assert summary["stages"]["check"]["status"] == "skipped"  # consent changes no number, so nothing is done again
    assert summary["stages"]["rl"]["status"] == "done"
    assert any(line.startswith("rl: `judge` in `check`: unmeasured: only 0 questions") for line in heard.said)


def test_a_failing_judge_trains_with_consent_alone(tmp_path: Path) -> None:
    """Its check does not stop the run either."""
    rewards = {"judge": {"kind": "judge", "model": "stage:warmup"}}  # its mass is next to nothing
    stages = [WARMUP, ANSWERS | {"policy": "stage:warmup"}, check("check", "judge", attack_questions=0)]
    path = write(tmp_path, [*stages, distill(("judge", 1.0))], rewards=rewards)
    short = ["policy.max_completion_tokens=40"]
    with pytest.raises(TrainingError, match="stage check: "):
        run(load_recipe(str(path), short))
    with pytest.raises(TrainingError, match=r"stage rl: `judge` failed its check `check`: "):
        run(load_recipe(str(path), [*short, "check.stop=false"]))
    summary = run(load_recipe(str(path), [*short, "rewards.judge.allow_failing=true"]))
    assert (summary["stages"]["check"]["verdict"], summary["stages"]["rl"]["status"]) == ("fail", "done")


def test_consent_is_not_part_of_a_stages_hash(tmp_path: Path) -> None:
    stages = [distill(("judge", 1.0))]
    plain, vouched = recipe(tmp_path, *stages), recipe(tmp_path, *stages, judge={"allow_failing": True})
    keys = [Runner(found, Silent()).made(found.stage("rl")).hash for found in (plain, vouched)]
    assert keys[0] == keys[1]
    warmer = recipe(tmp_path, *stages, judge={"tau": 2.0})
    assert Runner(warmer, Silent()).made(warmer.stage("rl")).hash != keys[0]


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_need_no_more_consent(name: str) -> None:
    found = load_recipe(name)
    require_checks(found, found.stages)


def test_no_labels_at_all_is_unmeasured(tmp_path: Path) -> None:
    data = {"train": {"source": "word-problems", "options": {"count": 6, "seed": 1}, "labeled": False}}
    path = write(tmp_path, [ANSWERS, check("check", "judge")], rewards={"judge": JUDGE}, data=data)
    summary = run(load_recipe(str(path)))
    assert summary["stages"]["check"]["verdict"] == "unmeasured"
    found = json.loads((tmp_path / "run/stages/check/judge_check.json").read_text())
    assert (found["n"], found["auroc"], found["speed"], found["best_of"]) == (0, None, None, [])
