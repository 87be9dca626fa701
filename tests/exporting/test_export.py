"""What is exported loads in transformers with the logits of the policy, and says what it is; nothing private goes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tests.test_errors import tree
from yonder.commands.cli import app
from yonder.commands.endings import guarded
from yonder.errors import RecipeError, StorageError
from yonder.exporting.choosing import choose
from yonder.exporting.cleaning import cleaned, cleaned_text, require_clean
from yonder.exporting.export import export
from yonder.exporting.quality import checks_of_judges
from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.storage import read_json, write_json

IDS = torch.tensor([[5, 9, 30, 7, 12]])
SECRET = "hf_AbCdEfGhIjKlMnOpQrSt"


def trained(folder: Path, **policy: Any) -> Path:
    """A run with everything that can be exported; its labeled data are a file, and a note holds a secret."""
    recipe = tree(folder)
    recipe["policy"] |= policy
    rows = [
        {"question": f"What is {i} + 1?", "answer": str(i + 1), "solution": f"{i} + 1 = {i + 1}."} for i in range(8)
    ]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe["data"]["mine"] = {"source": str(folder / "mine.jsonl"), "task": {"format": "text"}}
    recipe["notes"] = [f"made in {folder} with {SECRET}"]
    recipe["benchmarks"] = {"words": {"data": "train"}}
    recipe["rewards"]["judge"] = {"kind": "judge", "model": "stage:fit", "tau": 2.0}
    recipe["stages"] += [
        {"name": "answers", "kind": "collect", "data": "train", "samples": 1},
        {"name": "fit", "kind": "fit-judge", "model": "yonder:judge", "data": ["mine"], "epochs": 1, "held_out": 0.3,
         "negatives": {"other-question": 1.0}},
        {"name": "rank", "kind": "fit-judge", "model": recipe["policy"]["model"], "tokenizer": "yonder:tokenizer",
         "output": "classifier", "data": ["mine"], "epochs": 1, "held_out": 0.3,
         "negatives": {"other-question": 1.0}},
        {"name": "end", "kind": "evaluate", "checkpoints": ["base", "rl"], "benchmarks": ["words"]},
    ]  # fmt: skip
    (folder / "small.yaml").write_text(yaml.safe_dump(recipe))
    run(load_recipe(str(folder / "small.yaml")))
    return folder / "run"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("private"))


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    card = ModelCard.load(folder / "README.md")
    return card.data.to_dict(), card.text


def test_a_policy_is_the_checkpoint_that_the_stage_chose(done: Path, tmp_path: Path) -> None:
    chosen = export(done, tmp_path / "out", value_head=True, licence="apache-2.0")
    folder = tmp_path / "out"
    assert (chosen.stage.name, chosen.kind) == ("rl", "policy")  # the last distill stage
    tokenizer = load_tokenizer(str(chosen.model))
    policy = load_causal_lm(str(chosen.model), tokenizer, "float32", torch.device("cpu"))
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.eval()(IDS).logits, policy(IDS).logits)
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == tokenizer.get_vocab()
    assert loaded.generation_config.max_new_tokens == 8 and loaded.generation_config.do_sample is False
    assert torch.load(folder / "value_head.pt")["weight"].shape == (1, 16)
    data, text = card_of(folder)
    assert data["library_name"] == "transformers" and data["license"] == "apache-2.0"
    assert data["model-index"][0]["results"][0]["metrics"][0]["type"] == "accuracy"
    assert "| **rl** | " in text and ", n 12 |" in text and "| base | " in text
    assert "random weights, family llama, 1 layers of width 16" in text
    assert "1 x correct on train" in text and "def solution():" in text
    assert load_recipe(folder / "recipe.yaml").stage("rl").kind == "distill"
    assert not (tmp_path / ".out.unfinished").exists()


def test_whoever_reads_one_file_reads_all(done: Path, tmp_path: Path) -> None:
    export(done, tmp_path / "out")
    assert len({file.stat().st_mode for file in (tmp_path / "out").iterdir()}) == 1


def test_nothing_private_is_in_any_file(done: Path, tmp_path: Path) -> None:
    for stage in ("warmup", "rl", "fit", "rank"):
        export(done, tmp_path / stage, stage)
        for path in (tmp_path / stage).iterdir():
            text = path.read_bytes().decode("utf-8", "ignore")
            assert SECRET not in text and str(done.parent) not in text and str(Path.home()) + "/" not in text, path
    assert "source: mine.jsonl" in (tmp_path / "fit" / "recipe.yaml").read_text()


def test_judges_and_classifiers_say_how_they_are_read(done: Path, tmp_path: Path) -> None:
    check = {"admission": {"verdict": "warn", "why": "It likes lies."}, "delta": 0.5, "auroc": None,
             "accuracy": {"value": 0.8125, "low": 0.7, "high": 0.9, "n": 16}}  # fmt: skip
    judge = export(done, tmp_path / "judge", "fit")
    assert judge.kind == "judge"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "judge").generation_config.max_new_tokens == 1
    data, text = card_of(tmp_path / "judge")
    assert data["pipeline_tag"] == "text-generation" and "one token, Yes or No" in text
    assert "On questions held out from the fit: " in text and "`mine.jsonl`" in text
    run_with_check = shutil.copytree(done, tmp_path / "checked")
    recipe = yaml.safe_load((run_with_check / "recipe.yaml").read_text())
    recipe["stages"].append({"name": "check", "kind": "check-judge", "reward": "judge", "responses": ["answers"]})
    (run_with_check / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    write_json(run_with_check / "stages/check/judge_check.json", check)
    (found,) = checks_of_judges(choose(run_with_check, "fit"))
    assert found["figures"] == ["accuracy 81.2 [70.0, 90.0]"] and found["verdict"] == "warn"
    ranked = export(done, tmp_path / "rank", "rank")
    assert ranked.kind == "classifier"
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "rank").config.num_labels == 2
    assert "AutoModelForSequenceClassification" in card_of(tmp_path / "rank")[1]


def test_an_adapter_is_merged_and_another_dtype_is_taken(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    recipe = tree(tmp_path)
    recipe["policy"]["lora"] = {"rank": 2, "save": "adapter"}
    recipe["stages"] = [recipe["stages"][0] | {"optimizer": {"lr": 0.01}}]
    base = load_causal_lm(load_recipe_model(recipe), load_tokenizer("yonder:tokenizer"), "float32", torch.device("cpu"))
    base.save_pretrained(tmp_path / "base")
    load_tokenizer("yonder:tokenizer").save_pretrained(tmp_path / "base")
    recipe["policy"] |= {"model": str(tmp_path / "base"), "tokenizer": None}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    run(load_recipe(str(tmp_path / "small.yaml")))
    chosen = export(tmp_path / "run", tmp_path / "out")
    assert (chosen.model / "adapter_config.json").is_file() and not (tmp_path / "out/adapter_config.json").exists()
    merged = load_causal_lm(str(chosen.model), load_tokenizer(str(chosen.model)), "float32", torch.device("cpu"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(loaded(IDS).logits, merged(IDS).logits)
    assert not torch.equal(loaded(IDS).logits, base(IDS).logits)
    export(tmp_path / "run", tmp_path / "half", dtype="bfloat16")
    assert read_json(tmp_path / "half/config.json")["dtype"] == "bfloat16"
    assert "a local folder, `base`" in card_of(tmp_path / "out")[1]


def load_recipe_model(recipe: dict[str, Any]) -> Any:
    """The fresh model of a recipe."""
    from yonder.recipe.models import FreshModel

    return FreshModel(**recipe["policy"]["model"], seed=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--to", "out"], "nowhere is no run directory: there is no recipe.yaml in it"),
        (["RUN", "--to", "full"], "full is there already and not empty"),
        (["RUN", "--to", "out", "--stage", "other"], "there is no stage `other`; those with a model: warmup, rl, fit"),
        (["RUN", "--to", "out", "--stage", "end"], "no model comes of the stage `end`"),
        (["RUN", "--to", "out", "--stage", "warmup", "--value-head"], "stage warmup has no value head"),
        (["RUN", "--to", "out", "--dtype", "int8"], "--dtype int8: there is float32, bfloat16, float16"),
        (["RUN", "--to", "out", "--push", "student"], "`student` is no name of a repository"),
        (["UNFINISHED", "--to", "out", "--stage", "rl"], "stage rl of UNFINISHED is unfinished; run its recipe"),
        (["DAMAGED", "--to", "out", "--stage", "rl"], "of stage rl is damaged"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    if arguments[0] in ("UNFINISHED", "DAMAGED"):
        shutil.copytree(done, tmp_path / arguments[0])
        stage = tmp_path / arguments[0] / "stages" / "rl"
        if arguments[0] == "UNFINISHED":
            write_json(stage / "stage.json", {"status": "unfinished"})
        else:
            weights = stage / read_json(stage / "stage.json")["result"]["checkpoint"] / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    monkeypatch.setattr("sys.argv", ["yonder", "export", *(str(done) if a == "RUN" else a for a in arguments)])
    with pytest.raises(SystemExit) as ended:
        guarded(app)
    assert ended.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.unfinished").exists()


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("model: /home/me/models/mine", "model: mine"),
        ("~/data/a b/x.jsonl and C:\\Users\\me\\y", "x.jsonl and y"),
        ("sqlite:////srv/db/m.db file:///srv/x/y", "sqlite:m.db file:y"),
        ("https://host/a/b and 3/4/5, a / b / c, </s>, \\frac{1}{2}", None),
        ("Qwen/Qwen3-8B, runs/demo/report.html, def f(a, /, b)", None),
        (f"key {SECRET}", "key [redacted]"),
    ],
)
def test_paths_and_secrets_are_cut(text: str, without: str | None) -> None:
    assert cleaned_text(text) == (text if without is None else without)
    assert cleaned({"a": [text]}) == {"a": [text if without is None else without]}


def test_a_path_that_slips_through_stops_the_export(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"weights of {tmp_path}")
    with pytest.raises(Exception, match="would name the folder"):
        require_clean(tmp_path, tmp_path)


def test_nothing_is_written_into_the_run(done: Path) -> None:
    with pytest.raises(StorageError, match="is inside the run directory"):
        export(done, done / "stages" / "rl" / "new")
    assert not (done / "stages" / "rl" / "new").exists()


def test_a_stage_must_be_there(done: Path) -> None:
    with pytest.raises(RecipeError, match="those with a model"):
        choose(done, "answers")
