"""A server with vLLM's routes as rollouts use them, over a real tiny model; it misbehaves on order."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.running import running
from yonder.models.policy import Policy


class LikeVLLM(ThreadingHTTPServer):
    """Serves a copy of a policy's architecture with its head on its own, as vLLM does where told to."""

    daemon_threads = True

    def __init__(self, like: Policy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        config = LlamaConfig.from_dict(like.model.config.to_dict() | {"tie_word_embeddings": False})
        self.model = LlamaForCausalLM(config).eval()  # other weights than the policy's
        self.at_start = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.lock = threading.Lock()
        self.generator = torch.Generator().manual_seed(0)
        self.weights = "default"
        self.paused = False
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.versions: list[str] = []  # of the weights behind each completion
        self.room = 64
        self.dev_mode = True
        self.raw = False  # log-probs from before the temperature
        self.keeps_head = False
        self.cannot_read = False
        self.off: float = 0.0  # added to log-probs
        self.restart_at: set[int] = set()  # numbers of completion requests before which it is started again
        self.down = False
        self.busy = 0  # times that the prefix cache cannot be emptied

    def restart(self) -> None:
        self.model.load_state_dict(self.at_start)
        self.weights, self.paused = "default", False

    def load(self, folder: Path) -> None:
        tensors: dict[str, torch.Tensor] = {}
        for path in sorted(folder.glob("*.safetensors")):
            tensors |= load_file(path)
        if self.keeps_head:
            del tensors["lm_head.weight"]
        missing = self.model.load_state_dict(tensors, strict=False).missing_keys
        assert missing == (["lm_head.weight"] if self.keeps_head else [])

    @torch.no_grad()
    def complete(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        count, start = body.get("n", 1), len(body["prompt"])
        ids = torch.tensor([body["prompt"]] * count)
        logprobs = torch.zeros(count, 0)
        for _ in range(body["max_tokens"]):
            logits = self.model(input_ids=ids).logits[:, -1]
            hot = (logits / (body["temperature"] or 1.0)).log_softmax(-1)
            drawn = torch.multinomial(hot.exp(), 1, generator=self.generator)
            tokens = drawn if body["temperature"] else hot.argmax(-1, keepdim=True)
            given = (logits.log_softmax(-1) if self.raw else hot).gather(1, tokens)
            ids, logprobs = torch.cat([ids, tokens], 1), torch.cat([logprobs, given + self.off], 1)
        choices: list[dict[str, Any]] = []
        for index, (made, values) in enumerate(zip(ids[:, start:].tolist(), logprobs.tolist(), strict=True)):
            end = next((i + 1 for i, token in enumerate(made) if token in body.get("stop_token_ids", [])), None)
            choice = {"index": index, "token_ids": made[:end], "finish_reason": "length" if end is None else "stop"}
            choices.append(choice | {"logprobs": {"token_logprobs": values[:end]}})
        return choices


class _Handler(BaseHTTPRequestHandler):
    server: LikeVLLM

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def reply(self, body: Any, status: int = 200) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        if self.server.down:
            self.connection.close()
        elif self.path == "/v1/models":
            self.reply({"data": [{"id": "policy", "max_model_len": self.server.room}]})
        elif self.path == "/weight_info" and self.server.dev_mode:
            self.reply({"weight_version": self.server.weights})
        else:
            self.reply({"detail": "Not Found"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.down:
            self.connection.close()
            return
        with self.server.lock:
            self.server.asked.append((self.path, body))
            self.answer(self.path.partition("?")[0], body)

    def answer(self, path: str, body: dict[str, Any]) -> None:
        server = self.server
        if path == "/v1/completions":
            if max(body["prompt"]) >= server.model.config.vocab_size:
                self.reply({"error": f"Token id {max(body['prompt'])} is out of vocabulary"}, 400)
                return
            if len(server.versions) in server.restart_at:
                server.restart_at.remove(len(server.versions))
                server.restart()
            assert not server.paused
            if body["max_tokens"] > 1:
                server.versions.append(server.weights)
            self.reply({"choices": server.complete(body), "usage": {}})
        elif path == "/pause":
            server.paused = True
            self.reply({})
        elif path == "/resume":
            server.paused = False
            self.reply({})
        elif path == "/collective_rpc" and body["method"] == "update_config":
            self.reply({})
        elif path == "/collective_rpc":
            assert server.paused
            folder = Path(body["kwargs"]["weights_path"])
            if server.cannot_read:
                self.reply({"error": f"no weights in {folder}"}, 500)
                return
            server.load(folder)
            self.reply({})
        elif path == "/update_weight_version":
            server.weights = body["new_version"]
            self.reply({})
        elif path == "/reset_prefix_cache":
            server.busy -= 1
            self.reply({"success": server.busy < 0})
        else:
            self.reply({"detail": "Not Found"}, 404)


@contextmanager
def serving(like: Policy) -> Generator[LikeVLLM]:
    """A running server."""
    with running(LikeVLLM(like)) as server:
        yield server
