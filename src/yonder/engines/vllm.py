"""One vLLM server as it is used here: token ids in, token ids and their log-probs out, weights taken from a folder.

Everything beside `/v1` are vLLM's routes for RL, which it has with VLLM_SERVER_DEV_MODE=1. Tested with vLLM 0.32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from yonder.errors import ModelError, RolloutError
from yonder.transport import Refused, Transport, Unanswered

RESETS = 20  # tries to empty the prefix cache: blocks of requests that were just ended are freed a moment later


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt and how it is answered. `temperature` None is greedy."""

    prompt: tuple[int, ...]
    samples: int
    longest: int  # most tokens of a completion
    temperature: float | None
    top_p: float = 1.0
    top_k: int = 0
    end_ids: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()
    seed: int | None = None


class Answer(NamedTuple):
    """One completion as the server gave it."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stopped: bool  # by a token or a string that ends it, not by its length


class VLLMServer:
    """A server at one address. Each call raises ModelError for what no retry mends, Unanswered where the server does
    not answer before the deadline."""

    def __init__(self, transport: Transport, model: str) -> None:
        self.transport = transport
        self.model = model
        (self.url,) = transport.urls

    def check(self, vocabulary: int, own_tokens: int, longest: int) -> None:
        """Whether it can serve this policy. vocabulary: rows of its embedding; own_tokens: ids of its tokenizer;
        longest: tokens of a prompt with its completion. Raises ModelError with what to start it with."""
        room = self.check_routes() or longest
        if room < longest:
            raise ModelError(
                f"{self.url} takes sequences of {room} tokens, and the recipe's may have {longest}; start it with "
                f"--max-model-len {longest}, or lower policy.max_prompt_tokens or max_completion_tokens"
            )
        taken = [self._takes(token) for token in (vocabulary - 1, max(vocabulary, own_tokens))]
        if taken != [True, False]:
            raise ModelError(
                f"{self.url} serves a model with {'more' if taken[0] else 'fewer'} than the policy's {vocabulary} "
                "tokens; start it with the policy's own model"
            )

    def check_routes(self) -> int:
        """Whether it knows the policy's name and takes weights; returns the tokens of its longest sequence, 0 where it
        does not say. Raises ModelError with what to start it with."""
        models = self.transport.post("/v1/models", None, lambda answer: {m["id"]: m for m in answer["data"]})
        if self.model not in models:
            raise ModelError(
                f"{self.url} serves {sorted(models)} and not `{self.model}`; start it with --served-model-name "
                f"{self.model}, or set rollouts.model"
            )
        self.version()
        return int(models[self.model].get("max_model_len") or 0)

    def version(self) -> str:
        """The name of the weights it has, as `load` gave it; another one after it was started again."""
        try:
            return self.transport.post("/weight_info", None, lambda answer: str(answer["weight_version"]))
        except ModelError as error:
            raise ModelError(
                f"{self.url} lacks vLLM's routes for weight updates; start it with VLLM_SERVER_DEV_MODE=1 in its "
                f"environment (tested with vLLM 0.32): {error}"
            ) from error

    def load(self, folder: Path, version: str) -> None:
        """Take over the weights of a folder, which it reads itself; requests are ended, its cache is emptied."""
        self._control("/pause?mode=abort", {})
        overrides = {"load_config": {"load_format": "auto"}}  # else one started with dummy weights reads none
        self._rpc("update_config", {"overrides": overrides}, folder)
        self._rpc("reload_weights", {"weights_path": str(folder)}, folder)
        for _ in range(RESETS):
            if self._control("/reset_prefix_cache", {}).get("success", True):
                break
        else:
            raise ModelError(f"{self.url} does not empty its prefix cache; is it used by someone else?")
        self._control("/update_weight_version", {"new_version": version})
        self._control("/resume", {})

    def complete(self, ask: Ask) -> list[Answer]:
        """As many completions of a prompt as asked for. Nothing is left to the server's own defaults."""
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": list(ask.prompt),
            "n": ask.samples,
            "max_tokens": ask.longest,
            "temperature": 0.0 if ask.temperature is None else ask.temperature,
            "top_p": ask.top_p,
            "top_k": ask.top_k,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop": list(ask.stop),
            "stop_token_ids": list(ask.end_ids),
            "ignore_eos": True,  # what ends a completion is said by `stop_token_ids` alone
            "add_special_tokens": False,
            "skip_special_tokens": False,
            "logprobs": 0,  # the sampled token's alone
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }
        if ask.temperature is None:
            body["n"] = 1  # greedy ones are the same
        if ask.seed is not None:
            body["seed"] = ask.seed

        def read(answer: Any) -> list[Answer]:
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            if len(choices) != body["n"]:
                raise ValueError(f"{len(choices)} completions instead of {body['n']}")
            return [_answer(choice, ask.longest) for choice in choices]

        try:
            found = self.transport.post("/v1/completions", body, read)
        except Refused as error:
            raise ModelError(str(error)) from error
        return found * (ask.samples // len(found))

    def _takes(self, token: int) -> bool:
        """Whether a token id is in its vocabulary."""
        body = {"model": self.model, "prompt": [token], "max_tokens": 1, "temperature": 0.0}
        try:
            self.transport.post("/v1/completions", body, lambda answer: answer["choices"][0])
        except Refused as error:
            if "vocabulary" in str(error):
                return False
            raise ModelError(str(error)) from error
        return True

    def _rpc(self, method: str, arguments: dict[str, Any], folder: Path) -> None:
        try:
            self._control("/collective_rpc", {"method": method, "kwargs": arguments}, final=(500,))
        except Refused as error:
            raise ModelError(
                f"{self.url} could not load the weights in {folder} and must be started again: it must see the folder "
                f"by this path (rollouts.folder) and serve the policy's own model; {error}"
            ) from error

    def _control(self, path: str, body: dict[str, Any], final: Sequence[int] = ()) -> dict[str, Any]:
        return self.transport.post(path, body, dict[str, Any], final)


def _answer(choice: Any, longest: int) -> Answer:
    """Read one completion. Raises ValueError where it is not whole."""
    ids = tuple(int(token) for token in choice["token_ids"])
    logprobs = tuple(float(value) for value in choice["logprobs"]["token_logprobs"])
    reason = choice["finish_reason"]
    if not ids or len(ids) != len(logprobs) or not all(map(math.isfinite, logprobs)):
        raise ValueError(f"{len(ids)} tokens with {len(logprobs)} log-probs")
    if reason not in ("stop", "length") or (reason == "length" and len(ids) != longest):
        raise ValueError(f"{len(ids)} tokens of {longest}, ended by `{reason}`")
    return Answer(ids, logprobs, reason == "stop")


def gone(servers: Sequence[VLLMServer], error: Unanswered) -> RolloutError:
    """What is said where no server answers."""
    where = servers[0].url if len(servers) == 1 else f"any of {len(servers)} servers"
    return RolloutError(f"no rollouts from {where} ({error}); start it again")
