"""Real faults of a real process: signals, a disk that is full, one that cannot be written."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.pipeline.test_resuming import every_stage
from tests.slow.kills import outcome

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def command(recipe: Path, output: Path) -> list[str]:
    """The run as a user starts it."""
    return [sys.executable, "-m", "yonder", "run", str(recipe), f"output_dir={output}"]


def finish(recipe: Path, output: Path) -> str:
    """Run to the end; returns what was said."""
    done = subprocess.run(command(recipe, output), capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stderr


def whole_run(tmp_path: Path, **stage: object) -> Path:
    """A recipe, and its unbroken run in `whole`."""
    path = every_stage(tmp_path)
    tree = yaml.safe_load(path.read_text())
    tree["stages"][1] |= stage
    path.write_text(yaml.safe_dump(tree))
    finish(path, tmp_path / "whole")
    return path


def hearing() -> None:
    """SIGINT is heard also where the tests themselves run in the background, in which shells have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(recipe: Path, output: Path, rows: int) -> subprocess.Popen[str]:
    """A run whose stage `rl` has made so many iterations."""
    process = subprocess.Popen(
        command(recipe, output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=hearing
    )
    metrics, deadline = output / "stages/rl/metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.is_file() and len(metrics.read_text().splitlines()) >= rows:
            break
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_and_the_same_command_continues(tmp_path: Path, number: int) -> None:
    recipe, broken = whole_run(tmp_path, steps=200, save_every=100), tmp_path / "broken"
    process = started(recipe, broken, 3)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    last = said.strip().splitlines()[-1]
    found = re.fullmatch(r"yonder: rl: saved at step (\d+); stopped as asked, nothing is lost, .* continues", last)
    assert found, said
    assert f"yonder: {signal.Signals(number).name}: this step is finished and saved; once more ends at once" in said
    assert f"rl: resumed at step {found[1]}" in finish(recipe, broken)
    assert outcome(tmp_path / "whole") == outcome(broken)


def test_the_second_signal_ends_at_once_and_nothing_is_torn(tmp_path: Path) -> None:
    recipe, broken = whole_run(tmp_path, steps=200, save_every=4), tmp_path / "broken"
    process = started(recipe, broken, 5)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, 75), said  # 75: the step was over before the second came
    assert "Traceback" not in said
    finish(recipe, broken)
    assert outcome(tmp_path / "whole") == outcome(broken)


IN_NAMESPACE = """
mount -t tmpfs -o {options} tmpfs {disk} || exit 99
{first}
echo "exit $?" >&2
for megabytes in {sizes}; do
    mount -o remount,rw,size=${{megabytes}}00k {disk} || exit 99
    {first} && cp -r {disk}/run {out} && exit 0
    echo "exit $?" >&2
done
"""


def on_small_disk(tmp_path: Path, recipe: Path, options: str, sizes: str) -> str:
    """Run on a tmpfs of its own that then grows, by 100 kB units in `sizes`, until the run is done; all that was
    said."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux)")
    disk = tmp_path / "disk"
    disk.mkdir()
    line = " ".join(command(recipe, disk / "run"))
    script = IN_NAMESPACE.format(options=options, disk=disk, first=line, sizes=sizes, out=tmp_path / "broken")
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True, text=True, check=False, timeout=600, env=environment, cwd=ROOT,
    )  # fmt: skip
    if done.returncode in (1, 99) and "exit" not in done.stderr:
        pytest.skip(f"no mounts of its own here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    recipe = whole_run(tmp_path)
    used = sum(path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file()) // 100_000
    sizes = " ".join(str(used * share // 10) for share in (2, 4, 6, 8, 9)) + f" {used * 4}"
    said = on_small_disk(tmp_path, recipe, "size=50k", sizes)
    complaints = [line for line in said.splitlines() if line.startswith("yonder: ")]
    assert len(complaints) == said.count("exit 2") >= 4, said
    assert all("disk space" in line and "No space left on device" in line for line in complaints), said
    assert "Traceback" not in said
    assert "inline_container" not in said
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "broken")


def test_a_disk_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    recipe = whole_run(tmp_path)
    said = on_small_disk(tmp_path, recipe, "size=64m,ro", "640")
    (complaint,) = [line for line in said.splitlines() if line.startswith("yonder: ")]
    assert complaint.endswith("/disk/run cannot be made (Read-only file system); change output_dir")
    assert "Traceback" not in said
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "broken")
