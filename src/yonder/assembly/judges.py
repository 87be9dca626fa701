"""From a judge's settings to a judge, in this process or on a server."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from yonder.errors import ModelError
from yonder.judges.cache import RatingsCache, VerdictCache
from yonder.judges.llama_cpp import LlamaCppBackEnd, LlamaCppReader
from yonder.judges.local import LocalJudge
from yonder.judges.openai import ChatBackEnd, VotesBackEnd
from yonder.judges.preference import PreferencePrompt, WrittenPreference, read_preference_prompt
from yonder.judges.prompt import JudgePrompt, WrittenPrompt, read_judge_prompt
from yonder.judges.rating import LocalRater, RatingPrompt, read_rating_prompt
from yonder.judges.replicas import Replicas
from yonder.judges.served import ServedJudge
from yonder.judges.served_rating import (
    ChatRatings,
    SampledRatings,
    ServedRater,
    TokenRatings,
    TokenReader,
    WrittenRating,
)
from yonder.judges.sglang import SGLangBackEnd, SGLangReader
from yonder.judges.vllm import VLLMBackEnd, VLLMReader
from yonder.models.loading import Tokenizer, load_causal_lm, load_tokenizer, pick_devices, positions
from yonder.recipe import parse_section
from yonder.recipe.models import ModelReference
from yonder.recipe.rewards import JudgePromptSettings, JudgeSettings, RatingSettings, ServerSettings
from yonder.rewards.judge import JudgeReward, JudgeRules, YesNoModel
from yonder.rewards.preference import PreferenceJudge
from yonder.rewards.rating import RatesResponses
from yonder.transport import Limits, Transport

PREFERENCE = {"prompt": "preference", "yes": "A", "no": "B"}
PROGRAM_PROMPTS = ("program", "program-fenced")  # shipped ones that show a program


class Prompts(NamedTuple):
    """How a judge's prompts are made: for one tokenizer, and for servers whose tokenizer is not known."""

    encoded: Callable[[JudgeSettings, Tokenizer], JudgePrompt]
    written: Callable[[JudgeSettings], WrittenPrompt]


def judge_prompt(settings: JudgePromptSettings, tokenizer: Tokenizer, every_spelling: bool = False) -> JudgePrompt:
    """The judge prompt of these settings for one tokenizer."""
    labels = (settings.yes, settings.no)
    return JudgePrompt(tokenizer, read_judge_prompt(settings.prompt), settings.chat, labels, every_spelling)


def _preference_prompt(settings: JudgeSettings, tokenizer: Tokenizer) -> PreferencePrompt:
    labels = (settings.yes, settings.no)
    return PreferencePrompt(
        tokenizer, *read_preference_prompt(settings.prompt), settings.chat, labels, settings.every_spelling
    )


def _one_response(settings: JudgeSettings, tokenizer: Tokenizer) -> JudgePrompt:
    return judge_prompt(settings, tokenizer, settings.every_spelling)


def _one_written(settings: JudgeSettings) -> WrittenPrompt:
    return WrittenPrompt(read_judge_prompt(settings.prompt), (settings.yes, settings.no))


def _preference_written(settings: JudgeSettings) -> WrittenPrompt:
    return WrittenPreference(*read_preference_prompt(settings.prompt), (settings.yes, settings.no))


ONE_RESPONSE = Prompts(_one_response, _one_written)
TWO_RESPONSES = Prompts(_preference_prompt, _preference_written)


def judge_rules(settings: JudgeSettings, program: bool) -> JudgeRules:
    """What turns this judge's verdicts into rewards."""
    return JudgeRules(
        tau=settings.tau,
        delta=settings.delta,
        mass_floor=settings.mass_floor,
        program=program,
        keep_docstring=settings.keep_docstring,
        show_reference=settings.show_reference,
        guards=settings.guards,
        min_code_lines=settings.min_code_lines,
    )


def build_yes_no(
    settings: JudgeSettings, model: ModelReference, cache: Path | None = None, prompts: Prompts = ONE_RESPONSE
) -> YesNoModel:
    """A judge's back end with its prompt. `cache`: file for the verdicts of a served one."""
    if settings.server is not None:
        return build_served(settings, settings.server, str(model), cache, prompts)
    tokenizer = load_tokenizer(model)
    prompt = prompts.encoded(settings, tokenizer)

    def copy(device: torch.device | None) -> LocalJudge:
        network = load_causal_lm(model, tokenizer, settings.dtype, device, settings.quantize)
        limit = min(settings.max_tokens, positions(network) or settings.max_tokens)
        return LocalJudge(network, prompt, limit, settings.batch_tokens, settings.share_prefix)

    copies = [copy(device) for device in pick_devices(settings.device)]
    return copies[0] if len(copies) == 1 else Replicas(copies)


