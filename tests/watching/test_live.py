"""When a page is made again, and which runs are found."""

import gzip
import json
import os
from pathlib import Path

import pytest

from tests.reporting.fixture import build_run, write, write_json
from tests.reporting.sweep_fixture import build_sweep
from yonder.errors import StorageError
from yonder.storage import only_one
from yonder.watching.folders import find_runs, held, refuse_files, signature
from yonder.watching.live import Live


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def test_a_page_is_made_when_files_change_and_not_before_its_time(tmp_path: Path) -> None:
    run = build_run(tmp_path / "one", steps=6)
    metrics = run / "stages/distill-judge/metrics.jsonl"
    now, used = [0.0], iter([0.0, 0.5] * 10)  # each page uses half a second of a core: at 5 % one in 10 s
    live = Live([run], every_s=5.0, clock=lambda: now[0], used=lambda: next(used))
    first = live.made()
    assert first.version == live.status()["version"] != ""
    now[0] = 20.0
    assert live.made() is first  # nothing has changed
    append(metrics, '{"step": 8, "loss": 3.25}\n{"step": 10, "lo')  # a torn last line
    now[0] = 22.0
    second = live.made()
    assert second is not first and second.version == live.status()["version"] != first.version
    append(metrics, 'ss": 4.5}\n')
    now[0] = 31.9
    assert live.status()["version"] == second.version and live.made() is second  # 9.9 s after the second
    now[0] = 33.0
    assert live.status()["version"] != second.version
    third = json.loads(gzip.decompress(live.made().twin))
    curve = next(c for c in third["curves"] if third["runs"][0]["stages"][c["stage"]]["name"] == "distill-judge")
    assert curve["series"]["loss"]["y"][-2:] == [3.25, 4.5]


def test_nothing_is_read_while_nobody_asks(tmp_path: Path) -> None:
    run = build_run(tmp_path / "one", steps=6)
    live = Live([run], every_s=0.0)
    live.status()
    assert live._made.version == ""  # no page for a status


def test_runs_below_a_folder(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    write_json(sweep / "sweep.json", {"format": 1})
    write_json(sweep / "summary.json", {})  # a sweep may leave what looks like a run
    for name in ("mu-0/seed-0", "mu-0/seed-1", "mu-1/seed-0"):
        write_json(sweep / name / "card.json", {})
        write_json(sweep / name / "stages/one/checkpoints/step-1/policy/card.json", {})
    (sweep / "link").symlink_to(sweep / "mu-0")
    write_json(sweep / ".replaced/old/card.json", {})
    assert [run.label for run in find_runs([sweep])] == ["mu-0/seed-0", "mu-0/seed-1", "mu-1/seed-0"]
    one = sweep / "mu-0/seed-1"
    assert [run.label for run in find_runs([one, sweep])] == ["seed-1", "mu-0/seed-0", "mu-1/seed-0"]  # once each
    twins = [sweep / "mu-0/seed-0", sweep / "mu-1/seed-0"]
    assert [run.label for run in find_runs(twins)] == ["seed-0", str(twins[1])]
    live = Live([sweep])
    facts = json.loads(gzip.decompress(live.made().twin))
    assert [run["label"] for run in facts["runs"]] == ["mu-0/seed-0", "mu-0/seed-1", "mu-1/seed-0"]
    assert live.status()["line"] == "3 runs: 3 running"  # written a moment ago, and not ended


def test_a_sweep_is_shown_as_one_and_anew_when_its_table_changes(tmp_path: Path) -> None:
    sweep = build_sweep(tmp_path / "sweep", rows=2, seeds=2, steps=10)
    live = Live([sweep], every_s=0.0, used=lambda: 0.0)
    first = live.made()
    facts = json.loads(gzip.decompress(first.twin))
    assert [row["name"] for row in facts["sweep"]["rows"]] == [
        row["name"] for row in json.loads((sweep / "sweep.json").read_text())["rows"]
    ]
    write(sweep / "sweep.json", (sweep / "sweep.json").read_text() + " ")
    assert live.made().version != first.version


@pytest.mark.parametrize(
    "name",
    ["recipe.yaml", "summary.json", "stages/table/stage.json", "stages/check/judge_check.json",
     "stages/distill-judge/metrics.jsonl", "stages/distill-judge/events.jsonl",
     "stages/distill-judge/rollouts-00000007.jsonl.zst"],
)  # fmt: skip
def test_every_shown_file_counts(tmp_path: Path, name: str) -> None:
    run = build_run(tmp_path / "one", steps=6)
    before = signature(find_runs([run]))
    write(run / "stages/distill-judge/checkpoints/step-1/x", "not shown")
    assert signature(find_runs([run])) == before
    append(run / name, " ")
    assert signature(find_runs([run])) != before


def test_whether_somebody_works_there_is_seen_without_taking_the_lock(tmp_path: Path) -> None:
    if not Path("/proc/locks").exists():
        pytest.skip("needs /proc/locks")
    run = tmp_path / "one"
    assert not held(run)
    with only_one(run):
        assert held(run)
        inode = (run / ".lock").stat().st_ino
        locks = tmp_path / "locks"
        write(locks, Path("/proc/locks").read_text().replace(f":{inode} ", f":{inode}9 "))
        assert not held(run, locks)  # another file's
        assert not held(run, tmp_path / "no such list")
    assert not held(run)
    with only_one(run):
        pass


def test_a_file_is_no_run(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", "{}")
    with pytest.raises(StorageError, match=r"metrics.jsonl is a file; give a run directory"):
        refuse_files([tmp_path, tmp_path / "metrics.jsonl"])
    refuse_files([tmp_path / "not yet"])


def test_a_run_that_goes_away_leaves_the_others(tmp_path: Path) -> None:
    one, two = build_run(tmp_path / "one", steps=6), build_run(tmp_path / "two", steps=6)
    live = Live([tmp_path], every_s=0.0, used=lambda: 0.0)
    assert len(json.loads(gzip.decompress(live.made().twin))["runs"]) == 2
    os.rename(two, tmp_path / ".gone")
    assert [run["label"] for run in json.loads(gzip.decompress(live.made().twin))["runs"]] == [one.name]
