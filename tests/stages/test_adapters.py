"""Recipes with an adapter on the policy: what checkpoints hold, what is handed on, what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.models.tiny import CPU, tokenizer
from tests.pipeline.test_pipeline import write
from tests.pipeline.test_resuming import Stopping
from tests.slow.kills import outcome
from tests.test_errors import tree
from yonder.assembly.workshop import Workshop
from yonder.errors import ModelError, RecipeError, Stopped, StorageError
from yonder.models.bases import BASE_FILE, base_of
from yonder.models.fresh import fresh_model
from yonder.models.loading import load_causal_lm
from yonder.models.lora import AdapterOff, fold_adapter
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.recipe.algorithms import KLSettings
from yonder.recipe.models import FreshModel
from yonder.recipe.stages import DistillStage
from yonder.storage import read_json

pytest.importorskip("peft")
EVALUATION = {"name": "end", "kind": "evaluate", "checkpoints": ["base", "warmup", "rl"], "benchmarks": ["train"]}


def recipe(folder: Path, lora: dict[str, Any], **policy: Any) -> str:
    """Warm-up, distill from it, evaluation."""
    stages = tree(folder)["stages"]
    stages[0] |= {"epochs": 2, "batch_size": 4, "optimizer": {"lr": 0.01}}
    stages[1] |= {"steps": 8, "save_every": 2, "optimizer": {"lr": 0.01}}
    stages[1]["terms"] = [{"reward": "tests.slow.rewards:length", "data": "train", "weight": 1.0}]
    base = tree(folder)["policy"] | {"lora": {"rank": 4} | lora} | policy
    return str(write(folder, [*stages, EVALUATION], policy=base, benchmarks={"train": {"data": "train"}}))


def handed_on(folder: Path, stage: str) -> Path:
    found = read_json(folder / "run/stages" / stage / "stage.json")["result"]["checkpoint"]
    return folder / "run/stages" / stage / found


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def short(folder: Path) -> dict[str, Any]:
    """Few steps, large ones."""
    found = tree(made(folder))
    found["stages"][0] |= {"batch_size": 4, "optimizer": {"lr": 0.01}}
    found["stages"][1] |= {"optimizer": {"lr": 0.01}}
    found["stages"][1]["terms"] = [{"reward": "tests.slow.rewards:length", "data": "train", "weight": 1.0}]
    return found


def begun(tmp_path: Path, *overrides: str) -> Path:
    """The model that the warm-up of another run hands on."""
    folder = made(tmp_path / "first")
    policy = short(folder)["policy"] | {"lora": {"rank": 4}}
    run(load_recipe(str(write(folder, short(folder)["stages"], policy=policy)), list(overrides)), ["warmup"])
    return handed_on(folder, "warmup")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_causal_lm(str(folder), tokenizer(), "float32", CPU).state_dict()


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_checkpoints_hold_the_adapter_and_merged_weights_are_handed_on(tmp_path: Path) -> None:
    summary = run(load_recipe(recipe(tmp_path, {"dropout": 0.1})))
    assert set(summary["results"]) == {"base", "warmup", "rl"}
    start = fresh_model(FreshModel(**tree(tmp_path)["policy"]["model"], seed=0), tokenizer()).state_dict()
    for stage, before in (("warmup", start), ("rl", load_file(handed_on(tmp_path, "warmup") / "model.safetensors"))):
        steps = sorted((tmp_path / f"run/stages/{stage}/checkpoints").glob("step-*"))
        for step in steps:
            names = set(load_file(step / "policy/adapter_model.safetensors"))
            assert names
            assert all(".lora_" in name for name in names)
            assert not (step / "policy/model.safetensors").exists()
        assert (steps[-1] / "policy/value_head.pt").is_file() == (stage == "rl")
        assert handed_on(tmp_path, stage) == tmp_path / f"run/stages/{stage}/merged" / steps[-1].name / "policy"
        merged = load_file(handed_on(tmp_path, stage) / "model.safetensors")
        moved = {name for name in merged if not torch.equal(merged[name], before[name])}
        assert moved  # linear layers of the trunk, and they alone, on what the stage before handed on
        assert all("_proj" in name for name in moved)


@pytest.mark.parametrize(("title", "done"), [("warmup", 0), ("rl", 4)])
def test_stopped_with_an_adapter_ends_as_an_unbroken_run(tmp_path: Path, title: str, done: int) -> None:
    path = recipe(tmp_path, {"dropout": 0.2})
    run(load_recipe(path, [f"output_dir={tmp_path}/whole"]))
    progress = Stopping(title, done)
    with pytest.raises(Stopped):
        run(load_recipe(path, [f"output_dir={tmp_path}/broken"]), progress=progress, stop=progress.stop)
    run(load_recipe(path, [f"output_dir={tmp_path}/broken"]))
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "broken")


def test_an_adapter_is_handed_on_alone_where_nothing_is_trained_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found with its base from any directory, and where the run was moved to or copied to."""
    merged, alone = tmp_path / "merged", tmp_path / "alone"
    for folder, save in ((merged, "merged"), (alone, "adapter")):
        folder.mkdir()
        monkeypatch.chdir(folder)
        summary = run(load_recipe(recipe(folder, {"save": save}), ["output_dir=run"]))
        assert summary["results"].keys() == {"base", "warmup", "rl"}
    assert (handed_on(alone, "warmup") / "model.safetensors").is_file()  # rl was trained on it
    assert (handed_on(alone, "rl") / "adapter_model.safetensors").is_file()
    base = handed_on(alone, "warmup")
    assert read_json(handed_on(alone, "rl") / "adapter_config.json")["base_model_name_or_path"] == str(base)
    theirs = weights(handed_on(merged, "rl"))
    by_peft = AutoModelForCausalLM.from_pretrained(handed_on(alone, "rl"), dtype=torch.float32)
    fold_adapter(by_peft)
    assert same(by_peft.state_dict(), theirs)  # by the whole path
    copied, moved = tmp_path / "copied", tmp_path / "moved"
    shutil.copytree(alone, copied)
    monkeypatch.chdir(tmp_path)
    assert base_of(handed_on(copied, "rl")) == str(handed_on(copied, "warmup"))  # its own, not the one it came from
    for folder in (alone, copied, moved):
        if folder == moved:
            alone.rename(moved)
        assert same(weights(handed_on(folder, "rl").relative_to(tmp_path)), theirs)
        assert base_of(handed_on(folder, "rl")) == str(handed_on(folder, "warmup"))
    (handed_on(copied, "warmup") / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_causal_lm(str(handed_on(copied, "rl")), tokenizer(), "float32", CPU)


def test_an_adapter_stays_on_the_model_of_another_run_that_has_the_same_stages_and_steps(tmp_path: Path) -> None:
    base = begun(tmp_path)
    found: list[dict[str, Any]] = []
    for save in ("merged", "adapter"):
        stages = short(tmp_path / save)["stages"]
        second = {key: value for key, value in stages[1].items() if key != "policy"} | {"name": "rl2"}
        lora = {"lora": {"rank": 4, "save": save}, "model": str(base)}
        path = write(tmp_path / save, [*stages, second], policy=short(tmp_path / save)["policy"] | lora)
        run(load_recipe(str(path)))
        found.append(weights(handed_on(tmp_path / save, "rl2")))
    alone = handed_on(tmp_path / "adapter", "rl2")
    assert handed_on(tmp_path / "adapter", "warmup").parts[-5:] == base.parts[-5:]
    assert base_of(alone) == str(base)
    assert not (alone / BASE_FILE).exists()
    assert same(*found)


def test_an_adapter_does_not_stand_on_itself_where_its_base_has_the_same_place_in_another_run(tmp_path: Path) -> None:
    base = begun(tmp_path, "policy.lora=null")
    found: list[dict[str, Any]] = []
    for save in ("merged", "adapter"):
        stages = [short(tmp_path / save)["stages"][0], EVALUATION | {"checkpoints": ["base", "warmup"]}]
        lora = {"lora": {"rank": 4, "save": save}, "model": str(base)}
        rest = {"policy": short(tmp_path / save)["policy"] | lora, "benchmarks": {"train": {"data": "train"}}}
        assert run(load_recipe(str(write(tmp_path / save, stages, **rest))))["results"].keys() == {"base", "warmup"}
        found.append(weights(handed_on(tmp_path / save, "warmup")))
    alone = handed_on(tmp_path / "adapter", "warmup")
    assert alone.parts[-5:] == base.parts[-5:]
    assert base_of(alone) == str(base)
    assert same(*found)


def test_an_adapter_is_found_on_the_very_weights_it_was_trained_on_or_not_at_all(tmp_path: Path) -> None:
    """Where its folder, its stage or a stage under it was put elsewhere."""
    first, other = tmp_path / "first", tmp_path / "other"
    for folder, seed in ((first, 0), (other, 1)):
        run(load_recipe(recipe(made(folder), {"save": "adapter"}), [f"seed={seed}", "rl.steps=2"]))
    alone, base = handed_on(first, "rl"), handed_on(first, "warmup")
    trained = weights(alone)
    taken, among = tmp_path / "taken", other / "run/stages/guest/checkpoints" / alone.parent.name / "policy"
    for place in (taken, among):
        shutil.copytree(alone, place)
        assert base_of(place) == str(base)
        assert same(weights(place), trained)
    assert (among / read_json(among / BASE_FILE)["base"]).resolve() == handed_on(
        other, "warmup"
    )  # whose weights differ
    base.parent.rename(tmp_path / "kept")
    shutil.copytree(handed_on(other, "warmup").parent, base.parent)
    for place in (alone, taken, among):
        with pytest.raises(ModelError, match=f"was trained on the weights in {base}, which are not there any more"):
            load_causal_lm(str(place), tokenizer(), "float32", CPU)


def test_an_adapter_on_an_adapter_is_handed_on_merged(tmp_path: Path) -> None:
    """Its weights are in no folder that it could name."""
    fresh_model(FreshModel(hidden_size=32, layers=1, heads=2), tokenizer()).save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    first = tmp_path / "first"
    run(load_recipe(recipe(made(first), {"save": "adapter"}, model=str(tmp_path / "base"))), ["warmup", "rl"])
    assert (handed_on(first, "rl") / "adapter_model.safetensors").is_file()
    found: list[dict[str, Any]] = []
    for save in ("merged", "adapter"):
        path = recipe(made(tmp_path / save), {"save": save}, model=str(handed_on(first, "rl")))
        run(load_recipe(path, ["rl.policy=null"]), ["warmup"])
        assert (handed_on(tmp_path / save, "warmup") / "model.safetensors").is_file()
        found.append(weights(handed_on(tmp_path / save, "warmup")))
    assert same(*found)


def test_a_damaged_merged_model_is_not_read(tmp_path: Path) -> None:
    path = recipe(tmp_path, {})
    run(load_recipe(path), ["warmup"])
    file = handed_on(tmp_path, "warmup") / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(StorageError, match="of stage warmup is damaged"):
        run(load_recipe(path))


def test_packed_weights_layers_computed_again_and_half_precision_run_through(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = tmp_path / "base"
    fresh_model(FreshModel(hidden_size=64, layers=1, heads=2), tokenizer()).save_pretrained(base)
    tokenizer().save_pretrained(base)
    half = {"quantize": "4bit", "dtype": "bfloat16", "activation_checkpointing": True}
    summary = run(load_recipe(recipe(tmp_path, {}, model=str(base), **half)))
    assert summary["stages"]["rl"]["status"] == "done"
    merged = load_file(handed_on(tmp_path, "rl") / "model.safetensors")
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}
    assert "quantization_config" not in read_json(handed_on(tmp_path, "rl") / "config.json")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["policy.lora=null", "policy.quantize=4bit"], r"policy: `quantize: 4bit` packs weights .* set `lora`"),
        (["policy.quantize=4bit", "parallel.strategy=fsdp2"], r"fsdp2 does not divide packed weights .* use ddp"),
        (
            ["policy.decoding=static", "parallel.strategy=fsdp2"],
            r"decoding: static needs weights that stay .* use ddp",
        ),
        (["policy.lora.save=adapter", "rl.policy=null"], r"policy.lora.save: stage `warmup` starts from a fresh model"),
    ],
)
def test_what_cannot_be_is_refused_with_the_recipe(tmp_path: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(recipe(tmp_path, {}), overrides)


def test_the_reference_is_the_policy_itself_only_where_both_start_from_the_same_weights(tmp_path: Path) -> None:
    loaded = load_recipe(recipe(tmp_path, {}), ["rl.policy=null"])
    other = FreshModel(**tree(tmp_path)["policy"]["model"] | {"seed": 5})
    shop, stage = Workshop(loaded, {}), loaded.stage("rl")
    assert isinstance(stage, DistillStage)
    try:
        policy = shop.policy(None, 1, train=True)
        for reference, itself in ((None, True), (loaded.policy.model, True), (other, False)):
            found = shop.reference(stage.model_copy(update={"reference": reference}), policy)
            assert isinstance(found, AdapterOff) == itself
        assert shop.reference(stage.model_copy(update={"kl": KLSettings(beta=0)}), policy) is None
    finally:
        shop.close()
