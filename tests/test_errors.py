"""Every mistake is one sentence that names key, file or line and the mend, with exit code 2; nothing half-written
stays.

Most cases go through the command line's own guard inside this process; a few through `python -m yonder` itself.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from yonder.commands.cli import app
from yonder.commands.endings import guarded
from yonder.data.responses import append_lines, read_lines
from yonder.models.fresh import fresh_model
from yonder.models.loading import load_tokenizer
from yonder.recipe import dump_recipe, judge_settings, load_recipe
from yonder.recipe.models import FreshModel
from yonder.training.checkpoint import is_whole

MODEL = {"family": "llama", "hidden_size": 16, "layers": 1, "heads": 2}


def tree(folder: Path) -> dict[str, Any]:
    """A recipe that runs in a second or two."""
    return {
        "title": "small",
        "output_dir": str(folder / "run"),
        "threads": 1,
        "policy": {"model": MODEL, "tokenizer": "yonder:tokenizer", "max_completion_tokens": 8, "device": "cpu"},
        "task": {"docstring": False},
        "data": {"train": {"source": "word-problems", "options": {"count": 12, "seed": 1}}},
        "rewards": {"correct": {"kind": "verifiable"}},
        "sandbox": {"workers": 1},
        "stages": [
            {"name": "warmup", "kind": "warmup", "data": "train", "epochs": 1},
            {
                "name": "rl",
                "kind": "distill",
                "policy": "stage:warmup",
                "steps": 2,
                "prompts": {"train": 2},
                "terms": [{"reward": "correct", "data": "train", "weight": 1.0}],
            },
        ],
    }


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(tree(tmp_path)))
    return path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command that must be refused; returns its sentence."""

    def run(*arguments: str | Path) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            guarded(lambda: app([str(argument) for argument in arguments], standalone_mode=False))
        return one_sentence(capsys.readouterr().err, stop.value.code)

    return run


def one_sentence(stderr: str, code: object) -> str:
    """The last line of stderr, after whatever progress was shown, checked to be the only complaint."""
    assert code == 2
    assert "Traceback" not in stderr
    lines = stderr.strip().splitlines()
    assert [line.startswith("yonder: ") for line in lines].count(True) == 1, stderr
    assert lines[-1].startswith("yonder: ")
    return lines[-1].removeprefix("yonder: ")


def carries_on(*arguments: str | Path) -> None:
    """The same command now succeeds."""
    guarded(lambda: app([str(argument) for argument in arguments], standalone_mode=False))


SENTENCES = [  # overrides -> what the sentence says: where, and how to mend it
    (["polcy.dtype=float32"], ["unknown key `polcy`", "did you mean `policy`?"]),
    (["warmup.optimizer.learning_rate=1"], ["unknown key `stages.warmup.optimizer.learning_rate`"]),
    (["rewards.correct.partal=0.2"], ["unknown key `rewards.correct.partal`", "did you mean `partial`?"]),
    (["warmup.epochs=ten"], ["stages.warmup.epochs:", "valid integer", "not 'ten'"]),
    (["warmup.epochs=0"], ["stages.warmup.epochs:", "greater than 0", "not 0"]),
    (["policy.dtype=float64"], ["policy.dtype:", "'float32', 'bfloat16' or 'float16'", "not 'float64'"]),
    (["rl.terms.0.weight=0.6"], ["stages.rl:", "weights of `terms` sum to 0.6", "make them sum to 1"]),
    (["rl.name=warmup"], ["stages.warmup: two stages have this name", "rename one"]),
    (["rl.name=base"], ["stages.base: `base` stands for policy.model in evaluate stages; use another name"]),
    (["rl.terms.0.reward=corect"], ["stages.rl: there is no reward `corect`", "there is: correct"]),
    (["rl.policy=stage:warm"], ["stages.rl.policy: there is no earlier stage `warm`", "there is: warmup"]),
    (["warmup.data=trein"], ["stages.warmup.data: there is no data set `trein`", "there is: train"]),
    (["rl.steps=3"], ["stages.rl: `steps` (3) must be a multiple of `epochs` (2)"]),
    (["rl.monitor.run_unlabeled=true"], ["stages.rl.monitor.run_unlabeled: no judge scores programs", "remove it"]),
    (["stages.nothing.epochs=1"], ["override `stages.nothing.epochs=1`", "no entry `nothing`", "['warmup', 'rl']"]),
    (["seed"], ["override `seed`: write key.sub=value"]),
    (["seed.x=1"], ["override `seed.x=1`", "`seed` is a value"]),
    (["title=[a"], ["override `title=[a`: the value is not valid YAML", "quote it"]),
]


