"""Supervised training: its losses by hand, that it learns, that it goes on exactly, and that it stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.tiny import CPU, causal_lm, fresh, tokenizer
from yonder.errors import TrainingError
from yonder.models.classifier import Classifier, classifier_logits
from yonder.models.loading import load_causal_lm, load_classifier
from yonder.models.policy import Policy
from yonder.training.checkpoint import CheckpointStore
from yonder.training.parts import Trainable
from yonder.training.progress import Silent
from yonder.training.records import Recorder
from yonder.training.sft_losses import ClassifierLoss, LanguageLoss
from yonder.training.supervised import Example, Supervised, SupervisedPlan

EXAMPLES = [
    Example((10, 11, 12, 20, 21), target=3, label=1),
    Example((13, 14, 22), target=2, context=False),
    Example((15, 16, 17, 18, 23, 24, 25), target=4, label=1),
    Example((19, 26, 27), target=1),
]


def plan(**changes: object) -> SupervisedPlan:
    given = {
        "name": "tiny", "seed": 0, "epochs": 6, "batch_size": 2, "lr": 1e-2, "schedule": "linear",
        "warmup_fraction": 0.1, "weight_decay": 0.0, "grad_clip": 1.0, "micro_batch_tokens": 1000,
        "evaluate_every": 0, "patience": 0, "max_skipped": 3,
    }  # fmt: skip
    return SupervisedPlan(**given | changes)  # type: ignore[arg-type]


def trainer(folder: Path, policy: Trainable, loss: object, settings: SupervisedPlan, **other: object) -> Supervised:
    folder.mkdir(parents=True, exist_ok=True)
    store = CheckpointStore(folder / "c", 2)
    given = {"examples": lambda epoch: EXAMPLES, "recorder": Recorder(folder), "store": store}
    return Supervised(plan=settings, policy=policy, loss=loss, progress=Silent(), **given | other)  # type: ignore[arg-type]


def new_policy() -> Policy:
    return Policy(load_causal_lm(fresh("llama", layers=1), tokenizer(), "float32", CPU), tokenizer())


def sft(folder: Path, settings: SupervisedPlan, **other: object) -> Supervised:
    policy = new_policy()
    return trainer(folder, policy, LanguageLoss(policy, 0.0), settings, **other)


OVERFIT = plan(epochs=40, batch_size=4, schedule="constant", warmup_fraction=0.0)


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_overfits_four_examples(tmp_path: Path) -> None:
    sft(tmp_path, OVERFIT).run()
    found = metrics(tmp_path)
    assert found[0]["loss"] > 5
    assert found[-1]["loss"] < 0.05


def test_a_classifier_overfits_four_examples(tmp_path: Path) -> None:
    made = Classifier(load_classifier(fresh("llama", layers=1), tokenizer(), "float32", CPU), tokenizer())
    trainer(tmp_path, made, ClassifierLoss(made), OVERFIT).run()
    assert metrics(tmp_path)[-1]["loss"] < 0.05
    logits = classifier_logits(made.model, [list(example.ids) for example in EXAMPLES], CPU)
    assert logits.argmax(-1).tolist() == [example.label for example in EXAMPLES]


def test_resumed_equals_unbroken_bit_for_bit(tmp_path: Path) -> None:
    whole = sft(tmp_path / "whole", plan())
    whole.run()
    broken = sft(tmp_path / "broken", plan(), examples=dies_at(4))
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = sft(tmp_path / "broken", plan())
    resumed.run()
    first, second = whole.policy.model.state_dict(), resumed.policy.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    rows = [metrics(tmp_path / name) for name in ("whole", "broken")]
    assert [[(row["epoch"], row["loss"], row["lr"]) for row in found] for found in zip(*rows, strict=True)] == [
        [(row["epoch"], row["loss"], row["lr"])] * 2 for row in rows[0]
    ]


def dies_at(epoch: int):
    def examples(number: int) -> list[Example]:
        if number == epoch:
            raise KeyboardInterrupt
        return EXAMPLES

    return examples


def test_an_epochs_row_is_written_before_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a process that dies between the two resumes without the row."""
    run = sft(tmp_path, plan(epochs=3))
    saved = run.store.save

    def save_and_die(step: int, *rest: Any, **more: Any) -> Path:
        saved(step, *rest, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(run.store, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    sft(tmp_path, plan(epochs=3)).run()
    assert [row["epoch"] for row in metrics(tmp_path)] == [1, 2, 3]


def test_the_order_is_a_function_of_seed_and_epoch(tmp_path: Path) -> None:
    seen: dict[int, list[list[int]]] = {}
    for seed in (0, 0, 1):
        run = sft(tmp_path / f"{len(seen)}", plan(seed=seed, epochs=3))
        order: list[list[int]] = []
        inner = run.loss

        def spy(part: list[Example], batch: list[Example], order=order, inner=inner) -> torch.Tensor:
            order.append([EXAMPLES.index(example) for example in batch])
            return inner(part, batch)

        run.loss = spy
        run.run()
        seen[len(seen)] = order
    assert seen[0] == seen[1] != seen[2]
    assert all(sorted(seen[0][i] + seen[0][i + 1]) == [0, 1, 2, 3] for i in (0, 2, 4))  # each example once an epoch
    assert len({str(seen[0][i : i + 2]) for i in (0, 2, 4)}) > 1


def logp(ids: tuple[int, ...]) -> torch.Tensor:
    """Log-prob of each token after the first, from the whole model's logits."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        found = causal_lm("llama")(tokens).logits[0].log_softmax(-1)
    return found[:-1].gather(-1, tokens[0, 1:, None]).squeeze(-1)


def test_language_loss_is_the_mean_over_all_target_tokens() -> None:
    loss = LanguageLoss(Policy(causal_lm("llama"), tokenizer()), 0.0)
    # targets: the last 2, 1, 3 and 2 tokens of the examples, 8 together
    expected = -sum(logp(example.ids)[example.target - 1 :].sum().item() for example in EXAMPLES) / 8
    assert loss(EXAMPLES, EXAMPLES).item() == pytest.approx(expected, abs=1e-4)
    parts = [loss([example], EXAMPLES).item() for example in EXAMPLES]
    assert sum(parts) == pytest.approx(expected, abs=1e-4)  # micro-batches add up


def test_the_context_loss_has_its_own_mean_and_leaves_out_who_has_none() -> None:
    loss = LanguageLoss(Policy(causal_lm("llama"), tokenizer()), 0.5)
    targets = -sum(logp(example.ids)[example.target - 1 :].sum().item() for example in EXAMPLES) / 8
    # context tokens that have one before them: 2 of the first, 3 of the third; the second has none
    context = -sum(logp(EXAMPLES[i].ids)[: EXAMPLES[i].target - 1].sum().item() for i in (0, 2)) / 5
    assert loss(EXAMPLES, EXAMPLES).item() == pytest.approx(targets + 0.5 * context, abs=1e-4)
    parts = [loss([example], EXAMPLES).item() for example in EXAMPLES]
    assert sum(parts) == pytest.approx(targets + 0.5 * context, abs=1e-4)


def test_classifier_loss_is_the_mean_over_sequences() -> None:
    made = Classifier(load_classifier(fresh("opt"), tokenizer(), "float32", CPU), tokenizer())
    loss = ClassifierLoss(made)
    with torch.no_grad():
        logits = [made.model(torch.tensor([example.ids])).logits[0].log_softmax(-1) for example in EXAMPLES]
    expected = -sum(found[example.label].item() for found, example in zip(logits, EXAMPLES, strict=True)) / 4
    assert loss(EXAMPLES, EXAMPLES).item() == pytest.approx(expected, abs=1e-4)
    parts = [loss([example], EXAMPLES).item() for example in EXAMPLES]
    assert sum(parts) == pytest.approx(expected, abs=1e-4)


def test_micro_batches_train_like_one_batch(tmp_path: Path) -> None:
    first, second = (sft(tmp_path / str(budget), plan(batch_size=4, micro_batch_tokens=budget)) for budget in (1000, 1))
    for run in (first, second):
        run.plan = plan(epochs=1, batch_size=4, micro_batch_tokens=run.plan.micro_batch_tokens)
        run.run()
    pairs = zip(first.policy.model.parameters(), second.policy.model.parameters(), strict=True)
    gradients = [(a.grad, b.grad) for a, b in pairs]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in gradients)


def test_patience_ends_and_the_best_is_chosen_and_kept(tmp_path: Path) -> None:
    figures = iter([0.1, 0.6, 0.3, 0.6, 0.9])
    settings = plan(epochs=10, evaluate_every=1, patience=2)
    run = sft(tmp_path, settings, evaluate=lambda: {"development/accuracy": next(figures)})
    summary = run.run()
    assert (summary["epochs"], summary["chosen_step"]) == (4, 2)
    assert run.store.path(2) in run.store.all()
    assert metrics(tmp_path)[1]["development/accuracy"] == 0.6


def test_nothing_to_train_on_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no example to train on"):
        sft(tmp_path, plan(), examples=lambda epoch: []).run()
