"""One answer of a teacher on a server, over the routes of the OpenAI API that vLLM and llama.cpp have too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yonder.errors import ModelError
from yonder.judges.prompt import CHARACTERS_A_TOKEN
from yonder.schema import Prompt
from yonder.teachers.prompt import QUESTION, plain_question
from yonder.transport import Refused, Transport, Unanswered

OLD_LIMIT, NEW_LIMIT = "max_tokens", "max_completion_tokens"  # newer models of OpenAI know the second alone
OURS = {  # what servers would take from the model's files or from defaults of their own
    "vllm": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    "llama-cpp": {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
    "openai": dict[str, Any](),
}


@dataclass(frozen=True, slots=True)
class Manner:
    """How a teacher is asked; see `recipe.teachers.TextTeacherSettings`."""

    backend: str
    model: str
    template: str | None  # of the message; None: the policy's own prompt is continued
    system: str = ""
    max_tokens: int = 1024
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    thinking: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a teacher wrote to one request."""

    text: str
    finished: bool  # not cut at the length limit
    prompt_tokens: int
    completion_tokens: int
    counted: bool  # by the server; else 4 characters are a token


class TeacherServer:
    """A teacher behind a transport; usable from many threads."""

    def __init__(self, transport: Transport, manner: Manner) -> None:
        self.transport = transport
        self.manner = manner
        self._limit = OLD_LIMIT

    def text(self, prompt: Prompt) -> str:
        """What the teacher reads, without the system message."""
        template = self.manner.template
        if template is None:
            return prompt.text + prompt.prefix
        return template.replace(QUESTION, plain_question(prompt))

    def ask(self, prompt: Prompt, temperature: float, seed: int | None) -> Answer:
        """One answer. Raises Unanswered for a request without one, ModelError where key, path or model are wrong."""
        body = self._body(prompt, temperature, seed)
        path = "/v1/completions" if self.manner.template is None else "/v1/chat/completions"
        length = len(self.manner.system) + len(self.text(prompt))
        try:
            return self.transport.post(path, body | {self._limit: self.manner.max_tokens}, lambda a: _read(a, length))
        except Refused as error:
            if self._limit == NEW_LIMIT or NEW_LIMIT not in str(error):
                raise
        self._limit = NEW_LIMIT
        return self.transport.post(path, body | {self._limit: self.manner.max_tokens}, lambda a: _read(a, length))

    def _body(self, prompt: Prompt, temperature: float, seed: int | None) -> dict[str, Any]:
        manner, text = self.manner, self.text(prompt)
        body: dict[str, Any] = {"model": manner.model, "temperature": temperature, **OURS[manner.backend]}
        if manner.template is None:
            body["prompt"] = text
        else:
            system = [{"role": "system", "content": manner.system}] if manner.system else []
            body["messages"] = [*system, {"role": "user", "content": text}]
        if manner.template is not None and manner.backend != "openai":
            body["chat_template_kwargs"] = {"enable_thinking": manner.thinking}
        if manner.backend != "openai" or manner.top_p < 1:  # some models of APIs take no sampling settings
            body["top_p"] = manner.top_p
        if manner.stop:
            body["stop"] = list(manner.stop)
        return body if seed is None else body | {"seed": seed}


def require_model(transports: Sequence[Transport], model: str) -> None:
    """Raise ModelError where no server answers, or one that does knows no such model or takes no such key. Servers
    without a list of models are taken at their word."""
    silent: list[str] = []
    for transport in transports:
        try:
            known = transport.post("/v1/models", None, lambda answer: [str(one["id"]) for one in answer["data"]])
        except Unanswered as error:
            silent.append(str(error))
            continue
        except ModelError as error:
            if any(f" answers {status}:" in str(error) for status in (404, 405)):
                continue
            raise
        if not any(name == model or name.endswith(f"/{model}") for name in known):
            shown = ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
            raise ModelError(
                f"{transport.urls[0]} knows no model `{model}` but {shown or 'none'}; mend `model`, or start the "
                "server with it"
            )
    if len(silent) == len(transports):
        raise ModelError(f"the teacher cannot be asked: {silent[0]}; start it, or mend `server.urls`")


def _read(answer: Any, length: int) -> Answer:
    """`length`: characters that were sent. Raises what `Transport.post` takes for an answer that cannot be read."""
    choice, usage = answer["choices"][0], answer.get("usage") or {}
    given = choice["message"].get("content") if "message" in choice else choice["text"]
    text = "" if given is None else given  # all tokens went into thoughts that are returned elsewhere
    if not isinstance(text, str):
        raise ValueError(f"the answer is a {type(text).__name__}, not a text")
    finished = choice.get("finish_reason") != "length"
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(read, int) and isinstance(written, int):
        return Answer(text, finished, read, written, True)
    return Answer(text, finished, length // CHARACTERS_A_TOKEN + 1, len(text) // CHARACTERS_A_TOKEN + 1, False)