FITTED = "{name: fit, kind: fit-judge, model: yonder:judge, data: [train]"
COLLECTED = "{name: some, kind: collect, data: train"
SENTENCES += [  # lists that are empty
    (["stages=[]"], ["stages: is an empty list; name one or more"]),
    (["rl.terms=[]"], ["stages.rl.terms: is an empty list; name one or more"]),
    (
        [f"stages=[{FITTED}, lora: {{target_modules: []}}}}]"],
        [
            "stages.fit.lora.target_modules: is an empty list, so nothing would be trained",
            "name modules, or write auto",
        ],
    ),
    ([f"stages=[{COLLECTED}, temperatures: []}}]"], ["stages.some.temperatures: is an empty list; name one or more"]),
    (
        [f"stages=[{FITTED.replace('data: [train]', 'responses: []')}}}]"],
        ["stages.fit: there is nothing to learn from; name a collect stage in `responses`, or labeled `data`"],
    ),
    (
        ["stages=[{name: check, kind: check-judge, reward: correct, responses: []}]"],
        ["stages.check.responses: there is nothing to check against; name a collect stage"],
    ),
    (
        ["rewards.correct={kind: ensemble, rewards: [a]}"],
        ["rewards.correct.rewards: has 1 of the 2 entries that it needs at least; name 2 or more"],
    ),
    (
        ["rewards.correct={kind: judge, model: a, backend: vllm, server: {urls: []}}"],
        ["rewards.correct.server.urls: is an empty list; name one or more"],
    ),
]


