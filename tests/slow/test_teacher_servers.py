"""Answers of a real vLLM and a real llama.cpp, through a proxy that counts: server or collecting process are killed in
mid-collection, and no answer is lost or asked for twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.slow import servers
from tests.slow.judge_model import save_judge
from yonder.data.responses import read_lines, read_responses
from yonder.pipeline.running import run
from yonder.recipe import load_recipe

pytestmark = pytest.mark.slow
QUESTIONS, SAMPLES, OPEN = 24, 4, 4
WANTED = QUESTIONS * SAMPLES


class Counting(ThreadingHTTPServer):
    """Hands requests on; a server that is gone is a connection that breaks."""

    daemon_threads = True

    def __init__(self, server: servers.Server) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server = server
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock = threading.Lock()
        self.asked: list[tuple[Any, ...]] = []
        self.answered: list[tuple[float, tuple[Any, ...], str]] = []  # when it was handed on, to what, the text
        self.broken = 0


class _Handler(BaseHTTPRequestHandler):
    server: Counting

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        self.hand_on(lambda: httpx2.get(self.server.server.url + self.path, timeout=60), None)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = request_key(body)
        with self.server.lock:
            self.server.asked.append(key)
        self.hand_on(lambda: httpx2.post(self.server.server.url + self.path, json=body, timeout=200), key)

    def hand_on(self, ask: Callable[[], httpx2.Response], key: tuple[Any, ...] | None) -> None:
        try:
            answer = ask()
        except httpx2.TransportError:
            with self.server.lock:
                self.server.broken += 1
            self.connection.close()
            return
        try:
            self.send_response(answer.status_code)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)
            self.wfile.flush()
        except OSError:  # the collecting process is gone
            return
        if key is not None and answer.status_code == 200:
            choice = answer.json()["choices"][0]
            text = choice["message"]["content"] if "message" in choice else choice["text"]
            with self.server.lock:
                self.server.answered.append((time.monotonic(), key, text))


def request_key(body: dict[str, Any]) -> tuple[Any, ...]:
    """What was asked: the text, the temperature, the seed."""
    return body.get("prompt") or body["messages"][0]["content"], body["temperature"], body.get("seed")


@pytest.fixture(scope="module", params=["vllm", "llama-cpp"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    model = save_judge(tmp_path_factory.mktemp("teacher"))
    start = servers.vllm if request.param == "vllm" else servers.llama_cpp
    server = start(model, tmp_path_factory.mktemp("server") / "log")
    server.start()
    yield request.param, server
    server.kill()


@pytest.fixture
def proxy(served: tuple[str, servers.Server]) -> Iterator[Counting]:
    found = Counting(served[1])
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


def write(folder: Path, backend: str, proxy: Counting) -> Path:
    """A recipe with one collect stage; llama.cpp goes on from the policy's prompt, vLLM is asked in a chat."""
    teacher = {
        "backend": backend, "model": "judge", "way": "chat" if backend == "vllm" else "completions", "max_tokens": 48,
        "server": {"urls": [proxy.url], "concurrency": OPEN, "timeout_s": 100, "deadline_s": 300},
    }  # fmt: skip
    stage = {"name": "answers", "kind": "collect", "data": "train", "samples": SAMPLES, "temperatures": [0.5, 1.0]}
    tree = {
        "output_dir": str(folder / "run"),
        "policy": {"model": {"family": "llama"}, "tokenizer": "yonder:tokenizer", "device": "cpu"},
        "task": {"format": "text"},
        "data": {"train": {"source": "gsm8k", "limit": QUESTIONS}},
        "stages": [stage | {"teacher": teacher}],
    }
    path = folder / "teacher.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def complete(folder: Path) -> list[dict[str, Any]]:
    """The rows of a collection that lacks nothing."""
    rows = read_lines(folder / "run/stages/answers/answers.jsonl")
    keys = Counter((row["prompt_id"], row["temperature"], row["index"]) for row in rows if row["text"] is not None)
    assert len(keys) == WANTED and set(keys.values()) == {1}
    assert len(rows) == WANTED
    responses = read_responses(folder / "run/stages/answers/responses.jsonl")
    assert [(r.prompt_id, r.temperature) for r in responses] == [
        (prompt, temperature)
        for prompt in dict.fromkeys(response.prompt_id for response in responses)
        for temperature in (0.5, 0.5, 1.0, 1.0)
    ]
    assert len(responses) == WANTED
    return rows


def test_a_collecting_process_is_killed_and_nothing_that_was_answered_is_lost(
    served: tuple[str, servers.Server], proxy: Counting, tmp_path: Path
) -> None:
    path = write(tmp_path, served[0], proxy)
    command = [sys.executable, "-m", "yonder", "run", str(path)]
    work = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(proxy.answered) >= WANTED // 3)
    work.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    work.wait()
    kept = read_lines(tmp_path / "run/stages/answers/answers.jsonl")
    assert WANTED // 3 - OPEN <= len(kept) < WANTED
    texts = Counter(row["text"] for row in kept)
    before = Counter(text for when, _, text in proxy.answered if when < killed - 0.1)
    assert before - texts == Counter()  # all that had come is there
    first = len(proxy.asked)
    assert first - len(kept) <= OPEN  # what was under way
    run(load_recipe(path))
    rows = complete(tmp_path)
    assert rows[: len(kept)] == kept
    assert len(proxy.asked) - first == WANTED - len(kept)
    again = Counter(proxy.asked[first:])
    if served[0] == "llama-cpp":  # each request has a seed of its own
        assert set(again.values()) == {1}
    print(f"{served[0]}: {len(kept)} kept, {first - len(kept)} under way, {len(proxy.asked) - first} asked after")


def test_a_server_is_killed_and_nothing_is_lost_or_asked_twice(
    served: tuple[str, servers.Server], proxy: Counting, tmp_path: Path
) -> None:
    backend, server = served
    path = write(tmp_path, backend, proxy)
    work = threading.Thread(target=lambda: run(load_recipe(path)))
    work.start()
    wait_for(lambda: len(proxy.answered) >= WANTED // 3)
    server.kill()
    at = len(proxy.answered)
    time.sleep(1.0)
    server.start()
    work.join(300)
    assert not work.is_alive()
    assert at < WANTED and proxy.broken > 0
    rows = complete(tmp_path)
    assert len(proxy.answered) == WANTED  # as many answers as were wanted, and each is there
    assert Counter(row["text"] for row in rows) == Counter(text for _, _, text in proxy.answered)
    given = Counter(key for _, key, _ in proxy.answered)
    assert set(given.values()) == ({SAMPLES // 2} if backend == "vllm" else {1})
    result = json.loads((tmp_path / "run/stages/answers/stage.json").read_text())["result"]
    assert result["unanswered"] == 0 and result["teacher_usage"]["retries"] > 0
    print(f"{backend}: {at} before the kill, {proxy.broken} broken, {len(proxy.answered)} answers in all")
