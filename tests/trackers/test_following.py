"""What is sent, and how often: rows once, whatever fails or is killed between."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.trackers.folders import begin, finish, rows, trip
from yonder.errors import RecipeError
from yonder.recipe.trackers import WandbSettings
from yonder.storage import read_json
from yonder.trackers.base import About, Settings, flat, flat_settings
from yonder.trackers.following import Follower
from yonder.trackers.sending import Sending, followers
from yonder.trackers.starting import require_trackers

SETTINGS = {"kind": "memory", "uri": "https://user:hunter22@server.example"}


class Memory:
    """A tracker that keeps what it gets; it fails at the named steps, once each."""

    def __init__(self, fails: set[int]) -> None:
        self.run, self.fails = "", fails
        self.opened: list[tuple[str | None, int]] = []
        self.got: list[tuple[str, int, float]] = []
        self.notes: list[str] = []
        self.pages: list[Path] = []
        self.closed: list[str] = []
        self.about: About | None = None

    def open(self, settings: Settings, about: About, run: str | None, rows: int) -> "Memory":
        self.opened.append((run, rows))
        self.run, self.about = run or f"run-{len(self.opened)}", about
        return self

    def log(self, stage: str, step: int, time_s: float, values: Mapping[str, float]) -> None:
        if step in self.fails:
            self.fails.remove(step)
            raise OSError("the server is away")
        self.got += [(name, step, value) for name, value in values.items()]

    def note(self, stage: str, step: int, rule: str, message: str) -> None:
        self.notes.append(f"{stage} {step} {rule}: {message}")

    def page(self, path: Path) -> None:
        self.pages.append(path)

    def flush(self) -> None:
        pass

    def close(self, status: str) -> None:
        self.closed.append(status)

    def losses(self) -> list[int]:
        """Steps whose loss it has, as they came."""
        return [step for name, step, _ in self.got if name == "rl/loss"]


def follower(folder: Path, memory: Memory, settings: Settings = SETTINGS) -> Follower:
    """As a new process has it."""
    return Follower("memory", settings, folder, memory.open)


def test_rows_are_sent_once_with_full_names_and_nothing_for_what_is_not_a_number(tmp_path: Path) -> None:
    begin(tmp_path)
    memory = Memory(set())
    one = follower(tmp_path, memory)
    one.send()
    rows(tmp_path, 1, 2, alarm={"action": "warn", "far": 2}, score=None, ok=True)
    one.send()
    rows(tmp_path, 3)
    with (tmp_path / "stages/rl/metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # half a line
        file.flush()
        one.send()
        assert memory.losses() == [1, 2, 3]
        file.write('ss": 7}\n')
    one.send()
    assert memory.losses() == [1, 2, 3, 4]
    assert ("rl/loss", 4, 7.0) in memory.got
    assert {name for name, step, _ in memory.got if step == 1} == {"rl/loss", "rl/alarm/far", "rl/ok"}
    assert memory.opened == [(None, 0)]


@pytest.mark.parametrize("known", [True, False])
def test_a_run_that_goes_on_is_sent_from_where_it_was(tmp_path: Path, known: bool) -> None:
    """Steps after the checkpoint are written anew; those that were sent are not sent again."""
    begin(tmp_path)
    memory = Memory(set())
    rows(tmp_path, 1, 2, 3, 4)
    before = follower(tmp_path, memory)
    before.send()
    rows(tmp_path, 1, 2, 3, again=True)  # the resumed run dropped 3 and 4, and made 3 again
    after = follower(tmp_path, memory) if known else before
    after.send()
    rows(tmp_path, 4, 5)
    after.send()
    assert memory.losses() == [1, 2, 3, 4, 5]
    assert memory.opened == ([(None, 0), ("run-1", 4)] if known else [(None, 0)])


def test_a_kill_while_rows_are_sent_doubles_none(tmp_path: Path) -> None:
    """What was about to be sent was noted before."""
    begin(tmp_path)
    memory = Memory(set())
    rows(tmp_path, 1, 2, 3)
    noted: list[Any] = []
    real = memory.log

    def watched(stage: str, step: int, time_s: float, values: Mapping[str, float]) -> None:
        noted.append(read_json(tmp_path / "trackers/memory.json")["stages"]["rl"]["step"])
        real(stage, step, time_s, values)

    memory.log = watched  # type: ignore[method-assign]
    follower(tmp_path, memory).send()
    assert noted == [3, 3, 3]


def test_a_failure_is_told_once_and_the_rest_is_sent_later(tmp_path: Path) -> None:
    begin(tmp_path)
    rows(tmp_path, 1, 2, 3, 4)
    memory, said = Memory({2, 3}), list[str]()
    one = follower(tmp_path, memory)
    thread = Sending(one, said.append, every_s=0.02)
    thread.start()
    for _ in range(500):
        thread.join(0.02)
        if len(memory.losses()) >= 4:
            break
    thread.end("done")
    thread.join(5)
    assert memory.losses() == [1, 2, 3, 4]
    assert said == ["tracker memory failed (OSError: the server is away); training goes on, it is tried again"]
    assert read_json(tmp_path / "trackers/memory.json")["failures"] == 2
    assert memory.closed == ["done"]


def test_a_tracker_that_never_works_says_what_it_lacks(tmp_path: Path) -> None:
    begin(tmp_path)
    rows(tmp_path, 1, 2, 3)
    memory, said = Memory({1}), list[str]()

    class Dead(set[int]):
        def remove(self, element: int) -> None: ...

    memory.fails = Dead({1})
    thread = Sending(follower(tmp_path, memory), said.append, every_s=0.02)
    thread.end("done")
    thread.run()
    assert said[-1].startswith("tracker memory: 3 rows of metrics are not there after ")


def test_a_stage_that_is_run_anew_makes_another_run_of_the_tracker(tmp_path: Path) -> None:
    begin(tmp_path, "warmup")
    begin(tmp_path)
    rows(tmp_path, 1, stage="warmup")
    rows(tmp_path, 1, 2)
    memory = Memory(set())
    follower(tmp_path, memory).send()
    begin(tmp_path, begun="2026-01-02")
    rows(tmp_path, 1, again=True)
    follower(tmp_path, memory).send()
    assert memory.opened == [(None, 0), (None, 0)]
    assert memory.losses() == [1, 2, 1]
    assert [step for name, step, _ in memory.got if name == "warmup/loss"] == [1, 1]


def test_another_project_is_another_run(tmp_path: Path) -> None:
    begin(tmp_path)
    rows(tmp_path, 1)
    memory = Memory(set())
    follower(tmp_path, memory).send()
    follower(tmp_path, memory, {"kind": "memory", "uri": None}).send()
    assert memory.opened == [(None, 0), (None, 0)] and memory.losses() == [1, 1]


def test_trips_benchmarks_results_and_the_page_are_sent_once(tmp_path: Path) -> None:
    begin(tmp_path)
    rows(tmp_path, 1, 2)
    trip(tmp_path, 2)
    cell = {"accuracy": 0.25, "low": 0.1, "high": 0.5, "n": 12, "unscored": 0, "correct": [True], "by_category": {}}
    cells = {"base": {"svamp": cell | {"vote": {"accuracy": 0.5, "samples": 8}}}, "rl": {"svamp": {"accuracy": None}}}
    memory = Memory(set())
    for _ in range(2):
        finish(tmp_path, {"steps": 2, "stopped": "", "results": cells})
        (tmp_path / "report.html").write_text("page")
        one = follower(tmp_path, memory)
        one.send()
        one.finish("done")
    got = {name: value for name, _, value in memory.got}
    assert len(got) == len(memory.got) - 1  # the loss of two steps
    assert got["rl/event/gap"] == 1 and memory.notes == ["rl 2 gap: it grew (warn)"]
    assert got["evaluation/base/svamp/accuracy"] == 0.25 and got["evaluation/base/svamp/vote/accuracy"] == 0.5
    assert got["rl/result/steps"] == 2
    assert not any(name.startswith("evaluation/rl") for name in got)  # not measured is not zero
    assert memory.pages == [tmp_path / "report.html"]


def test_secrets_go_nowhere(tmp_path: Path) -> None:
    begin(tmp_path)
    memory = Memory(set())
    follower(tmp_path, memory).send()
    assert memory.about is not None and memory.about.recipe["rewards"]["judge"]["api_key"] == "[redacted]"
    assert "hunter22" not in (tmp_path / "trackers/memory.json").read_text()
    assert "sk-proj" not in json.dumps(memory.about.recipe) + memory.about.text


def test_names_and_values() -> None:
    row = {"step": 3, "time_s": 9.0, "a": 1, "b/c": float("nan"), "d": {"e <é>": 2.5, "f": None}, "g": "x", "h": [1]}
    assert flat("rl", row) == {"rl/a": 1.0, "rl/d/e ___": 2.5}
    assert flat_settings({"a": [{"b": 1}, 2], "c": None, "d": {}}) == {"a.0.b": 1, "a.1": 2}


def test_a_second_tracker_of_a_kind_has_a_file_of_its_own(tmp_path: Path) -> None:
    kinds = [{"kind": kind} for kind in ("mlflow", "wandb", "mlflow")]
    assert [one.name for one in followers(kinds, tmp_path)] == ["mlflow", "wandb", "mlflow-2"]


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()  # what wandb itself leaves behind is no package
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, "wandb", raising=False)
    with pytest.raises(RecipeError, match=r"^trackers.0: wandb is not installed; pip install 'yonder-rl\[trackers\]'"):
        require_trackers([WandbSettings(kind="wandb")])