GRPO = ["rl.algorithm=grpo", "rl.group_size=2"]
DAPO = ["rl.algorithm=dapo", "rl.group_size=2"]
JUDGE = "rewards.correct={{kind: judge, model: {}, allow_unmeasured: true}}"
SERVED = "rewards.correct={kind: judge, model: a, backend: vllm, server: {urls: ['localhost:9']}}"
ASKED = f"{COLLECTED}, teacher: {{backend: vllm, model: a, server: {{urls: [localhost:9]}}}}, temperatures: [1.0]}}"
NO_SCHEME = "`localhost:9` is no URL of a server; write http://localhost:9"
SENTENCES += [  # names of models and servers
    (["rl.policy=warmup"], ["stages.rl.policy: there is no folder `warmup`", "did you mean `stage:warmup`?"]),
    (["rl.reference=warmup"], ["stages.rl.reference: there", "did you mean `stage:warmup`?"]),
    ([JUDGE.format("warmup")], ["rewards.correct.model: there", "did you mean `stage:warmup`?"]),
    (
        [f"stages.1={FITTED.replace('yonder:judge', 'warmup')}}}"],
        ["stages.fit.model: there", "did you mean `stage:warmup`?"],
    ),
    (["rl.rollouts={engine: vllm, urls: ['localhost:9']}"], [f"stages.rl.rollouts.urls: {NO_SCHEME}"]),
    (["rl.rollouts={engine: vllm, urls: ['ftp://a']}"], ["`ftp://a` is no URL of a server; write http://a"]),
    ([SERVED], [f"rewards.correct.server.urls: {NO_SCHEME}"]),
    ([f"stages=[{ASKED}]"], [f"stages.some.teacher.server.urls: {NO_SCHEME}"]),
]
IDLE = "`kl.place` and `kl.estimator` do nothing in dapo, which has no KL; set `kl.beta`"
SENTENCES += [  # knobs that would do nothing, and limits that leave no room
    (["rl.kl.gain=0.2"], ["stages.rl.kl: `gain` does nothing without `target`"]),
    ([*DAPO, "rl.kl.place=reward"], [IDLE]),
    ([*DAPO, "rl.kl.estimator=k2"], [IDLE]),
    ([*DAPO, "rl.reference=stage:warmup"], ["stages.rl: `reference` does nothing with `kl.beta: 0`"]),
    (["rl.evaluate.every=1"], ["stages.rl.evaluate: `every` does nothing without `data`"]),
    (["rl.evaluate.patience=1"], ["stages.rl.evaluate: `patience` does nothing without `data`"]),
    (["warmup.evaluate.data=train"], ["stages.warmup.evaluate: `data` does nothing without `every`"]),
    (["warmup.evaluate={data: train, every: 1}"], ["stages.warmup.evaluate.data: the stage trains on `train`"]),
    (
        ["data.both={mixture: {train: 1.0}}", "warmup.data=both", "warmup.evaluate={data: train, every: 1}"],
        ["stages.warmup.evaluate.data: the stage trains on `train`", "name a development split"],
    ),
    (
        ["policy.max_total_tokens=300"],
        ["policy: `max_total_tokens` (300) leaves no room", "raise it, or lower `max_prompt_tokens`"],
    ),
]
RANKED = "rewards.ranked={kind: classifier, model: 'stage:%s', allow_unmeasured: true}"
RL_RANKED = "rl.terms.0.reward=ranked"
RANKER = f"stages.0={FITTED.replace('name: fit', 'name: warmup')}, output: classifier}}"
SENTENCES += [  # temperatures, and stages that hand on something else
    (
        [f"stages=[{COLLECTED}, temperatures: [0.5, -1]}}]"],
        ["stages.some: `temperatures` has -1; write numbers above 0"],
    ),
    ([f"stages=[{COLLECTED}, temperatures: [0]}}]"], ["stages.some: `temperatures` has 0", "or name a `teacher`"]),
    ([f"stages=[{COLLECTED}, temperatures: [.inf]}}]"], ["stages.some: `temperatures` has inf"]),
    (
        [f"stages=[{COLLECTED}, temperatures: [1, 1.0]}}]"],
        ["stages.some: `temperatures` has 1 twice", "raise `samples`"],
    ),
    (
        [f"stages=[{COLLECTED}, samples: 2, temperatures: [0.5, 0.7, 1]}}]"],
        ["stages.some: `samples: 2` is less than one for each of 3 `temperatures`; raise it"],
    ),
    (
        [f"stages.1={FITTED.replace('data: [train]', 'responses: [warmup]')}}}"],
        ["stages.fit: stage `warmup` collects no responses; name one of kind collect or label"],
    ),
    (
        ["stages.1={name: check, kind: check-judge, reward: correct, responses: [warmup]}"],
        ["stages.check: stage `warmup` collects no responses; name one of kind collect or label"],
    ),
    (
        [RANKED % "warmup", RL_RANKED],
        ["rewards.ranked.model: stage `warmup` hands on no classifier", "fit-judge stage with `output: classifier`"],
    ),
    (
        [RANKER, "rl.policy=stage:warmup"],
        ["stages.rl.policy: stage `warmup` hands on a classifier, which writes nothing; name another"],
    ),
]
SENTENCES += [  # hints
    (["policy.lora={r: 8}"], ["unknown key `policy.lora.r`; there is: alpha, dropout, rank, save, target_modules"]),
    (["rl.lr=1e-3"], ["unknown key `stages.rl.lr`; did you mean `optimizer.lr`?"]),
    (["max_prompt_tokens=9"], ["unknown key `max_prompt_tokens`; did you mean `policy.max_prompt_tokens`?"]),
    (["rl.algorithm=GRPO"], ["not 'GRPO'; did you mean `grpo`?"]),
    (["rl.algorithm=dr_grpo"], ["not 'dr_grpo'; did you mean `dr-grpo`?"]),
    (["rl.algorithm=drgrpo"], ["not 'drgrpo'; did you mean `dr-grpo`?"]),
    (["rl.algorithm=reinforce++baseline"], ["did you mean `reinforce++-baseline`?"]),
    (["rl.kind=distil"], ["did you mean `distill`?"]),
    (["grpo.steps=4"], ["unknown key `grpo`, and no stage has this name; there is: warmup, rl"]),
    (["warmup=3"], ["unknown key `warmup`, but a stage has this name; write warmup.KEY=value"]),
    (["rl.terms.wrong.weight=0.5"], ["no entry `wrong`; there is: ['correct']"]),
    (["rl.terms.correct.weight=0.5"], ["stages.rl: the weights of `terms` sum to 0.5"]),
    (["rl.terms=3"], ["stages.rl.terms: write a list, not 3"]),
    (["policy.lora=8"], ["policy.lora: write a mapping of keys, not 8"]),
    (["rl.monitor=warn"], ["stages.rl.monitor: write a mapping of keys, not 'warn'"]),
    (["policy.lora={target_modules: q_proj}"], ["policy.lora.target_modules: write 'auto' or a list, not 'q_proj'"]),
    (["policy.model=3"], ["policy.model: write text or a mapping of keys, not 3"]),
    (["policy.device=gpu"], ["there is no device `gpu`; use auto, cpu or cuda"]),
]


