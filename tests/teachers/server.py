"""A small server of a teacher that misbehaves on order and counts what it answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.running import running

FUNCTION = "```python\ndef solution():\n    return {number}\n```"
SENTENCE = "The answer is {number}."


class Teacher(ThreadingHTTPServer):
    """The i-th request gets `faults[i]`; every good answer says its own number."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.models = ["teacher"]
        self.faults: list[str] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.keys: list[str | None] = []
        self.answered = 0
        self.pause_s = 0.0
        self.writes = SENTENCE
        self.says: Callable[[str, int], str] | None = None  # of the question's text and the answer's number
        self.usage: dict[str, int] | None = {"prompt_tokens": 50, "completion_tokens": 10}
        self.refuses = ""  # status 400 for questions with it
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    server: Teacher

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        if self.path != "/v1/models" or not self.server.models:
            self.reply(404, {"error": "no such path"})
        else:
            self.reply(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        with server.lock:
            number = len(server.asked)
            server.asked.append((self.path, body))
            server.keys.append(self.headers.get("Authorization"))
        fault = server.faults[number] if number < len(server.faults) else ""
        time.sleep(server.pause_s)
        text = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        if fault == "reset":
            self.connection.close()
        elif fault.isdigit():
            self.reply(int(fault), {"error": f"fault {fault}"})
        elif fault == "half":
            self.reply(200, {"choices": []})
        elif server.refuses and server.refuses in text:
            self.reply(400, {"error": "too long for me"})
        elif fault == "old limit":
            self.reply(400, {"error": "Unsupported parameter: use 'max_completion_tokens' instead"})
        else:
            self.answer(body, text)

    def answer(self, body: dict[str, Any], text: str) -> None:
        with self.server.lock:
            number, says = self.server.answered, self.server.says
            written = self.server.writes.replace("{number}", str(number)) if says is None else says(text, number)
            self.server.answered += 1
        choice = {"message": {"content": written}} if "messages" in body else {"text": written}
        usage = {} if self.server.usage is None else {"usage": self.server.usage}
        self.reply(200, {"choices": [choice | {"index": 0, "finish_reason": "stop"}], **usage})

    def reply(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def serving() -> AbstractContextManager[Teacher]:
    """A server on a free port."""
    return running(Teacher())
