"""A judge server that misbehaves on order: every fault of a real one, at a known request."""

from __future__ import annotations

import json
import threading
import time
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.running import running


class Faulty(ThreadingHTTPServer):
    """Answers `/v1/score`; `faults[i]` spoils the i-th request, later ones are answered well. The chat and completion
    routes answer the same to everything."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.headers_seen: list[dict[str, str]] = []
        self.opposite = False  # Yes for No
        self.retry_after = "0"
        self.delay_s = 0.0  # before every answer
        self.vote = "Yes"
        self.adds_bos = True  # before text prompts
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Faulty

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            number = len(self.server.asked)
            self.server.asked.append(body)
            self.server.headers_seen.append(dict(self.headers))
        time.sleep(self.server.delay_s)
        fault = self.server.faults[number] if number < len(self.server.faults) else ""
        if fault == "reset":
            self.connection.close()
            return
        if fault == "hang":
            time.sleep(1.5)
        if fault.isdigit():
            self.reply(int(fault), json.dumps({"error": f"fault {fault}"}), {"Retry-After": self.server.retry_after})
            return
        if self.path in ("/v1/chat/completions", "/v1/completions"):
            self.reply(200, json.dumps(self.written(body)))
            return
        if self.path != "/v1/score":
            self.reply(404, "no such path")
            return
        rows = [scores(item)[:: -1 if self.server.opposite else 1] for item in body["items"]]
        if fault == "missing labels":
            rows = [[0.0, 0.0] for _ in rows]
        if fault == "one label":
            rows = [[yes, 0.0] for yes, _ in rows]
        if fault == "NaN":
            rows = [[float("nan"), no] for _, no in rows]
        if fault == "too few":
            rows = rows[:-1]
        text = json.dumps({"scores": rows, "usage": {"prompt_tokens": sum(map(len, body["items"]))}})
        self.reply(200, text[: len(text) // 2] if fault == "half" else text)

    def written(self, body: dict[str, Any]) -> dict[str, Any]:
        """What the routes answer that write: a vote, or log-probs by text and, for prompts of token ids, by id."""
        prompt, tops = body.get("prompt"), {" Yes": -0.5, " No": -1.5}
        if isinstance(prompt, list):
            by_id = {f"token_id:{i}": -1.0 for i in body["logprob_token_ids"]}
            return {"choices": [{"index": i, "logprobs": {"top_logprobs": [by_id]}} for i in range(len(prompt))]}
        entries = [{"token": name, "logprob": value} for name, value in tops.items()]
        logprobs = {"content": [{"top_logprobs": entries}], "top_logprobs": [tops]}
        choices = [{"message": {"content": self.server.vote}, "logprobs": logprobs} for _ in range(body.get("n", 1))]
        return {"choices": choices, "usage": {"prompt_tokens": 1 + self.server.adds_bos}}

    def reply(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def scores(ids: list[int]) -> list[float]:
    """P(yes) and P(no): a function of the prompt's tokens."""
    yes = (1 + sum(ids) % 97) / 100
    return [yes * 0.9, (1 - yes) * 0.9]


def serving() -> AbstractContextManager[Faulty]:
    """A server on a free port."""
    return running(Faulty())
