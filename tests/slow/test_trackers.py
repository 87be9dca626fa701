"""The real trackers, in an environment of their own: tests/trackers/test_kinds.py, none skipped."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.slow.servers import python_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def test_every_tracker_gets_every_step_once() -> None:
    """Offline; read back; a run of each killed and gone on with."""
    command = [python_of("trackers"), "-m", "pytest", "tests/trackers/test_kinds.py", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "8 passed" in done.stdout and "skipped" not in done.stdout
