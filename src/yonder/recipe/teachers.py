"""Recipe sections about a teacher on a server: it writes answers, and gives nothing but text."""

from typing import Literal

from pydantic import Field, model_validator

from yonder.recipe.base import Section
from yonder.recipe.servers import ServerAccess


class TeacherServerSettings(ServerAccess):
    """Where a teacher listens, how much may be asked of it, and what it costs."""

    timeout_s: float = Field(default=600.0, gt=0)
    """Longest wait for one answer, seconds; then it is asked again, so it should be long."""
    deadline_s: float = Field(default=3600.0, gt=0)
    """Longest wait with all retries, seconds; then the question is unanswered for now, and asked at the next start."""
    price_per_million: float | None = Field(default=None, ge=0)
    """Price of a million tokens that the teacher reads, in your currency."""
    completion_price_per_million: float | None = Field(default=None, ge=0)
    """Price of a million tokens that the teacher writes; default: that of those it reads."""


class BudgetSettings(Section):
    """The most that a collect stage may use, over all its starts. No request begins that could exceed it."""

    tokens: int | None = Field(default=None, gt=0)
    """Tokens, read and written."""
    cost: float | None = Field(default=None, gt=0)
    """Cost by the server's prices, in your currency."""


class TextTeacherSettings(Section):
    """A teacher on a server. What is asked and answered is kept answer by answer; see docs/reward-distillation.md."""

    backend: Literal["vllm", "llama-cpp", "openai"]
    """Kind of server: it decides how sampling settings are written; openai: any server of that API."""
    model: str
    """The name that the servers know the teacher by."""
    server: TeacherServerSettings
    way: Literal["chat", "completions"] = "chat"
    """chat: the teacher gets a message from `prompt`; completions: it goes on from the very text that the policy
    reads."""
    prompt: str | None = None
    """chat only: a file with {question}, or `program`, `text`, `choice` or `open` (shipped); default: that of the
    task's format."""
    system: str = ""
    """chat only: system message."""
    max_tokens: int = Field(default=1024, gt=0)
    """Longest answer, tokens, thoughts included."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus mass; 1 switches it off. Every other sampling setting of the server's is switched off as well."""
    stop: tuple[str, ...] = ()
    """Strings that end an answer; with `completions`, besides those of the task."""
    thinking: bool = False
    """chat with vllm and llama-cpp: what the chat template is told as `enable_thinking`. Thoughts between tags are
    removed in any case."""
    seeds: bool | None = None
    """Send a seed with every request, a function of recipe, question and index; default: for llama-cpp, which would
    draw the same numbers again after a restart. Some vLLM end at one on a CPU."""
    tokenizer: str | None = None
    """A folder or hub name: the estimate before the start counts prompts with it, else 4 characters are a token."""
    budget: BudgetSettings | None = None
    """Where it is reached the stage stops, and continues with a larger one; None: no limit."""
    max_unanswered: float = Field(default=0.1, ge=0, le=1)
    """Share of the answers that may be missing at the end; with more the stage fails, and goes on at the next start."""

    @model_validator(mode="after")
    def _meaningful(self) -> "TextTeacherSettings":
        if self.way == "completions" and (self.prompt is not None or self.system or self.thinking):
            raise ValueError(
                "`way: completions` sends the policy's own prompt; leave out `prompt`, `system` and `thinking`"
            )
        if self.thinking and self.backend == "openai":
            raise ValueError("`backend: openai` has no switch for `thinking`; leave it out")
        budget, server = self.budget, self.server
        if server.completion_price_per_million is not None and server.price_per_million is None:
            raise ValueError("`server.completion_price_per_million` needs `server.price_per_million` beside it")
        if budget is not None and budget.cost is not None and server.price_per_million is None:
            raise ValueError("`budget.cost` needs `server.price_per_million`")
        return self


NO_NUMBER = {"server", "budget", "max_unanswered", "tokenizer"}  # decide no answer, and may change between two starts
