"""How a process ends, alone and as one of several that torchrun started: what it says, its code, the file with it."""

import os
import signal
import time
from pathlib import Path

import pytest

from yonder.commands import endings
from yonder.commands.endings import alike, guarded, listening
from yonder.errors import Interrupted, RecipeError, ServerError, Stopped, YonderError
from yonder.pipeline.processes import leading
from yonder.training.distributed import ALONE

TORCHRUN = {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "none", "GROUP_WORLD_SIZE": "1"}


@pytest.fixture(autouse=True)
def code_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*TORCHRUN, "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("YONDER_CODE_FILE", str(tmp_path / "code"))
    (tmp_path / "code").write_text("from an earlier start\n")
    return tmp_path / "code"


def as_process(rank: int, monkeypatch: pytest.MonkeyPatch, **other: str) -> None:
    """Be this one of the processes that torchrun started."""
    for name, value in (TORCHRUN | {"RANK": str(rank)} | other).items():
        monkeypatch.setenv(name, value)


def ends(error: BaseException, recipe: bool = False) -> object:
    """The code with which a command that raises this ends; `recipe`: before the processes have met."""

    def command() -> None:
        if not recipe:
            raise error
        with alike():
            raise error

    with pytest.raises(SystemExit) as end:
        guarded(command)
    return end.value.code


def test_alone_the_code_is_that_of_the_error(code_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for error, code in ((Stopped("a"), 75), (RecipeError("b"), 2), (Interrupted("c"), 130), (OSError(28, "d"), 2)):
        assert ends(error, isinstance(error, RecipeError)) == code
        assert code_file.read_text() == f"{code}\n"
    said = capfd.readouterr().err.splitlines()
    assert said == ["yonder: a", "yonder: b", "yonder: c", "yonder: d; check disk space and permissions"]


def test_the_file_has_0_after_success_1_after_a_defect_and_is_gone_in_between(code_file: Path) -> None:
    guarded(lambda: exec("assert not code_file.exists()", {"code_file": code_file}))
    assert code_file.read_text() == "0\n"
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 / 0)
    assert code_file.read_text() == "1\n"
    assert ends(SystemExit(3)) == 3
    assert code_file.read_text() == "3\n"


def test_a_file_that_cannot_be_written_does_not_change_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("YONDER_CODE_FILE", str(tmp_path / "missing/code"))
    assert ends(Stopped("a")) == 75
    assert "YONDER_CODE_FILE) cannot be written (No such file or directory); the exit code is 75" in (
        capfd.readouterr().err
    )


@pytest.mark.parametrize(("error", "code"), [(Stopped("said"), 75), (RecipeError("said"), 2)])
def test_under_torchrun_what_all_have_ends_with_0_and_process_0_says_it_once(
    error: YonderError, code: int, code_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    as_process(0, monkeypatch)
    assert ends(error, recipe=True) == 0
    assert capfd.readouterr().err == (
        f"yonder: said (code {code}; torchrun gets 0, so that it does not start all again)\n"
    )
    assert code_file.read_text() == f"{code}\n"
    as_process(1, monkeypatch)
    code_file.write_text("process 0's\n")
    assert ends(error, recipe=True) == 0
    assert capfd.readouterr().err == ""
    assert code_file.read_text() == "process 0's\n"


def test_what_one_process_has_is_started_again(
    code_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    as_process(1, monkeypatch)
    assert ends(RecipeError("only here")) == 2
    as_process(0, monkeypatch)
    assert ends(ServerError("gone")) == 75
    as_process(8, monkeypatch, GROUP_WORLD_SIZE="2")
    assert ends(RecipeError("not on this node"), recipe=True) == 2
    assert capfd.readouterr().err == "yonder: only here\nyonder: gone\nyonder: not on this node\n"


def test_a_stop_on_several_nodes_leaves_torchrun_time_to_see_a_node_that_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "SETTLE_S", 0.2)
    as_process(1, monkeypatch, GROUP_WORLD_SIZE="2")
    start = time.monotonic()
    assert ends(Stopped("said")) == 0
    assert time.monotonic() - start >= 0.2


@pytest.mark.parametrize("together", [False, True])
def test_process_0_knows_whether_the_others_ended_in_peace(together: bool) -> None:
    for error, of_all in ((RecipeError("a"), not together), (ServerError("b"), False)):
        with pytest.raises(YonderError) as raised, leading(ALONE) as lead:
            lead.together = together
            raise error
        assert raised.value.of_all == of_all


def test_under_torchrun_a_signal_that_comes_twice_at_once_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    as_process(0, monkeypatch)
    monkeypatch.setattr(endings, "SAME_S", 0.2)
    with pytest.raises(KeyboardInterrupt), listening() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_first_signal_after_another_process_was_asked_does_not_end_at_once() -> None:
    with listening() as stop:
        stop.asked = True
        os.kill(os.getpid(), signal.SIGTERM)
