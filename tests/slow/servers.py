"""Real judge servers for the slow tests, each in its own environment (tools/install_peers.py)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2] / ".servers"
PATIENCE_S = 480


class Server:
    """A server process on a free port of this machine."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [*command, "--host", "127.0.0.1", "--port", str(self.port)]
        self.environment = os.environ | (environment or {})
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> None:
        """Start it; with `wait`, until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.environment, cwd=self.log.parent, start_new_session=True
            )
        end = time.monotonic() + PATIENCE_S
        while wait and not self.answers():
            assert self.process.poll() is None, f"the server ended:\n{self.log.read_text()[-3000:]}"
            assert time.monotonic() < end, f"the server did not answer:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.5)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/v1/models", timeout=2) as response:
                return response.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """End it and its children at once, without a word."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)


def python_of(name: str) -> str:
    """The interpreter of a server's environment; a missing one is a reason to skip."""
    python = HOME / name / "bin" / "python"
    if not (HOME / name / ".complete").exists():
        pytest.skip(f"{name} is not installed; `python tools/install_peers.py {name}` does it")
    return str(python)


def vllm(model: Path, log: Path, length: int = 1024) -> Server:
    """vLLM on the CPU; `length`: of the longest prompt and answer, in tokens."""
    command = [python_of("vllm"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "judge", "--dtype", "float32", "--max-model-len", str(length), "--enforce-eager"]
    command += ["--max-logprobs", "2000"]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    return Server(command, log, environment)


def vllm_policy(model: Path, log: Path) -> Server:
    """vLLM on the CPU for rollouts, as docs/rollouts.md says."""
    command = [python_of("vllm"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "policy", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager"]
    command += ["--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    return Server(command, log, environment | {"VLLM_SERVER_DEV_MODE": "1"})


def llama_cpp(model: Path, log: Path) -> Server:
    """The server of llama-cpp-python on a GGUF file; `type_k 0`: key-value cache in fp32."""
    gguf = log.parent / "judge.gguf"
    writer = Path(__file__).parent / "write_gguf.py"
    subprocess.run([python_of("llama-cpp"), str(writer), str(model), str(gguf)], check=True, timeout=120)
    command = [python_of("llama-cpp"), "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias", "judge"]
    command += ["--n_ctx", "1024", "--logits_all", "true", "--n_threads", "2", "--type_k", "0", "--type_v", "0"]
    return Server(command, log)