def build_served(
    settings: JudgeSettings, server: ServerSettings, model: str, cache: Path | None, prompts: Prompts = ONE_RESPONSE
) -> ServedJudge:
    """A judge on a server, probed."""
    transport, name, words = transport_of(server), server.model or model, (settings.yes, settings.no)
    verdicts = VerdictCache(cache) if cache is not None and server.cache else None
    if settings.backend in ("openai", "votes"):
        written = prompts.written(settings)
        chat = (
            VotesBackEnd(transport, name, words, server.votes)
            if settings.backend == "votes"
            else ChatBackEnd(transport, name, words, server.top_logprobs)
        )
        return ServedJudge(written, chat, settings.max_tokens, verdicts, model)
    prompt = prompts.encoded(settings, load_tokenizer(model))
    if settings.backend == "llama-cpp":
        begin = str(prompt.tokenizer.bos_token or "")
        llama_cpp = LlamaCppBackEnd(transport, name, prompt.labels, server.top_logprobs, begin)
        return ServedJudge(prompt, llama_cpp, settings.max_tokens, verdicts, model)
    if settings.backend == "sglang":
        sglang = SGLangBackEnd(transport, name, prompt.labels, server.batch)
        return ServedJudge(prompt, sglang, settings.max_tokens, verdicts, model)
    vllm = VLLMBackEnd(transport, name, prompt.labels, server.batch, server.top_logprobs)
    return ServedJudge(prompt, vllm, settings.max_tokens, verdicts, model)


def transport_of(server: ServerSettings) -> Transport:
    """The way to these servers; ModelError where the API key is not there."""
    key = None if server.key_env is None else os.environ.get(server.key_env)
    if server.key_env is not None and not key:
        raise ModelError(f"the environment variable {server.key_env} (server.key_env) is not set; export the API key")
    limits = Limits(server.concurrency, server.requests_per_minute, server.timeout_s, server.deadline_s)
    return Transport(server.urls, limits, key)


def build_rater(settings: RatingSettings, model: ModelReference, cache: Path | None = None) -> RatesResponses:
    """The back end of a judge that rates. `cache`: file for the ratings of a served one."""
    template = read_rating_prompt(settings.prompt, settings.scale)
    if settings.server is not None:
        return build_served_rater(settings, settings.server, str(model), template, cache)
    tokenizer = load_tokenizer(model)
    prompt = RatingPrompt(tokenizer, template, settings.chat, settings.scale)
    network = load_causal_lm(model, tokenizer, settings.dtype, pick_devices(settings.device)[0], settings.quantize)
    limit = min(settings.max_tokens, positions(network) or settings.max_tokens)
    return LocalRater(network, prompt, limit, settings.batch_tokens)


def build_served_rater(
    settings: RatingSettings, server: ServerSettings, model: str, template: str, cache: Path | None
) -> ServedRater:
    """A judge on a server that rates, probed."""
    transport, name, scale, top = transport_of(server), server.model or model, settings.scale, server.top_logprobs
    kept = RatingsCache(cache) if cache is not None and server.cache else None
    if settings.backend in ("openai", "votes"):
        chat = (
            SampledRatings(transport, name, scale, server.votes)
            if settings.backend == "votes"
            else ChatRatings(transport, name, scale, top)
        )
        return ServedRater(WrittenRating(template, scale), chat, settings.max_tokens, kept, model)
    prompt = RatingPrompt(load_tokenizer(model), template, settings.chat, scale)
    reader: TokenReader
    if settings.backend == "llama-cpp":
        begin = str(prompt.tokenizer.bos_token or "")
        reader = LlamaCppReader(transport, name, prompt.read, prompt.texts, top, begin)
    elif settings.backend == "sglang":
        reader = SGLangReader(transport, name, prompt.read, server.batch)
    else:
        reader = VLLMReader(transport, name, prompt.read, server.batch, top)
    return ServedRater(prompt, TokenRatings(reader, prompt), settings.max_tokens, kept, model)


def rating_rules(settings: RatingSettings, program: bool) -> JudgeRules:
    """What turns these ratings into rewards."""
    return JudgeRules(
        delta=settings.delta,
        mass_floor=settings.mass_floor,
        program=program,
        keep_docstring=settings.keep_docstring,
        show_reference=settings.show_reference,
        guards=settings.guards,
    )


def verdict_sentence(model: YesNoModel | RatesResponses) -> str:
    """How a judge's back end reads its verdict; nothing of one that is no back end of ours."""
    if isinstance(model, ServedJudge | ServedRater):
        return f"{model.found}; {model.prompt.sentence()}"
    return model.prompt.sentence() if isinstance(model, LocalJudge | Replicas) else ""


def load_judge(settings: JudgeSettings | Mapping[str, Any]) -> JudgeReward:
    """A judge from settings or a plain mapping of them: `load_judge({"model": "Qwen/Qwen3-8B"}).score([(question,
    response)])`.

    Raises RecipeError for wrong settings, ModelError when the model cannot be had.
    """
    checked = settings if isinstance(settings, JudgeSettings) else parse_section(JudgeSettings, settings, "judge")
    return JudgeReward(build_yes_no(checked, checked.model), judge_rules(checked, checked.prompt in PROGRAM_PROMPTS))


def load_preference(
    settings: JudgeSettings | Mapping[str, Any], cache: Path | None = None
) -> tuple[PreferenceJudge, YesNoModel]:
    """A judge that prefers one of two responses, and its back end. `yes` and `no` are the labels of the response that
    stands first and second. Settings that are not given: prompt `preference`, labels A and B.

    Raises as `load_judge` does; RecipeError for a judge prompt that shows one response.
    """
    if not isinstance(settings, JudgeSettings):
        settings = parse_section(JudgeSettings, PREFERENCE | dict(settings), "judge")
    model = build_yes_no(settings, settings.model, cache, TWO_RESPONSES)
    return PreferenceJudge(model, settings.mass_floor), model
