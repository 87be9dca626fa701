"""The first signal asks, the second ends at once, and the handlers before are back afterwards."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.tiny import CPU, fresh, tokenizer
from tests.training.test_rollback import hacked, lines, same, weights
from tests.training.test_supervised import plan, sft, trainer
from yonder.commands.endings import SIGNALS, listening
from yonder.errors import Stopped
from yonder.models.loading import load_causal_lm
from yonder.models.lora import Lora, add_lora
from yonder.models.policy import Policy
from yonder.signals import StopRequest
from yonder.training.distill import Distiller
from yonder.training.progress import Silent
from yonder.training.sft_losses import LanguageLoss
from yonder.training.supervised import Supervised


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """SIGINT is heard also where the tests run in the background, in which shells have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_asks_and_the_second_ends(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(other) for other in SIGNALS]
    with pytest.raises(KeyboardInterrupt), listening() as stop:
        assert not stop.asked
        stop.check("nothing")
        os.kill(os.getpid(), number)
        assert stop.asked
        assert signal.Signals(number).name in capfd.readouterr().err
        with pytest.raises(Stopped, match=r"^saved at 3; stopped as asked, nothing is lost, and the same command"):
            stop.check("saved at 3")
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(other) for other in SIGNALS] == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop.asked
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_leaves_the_handlers_alone() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def listen() -> None:
        with listening() as stop:
            seen.append((stop.asked, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


class Asks(Silent):
    """Asks for a stop when so much is done."""

    def __init__(self, stop: StopRequest, done: int) -> None:
        self.stop, self.done = stop, done

    def start(self, title: str, total: int, done: int = 0) -> None:
        self.stop.asked |= done >= self.done

    def advance(self, done: int, facts: dict[str, str]) -> None:
        self.stop.asked |= done >= self.done


def test_a_distillation_stopped_between_its_checkpoints_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    """Also where a rollback follows: the checkpoint of the stop is never the good one."""

    def made(name: str) -> Distiller:
        found = hacked(tmp_path / name, 24)
        found.plan = replace(found.plan, save_every=6)
        return found

    whole = made("whole")
    whole.run()
    (event,) = [event for event in lines(tmp_path / "whole", "events.jsonl") if event["action"] == "rollback"]
    cut = event["step"] - 4  # settled when the rollback comes: it would be the good one
    assert cut % 6
    for at in (cut, event["step"] - 1):
        folder = tmp_path / f"cut{at}"
        first = made(folder.name)
        first.progress = Asks(first.stop, at)
        with pytest.raises(Stopped, match=f"^tiny: saved at step {at}; "):
            first.run()
        second = made(folder.name)
        second.run()
        assert same(weights(whole), weights(second))
        assert lines(folder, "events.jsonl") == lines(tmp_path / "whole", "events.jsonl")
        assert [row["step"] for row in lines(folder, "metrics.jsonl")] == list(range(1, 25))


def test_a_stop_at_the_last_step_is_an_end(tmp_path: Path) -> None:
    made = hacked(tmp_path, 4)
    made.progress = Asks(made.stop, 4)
    assert made.run()["steps"] == 4


def with_adapter(folder: Path) -> Supervised:
    model = load_causal_lm(fresh("llama", layers=1), tokenizer(), "float32", CPU)
    add_lora(model, Lora(rank=4, dropout=0.3), seed=0)
    policy = Policy(model, tokenizer())
    return trainer(folder, policy, LanguageLoss(policy, 0.0), plan(epochs=3, batch_size=1, evaluate_every=1),
                   evaluate=lambda: {"development/accuracy": 0.0})  # fmt: skip


def test_a_fit_stopped_in_mid_epoch_goes_on_in_it_with_the_same_dropout(tmp_path: Path) -> None:
    whole = with_adapter(tmp_path / "whole")
    whole.run()
    broken, stops = with_adapter(tmp_path / "broken"), 0
    while True:  # every process makes one step
        broken.progress = Asks(broken.stop, 0)
        try:
            broken.run()
            break
        except Stopped:
            stops += 1
            broken = with_adapter(tmp_path / "broken")
    assert stops == 11  # 3 epochs of 4 steps
    first, second = whole.policy.model.state_dict(), broken.policy.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    rows = [lines(tmp_path / name, "metrics.jsonl") for name in ("whole", "broken")]
    kept = [[{k: v for k, v in row.items() if k not in ("time_s", "tokens_per_s")} for row in found] for found in rows]
    assert kept[0] == kept[1]
    assert (tmp_path / "broken/c/step-00000001/policy").is_dir()  # the best one stays beside those within epochs


def test_a_warmup_stopped_before_its_first_step_ends_the_same(tmp_path: Path) -> None:
    whole = sft(tmp_path / "whole", plan())
    whole.run()
    broken = sft(tmp_path / "broken", plan())
    broken.stop.asked = True
    with pytest.raises(Stopped, match=r"^tiny: saved after 0 epochs and 1 steps; "):
        broken.run()
    again = sft(tmp_path / "broken", plan())
    again.run()
    first, second = whole.policy.model.state_dict(), again.policy.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
