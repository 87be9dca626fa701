"""From a recipe to models, data and rewards: the only file that knows every class of them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from yonder.data.datasets import load_data, resampled
from yonder.data.streams import build_stream
from yonder.errors import ModelError, RecipeError
from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt, read_judge_prompt
from yonder.models.classifier import Classifier, LocalClassifier
from yonder.models.encoding import PromptEncoder
from yonder.models.generation import PolicySampler
from yonder.models.loading import Tokenizer, load_causal_lm, load_classifier, load_tokenizer, pick_device
from yonder.models.policy import Policy
from yonder.protocols import Reward, Stream
from yonder.recipe.data import TaskSettings
from yonder.recipe.models import FreshModel, ModelReference, PolicySettings
from yonder.recipe.recipe import Recipe
from yonder.recipe.rewards import (
    ClassifierSettings,
    JudgePromptSettings,
    JudgeSettings,
    RewardSettings,
    ShuffledSettings,
    VerifiableSettings,
)
from yonder.recipe.stages import FitJudgeStage
from yonder.rewards.base import ShuffledReward, load_function
from yonder.rewards.classifier import ClassifierReward
from yonder.rewards.judge import JudgeReward, JudgeRolloutReward, JudgeRules
from yonder.rewards.verifiable import VerifiableReward
from yonder.sandbox import ProgramResult, Sandbox
from yonder.schema import Prompt
from yonder.training.fit import Trainee, classifier_trainee, judge_trainee


class Workshop:
    """Builds what one stage needs; every model is loaded once."""

    def __init__(self, recipe: Recipe, checkpoints: Mapping[str, Path], sandbox_log: Path | None = None) -> None:
        """`checkpoints`: stage name -> the folder it hands on; `sandbox_log`: where results that a clock decided are
        kept."""
        self.recipe = recipe
        self.checkpoints = checkpoints
        limits = recipe.sandbox
        self.sandbox = Sandbox(
            workers=limits.workers,
            timeout_s=limits.timeout_s,
            memory_mb=limits.memory_mb,
            fallback="confined" if limits.fallback else "none",
            log=sandbox_log,
        )
        self._rewards: dict[tuple[str, str], Reward] = {}

    def close(self) -> None:
        """End the sandbox's processes."""
        self.sandbox.close()

    def run_programs(self, programs: Any) -> list[ProgramResult]:
        """Run programs in the sandbox."""
        return self.sandbox.run(programs)

    # --- models

    def resolve(self, reference: ModelReference) -> ModelReference:
        """`stage:NAME` as that stage's folder; a fresh model gets the recipe's seed where it has none."""
        if isinstance(reference, FreshModel) and reference.seed is None:
            return reference.model_copy(update={"seed": self.recipe.seed})
        if isinstance(reference, str) and reference.startswith("stage:"):
            name = reference.removeprefix("stage:")
            if name not in self.checkpoints:
                raise ModelError(f"stage `{name}` has no checkpoint yet; run it first")
            return str(self.checkpoints[name])
        return reference

    def policy(self, reference: ModelReference | None, value_outputs: int = 0) -> Policy:
        """A policy with its tokenizer, on its device."""
        settings = self.recipe.policy
        origin = self.resolve(settings.model if reference is None else reference)
        named = settings.tokenizer if isinstance(origin, FreshModel) or reference is None else None
        tokenizer = load_tokenizer(origin, named)
        model = load_causal_lm(origin, tokenizer, settings.dtype, pick_device(settings.device))
        policy = Policy(model, tokenizer, value_outputs)
        policy.autocast = self.autocast
        return policy

    @property
    def autocast(self) -> torch.dtype | None:
        """The recipe's mixed precision."""
        name = self.recipe.policy.autocast
        return None if name == "off" else cast(torch.dtype, getattr(torch, name))

    def encoder(self, policy: Policy, task: TaskSettings, sft: bool = False) -> PromptEncoder:
        """How this policy reads prompts of a task. Where sampling cuts long prompts, SFT reads them whole."""
        if task.chat and not policy.tokenizer.chat_template:
            raise ModelError("task.chat is on but the policy's tokenizer has no chat template; switch it off")
        cut = self.recipe.policy.long_prompts == "cut"
        longest = sys.maxsize if cut and sft else self.recipe.policy.max_prompt_tokens
        return PromptEncoder(policy.tokenizer, longest, task.chat, task.system, task.stop, cut)

    def sampler(self, policy: Policy, task: TaskSettings) -> PolicySampler:
        """The in-process sampler over the live policy."""
        settings: PolicySettings = self.recipe.policy
        encoder, longest = self.encoder(policy, task), settings.max_completion_tokens
        return PolicySampler(policy, encoder, longest, settings.generation_batch, settings.max_total_tokens)

    def trainee(self, stage: FitJudgeStage, task: TaskSettings) -> Trainee:
        """What a fit-judge stage trains, on the policy's device."""
        model, settings = self.resolve(stage.model), self.recipe.policy
        tokenizer, device = load_tokenizer(model, stage.tokenizer), pick_device(settings.device)
        if stage.output == "classifier":
            as_reward = ClassifierSettings(kind="classifier", model=stage.model)
            network = load_classifier(model, tokenizer, settings.dtype, device)
            longest = stage.max_tokens or as_reward.max_tokens
            scorer = LocalClassifier(network, tokenizer, as_reward.correct_label, longest, as_reward.batch_tokens)
            return classifier_trainee(Classifier(network, tokenizer), scorer)
        as_reward = JudgeSettings(model=stage.model)
        causal = load_causal_lm(model, tokenizer, settings.dtype, device)
        policy = Policy(causal, tokenizer)
        policy.autocast = self.autocast
        judge = LocalJudge(
            causal, judge_prompt(stage, tokenizer), stage.max_tokens or as_reward.max_tokens, as_reward.batch_tokens
        )
        bare = task.format == "program" and not stage.keep_docstring
        return judge_trainee(policy, judge, bare, stage.solve_loss)

    # --- data

    def task(self, data: str) -> TaskSettings:
        """The task format of a data set."""
        return self.recipe.data[data.partition(".")[0]].task or self.recipe.task

    def data(self, name: str) -> list[Prompt]:
        """The prompts of a data set or of its development split."""
        return load_data(name, self.recipe.data, self.recipe.task, self.recipe.seed)

    def stream(self, name: str) -> Stream:
        """An endless stream over a data set."""
        return build_stream(name, self.recipe.data, self.recipe.task, self.recipe.seed)

    def epochs(self, name: str, prompts: Sequence[Prompt]) -> Callable[[int], Sequence[Prompt]]:
        """The prompts that SFT sees in each epoch: the same, or new variants where the data set is augmented."""
        if self.recipe.data[name.partition(".")[0]].augment == "none":
            return lambda epoch: prompts
        return lambda epoch: resampled(prompts, self.task(name), self.recipe.seed, epoch)

    # --- rewards

    def verifier(self, task: TaskSettings) -> VerifiableReward:
        """The verifiable reward with the paper's partial credit, for evaluation and labels."""
        return VerifiableReward(VerifiableSettings(kind="verifiable"), task, self.run_programs)

    def reward(self, name: str, task: TaskSettings) -> Reward:
        """A reward by its recipe name, or a user's `module:function`; each is built once for each task."""
        key = (name, task.model_dump_json())
        if key not in self._rewards:
            self._rewards[key] = load_function(name) if ":" in name else self._build(self.recipe.rewards[name], task)
        return self._rewards[key]

    def _build(self, settings: RewardSettings, task: TaskSettings) -> Reward:
        if isinstance(settings, VerifiableSettings):
            return VerifiableReward(settings, task, self.run_programs)
        if isinstance(settings, ShuffledSettings):
            return ShuffledReward(self.reward(settings.reward, task), self.recipe.seed)
        if isinstance(settings, JudgeSettings):
            judge = build_judge(settings, self.resolve(settings.model), task.format == "program")
            return JudgeRolloutReward(judge)
        return build_classifier(settings, self.resolve(settings.model))