def test_two_terms_of_one_reward_are_told_apart_by_number(recipe: Path, refused: Any, tmp_path: Path) -> None:
    source = tree(tmp_path)
    source["stages"][1]["terms"] *= 2
    recipe.write_text(yaml.safe_dump(source))
    sentence = refused("run", recipe, "rl.terms.correct.weight=0.5")
    assert "2 entries have `reward: correct`; use a number: [0, 1]" in sentence
    assert len(load_recipe(recipe, ["rl.terms.0.weight=0.5", "rl.terms.1.weight=0.5"]).stages) == 2


@pytest.mark.parametrize("overrides", [[], GRPO, DAPO, ["rl.kl={target: 0.1, gain: 0.2}"]])
def test_a_recipe_written_out_with_every_default_is_still_good(
    overrides: list[str], recipe: Path, tmp_path: Path
) -> None:
    read = load_recipe(recipe, overrides)
    (tmp_path / "out.yaml").write_text(dump_recipe(read))
    assert load_recipe(tmp_path / "out.yaml") == read


LATE = {
    "stages.rl.policy": ["rl.policy=/nowhere"],
    "stages.rl.reference": ["rl.reference=/nowhere"],
    "rewards.correct.model": [JUDGE.format("/nowhere")],
    "rewards.near.model": [
        "rewards.near={kind: teacher, model: /nowhere}",
        "rl.terms=[{reward: near, data: train, weight: 1}]",
    ],
    "stages.fit.model": [f"stages.1={FITTED.replace('yonder:judge', '/nowhere')}, tokenizer: 'yonder:tokenizer'}}"],
}


@pytest.mark.parametrize("key", LATE)
def test_a_missing_model_of_a_late_stage_is_found_before_the_first_one_runs(
    key: str, recipe: Path, refused: Any, tmp_path: Path
) -> None:
    assert refused("run", recipe, *LATE[key]).startswith(f"{key}: there is no folder /nowhere")
    assert not (tmp_path / "run").exists()


