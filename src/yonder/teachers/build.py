"""A teacher on a server, from its settings."""

import os

from yonder.errors import ModelError
from yonder.recipe.answers import CollectStage
from yonder.recipe.data import TaskSettings
from yonder.recipe.recipe import Recipe
from yonder.recipe.stages import StageSettings
from yonder.recipe.teachers import TextTeacherSettings
from yonder.teachers.prompt import read_teacher_prompt
from yonder.teachers.server import Manner, TeacherServer, require_model
from yonder.teachers.spending import Budget, Prices
from yonder.transport import Limits, Transport

NAME = "teacher server"
GREETING_S = 30.0  # how long a server may take to say which models it has


def build_teacher(settings: TextTeacherSettings, task: TaskSettings) -> TeacherServer:
    """The teacher, asked for nothing yet. ModelError without its key, RecipeError for a prompt that cannot be used."""
    server = settings.server
    limits = Limits(server.concurrency, server.requests_per_minute, server.timeout_s, server.deadline_s)
    transport = Transport(server.urls, limits, _key(settings), NAME)
    chat = settings.way == "chat"
    manner = Manner(
        backend=settings.backend,
        model=settings.model,
        template=template_of(settings, task),
        system=settings.system,
        max_tokens=settings.max_tokens,
        top_p=settings.top_p,
        stop=settings.stop if chat else (*settings.stop, *task.stop),
        thinking=settings.thinking,
    )
    return TeacherServer(transport, manner)


def template_of(settings: TextTeacherSettings, task: TaskSettings) -> str | None:
    """The message that a teacher gets in a chat; None where it continues the policy's prompt. RecipeError for one that
    cannot be used."""
    return read_teacher_prompt(settings.prompt or task.format) if settings.way == "chat" else None


def asked_of(recipe: Recipe, stage: StageSettings) -> str | None:
    """`template_of` the stage's teacher, where it has one."""
    if not isinstance(stage, CollectStage) or stage.teacher is None:
        return None
    return template_of(stage.teacher, recipe.data[stage.data.partition(".")[0]].task or recipe.task)


def require_teacher(settings: TextTeacherSettings) -> None:
    """Raise ModelError where no server answers, or one that does has not this model or key."""
    limits = Limits(timeout_s=GREETING_S, deadline_s=min(GREETING_S, settings.server.deadline_s))
    transports = [Transport((url,), limits, _key(settings), NAME) for url in settings.server.urls]
    try:
        require_model(transports, settings.model)
    finally:
        for transport in transports:
            transport.close()


def budget_of(settings: TextTeacherSettings) -> Budget:
    """The limits, with the server's prices."""
    server = settings.server
    each = [None if p is None else p / 1e6 for p in (server.price_per_million, server.completion_price_per_million)]
    prices = Prices(each[0], each[1])
    if settings.budget is None:
        return Budget(prices=prices)
    return Budget(settings.budget.tokens, settings.budget.cost, prices)


def _key(settings: TextTeacherSettings) -> str | None:
    name = settings.server.key_env
    key = None if name is None else os.environ.get(name)
    if name is not None and not key:
        raise ModelError(f"the environment variable {name} (server.key_env) is not set; export the API key")
    return key