def judge_prompt(settings: JudgePromptSettings, tokenizer: Tokenizer) -> JudgePrompt:
    """The judge prompt of these settings for one tokenizer."""
    return JudgePrompt(tokenizer, read_judge_prompt(settings.prompt), settings.chat, (settings.yes, settings.no))


def build_judge(settings: JudgeSettings, model: ModelReference, program: bool) -> JudgeReward:
    """A local judge with its prompt and rules."""
    tokenizer = load_tokenizer(model)
    network = load_causal_lm(model, tokenizer, settings.dtype, pick_device(settings.device))
    rules = JudgeRules(
        tau=settings.tau,
        delta=settings.delta,
        mass_floor=settings.mass_floor,
        program=program,
        keep_docstring=settings.keep_docstring,
        guards=settings.guards,
        min_code_lines=settings.min_code_lines,
    )
    return JudgeReward(
        LocalJudge(network, judge_prompt(settings, tokenizer), settings.max_tokens, settings.batch_tokens), rules
    )


def build_classifier(settings: ClassifierSettings, model: ModelReference) -> ClassifierReward:
    """A local reranker or reward model."""
    tokenizer = load_tokenizer(model)
    network = load_classifier(model, tokenizer, settings.dtype, pick_device(settings.device))
    back_end = LocalClassifier(network, tokenizer, settings.correct_label, settings.max_tokens, settings.batch_tokens)
    return ClassifierReward(back_end, settings.delta)


def load_judge(settings: JudgeSettings | Mapping[str, Any]) -> JudgeReward:
    """A judge from settings or a plain mapping of them: `load_judge({"model": "yonder:judge"}).score([(question,
    response)])`.

    Raises RecipeError for wrong settings, ModelError when the model cannot be had.
    """
    from pydantic import ValidationError

    try:
        checked = settings if isinstance(settings, JudgeSettings) else JudgeSettings.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(f"judge settings: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return build_judge(checked, checked.model, checked.prompt == "program")
