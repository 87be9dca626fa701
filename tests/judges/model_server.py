"""A judge server with a real model behind the routes of vLLM, SGLang, both llama.cpp servers and a chat API."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from tests.running import running
from yonder.models.loading import load_causal_lm, load_tokenizer


class ModelServer(ThreadingHTTPServer):
    """Serves `yonder:judge`, one request after the other."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tokenizer = load_tokenizer("yonder:judge")
        self.network = load_causal_lm("yonder:judge", self.tokenizer, "float32", torch.device("cpu"), "none")
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.by_id = True  # vLLM honours `logprob_token_ids`
        self.plain = False  # it ignores what only vLLM knows, and names tokens by their texts
        self.native = True  # llama-server rather than llama-cpp-python
        self.hidden: set[int] = set()  # tokens that are never among the largest
        self.shift = 0.0  # added to all log-probs
        self.says: list[str] = ["7"]  # sampled answers, in turn
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def logprobs(self, ids: Sequence[int]) -> list[float]:
        """Of every next token."""
        with torch.no_grad():
            logits = self.network(torch.tensor([list(ids)])).logits[0, -1].float()
        return [float(x) + self.shift for x in logits.log_softmax(-1)]

    def largest(self, ids: Sequence[int], count: int) -> dict[int, float]:
        values = self.logprobs(ids)
        shown = [i for i in range(len(values)) if i not in self.hidden]
        return {i: values[i] for i in sorted(shown, key=lambda i: -values[i])[:count]}

    def named(self, text: str, count: int) -> dict[str, float]:
        """The largest after a text, by the tokens' texts."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return {str(self.tokenizer.decode([i])): value for i, value in self.largest(ids, count).items()}

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if path == "/v1/completions" and isinstance(body["prompt"], str):
            tops = self.named(body["prompt"], body["logprobs"]) if "logprobs" in body else {}
            return {"choices": [{"logprobs": {"top_logprobs": [tops]}}], "usage": {"prompt_tokens": 2}}
        if path == "/v1/completions":
            return {
                "choices": [
                    {"index": i, "logprobs": {"top_logprobs": [self.by_tokens(ids, body)]}}
                    for i, ids in enumerate(body["prompt"])
                ],
                "usage": {"prompt_tokens": sum(map(len, body["prompt"])), "completion_tokens": len(body["prompt"])},
            }
        if path == "/completion" and self.native:
            entries = [{"id": i, "logprob": x} for i, x in self.largest(body["prompt"], body["n_probs"]).items()]
            return {"completion_probabilities": [{"top_logprobs": entries}]}
        if path == "/v1/score":
            rows = [self.logprobs(ids) for ids in body["items"]]
            return {"scores": [torch.tensor(row).exp()[body["label_token_ids"]].tolist() for row in rows]}
        if path == "/v1/chat/completions":
            return self.chat(body)
        return None

    def by_tokens(self, ids: list[int], body: dict[str, Any]) -> dict[str, float]:
        wanted = body.get("logprob_token_ids") if self.by_id else None
        values = self.logprobs(ids)
        found = {i: values[i] for i in wanted} if wanted else self.largest(ids, body["logprobs"])
        return {str(self.tokenizer.decode([i])) if self.plain else f"token_id:{i}": x for i, x in found.items()}

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """A turn that ends in a space, as the model's tokenizer would have one before a digit."""
        if body.get("logprobs"):
            tops = self.named(f"{body['messages'][0]['content']} ", body["top_logprobs"])
            entries = [{"token": name, "logprob": value} for name, value in tops.items()]
            return {"choices": [{"logprobs": {"content": [{"top_logprobs": entries}]}}]}
        with self.lock:
            given = [self.says[i % len(self.says)] for i in range(body["n"])]
        return {"choices": [{"message": {"content": text}} for text in given]}


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.asked.append((self.path, body))
        answer = self.server.answer(self.path, body)
        data = json.dumps(answer if answer is not None else "no such path").encode()
        self.send_response(200 if answer is not None else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def serving_model() -> AbstractContextManager[ModelServer]:
    """A server on a free port."""
    return running(ModelServer())
