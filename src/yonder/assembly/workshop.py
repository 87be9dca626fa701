"""From a recipe to models, data and rewards: the only file that knows every class of them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from yonder.assembly.judges import build_rater, build_yes_no, judge_prompt, judge_rules, rating_rules, verdict_sentence
from yonder.data.datasets import load_data, resampled
from yonder.data.pseudo_labels import LabelStages
from yonder.data.streams import build_stream
from yonder.errors import ModelError
from yonder.generation.sampler import PolicySampler
from yonder.judges.grouped import GroupedReward
from yonder.judges.local import LocalJudge
from yonder.judges.served import ServedJudge
from yonder.judges.served_rating import ServedRater
from yonder.models.classifier import Classifier, LocalClassifier
from yonder.models.encoding import PromptEncoder
from yonder.models.loading import (
    load_causal_lm,
    load_classifier,
    load_tokenizer,
    pick_device,
    positions,
)
from yonder.models.lora import AdapterOff, Lora, add_lora
from yonder.models.policy import Policy
from yonder.models.teacher import Teacher
from yonder.protocols import Reward, RolloutEngine, Stream
from yonder.recipe import parse_section
from yonder.recipe.data import TaskSettings
from yonder.recipe.judge_stages import FitJudgeStage
from yonder.recipe.models import FreshModel, ModelReference, PolicySettings
from yonder.recipe.recipe import Recipe
from yonder.recipe.rewards import (
    ClassifierSettings,
    EnsembleSettings,
    JudgeSettings,
    RatingSettings,
    RewardSettings,
    ShuffledSettings,
    TeacherSettings,
    VerifiableSettings,
)
from yonder.recipe.sections import SandboxSettings
from yonder.recipe.stages import DistillStage, TermSettings
from yonder.rewards.base import ShuffledReward, load_function
from yonder.rewards.classifier import ClassifierReward
from yonder.rewards.ensemble import EnsembleReward
from yonder.rewards.judge import JudgeReward, JudgeRolloutReward, JudgeRules
from yonder.rewards.rating import RatingReward
from yonder.rewards.verifiable import VerifiableReward
from yonder.sandbox import ProgramResult, Sandbox
from yonder.schema import Prompt
from yonder.training.checkpoint import require_whole
from yonder.training.distributed import ALONE, World
from yonder.training.divided import is_divided, shard
from yonder.training.fit import Trainee, classifier_trainee, judge_trainee
from yonder.training.ranking import Pairs, ranking_trainee
from yonder.training.rollout import Term, derived_seed
from yonder.training.sharing import SharedSampler, shared_reward


class Workshop:
    """Builds what one stage needs; every model is loaded once."""

    def __init__(
        self,
        recipe: Recipe,
        checkpoints: Mapping[str, Path],
        sandbox_log: Path | None = None,
        world: World = ALONE,
        by_prompt: bool = False,
        folders: Mapping[str, Path] | None = None,
    ) -> None:
        """`checkpoints`: stage name -> the folder it hands on; `sandbox_log`: where results that a clock decided are
        kept; `world`: the processes that work on the stage; `by_prompt`: whether each prompt has its own random
        numbers; `folders`: of the stages before, whose labels data may have."""
        self.world = world
        self.by_prompt = by_prompt or recipe.parallel.seeds == "prompt"
        self.recipe = recipe
        self.checkpoints = checkpoints
        self.sandbox = build_sandbox(recipe.sandbox, sandbox_log)
        self.labels = LabelStages(recipe, folders or {})
        self.groups = 0  # rollouts of a prompt that judges in this process read together; 0: all that there are
        self._whole: set[str] = set()
        self._rewards: dict[tuple[str, str], Reward] = {}
        self._judges: dict[str, tuple[JudgeSettings | RatingSettings, JudgeReward | RatingReward]] = {}
        self._classifiers: dict[str, ClassifierReward] = {}
        self._teachers: dict[str, Teacher] = {}

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
            return str(self._verified(name))
        return reference

    def _verified(self, name: str) -> Path:
        """The folder that a stage hands on, its files compared with their hashes once."""
        if name not in self._whole:
            require_whole(self.checkpoints[name], name)
            self._whole.add(name)
        return self.checkpoints[name]

    def policy(self, reference: ModelReference | None, value_outputs: int = 0, train: bool = False) -> Policy:
        """A policy with its tokenizer, on its device. `train`: with the recipe's adapter, packing and checkpointing."""
        settings = self.recipe.policy
        origin = self.resolve(settings.model if reference is None else reference)
        named = settings.tokenizer if isinstance(origin, FreshModel) or reference is None else None
        tokenizer = load_tokenizer(origin, named)
        packing = settings.quantize if train else "none"
        model = load_causal_lm(origin, tokenizer, settings.dtype, pick_device(settings.device), packing)
        if train and settings.lora is not None:
            add_lora(model, Lora(**settings.lora.model_dump(exclude={"save"})), self.recipe.seed)
        policy = Policy(model, tokenizer, value_outputs)
        policy.autocast = self.autocast
        if train and settings.activation_checkpointing:
            policy.trunk.recompute()
        shard(self.world, policy)
        return policy

    def reference(self, stage: DistillStage, policy: Policy) -> Policy | AdapterOff | None:
        """What the KL is measured from; None without one. It is the policy itself with its adapter off where both start
        from the same weights."""
        if not stage.kl.beta:
            return None
        start, origin = (self.recipe.policy.model if m is None else m for m in (stage.policy, stage.reference))
        if self.recipe.policy.lora is not None and (stage.reference is None or origin == start):
            return AdapterOff(policy, policy.model)
        return self.policy(stage.policy if stage.reference is None else stage.reference)

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
        return PromptEncoder(
            policy.tokenizer, longest, task.chat, task.system, task.stop, cut, positions(policy.model) or sys.maxsize
        )

    def sampler(self, policy: Policy, task: TaskSettings) -> RolloutEngine:
        """The in-process sampler over the live policy; several processes share the prompts."""
        settings: PolicySettings = self.recipe.policy
        encoder, longest = self.encoder(policy, task), settings.max_completion_tokens
        total = min(settings.max_total_tokens or sys.maxsize, encoder.context)
        decoding = (
            "dynamic" if is_divided(policy.model) else settings.decoding
        )  # whole weights have new places each time
        batch = settings.generation_batch
        alone = PolicySampler(policy, encoder, longest, batch, total, self.by_prompt, decoding)
        return alone if self.world is ALONE else SharedSampler(self.world, alone)

    def trainee(self, stage: FitJudgeStage, task: TaskSettings) -> Trainee:
        """What a fit-judge stage trains, on the policy's device."""
        model, settings = self.resolve(stage.model), self.recipe.policy
        tokenizer, device = load_tokenizer(model, stage.tokenizer), pick_device(settings.device)
        if stage.output == "classifier":
            as_reward = ClassifierSettings(kind="classifier", model=stage.model)
            network = load_classifier(model, tokenizer, settings.dtype, device, self.recipe.seed)
            if stage.lora is not None:
                add_lora(network, Lora(**stage.lora.model_dump()), self.recipe.seed, head=True)
            longest = min(stage.max_tokens or as_reward.max_tokens, positions(network) or sys.maxsize)
            scorer = LocalClassifier(network, tokenizer, as_reward.correct_label, longest, as_reward.batch_tokens)
            if stage.loss == "bradley-terry":
                pairs = Pairs(stage.margin, stage.pairs, derived_seed(self.recipe.seed, stage.name, "pairs"))
                return ranking_trainee(Classifier(network, tokenizer), scorer, pairs, stage.centre)
            return classifier_trainee(Classifier(network, tokenizer), scorer)
        as_reward = JudgeSettings(model=stage.model)
        causal = load_causal_lm(model, tokenizer, settings.dtype, device)
        if stage.lora is not None:
            add_lora(causal, Lora(**stage.lora.model_dump()), self.recipe.seed)
        policy = Policy(causal, tokenizer)
        policy.autocast = self.autocast
        longest = min(stage.max_tokens or as_reward.max_tokens, positions(causal) or sys.maxsize)
        judge = LocalJudge(causal, judge_prompt(stage, tokenizer), longest, as_reward.batch_tokens)
        rules = JudgeRules(
            program=task.format == "program",
            keep_docstring=stage.keep_docstring,
            show_reference=stage.show_reference,
        )
        return judge_trainee(policy, judge, rules, stage.solve_loss)

    # --- data

    def task(self, data: str) -> TaskSettings:
        """The task format of a data set."""
        return self.recipe.data[data.partition(".")[0]].task or self.recipe.task

    def data(self, name: str) -> list[Prompt]:
        """The prompts of a data set or of its development split."""
        return load_data(name, self.recipe.data, self.recipe.task, self.recipe.seed, self.labels.voted)

    def solved(self, name: str) -> list[Prompt]:
        """The same for SFT: where the labels come from a label stage, a question has several solutions, each its own
        prompt."""
        return load_data(name, self.recipe.data, self.recipe.task, self.recipe.seed, self.labels.solved)

    def stream(self, name: str) -> Stream:
        """An endless stream over a data set."""
        return build_stream(name, self.recipe.data, self.recipe.task, self.recipe.seed, self.labels.voted)

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
            made = load_function(name) if ":" in name else self._build(name, self.recipe.rewards[name], task)
            self._rewards[key] = GroupedReward(made, self.groups) if self.groups and reads_here(made) else made
        return self._rewards[key]

    def together(self, reward: Reward) -> Reward:
        """The reward, scored by all processes together: then all have the same scores."""
        return shared_reward(self.world, reward)

    def term(self, term: TermSettings, policy: Policy) -> Term:
        """A term with its reward, or the teacher of this policy."""
        settings = self.recipe.rewards.get(term.reward)
        if not isinstance(settings, TeacherSettings):
            reward = self.together(self.reward(term.reward, self.task(term.data)))
            return Term(term.reward, term.data, term.weight, reward)
        if term.reward not in self._teachers:
            origin = self.resolve(settings.model)
            named = self.recipe.policy.tokenizer if isinstance(origin, FreshModel) else None
            tokenizer, device = load_tokenizer(origin, named), pick_device(settings.device)
            model = load_causal_lm(origin, tokenizer, settings.dtype, device, settings.quantize)
            self._teachers[term.reward] = Teacher(model, tokenizer, policy.tokenizer, settings.top_k)
        return Term(term.reward, term.data, term.weight, None, self._teachers[term.reward])

    def probe(self, name: str, data: str) -> Term:
        """A reward that only watches a data set."""
        return Term(name, data, 0.0, self.together(self.reward(name, self.task(data))))

    def judges(self) -> dict[str, str]:
        """How each judge that was built reads its verdict, a sentence each."""
        said = {name: verdict_sentence(judge.model) for name, (_, judge) in self._judges.items()}
        return {name: sentence for name, sentence in said.items() if sentence}

    def judge_usage(self) -> dict[str, Any]:
        """What served judges were asked and what it cost."""
        found: dict[str, Any] = {}
        for name, (settings, judge) in self._judges.items():
            if isinstance(judge.model, ServedJudge | ServedRater) and settings.server is not None:
                usage = judge.model.back_end.transport.usage
                found[name] = usage.to_json()
                if settings.server.price_per_million is not None:
                    tokens = usage.prompt_tokens + usage.completion_tokens
                    found[name]["cost"] = tokens / 1e6 * settings.server.price_per_million
        return found

    def _build(self, name: str, settings: RewardSettings, task: TaskSettings) -> Reward:
        if isinstance(settings, VerifiableSettings):
            return VerifiableReward(settings, task, self.run_programs)
        if isinstance(settings, ShuffledSettings):
            return ShuffledReward(self.reward(settings.reward, task), self.recipe.seed)
        if isinstance(settings, EnsembleSettings):
            members = [(name, self.reward(name, task)) for name in settings.rewards]
            return EnsembleReward(members, settings.combine, settings.k)
        if isinstance(settings, TeacherSettings):
            raise ModelError(f"`{name}` is a teacher, which gives no score; use it as a term of a distill stage")
        if isinstance(settings, RatingSettings):
            return self._rating(name, settings, rating_rules(settings, task.format == "program"))
        if isinstance(settings, JudgeSettings):
            return self._judging(name, settings, judge_rules(settings, task.format == "program"))
        if name not in self._classifiers:
            self._classifiers[name] = build_classifier(settings, self.resolve(settings.model))
        return self._classifiers[name]

    def _judging(self, name: str, settings: JudgeSettings, rules: JudgeRules) -> Reward:
        """For a data set of another task format: the same model, read by other rules."""
        known = self._judges.get(name, (settings, None))[1]
        if isinstance(known, JudgeReward):
            return JudgeRolloutReward(JudgeReward(known.model, rules))
        judge = JudgeReward(build_yes_no(settings, self.resolve(settings.model), self._cache), rules)
        self._judges[name] = (settings, judge)
        return JudgeRolloutReward(judge)

    def _rating(self, name: str, settings: RatingSettings, rules: JudgeRules) -> Reward:
        """The same of one that rates."""
        known = self._judges.get(name, (settings, None))[1]
        if isinstance(known, RatingReward):
            return RatingReward(known.model, rules, settings.scale)
        reward = RatingReward(build_rater(settings, self.resolve(settings.model), self._cache), rules, settings.scale)
        self._judges[name] = (settings, reward)
        return reward

    @property
    def _cache(self) -> Path:
        return self.recipe.output_dir / "judge_cache.sqlite"


