"""An upload to a hub on this machine, by the hub's own client in a process of its own (here it is offline)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exporting.hub import Hub
from tests.running import running
from yonder.errors import RecipeError
from yonder.exporting.push import check_name

TOKEN = "hf_notARealToken12345"


def pushed(folder: Path, hub: Hub, public: bool = False) -> subprocess.CompletedProcess[str]:
    script = (
        "import sys; from pathlib import Path\n"
        "from yonder.commands.endings import guarded; from yonder.exporting.push import push\n"
        "guarded(lambda: print(push(Path(sys.argv[1]), 'me/student', sys.argv[2] == 'True')))"
    )
    environment = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(folder.parent / "home"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", script, str(folder), str(public)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "export"
    path.mkdir()
    (path / "README.md").write_text("# card")
    (path / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    return path


def test_all_files_go_to_a_private_repository_and_once_more(folder: Path) -> None:
    with running(Hub()) as hub:
        for text in ("# card", "# another"):
            (folder / "README.md").write_text(text)
            done = pushed(folder, hub)
            assert done.returncode == 0, done.stderr
            assert done.stdout.splitlines()[-1] == f"{hub.url}/me/student"
            assert hub.files["README.md"].decode() == text
        assert hub.repositories == {"me/student": True}
        assert hub.files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
        assert hub.tokens == {f"Bearer {TOKEN}"}


def test_nothing_goes_to_a_public_repository_unless_it_is_said(folder: Path) -> None:
    with running(Hub()) as hub:
        hub.repositories["me/student"] = False
        refused = pushed(folder, hub)
        assert refused.returncode == 2
        assert "me/student is there and public; say --public" in refused.stderr
        assert hub.files == {}
        assert pushed(folder, hub, public=True).returncode == 0
        assert set(hub.files) == {"README.md", "model.safetensors"}


def test_a_hub_that_is_away_is_one_sentence(folder: Path) -> None:
    with running(Hub()) as hub:
        pass
    refused = pushed(folder, hub)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "was exported but me/student at http://127.0.0.1" in refused.stderr


@pytest.mark.parametrize("name", ["student", "me/", "me/stu dent", "https://huggingface.co/me/student"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="write --push OWNER/NAME"):
        check_name(name)
