"""Install TRL for the slow test and the example, in an environment of its own: `.servers/trl`.

TRL is no dependency of ours. Yonder is installed beside it with the versions of `constraints.txt`, which suit both.
`python tools/install_trl.py`; an environment that is complete is left as it is.
"""

import subprocess
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".servers" / "trl"
TRL = "trl==1.16.*"


def main() -> None:
    """Make the environment, unless it is complete."""
    if (FOLDER / ".complete").exists():
        return
    print(f"installing {TRL} into {FOLDER}", flush=True)
    venv.create(FOLDER, with_pip=True)
    pip = [str(FOLDER / "bin" / "python"), "-m", "pip", "--quiet", "install"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, *constraints, TRL, "--editable", str(ROOT)], check=True)
    (FOLDER / ".complete").touch()


if __name__ == "__main__":
    main()