def reads_here(reward: Reward) -> bool:
    """Whether it is a judge or a classifier in this process."""
    if isinstance(reward, RatingReward):
        return not isinstance(reward.model, ServedRater)
    judge = isinstance(reward, JudgeRolloutReward) and not isinstance(reward.judge.model, ServedJudge)
    return judge or isinstance(reward, ClassifierReward)


def build_classifier(settings: ClassifierSettings, model: ModelReference) -> ClassifierReward:
    """A local reranker or reward model."""
    tokenizer = load_tokenizer(model)
    network = load_classifier(model, tokenizer, settings.dtype, pick_device(settings.device), fitted=True)
    limit = min(settings.max_tokens, positions(network) or settings.max_tokens)
    back_end = LocalClassifier(network, tokenizer, settings.correct_label, limit, settings.batch_tokens)
    return ClassifierReward(back_end, settings.delta)


def build_sandbox(limits: SandboxSettings, log: Path | None = None) -> Sandbox:
    """A sandbox with these limits; `log`: where results that a clock decided are kept."""
    return Sandbox(
        workers=limits.workers,
        timeout_s=limits.timeout_s,
        memory_mb=limits.memory_mb,
        fallback="confined" if limits.fallback else "none",
        log=log,
    )


def load_correctness(settings: ClassifierSettings | Mapping[str, Any]) -> ClassifierReward:
    """A classifier's reward from settings or a plain mapping of them. Raises as `load_judge` does."""
    if not isinstance(settings, ClassifierSettings):
        settings = parse_section(ClassifierSettings, {"kind": "classifier", **settings}, "classifier")
    return build_classifier(settings, settings.model)


def load_verifier(task: TaskSettings, partial: float, sandbox: Mapping[str, Any]) -> VerifiableReward:
    """The verifiable reward; with the format `program` it has a sandbox of its own, which ends with it."""
    settings = parse_section(VerifiableSettings, {"kind": "verifiable", "partial": partial}, "verifiable")
    limits = parse_section(SandboxSettings, sandbox, "sandbox")
    if task.format != "program":
        return VerifiableReward(settings, task, lambda programs: [])
    return VerifiableReward(settings, task, build_sandbox(limits).run)
