"""Checkpoints: whole or not there, the newest whole one taken, the best one kept, and exact when read."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from tests.models.tiny import CPU, FAMILIES, causal_lm, fresh, tokenizer
from tests.training.tools import tiny_policy
from yonder.errors import StorageError
from yonder.models.classifier import Classifier
from yonder.models.loading import load_causal_lm, load_classifier, load_tokenizer
from yonder.models.policy import Policy
from yonder.training.checkpoint import (
    CheckpointStore,
    is_whole,
    load_policy_weights,
    load_state,
    require_whole,
    save_policy,
)
from yonder.training.selection import Selection

POLICY = tiny_policy(1)
FILES = ["trainer.pt", "policy/model.safetensors", "policy/value_head.pt", "policy/config.json"]


def store(folder: Path, steps: tuple[int, ...] = (2, 4), keep: int = 3) -> CheckpointStore:
    made = CheckpointStore(folder, keep)
    for step in steps:
        made.save(step, POLICY, {"step": step}, None)
    return made


def names(made: CheckpointStore) -> list[str]:
    return [path.name for path in made.all()]


def test_the_newest_is_taken(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "none", 2).latest() is None
    made = store(tmp_path)
    assert made.latest() == made.path(4)
    assert load_state(made.path(4)) == {"step": 4}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_sends_it_back_to_the_one_before(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = store(tmp_path)
    path = made.path(4) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    path.write_bytes(bytes(content))
    with caplog.at_level(logging.WARNING, logger="yonder"):
        assert made.latest() == made.path(2)
    assert "step-00000004 is damaged; using the one before it" in caplog.text


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_one_is_not_restored(tmp_path: Path, name: str) -> None:
    made, policy = store(tmp_path), tiny_policy(1, seed=1)
    path, before = made.path(4) / name, deepcopy(policy.state_dict())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    path.write_bytes(bytes(content))
    with pytest.raises(StorageError, match="step-00000004 to return to is damaged; delete it"):
        made.restore(made.path(4), policy)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())
    assert made.restore(made.path(2), policy) == {"step": 2}


@pytest.mark.parametrize("name", ["trainer.pt", "manifest.json"])
def test_a_missing_file_is_damage_too(tmp_path: Path, name: str) -> None:
    made = store(tmp_path)
    (made.path(4) / name).unlink()
    assert made.latest() == made.path(2)


def test_a_half_written_manifest_is_damage(tmp_path: Path) -> None:
    made = store(tmp_path)
    manifest = made.path(4) / "manifest.json"
    manifest.write_text(manifest.read_text()[:40])
    assert made.latest() == made.path(2)
    assert set(json.loads((made.path(2) / "manifest.json").read_text())) >= {"trainer.pt", "policy/model.safetensors"}


@pytest.mark.parametrize("manifest", ["{}", "[]", "null", "the policy's files alone"])
def test_a_manifest_without_the_trainers_state_is_damage(tmp_path: Path, manifest: str) -> None:
    made = store(tmp_path)
    path = made.path(4) / "manifest.json"
    if manifest.startswith("the"):
        hashes = json.loads(path.read_text())
        manifest = json.dumps({name: known for name, known in hashes.items() if name.startswith("policy/")})
    path.write_text(manifest)
    assert made.latest() == made.path(2)


def test_a_manifest_without_the_model_that_is_handed_on_is_damage(tmp_path: Path) -> None:
    made = store(tmp_path)
    require_whole(made.path(4) / "policy", "rl")
    require_whole(made.merge(4, POLICY), "rl")  # it has no trainer's state
    (made.path(4) / "manifest.json").write_text("{}")
    with pytest.raises(StorageError, match="of stage rl is damaged"):
        require_whole(made.path(4) / "policy", "rl")


def test_an_unfinished_folder_is_not_taken_and_does_not_disturb(tmp_path: Path) -> None:
    made = store(tmp_path)
    made.path(4).rename(tmp_path / ".step-00000006.unfinished")  # as a killed process leaves it
    assert names(made) == ["step-00000002"]
    assert made.latest() == made.path(2)
    made.save(5, POLICY, {"step": 5}, None)
    assert made.latest() == made.path(5)
    assert not list(tmp_path.glob(".*"))


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    made = CheckpointStore(tmp_path, keep=2)
    for step in (1, 2, 3, 4, 5):
        made.save(step, POLICY, {"step": step}, best_step=2 if step >= 2 else None)
    assert names(made) == ["step-00000002", "step-00000004", "step-00000005"]


def test_after_falling_back_the_new_one_is_kept_and_the_damaged_one_dropped(tmp_path: Path) -> None:
    made = store(tmp_path, (2, 4, 6), keep=3)
    for step in (4, 6):
        (made.path(step) / "trainer.pt").write_bytes(b"")
    made.keep = 1
    assert made.latest() == made.path(2)
    made.save(3, POLICY, {"step": 3}, None)
    assert names(made) == ["step-00000003"]
    assert made.latest() == made.path(3)


def fails(error: Exception):
    def write(*_: object, **__: object) -> None:
        raise error

    return write


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
OF_TORCH = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")
OF_TORCH.__context__ = FULL


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("torch.save", FULL),
        ("torch.save", OF_TORCH),
        ("transformers.PreTrainedTokenizerBase.save_pretrained", Exception("No space left on device (os error 28)")),
        ("pathlib.Path.mkdir", OSError(errno.EROFS, os.strerror(errno.EROFS))),
        ("pathlib.Path.rename", FULL),
        ("os.fsync", FULL),
    ],
)
def test_a_full_or_read_only_disk_is_one_sentence_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    made = store(tmp_path)
    words = "Read-only file system" if getattr(error, "errno", 0) == errno.EROFS else "No space left on device"
    with monkeypatch.context() as patch:
        patch.setattr(place, fails(error))
        with pytest.raises(StorageError, match=rf"step-00000006 could not be written \({words}\); free disk space"):
            made.save(6, POLICY, {"step": 6}, None)
    assert names(made) == ["step-00000002", "step-00000004"]
    assert made.latest() == made.path(4)
    assert not list(tmp_path.glob(".*"))


def test_a_step_written_again_never_loses_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store(tmp_path)
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if path.name.endswith(".unfinished"):
            raise FULL
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(StorageError, match="step-00000004 could not be written"):
            made.save(4, POLICY, {"step": "again"}, None)
    assert made.latest() == made.path(4) and not list(tmp_path.glob(".*"))
    assert made.restore(made.path(4), tiny_policy())["step"] == 4
    made.save(4, POLICY, {"step": "again"}, None)
    assert made.restore(made.path(4), tiny_policy())["step"] == "again" and not list(tmp_path.glob(".*"))


def test_a_kill_between_the_two_names_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store(tmp_path)
    rename = Path.rename

    class Killed(BaseException):
        """Nothing after it runs, as after a kill."""

    def killed(path: Path, target: Path) -> Path:
        if path.name.endswith(".unfinished"):
            raise Killed
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(Killed):
            made.save(4, POLICY, {"step": "again"}, None)
    assert not made.path(4).exists()
    assert made.latest() == made.path(4)
    assert made.restore(made.path(4), tiny_policy())["step"] == 4
    made.save(4, POLICY, {"step": "again"}, None)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("limit", [100_000, 1_500_000])  # in the middle of the weights, or of the trainer's state
def test_a_write_that_really_fails(tmp_path: Path, limit: int) -> None:
    """The libraries' own errors: safetensors and torch each have another one."""
    made = store(tmp_path)
    state = {"step": 6, "optimizer": torch.zeros(1_000_000)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # Python ignores SIGXFSZ, so a write gives EFBIG
    try:
        with pytest.raises(StorageError, match=r"\(File too large\); free disk space"):
            made.save(6, POLICY, state, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert made.latest() == made.path(4)
    assert not list(tmp_path.glob(".*"))


def test_an_error_of_ours_is_not_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.save", fails(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        CheckpointStore(tmp_path, 1).save(1, POLICY, {}, None)
    assert not list(tmp_path.iterdir())


def test_rewriting_a_step_replaces_it(tmp_path: Path) -> None:
    made = store(tmp_path)
    made.save(4, POLICY, {"step": 4, "again": True}, None)
    assert load_state(made.path(4)) == {"step": 4, "again": True}
    assert is_whole(made.path(4))


def test_a_state_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    made = store(tmp_path)
    (made.path(4) / "trainer.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(StorageError, match="cannot be read"):
        load_state(made.path(4))


# ----- exactness


def spoil(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_come_back_bit_for_bit(tmp_path: Path, family: str) -> None:
    model = Policy(deepcopy(causal_lm(family)), tokenizer(), value_outputs=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_policy(tmp_path / "policy", model)
    spoil(model)
    load_policy_weights(tmp_path, model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    # and as any other program reads the folder
    read = load_causal_lm(str(tmp_path / "policy"), load_tokenizer(str(tmp_path / "policy")), "float32", CPU)
    assert all(torch.equal(before[f"model.{name}"], tensor) for name, tensor in read.state_dict().items())


def test_a_classifiers_weights_come_back(tmp_path: Path) -> None:
    made = Classifier(load_classifier(fresh("llama"), tokenizer(), "float32", CPU), tokenizer())
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    save_policy(tmp_path / "policy", made)
    spoil(made.model)
    load_policy_weights(tmp_path, made)
    assert all(torch.equal(before[name], tensor) for name, tensor in made.model.state_dict().items())


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    save_policy(tmp_path / "policy", POLICY)
    deeper = Policy(load_causal_lm(fresh("llama", heads=2), tokenizer(), "float32", CPU), tokenizer())
    with pytest.raises(StorageError, match="lacks"):
        load_policy_weights(tmp_path, deeper)


# ----- which one is handed on


def test_selection_keeps_the_first_of_equals_and_runs_out_of_patience() -> None:
    chosen = Selection(patience=2)
    assert [chosen.observe(step, value) for step, value in [(1, 0.2), (2, 0.5), (3, 0.5)]] == [True, True, False]
    assert not chosen.exhausted
    restored = Selection(patience=2)
    restored.load_state(chosen.state())
    restored.observe(4, 0.4)
    assert restored.exhausted
    assert restored.summary(4)["chosen_step"] == 2
    assert Selection(0).summary(7)["chosen_step"] == 7  # never evaluated: the last
