"""The shipped recipes: what they say, and that overrides change what they name and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from yonder.errors import RecipeError
from yonder.recipe import Recipe, dump_recipe, load_recipe, parse_recipe, shipped_recipes
from yonder.recipe.answers import CollectStage
from yonder.recipe.judge_stages import CheckJudgeStage
from yonder.recipe.rewards import JudgeSettings
from yonder.recipe.stages import DistillStage, EvaluateStage, WarmupStage

PAPER = (
    "gsm8k-galactica-125m",
    "gsm8k-codegen-350m",
    "gsm8k-galactica-6.7b",
    "svamp-galactica-125m",
    "svamp-codegen-350m",
)
GSM8K_VARIANTS = {  # [J] Tables 4-6: lambda, mu, rho, and completions of each data set in an iteration
    "verifiable_only": (1.0, 0.0, 0.0, {"train": 24}),
    "gsm8k_judge": (0.5, 0.5, 0.0, {"train": 24}),
    "gsm8k_judge_only": (0.0, 1.0, 0.0, {"train": 24}),
    "aug_judge": (0.0, 1.0, 0.0, {"aug": 24}),
    "aug_rerank": (0.0, 0.0, 1.0, {"aug": 24}),
    "aug_half": (0.5, 0.5, 0.0, {"train": 12, "aug": 12}),
    "aug_judge_rerank": (0.0, 0.5, 0.5, {"aug": 24}),
    "aug_all": (0.5, 0.25, 0.25, {"train": 12, "aug": 12}),
    "aug25": (0.5, 0.25, 0.25, {"train": 12, "aug25": 12}),
    "aug5": (0.5, 0.25, 0.25, {"train": 12, "aug5": 12}),
    "plus_half": (0.5, 0.5, 0.0, {"train": 12, "plus": 12}),
    "oracle": (1.0, 0.0, 0.0, {"aug_labeled": 24}),
    "grpo_verifiable_only": (1.0, 0.0, 0.0, {"train": 16}),
    "grpo_aug_half": (0.5, 0.5, 0.0, {"train": 8, "aug": 8}),
}
SVAMP_VARIANTS = {name: GSM8K_VARIANTS[name] for name in ("verifiable_only", "aug_half", "aug_all")}
VARIANTS = {
    "gsm8k-galactica-125m": GSM8K_VARIANTS,
    "gsm8k-codegen-350m": {
        **{
            name: GSM8K_VARIANTS[name]
            for name in ("verifiable_only", "gsm8k_judge", "gsm8k_judge_only", "aug_judge", "aug_half", "aug_all")
        },
        "plus_half": (0.5, 0.5, 0.0, {"train_patched": 12, "plus_patched": 12}),
    },
    "gsm8k-galactica-6.7b": {
        "verifiable_only": (1.0, 0.0, 0.0, {"train": 16}),
        "aug_half": (0.5, 0.5, 0.0, {"train": 8, "aug": 8}),
    },
    "svamp-galactica-125m": SVAMP_VARIANTS,
    "svamp-codegen-350m": SVAMP_VARIANTS,
}
NUMBERS = {  # [J] C.2; learning rates [ReFT]: steps, learning rate, value coefficient
    "gsm8k-galactica-125m": (100_000, 3e-6, 5.0),
    "gsm8k-codegen-350m": (50_000, 3e-6, 0.1),
    "gsm8k-galactica-6.7b": (15_000, 3e-7, 5.0),
    "svamp-galactica-125m": (50_000, 3e-6, 5.0),
    "svamp-codegen-350m": (50_000, 3e-6, 0.1),
}


def distillations(recipe: Recipe) -> dict[str, DistillStage]:
    return {stage.name: stage for stage in recipe.stages if isinstance(stage, DistillStage)}


def write(path: Path, **changes: object) -> Path:
    tree = {
        "title": "small",
        "policy": {"model": "some/model"},
        "data": {"train": {"source": "svamp"}},
        "rewards": {"correct": {"kind": "verifiable"}},
        "stages": [
            {"name": "warmup", "kind": "warmup", "data": "train"},
            {
                "name": "rl",
                "kind": "distill",
                "steps": 4,
                "prompts": {"train": 2},
                "terms": [{"reward": "correct", "data": "train", "weight": 1.0}],
            },
        ],
    }
    path.write_text(yaml.safe_dump(tree | changes))
    return path


def test_the_papers_recipes_are_shipped() -> None:
    assert set(PAPER) <= set(shipped_recipes())


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_says_what_it_is_and_survives_its_own_dump(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.title
    assert recipe.notes
    assert str(recipe.output_dir) == f"runs/{name}"
    text = dump_recipe(recipe)
    assert "&id" not in text and "*id" not in text  # a resolved recipe spells everything out
    assert parse_recipe(yaml.safe_load(text), name) == recipe


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_weights_sum_to_one_and_no_checkpoint_is_chosen_on_a_test_set(name: str) -> None:
    recipe = load_recipe(name)
    tests = {benchmark.data for benchmark in recipe.benchmarks.values()}
    for stage in recipe.stages:
        if isinstance(stage, DistillStage):
            assert sum(term.weight for term in stage.terms) == pytest.approx(1.0, abs=1e-9)
            assert tests.isdisjoint(stage.prompts)
        if isinstance(stage, DistillStage | WarmupStage):
            assert stage.evaluate.data not in tests


@pytest.mark.parametrize("name", PAPER)
def test_variants_have_the_papers_weights_and_batches(name: str) -> None:
    recipe = load_recipe(name)
    found = {}
    for stage in distillations(recipe).values():
        weights = dict.fromkeys(("correct", "judge", "rerank"), 0.0)
        for term in stage.terms:
            weights[term.reward.removesuffix("_patched")] += term.weight
        found[stage.name] = (*weights.values(), {data: n * stage.group_size for data, n in stage.prompts.items()})
    assert found == VARIANTS[name]


@pytest.mark.parametrize("name", PAPER)
def test_numbers_are_the_papers(name: str) -> None:
    recipe = load_recipe(name)
    steps, lr, value_coef = NUMBERS[name]
    for stage in distillations(recipe).values():
        assert (stage.steps, stage.epochs, stage.optimizer.lr, stage.optimizer.schedule) == (steps, 2, lr, "constant")
        assert (stage.clip, stage.kl.beta) == (0.2, 0.01)
        if stage.algorithm == "ppo":
            assert (stage.ppo.value_coef, stage.ppo.value_per_term) == (value_coef, False)
        assert (stage.ppo.gamma, stage.ppo.gae_lambda, stage.optimizer.weight_decay, stage.optimizer.grad_clip) == (
            1,
            0.95,
            0,
            1,
        )
        assert (stage.sampling.temperature, stage.sampling.top_p, stage.sampling.top_k) == (1.0, 1.0, 0)
        grpo = stage.name.startswith("grpo")
        assert (stage.algorithm, stage.group_size) == (("grpo", 8) if grpo else ("ppo", 1))
        assert stage.evaluate.data in ("train.development", "train_patched.development")
    policy = recipe.policy
    assert (policy.max_prompt_tokens, policy.long_prompts, policy.max_total_tokens) == (300, "cut", 700)
    assert policy.max_completion_tokens >= 699  # the limit is on prompt and completion together
    judge = recipe.rewards["judge"]
    assert isinstance(judge, JudgeSettings)
    assert (judge.model, judge.tau, judge.delta, judge.min_code_lines) == ("Qwen/Qwen3-8B", 1.0, 0.5, 0)


@pytest.mark.parametrize("name", PAPER)
def test_sft_judge_check_and_votes_are_the_papers(name: str) -> None:
    recipe = load_recipe(name)
    large = name.endswith("6.7b")
    sft = {stage.name: stage for stage in recipe.stages if isinstance(stage, WarmupStage)}
    assert {
        n: (s.epochs, s.batch_size, s.optimizer.lr, s.optimizer.schedule, s.optimizer.warmup_fraction)
        for n, s in sft.items()
    } == ({} if large else {"warmup": (10, 24, 2e-5, "linear", 0.1), "sft_complete": (40, 24, 2e-5, "linear", 0.1)})
    [collect] = [stage for stage in recipe.stages if isinstance(stage, CollectStage)]
    assert (collect.data, collect.samples, collect.temperatures) == ("train.development", 100, (1.0,))
    assert recipe.data["train"].development == 200
    assert {benchmark.votes for benchmark in recipe.benchmarks.values()} == {100 if large else 0}
    rows = {name for stage in recipe.stages if isinstance(stage, EvaluateStage) for name in stage.checkpoints}
    assert rows == set(distillations(recipe)) | set(sft)


def test_natural_language_is_table_9() -> None:
    """As the program runs in all but the format, the judge's prompt and the KL's weight."""
    programs, words = load_recipe("gsm8k-galactica-125m"), load_recipe("gsm8k-galactica-125m-nl")
    assert words.task.format == "text" and words.benchmarks == programs.benchmarks
    assert {name: stage.kl.beta for name, stage in distillations(words).items()} == {
        "verifiable_only": 0.05,
        "aug_half": 0.05,
    }
    for name, stage in distillations(words).items():
        twin = distillations(programs)[name]
        changes = {"name": name, "kl": twin.kl}
        assert stage.model_copy(update=changes) == twin
    assert [words.stage(name) for name in ("warmup", "sft_complete", "answers")] == [
        programs.stage(name) for name in ("warmup", "sft_complete", "answers")
    ]
    judge, other = words.rewards["judge"], programs.rewards["judge"]
    assert isinstance(judge, JudgeSettings) and isinstance(other, JudgeSettings)
    assert judge.model_copy(update={"prompt": other.prompt}) == other and judge.prompt == "text"
    assert "are ours" in " ".join(words.notes)


def test_ablation_sizes_and_patches_are_the_papers() -> None:
    galactica, codegen = load_recipe("gsm8k-galactica-125m"), load_recipe("gsm8k-codegen-350m")
    assert (galactica.data["aug25"].limit, galactica.data["aug5"].limit) == (96_365, 19_273)
    assert galactica.data["aug_labeled"].labeled and not galactica.data["plus"].labeled
    patched = codegen.rewards["judge_patched"]
    assert isinstance(patched, JudgeSettings) and patched.min_code_lines == 4
    for name in ("train_patched", "plus_patched", "gsm8k_test_patched"):
        task = codegen.data[name].task
        assert task is not None
        assert task.instruction == (
            "Please provide full reasoning before computing result; do not answer with result only."
        )


@pytest.mark.parametrize("name", [name for name in PAPER if name.startswith("gsm8k")])
def test_notes_say_where_data_differ(name: str) -> None:
    recipe = load_recipe(name)
    notes = " ".join(recipe.notes)
    assert "7,014" in notes and "7,356" in notes
    assert "prompt, tau 1.0 and delta 0.5 are ours" in notes
    trains_on_plus = any("plus" in data for stage in distillations(recipe).values() for data in stage.prompts)
    assert trains_on_plus == ("GSM8K TEST" in notes)


def test_demo_attacks_measures_the_shipped_judge_beside_an_unfitted_one() -> None:
    recipe = load_recipe("demo-attacks")
    checks = [stage for stage in recipe.stages if isinstance(stage, CheckJudgeStage)]
    models = [getattr(recipe.rewards[check.reward], "model", None) for check in checks]
    assert models == ["yonder:judge", "stage:solver"]
    assert isinstance(recipe.stage("solver"), WarmupStage)  # it never saw Yes or No
    assert not any(stage.kind == "fit-judge" for stage in recipe.stages)
    assert {check.attack_questions for check in checks} == {100} and checks[0].responses == checks[1].responses
    assert recipe.data["new_questions"].options["part"] == "held-out"


def test_an_override_changes_one_stage_although_yaml_anchors_share_its_parts() -> None:
    plain = load_recipe("gsm8k-galactica-125m")
    changed = load_recipe("gsm8k-galactica-125m", ["aug_half.optimizer.lr=1e-4", "aug25.terms.0.weight=0.5"])
    rates = {name: stage.optimizer.lr for name, stage in distillations(changed).items()}
    assert rates == dict.fromkeys(distillations(plain), 3e-6) | {"aug_half": 1e-4}


@pytest.mark.parametrize(
    ("chosen", "refused"),
    [
        ("test", True),
        ("copy", True),  # the same questions by another name
        ("blend", True),  # and within a mixture
        ("train.development", False),
        ("copy.development", False),  # set apart from the benchmark too
        ("other", False),
    ],
)
@pytest.mark.parametrize("kind", ["warmup", "rl"])
def test_no_benchmark_chooses_a_checkpoint(tmp_path: Path, kind: str, chosen: str, refused: bool) -> None:
    data = {
        "train": {"source": "svamp", "development": 5},
        "test": {"source": "gsm8k", "split": "test"},
        "copy": {"source": "gsm8k", "split": "test", "limit": 50, "development": 5},
        "other": {"source": "svamp", "split": "test"},
        "blend": {"mixture": {"other": 0.5, "copy": 0.5}},
    }
    path = write(tmp_path / "r.yaml", data=data, benchmarks={"final": {"data": "test"}})
    override = f"{kind}.evaluate={{data: {chosen}, every: 2}}"
    if not refused:
        assert load_recipe(path, [override])
        return
    with pytest.raises(RecipeError, match=rf"{kind}.evaluate.data: `{chosen}` has the questions of benchmark `final`"):
        load_recipe(path, [override])


def test_what_is_sampled_for_a_benchmark_is_checked_and_decides_only_where_given(tmp_path: Path) -> None:
    end = {"name": "end", "kind": "evaluate", "checkpoints": ["base"], "benchmarks": ["b"]}
    path = write(tmp_path / "r.yaml", benchmarks={"b": {"data": "train", "votes": 4}}, stages=[end])
    plain = load_recipe(path)
    # stages that were done before these keys were there stay done
    assert plain.benchmarks["b"].decisive() == {"data": "train", "votes": 4, "vote_temperature": 1.0}
    assert "cache" not in plain.stage("end").decisive()
    asked = load_recipe(path, ["benchmarks.b.pass_at=[1, 4]", "benchmarks.b.seeds=2", "end.cache=false"])
    assert asked.benchmarks["b"].decisive()["pass_at"] == [1, 4] and asked.benchmarks["b"].decisive()["seeds"] == 2
    assert asked.stage("end").decisive() == plain.stage("end").decisive()
    with pytest.raises(RecipeError, match=r"`pass_at` has 8, but `votes` samples 4 answers a question"):
        load_recipe(path, ["benchmarks.b.pass_at=[1, 8]"])
    with pytest.raises(RecipeError, match="names a k twice"):
        load_recipe(path, ["benchmarks.b.pass_at=[2, 2]"])


def test_overrides_reach_seed_model_sections_and_a_stage_by_its_kind(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path / "small.yaml"),
        [
            "seed=7",
            "policy.model={family: llama}",
            "policy.tokenizer=yonder:tokenizer",
            "distill.steps=8",
            "warmup.epochs=1",
        ],
    )
    assert recipe.seed == 7
    assert getattr(recipe.policy.model, "family", None) == "llama"
    assert distillations(recipe)["rl"].steps == 8
    assert isinstance(recipe.stages[0], WarmupStage) and recipe.stages[0].epochs == 1
    assert str(recipe.output_dir) == "runs/small"


def test_on_off_yes_and_no_are_words(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    write(path, rewards={"correct": {"kind": "verifiable"}})
    path.write_text(path.read_text() + "benchmarks: {}\n")
    text = path.read_text().replace(
        "  correct:", "  judge: {kind: judge, model: m, yes: Yes, no: No, chat: off}\n  correct:"
    )
    path.write_text(text)
    judge = load_recipe(path, ["policy.autocast=off"]).rewards["judge"]
    assert isinstance(judge, JudgeSettings)
    assert (judge.yes, judge.no, judge.chat) == ("Yes", "No", "off")
    assert load_recipe(path, ["rl.ppo.value_per_term=false"]).stage("rl").ppo.value_per_term is False


def test_an_override_by_kind_is_refused_where_several_stages_have_it() -> None:
    with pytest.raises(RecipeError, match=r"14 stages are of kind distill; use the name: \['verifiable_only'"):
        load_recipe("gsm8k-galactica-125m", ["distill.steps=2"])


def test_recipes_are_read_without_torch() -> None:
    code = (
        "import sys; from yonder.recipe import load_recipe, shipped_recipes\n"
        "for name in shipped_recipes(): load_recipe(name, ['seed=1'])\n"
        "print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
