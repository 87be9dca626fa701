"""A module like `vllm`, as the engine inside this process uses it, over a real tiny model; it misbehaves on order."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


class Order:
    """What the next engine does wrong, and what was asked of the last one."""

    def __init__(self) -> None:
        self.keeps_head = False
        self.cannot_start = False
        self.cannot_take = False
        self.cache_stays = False
        self.old_version = False  # answers with the weights before
        self.forgets = False
        self.fewer = 0  # completions than asked for
        self.off: float = 0.0  # added to log-probs
        self.dies_after: int | None = None  # steps
        self.built: list[dict[str, Any]] = []
        self.engines: list[LLM] = []


ORDER = Order()


class SamplingParams(SimpleNamespace):
    """Keeps what it is given."""


class LLM:
    """As vLLM's: an engine with weights of its own, at first random ones, the head apart."""

    def __init__(self, **settings: Any) -> None:
        ORDER.built.append(settings)
        if ORDER.cannot_start:
            raise ValueError("No available memory for the cache blocks.\nTry more.")
        assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
        torch.manual_seed(settings["seed"])  # all of this as vLLM does on a CPU
        random.seed(settings["seed"])
        torch.set_num_threads = lambda count: None
        os.environ |= {"LD_PRELOAD": "libgomp.so", "LOCAL_WORLD_SIZE": "1", "VLLM_DIST_IDENT": "1"}
        config = AutoConfig.from_pretrained(settings["model"])
        AutoTokenizer.from_pretrained(settings["model"])
        config.tie_word_embeddings = False
        self.model: Any = AutoModelForCausalLM.from_config(config).eval()
        self.llm_engine = self
        self.version = "default"
        self.waiting: dict[str, tuple[list[int], Any]] = {}
        self.calls: list[str] = []
        self.aborted: list[str] = []
        self.asleep = False
        ORDER.engines.append(self)

    def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> None:
        assert method == "reload_weights"
        assert not self.asleep
        given: Iterable[tuple[str, torch.Tensor]] = kwargs["weights_iterator"]
        if ORDER.cannot_take:
            raise KeyError("model.layers.0.unknown")
        tensors = {name: tensor.clone() for name, tensor in given}
        if ORDER.keeps_head:
            del tensors["lm_head.weight"]
        missing = self.model.load_state_dict(tensors, strict=False).missing_keys
        assert missing == (["lm_head.weight"] if ORDER.keeps_head else [])
        self.calls.append("load")

    def reset_prefix_cache(self) -> bool:
        self.calls.append("reset")
        return not ORDER.cache_stays

    def set_weight_version(self, version: str) -> None:
        if not ORDER.old_version:
            self.version = version

    def sleep(self, level: int) -> None:
        assert level == 1
        self.asleep = True
        self.calls.append("sleep")

    def wake_up(self) -> None:
        self.asleep = False
        self.calls.append("wake")

    def add_request(self, name: str, prompt: dict[str, list[int]], settings: Any) -> None:
        assert not self.asleep
        assert name not in self.waiting
        self.waiting[name] = (prompt["prompt_token_ids"], settings)

    def has_unfinished_requests(self) -> bool:
        return bool(self.waiting)

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names
        for name in names:
            self.waiting.pop(name, None)

    def step(self) -> list[Any]:
        """The newest request, whole: not in the order asked."""
        if ORDER.dies_after is not None:
            ORDER.dies_after -= 1
            if ORDER.dies_after < 0:
                raise RuntimeError("the engine died")
        if ORDER.forgets:
            self.waiting.clear()
            return []
        name = list(self.waiting)[-1]
        prompt, settings = self.waiting.pop(name)
        self.calls.append("answer")
        spans = [SimpleNamespace(version=self.version, start=0, end=1)]
        made = [
            SimpleNamespace(index=i, weight_versions=spans, **self.write(prompt, settings))
            for i in range(settings.n - ORDER.fewer)
        ]
        return [SimpleNamespace(request_id=name, outputs=made[::-1], finished=True)]

    @torch.no_grad()
    def write(self, prompt: list[int], settings: Any) -> dict[str, Any]:
        """One completion, drawn from torch's own random numbers."""
        ids, rows = list(prompt), list[dict[int, Any]]()
        reason = "length"
        while len(rows) < settings.max_tokens:
            logits = self.model(input_ids=torch.tensor([ids])).logits[0, -1]
            hot = (logits / (settings.temperature or 1.0)).log_softmax(-1)
            token = int(torch.multinomial(hot.exp(), 1)) if settings.temperature else int(hot.argmax())
            ids.append(token)
            rows.append({token: SimpleNamespace(logprob=float(hot[token]) + ORDER.off)})
            if token in settings.stop_token_ids:
                reason = "stop"
                break
        return {"token_ids": ids[len(prompt) :], "logprobs": rows, "finish_reason": reason}


def install(monkeypatch: pytest.MonkeyPatch, device: str = "cpu") -> Order:
    """Put it in vLLM's place."""
    ORDER.__init__()
    parts = {
        "vllm": {"LLM": LLM},
        "vllm.platforms": {"current_platform": SimpleNamespace(device_type=device)},
        "vllm.sampling_params": {
            "SamplingParams": SamplingParams,
            "RequestOutputKind": SimpleNamespace(FINAL_ONLY="final only"),
        },
    }
    for name, names in parts.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
    return ORDER