def test_a_context_that_is_too_short_for_the_limits_is_said_once(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> str:
        carries_on("run", recipe, "policy.max_prompt_tokens=505")
        shown = capsys.readouterr()
        return shown.out + shown.err

    assert said().count("rl: the policy has 512 positions") == 1
    assert "positions" not in said()  # the stage is done


def test_a_run_directory_that_cannot_be_written_is_not_said_to_be_missing(recipe: Path, refused: Any) -> None:
    folder = load_recipe(recipe).output_dir
    (folder / ".lock").mkdir(parents=True)  # as good as a read-only disk, for root too
    assert f"the run directory {folder} cannot be written (" in refused("run", recipe)


@pytest.mark.parametrize(("overrides", "words"), SENTENCES, ids=[", ".join(case[0]) for case in SENTENCES])
def test_a_mistake_in_a_recipe_is_one_sentence_with_the_key(
    overrides: list[str], words: list[str], recipe: Path, refused: Any, tmp_path: Path
) -> None:
    source = tree(tmp_path) | {"seed": 0}
    recipe.write_text(yaml.safe_dump(source))
    sentence = refused("run", recipe, *overrides)
    for word in words:
        assert word in sentence
    assert not (tmp_path / "run").exists()


def test_a_missing_key_is_named(recipe: Path, refused: Any, tmp_path: Path) -> None:
    source = tree(tmp_path)
    del source["stages"][1]["terms"][0]["weight"]
    recipe.write_text(yaml.safe_dump(source))
    assert "missing key `stages.rl.terms.0.weight`; add it" in refused("run", recipe)


def test_yaml_that_does_not_parse_is_named_with_its_line(recipe: Path, refused: Any) -> None:
    recipe.write_text("title: small\npolicy:\n  model: a\n bad: [\n")
    assert refused("run", recipe).startswith(f"{recipe}, line 4: not valid YAML:")


def test_a_key_that_occurs_twice_is_named_with_its_line(recipe: Path, refused: Any) -> None:
    recipe.write_text(recipe.read_text() + "seed: 1\nseed: 2\n")
    line = len(recipe.read_text().splitlines())
    assert f"{recipe}, line {line}: not valid YAML: the key `seed` occurs twice" in refused("run", recipe)


def test_a_recipe_that_is_not_a_mapping(recipe: Path, refused: Any) -> None:
    recipe.write_text("- title\n")
    assert refused("run", recipe) == f"{recipe}: a recipe is a mapping of keys; this file holds a list"


def test_an_unknown_recipe_with_a_near_name(refused: Any) -> None:
    sentence = refused("run", "gsm8k-galactica-125")
    assert "no recipe file or shipped recipe `gsm8k-galactica-125`" in sentence
    assert "did you mean gsm8k-galactica-125m" in sentence
    assert "no recipe file or shipped recipe `zzz`; shipped recipes: alpaca-rewards," in refused("run", "zzz")


def test_the_command_itself_prints_one_line_and_exits_with_2(recipe: Path, tmp_path: Path) -> None:
    rows = [{"question": "1 + 1 ?", "answer": "2"}] * 3
    lines = [json.dumps(row) for row in rows]
    lines[1] = '{"question": "1 + 1 ?", "answer"'
    broken = tmp_path / "broken.jsonl"
    broken.write_text("\n".join(lines))
    for override, words in (
        ("polcy.dtype=float32", ["unknown key `polcy`"]),
        (
            f"data.train={{source: {broken}}}",
            ["data.train", "broken.jsonl, line 2: not JSON", "mend or delete the line"],
        ),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "yonder", "run", str(recipe), override], capture_output=True, text=True, cwd=tmp_path
        )
        sentence = one_sentence(done.stderr, done.returncode)
        assert all(word in sentence for word in words), sentence
        assert done.stdout == ""


def test_a_missing_file_of_a_late_stage_is_found_before_the_first_one_runs(
    recipe: Path, refused: Any, tmp_path: Path
) -> None:
    source = tree(tmp_path)
    source["data"]["pool"] = {"source": str(tmp_path / "pool.jsonl")}
    source["stages"][1] |= {"prompts": {"pool": 2}, "terms": [{"reward": "correct", "data": "pool", "weight": 1.0}]}
    recipe.write_text(yaml.safe_dump(source))
    sentence = refused("run", recipe)
    assert sentence.startswith("data.pool: there is no file")
    assert "pool.jsonl" in sentence
    assert not (tmp_path / "run").exists()


def test_an_unknown_model_is_named_before_anything_runs(recipe: Path, refused: Any, tmp_path: Path) -> None:
    sentence = refused("run", recipe, "policy.model=nobody/no-such-model", "policy.tokenizer=null")
    assert "`nobody/no-such-model` is neither a folder here nor to be had from the hub" in sentence
    assert "check the name or the connection" in sentence
    judge = "rewards.correct={kind: judge, model: nobody/no-such-judge, allow_unmeasured: true}"
    assert "`nobody/no-such-judge`" in refused("run", recipe, judge)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there(recipe: Path, refused: Any) -> None:
    sentence = refused("run", recipe, "policy.device=cuda")
    assert sentence.startswith("device `cuda` is not usable here:")
    assert sentence.endswith("use auto or cpu")


