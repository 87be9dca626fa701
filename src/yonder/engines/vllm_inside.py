"""vLLM's `LLM` inside this process: token ids in, token ids and their log-probs out, weights taken from memory.

It is not a dependency of ours, so it is imported where it is needed. Tested with vLLM 0.32 on a CPU.
"""

import gc
import math
import os
import random
import tempfile
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yonder.engines.vllm import Answer, Ask
from yonder.errors import ModelError, RolloutError, YonderError
from yonder.models.lora import plain
from yonder.models.policy import Policy
from yonder.training.distributed import ALONE, World

QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}


@dataclass(frozen=True, slots=True)
class Room:
    """What the engine may take; see `recipe.rollouts.ColocateSettings`."""

    tokens: int  # of the longest sequence
    sequences: int
    dtype: str
    memory_share: float
    cache_gib: float | None = None
    sleep: bool = False
    eager: bool = False


def require_vllm() -> None:
    """ModelError where vLLM is not installed beside us."""
    if find_spec("vllm") is None:
        raise ModelError(
            "`rollouts.colocate` needs the package vllm in this environment; pip install 'yonder-rl[vllm]', or ask "
            "servers (`rollouts.urls`)"
        )


class VLLMInside:
    """An engine on the policy's device with weights of its own, at first random ones."""

    def __init__(self, policy: Policy, room: Room, world: World = ALONE) -> None:
        """Of several processes each starts one at the same time. Raises ModelError where it cannot be had."""
        require_vllm()
        gc.collect()  # an engine of the stage before
        self.device, self.sleeps = policy.device, room.sleep
        self.version: str | None = None  # of its weights, as `load` named them
        self._asked = 0
        self._asleep = False
        self._folder = tempfile.TemporaryDirectory(prefix="yonder-vllm-")  # configuration and tokenizer alone
        plain(policy.model).config.save_pretrained(self._folder.name)
        policy.tokenizer.save_pretrained(self._folder.name)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the engine itself in this process, not in a child
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        _free_unused(self.device)
        with undisturbed(self.device):
            try:
                self.llm: Any = _engine(self._folder.name, self.device, room, world.size > 1)
            except ModelError:
                raise
            except Exception as error:  # of every kind, from pydantic's to CUDA's
                raise ModelError(
                    f"vLLM does not start in this process ({_first(error)}); does it know this model, and do "
                    "rollouts.colocate.gpu_memory_utilization or cache_gib leave it enough memory beside the trainer?"
                ) from error
        if world is not ALONE:
            _keep_process_groups(self, self.llm)

    def load(self, weights: Iterable[tuple[str, Tensor]], version: str) -> None:
        """Take over weights by their names in Hugging Face format. Raises ModelError where it cannot."""
        self.version = None
        self._wake()
        try:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        except Exception as error:
            raise ModelError(f"vLLM does not take the policy's weights ({_first(error)})") from error
        if not self.llm.reset_prefix_cache():
            raise ModelError("vLLM does not empty its prefix cache, so answers would begin with older weights")
        self.llm.llm_engine.set_weight_version(version)
        self.version = version

    def complete(
        self, asks: Sequence[Ask], seed: int, answered: Callable[[int, Sequence[Answer]], None] | None = None
    ) -> list[list[Answer]]:
        """As many completions of each prompt as asked for, drawn from `seed`; `answered` is told of each prompt at its
        last token. Raises ModelError for prompts without an answer, log-probs that are not numbers and weights other
        than `version`, RolloutError where the engine fails."""
        engine, found = self.llm.llm_engine, dict[int, list[Answer]]()
        names = {f"yonder-{self._asked + i}": i for i in range(len(asks))}
        self._asked += len(asks)
        self._wake()
        with undisturbed(self.device, seed):
            try:
                for name, ask in zip(names, asks, strict=True):
                    engine.add_request(name, {"prompt_token_ids": list(ask.prompt)}, parameters(ask))
                while engine.has_unfinished_requests():
                    for output in engine.step():
                        i = names[output.request_id]
                        found[i] = self._answers(output, asks[i])
                        if answered is not None:
                            answered(i, found[i])
            except YonderError:
                raise
            except Exception as error:
                raise RolloutError(f"vLLM ended in this process ({_first(error)})") from error
            finally:
                engine.abort_request([name for name, i in names.items() if i not in found])
        if len(found) < len(asks):
            raise ModelError(f"vLLM answered {len(found)} of {len(asks)} prompts")
        return [found[i] for i in range(len(asks))]

    def sleep(self) -> None:
        """Give its memory to the trainer, where the recipe says so: weights to host memory, the cache dropped."""
        if self.sleeps and not self._asleep:
            self.llm.sleep(level=1)
            self._asleep = True

    def _wake(self) -> None:
        if self._asleep:
            _free_unused(self.device)
            self.llm.wake_up()
            self._asleep = False

    def _answers(self, output: Any, ask: Ask) -> list[Answer]:
        made = sorted(output.outputs, key=lambda one: one.index)
        versions = {span.version for one in made for span in one.weight_versions or ()}
        if versions - {self.version}:
            raise ModelError(f"vLLM answered with the weights {sorted(versions)} instead of {self.version}")
        wanted = 1 if ask.temperature is None else ask.samples
        if len(made) != wanted:
            raise ModelError(f"vLLM answered {len(made)} completions instead of {wanted}")
        found = [_answer(one, ask.longest) for one in made]
        return found * (ask.samples // len(found))  # greedy ones are the same


def parameters(ask: Ask) -> Any:
    """vLLM's settings of a prompt; nothing is left to its defaults."""
    module = import_module("vllm.sampling_params")
    greedy = ask.temperature is None
    return module.SamplingParams(
        n=1 if greedy else ask.samples,
        max_tokens=ask.longest,
        temperature=0.0 if greedy else ask.temperature,
        top_p=ask.top_p,
        top_k=ask.top_k,
        min_p=0.0,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        stop=list(ask.stop),
        stop_token_ids=list(ask.end_ids),
        ignore_eos=True,  # what ends a completion is said by `stop_token_ids` alone
        detokenize=bool(ask.stop),
        skip_special_tokens=False,
        logprobs=0,  # the sampled token's alone
        output_kind=module.RequestOutputKind.FINAL_ONLY,
    )


@contextmanager
def undisturbed(device: torch.device, seed: int = 0) -> Generator[None]:
    """Within it the process's random numbers come from `seed`, and what vLLM does to the process is taken back:
    its engine seeds all generators, disables `torch.set_num_threads` (on a CPU), and sets environment variables that
    children would inherit."""
    numbers, arrays, threads, before = random.getstate(), np.random.get_state(), torch.set_num_threads, dict(os.environ)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(numbers)
            np.random.set_state(arrays)
            torch.set_num_threads = threads
            for name in [name for name in os.environ if not name.startswith("VLLM_")]:
                if name in before:
                    os.environ[name] = before[name]
                else:
                    del os.environ[name]


def _engine(folder: str, device: torch.device, room: Room, together: bool) -> Any:
    kind = import_module("vllm.platforms").current_platform.device_type
    if kind != device.type:
        raise ModelError(
            f"this vLLM is built for `{kind}`, and the policy is on `{device.type}`; set policy.device to {kind}, or "
            "install vLLM for that device"
        )
    if device.index and not together:
        raise ModelError(f"vLLM in this process uses the first GPU, and the policy is on {device}; set policy.device "
                         "to cuda, and CUDA_VISIBLE_DEVICES to the GPU")  # fmt: skip
    if room.sleep and device.type != "cuda":
        raise ModelError("`rollouts.colocate.sleep` needs a GPU; leave it out")
    cache = {} if room.cache_gib is None else {"kv_cache_memory_bytes": int(room.cache_gib * 2**30)}
    made = import_module("vllm").LLM(
        model=folder,
        load_format="dummy",  # nothing of the policy's: what is not sent later is found out
        generation_config="vllm",
        logprobs_mode="processed_logprobs",  # at the sampling temperature
        dtype=room.dtype,
        max_model_len=room.tokens,
        max_num_seqs=room.sequences,
        gpu_memory_utilization=room.memory_share,
        enable_sleep_mode=room.sleep,
        enforce_eager=room.eager,
        distributed_executor_backend="external_launcher" if together else None,
        disable_log_stats=True,
        seed=0,
        **cache,
    )
    gc.unfreeze()  # it exempts all objects of the process from garbage collection
    return made


def _keep_process_groups(owner: object, engine: Any) -> None:
    """At its end vLLM's engine takes all of torch's process groups down, also those that were there before it: it is
    let go of without that."""
    client = engine.llm_engine.engine_core
    client._finalizer.detach()
    weakref.finalize(owner, client.engine_core.model_executor.shutdown)


def _answer(one: Any, longest: int) -> Answer:
    """Read one completion. Raises ModelError where it is not whole."""
    ids = tuple(int(token) for token in one.token_ids)
    logprobs = tuple(float(row[token].logprob) for row, token in zip(one.logprobs or (), ids, strict=False))
    cut = one.finish_reason == "length" and len(ids) != longest
    if not ids or len(ids) != len(logprobs) or cut or one.finish_reason not in ("stop", "length"):
        raise ModelError(f"vLLM answered {len(ids)} tokens of {longest} with {len(logprobs)} log-probs")
    if not all(map(math.isfinite, logprobs)):
        raise ModelError("vLLM answered log-probs that are not numbers")
    return Answer(ids, logprobs, one.finish_reason == "stop")


def _free_unused(device: torch.device) -> None:
    """What torch's allocator holds back, vLLM cannot have."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _first(error: Exception) -> str:
    """One line of what may be many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