def test_a_prompt_that_is_too_long_is_named(recipe: Path, refused: Any) -> None:
    sentence = refused("run", recipe, "policy.max_prompt_tokens=4")
    assert sentence.startswith("data.train: prompt `word-problems-1-")
    assert "more than policy.max_prompt_tokens = 4" in sentence
    assert sentence.endswith("raise it, leave the question out, or set policy.long_prompts: cut")


def test_a_truncated_model_file_is_named(recipe: Path, refused: Any, tmp_path: Path) -> None:
    tokenizer, folder = load_tokenizer("yonder:tokenizer"), tmp_path / "model"
    fresh_model(FreshModel.model_validate(MODEL), tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    sentence = refused("run", recipe, f"policy.model={folder}", "policy.tokenizer=null")
    assert f"the model in folder `{folder}` cannot be loaded" in sentence


def test_an_output_dir_that_is_a_file(recipe: Path, refused: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    sentence = refused("run", recipe, f"output_dir={tmp_path / 'taken'}")
    assert str(tmp_path / "taken") in sentence
    assert sentence.endswith("change output_dir")
    assert (tmp_path / "taken").read_text() == "mine"


REWARDS = {
    "my_gone": (None, ["cannot be imported", "No module named 'my_gone'", "module:function"]),
    "my_other": ("def g(rollouts): ...\n", ["cannot be imported", "no attribute 'f'"]),
    "my_broken": ("def f(rollouts)\n", ["cannot be imported", "SyntaxError"]),
    "my_number": ("f = 3\n", ["is a int, not a function"]),
    "my_raising": (
        "def f(rollouts):\n    return rollouts[99]\n",
        ["raised IndexError", "my_raising.py, line 2", "mend it"],
    ),
    "my_short": ("def f(rollouts):\n    return [1.0]\n", ["returned 1 scores for 2 rollouts; return one each"]),
    "my_none": ("def f(rollouts):\n    pass\n", ["raised TypeError"]),
    "my_large": ("def f(rollouts):\n    return [1.5] * len(rollouts)\n", ["returned 1.5; return a number from 0 to 1"]),
    "my_words": ("def f(rollouts):\n    return ['good'] * len(rollouts)\n", ["returned 'good'; return a number"]),
}


@pytest.mark.parametrize("name", REWARDS)
def test_a_users_reward_that_fails_is_named(
    name: str, recipe: Path, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where users keep their module; it need not be on PYTHONPATH
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    code, words = REWARDS[name]
    if code is not None:
        (tmp_path / f"{name}.py").write_text(code)
    sentence = refused("run", recipe, f"rl.terms.0.reward={name}:f", "rl.policy=null")
    assert sentence.startswith(f"reward {name}:f ") or sentence.startswith(f"reward `{name}:f` ")
    for word in words:
        assert word in sentence
    late = code is not None and "def f(rollouts):" in code
    assert (tmp_path / "run" / "stages" / "warmup" / "stage.json").exists() == late  # else found before the first stage


# --- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small disk needs root; test_a_failed_write_is_no_checkpoint covers the essentials")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)  # weights may still be mapped


def fill(disk: Path, leave: int) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    if leave:
        os.truncate(filler, filler.stat().st_size - leave)
    return filler


@pytest.mark.parametrize("leave", [0, 200_000], ids=["no byte left", "too little for a checkpoint"])
def test_a_full_disk_keeps_what_was_finished_and_the_same_command_continues(
    leave: int, recipe: Path, refused: Any, small_disk: Path
) -> None:
    command = ["run", str(recipe), f"output_dir={small_disk / 'run'}", f"title={'long' * 5000}"]
    carries_on("warmup", *command[1:3])
    warmup = small_disk / "run" / "stages" / "warmup"
    before = (warmup / "stage.json").read_text()
    recipe_before = (small_disk / "run" / "recipe.yaml").read_text()
    filler = fill(small_disk, leave)

    sentence = refused(*command)
    assert "No space left on device" in sentence
    assert "free disk space or change output_dir" in sentence
    assert str(small_disk / "run") in sentence
    assert (warmup / "stage.json").read_text() == before
    recipe_after = dump_recipe(load_recipe(recipe, command[2:]))
    assert (small_disk / "run" / "recipe.yaml").read_text() in (recipe_before, recipe_after)  # whole in any case
    [checkpoint] = (warmup / "checkpoints").glob("step-*")
    assert is_whole(checkpoint)
    assert list((small_disk / "run" / "stages").glob("rl/checkpoints/step-*")) == []

    filler.unlink()
    carries_on(*command)
    summary = json.loads((small_disk / "run" / "summary.json").read_text())
    assert {name: stage["status"] for name, stage in summary["stages"].items()} == {"warmup": "skipped", "rl": "done"}
    steps = [json.loads(line)["step"] for line in (small_disk / "run/stages/rl/metrics.jsonl").read_text().splitlines()]
    assert steps == [2]


def test_a_failed_write_is_no_checkpoint(
    recipe: Path, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yonder.training.checkpoint as checkpoint

    def full(folder: Path, *rest: object) -> None:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"half of the")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_policy", full)
        sentence = refused("run", recipe)
    assert "step-00000001" in sentence and "free disk space or change output_dir" in sentence
    stage = json.loads((tmp_path / "run/stages/warmup/stage.json").read_text())
    assert stage["status"] == "unfinished"
    assert list((tmp_path / "run/stages/warmup/checkpoints").iterdir()) == []
    carries_on("run", recipe)
    assert json.loads((tmp_path / "run/stages/rl/stage.json").read_text())["status"] == "done"


def test_a_half_written_last_line_is_replaced_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_lines(path, [{"n": 1}])
    with path.open("a") as file:
        file.write('{"n": 2')
    assert read_lines(path) == [{"n": 1}]
    append_lines(path, [{"n": 3}])
    assert read_lines(path) == [{"n": 1}, {"n": 3}]
    assert read_lines(tmp_path / "none.jsonl") == []


def test_the_recipe_of_these_tests_is_a_good_one(recipe: Path) -> None:
    assert load_recipe(recipe).title == "small"


UNUSED = [
    ("guards=[empty]", "judge: `guards` are for completions of a policy, nothing for a file of responses; remove it"),
    ("min_code_lines=4", "judge: `min_code_lines` is for completions of a policy"),
    ("allow_failing=true", "judge: `allow_failing` is a consent to training"),
    ("model=stage:fitted", "judge: `stage:fitted` is known inside its recipe only; give the folder"),
]


@pytest.mark.parametrize(("setting", "words"), UNUSED)
def test_settings_of_a_reward_that_a_file_has_no_use_for(
    setting: str, words: str, refused: Any, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"question": "1 + 1?", "response": "2"}\n')
    assert words in refused("judge", path, "--model", "yonder:judge", "--set", setting)
    assert words in refused("judge-benchmark", "rm-bench", "--model", "yonder:judge", "--set", setting)
    assert list(tmp_path.iterdir()) == [path]


def test_settings_of_a_server_and_references_that_are_not_there(refused: Any, tmp_path: Path) -> None:
    server = "server={urls: ['http://localhost:1'], cache: true}"
    said = refused("judge", tmp_path / "a", "--model", "yonder:judge", "--set", "backend=vllm", "--set", server)
    assert "`server.cache` is a file of a run directory" in said
    said = refused("judge-benchmark", "rm-bench", "--model", "yonder:judge", "--set", "show_reference=true")
    assert "`show_reference` needs references, which benchmarks do not have" in said


def test_what_switches_guards_off_is_what_a_file_gets() -> None:
    assert judge_settings("yonder:judge", "text", ["guards=[]", "min_code_lines=0"]).guards == ()
