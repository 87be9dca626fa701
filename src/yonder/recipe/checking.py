"""The checks of a recipe that need more than one section."""

import os
from pathlib import Path
from typing import Any

from yonder.recipe.alpaca_eval import AlpacaEvalStage
from yonder.recipe.answers import CollectStage, LabelStage
from yonder.recipe.judge_stages import CheckJudgeStage, FitJudgeStage
from yonder.recipe.models import FreshModel
from yonder.recipe.references import (
    answered_task,
    data_names,
    data_of,
    label_stages,
    labeled_by,
    labels_of,
    learned_from,
    members_of,
    model_references,
    models_of,
    responses_of,
    rewards_of,
)
from yonder.recipe.rewards import (
    ClassifierSettings,
    JudgeSettings,
    PreferenceSettings,
    ShuffledSettings,
    TeacherSettings,
)
from yonder.recipe.sections import Sections
from yonder.recipe.stage_base import BASE
from yonder.recipe.stages import DistillStage, EvaluateStage, StageSettings, WarmupStage


def check_references(recipe: Sections) -> None:
    """Raise ValueError where a name in the recipe points at nothing; the message begins with the key."""
    _check_data(recipe)
    _check_label_stages(recipe)
    _check_members(recipe)
    seen: set[str] = set()
    for stage in recipe.stages:
        key = f"stages.{stage.name}"
        if stage.name == BASE:
            raise ValueError(f"{key}: `{BASE}` stands for policy.model in evaluate stages; use another name")
        if stage.name in seen:
            raise ValueError(f"{key}: two stages have this name; rename one")
        for data_key, name in data_of(stage):
            _known(f"{key}.{data_key}", "data set", name, data_names(recipe))
        rewards = (
            [term.reward for term in stage.terms if ":" not in term.reward] if isinstance(stage, DistillStage) else []
        )
        for name in [*rewards, *rewards_of(recipe, stage)]:
            _known(f"{key}", "reward", name, recipe.rewards)
        if isinstance(stage, EvaluateStage):
            _check_benchmarks(recipe, stage, key)
        if isinstance(stage, DistillStage):
            _check_monitor(recipe, stage, key)
            _check_refit(recipe, stage, f"{key}.refit")
            _check_follow(recipe, stage, f"{key}.follow")
            _check_shuffled(recipe, stage, key)
            for i, term in enumerate(stage.terms):
                settings = recipe.rewards.get(term.reward)
                if settings is not None and settings.kind == "verifiable":
                    _check_labels(recipe, f"{key}.terms.{i}", term.data)
        _check_text_teacher(recipe, stage, key)
        _check_teachers(recipe, stage, key)
        _check_adapter(recipe, stage)
        _check_inputs(recipe, stage, key, seen)
        _check_label(recipe, stage, key)
        _check_development(recipe, stage, key)
        _check_choice(recipe, stage, key)
        _check_taken_for_right(recipe, stage, key)
        seen.add(stage.name)


def _check_inputs(recipe: Sections, stage: StageSettings, key: str, seen: set[str]) -> None:
    """Every stage that this one reads must stand before it."""
    names = {other.name for other in recipe.stages}
    for where, model in models_of(recipe, stage):
        if model in names and not Path(model).is_dir():
            raise ValueError(f"{where}: there is no folder `{model}`, but a stage; did you mean `stage:{model}`?")
        if model.startswith("stage:"):
            _known(where, "earlier stage", model.removeprefix("stage:"), seen)
    references = {*responses_of(stage), *labels_of(recipe, stage)}
    if isinstance(stage, EvaluateStage | AlpacaEvalStage):
        references.update(set(stage.checkpoints) - {BASE})
    for name in sorted(references):
        _known(key, "earlier stage", name, seen)
    models = {reference.removeprefix("stage:") for reference in model_references(recipe, stage)}
    answers = set(stage.checkpoints) - {BASE} if isinstance(stage, EvaluateStage | AlpacaEvalStage) else set[str]()
    models.update(answers)
    for name in sorted(models):
        kind = recipe.stage(name).kind
        if kind not in ("warmup", "distill", "fit-judge") or (name in answers and kind == "fit-judge"):
            raise ValueError(
                f"{key}: stage `{name}` is of kind {kind}, which trains no model to use here; name another"
            )
    for where, model in models_of(recipe, stage):
        if model.startswith("stage:"):
            _check_head(recipe, stage, where, model.removeprefix("stage:"))
    for name in stage.responses if isinstance(stage, FitJudgeStage | CheckJudgeStage) else ():
        if recipe.stage(name).kind not in ("collect", "label"):
            raise ValueError(f"{key}: stage `{name}` collects no responses; name one of kind collect or label")


def _check_head(recipe: Sections, stage: StageSettings, where: str, name: str) -> None:
    """A classifier is what was fitted as one, and nothing else is: a head that nobody trained scores at random."""
    source = recipe.stage(name)
    fitted = isinstance(source, FitJudgeStage) and source.output == "classifier"
    reward = recipe.rewards.get(where.split(".")[1]) if where.startswith("rewards.") else None
    if isinstance(reward, ClassifierSettings) and not fitted:
        raise ValueError(
            f"{where}: stage `{name}` hands on no classifier; name a fit-judge stage with `output: classifier`"
        )
    trained_on = isinstance(stage, FitJudgeStage) and stage.output == "classifier"
    if fitted and not isinstance(reward, ClassifierSettings) and not trained_on:
        raise ValueError(f"{where}: stage `{name}` hands on a classifier, which writes nothing; name another")


def _check_development(recipe: Sections, stage: StageSettings, key: str) -> None:
    """The checkpoint is chosen on questions that the stage does not train on."""
    if not isinstance(stage, WarmupStage | DistillStage):
        return
    trained = {stage.data} if isinstance(stage, WarmupStage) else {term.data for term in stage.terms}
    mixtures = [recipe.data[name.partition(".")[0]].mixture or {} for name in trained]
    if stage.evaluate.data in trained.union(*mixtures):
        raise ValueError(
            f"{key}.evaluate.data: the stage trains on `{stage.evaluate.data}`; name a development split "
            f"(`{stage.evaluate.data}.development`, with `development` set in the data set)"
        )


def _check_choice(recipe: Sections, stage: StageSettings, key: str) -> None:
    """No test set chooses a checkpoint: neither a benchmark's data, nor another data set with the same questions."""
    chosen = stage.evaluate.data if isinstance(stage, WarmupStage | DistillStage) else None
    if chosen is None or chosen.endswith(".development"):
        return
    tests = {name: one.data for name, one in recipe.benchmarks.items() if not one.data.endswith(".development")}
    mine = _sources(recipe, chosen)
    wrong = [name for name, data in tests.items() if chosen == data or mine & _sources(recipe, data)]
    if wrong:
        raise ValueError(
            f"{key}.evaluate.data: `{chosen}` has the questions of benchmark `{wrong[0]}`, and a test set chooses no "
            "checkpoint; name a development split (`NAME.development`, with `development` set in the data set)"
        )


def _sources(recipe: Sections, name: str) -> set[tuple[str, str, str]]:
    """Where the questions of a data set come from: source, split and options, of a mixture those of its parts."""
    settings = recipe.data[name.partition(".")[0]]
    if settings.source is not None:
        source = settings.source if settings.source.startswith("hub:") else os.path.normpath(settings.source)
        return {(source, settings.split, str(sorted(settings.options.items())))}
    parts = [part for part in settings.mixture or {} if not part.endswith(".development") and part != name]
    return {source for part in parts if recipe.data[part].source for source in _sources(recipe, part)}


def _check_teachers(recipe: Sections, stage: StageSettings, key: str) -> None:
    """A teacher gives no score, so it stands in terms only; lengths that the policy's limit decides must fit it."""
    teachers = {name for name, settings in recipe.rewards.items() if isinstance(settings, TeacherSettings)}
    terms = [term.reward for term in stage.terms] if isinstance(stage, DistillStage) else []
    wrong = [name for name in rewards_of(recipe, stage) if name in teachers and name not in terms]
    if wrong:
        raise ValueError(f"{key}: `{wrong[0]}` is a teacher, which gives no score; name a reward, or use it in a term")
    if not isinstance(stage, DistillStage):
        return
    if stage.algorithm == "ppo" and stage.ppo.head_warmup and set(terms) <= teachers:
        raise ValueError(f"{key}.ppo.head_warmup: no term has a reward, so there is no value to learn; leave it out")
    longest = recipe.policy.max_completion_tokens
    if stage.overlong is not None and stage.overlong.margin > longest:
        raise ValueError(
            f"{key}.overlong.margin: {stage.overlong.margin} tokens are more than policy.max_completion_tokens "
            f"({longest}); lower it"
        )


def _check_text_teacher(recipe: Sections, stage: StageSettings, key: str) -> None:
    """A teacher that goes on from the policy's prompt cannot know the policy's chat template."""
    if not isinstance(stage, CollectStage) or stage.teacher is None or stage.teacher.way == "chat":
        return
    if (recipe.data[stage.data.partition(".")[0]].task or recipe.task).chat:
        raise ValueError(f"{key}.teacher.way: completions excludes `task.chat` of its data set; use `way: chat`")


def _check_adapter(recipe: Sections, stage: StageSettings) -> None:
    """An adapter is handed on alone only where its weights can be found again."""
    lora = recipe.policy.lora
    if recipe.policy.quantize != "none" and recipe.parallel.strategy == "fsdp2":
        raise ValueError("parallel.strategy: fsdp2 does not divide packed weights (policy.quantize); use ddp")
    if recipe.policy.decoding in ("static", "compiled") and recipe.parallel.strategy == "fsdp2":
        raise ValueError(
            f"policy.decoding: {recipe.policy.decoding} needs weights that stay where they are, which "
            "parallel.strategy: fsdp2 gathers anew; use ddp, or decoding: auto"
        )
    if lora is None or lora.save != "adapter" or not isinstance(stage, WarmupStage | DistillStage):
        return
    start = recipe.policy.model if stage.policy is None else stage.policy
    if isinstance(start, FreshModel) and not learned_from(recipe, stage.name):
        raise ValueError(
            f"policy.lora.save: stage `{stage.name}` starts from a fresh model, whose weights are nowhere to load its "
            "adapter on; set `merged`"
        )


def _check_monitor(recipe: Sections, stage: DistillStage, key: str) -> None:
    """A probe is compared with the truth on labeled prompts, so there must be a verifiable term; what is run must be a
    program."""
    kinds = {recipe.rewards[term.reward].kind for term in stage.terms if term.reward in recipe.rewards}
    if stage.monitor.probe and "verifiable" not in kinds:
        raise ValueError(
            f"{key}.monitor.probe: a probe is compared with a verifiable term on labeled prompts; "
            "add one (its weight may be 0)"
        )
    judged = [t for t in stage.terms if t.reward not in recipe.rewards or recipe.rewards[t.reward].kind != "verifiable"]
    formats = {(recipe.data[term.data.partition(".")[0]].task or recipe.task).format for term in judged}
    if stage.monitor.run_unlabeled and "program" not in formats:
        raise ValueError(
            f"{key}.monitor.run_unlabeled: no judge scores programs here (`task.format: program`), so there is nothing "
            "to run; remove it"
        )


def _check_refit(recipe: Sections, stage: DistillStage, key: str) -> None:
    """What is fitted must be weights of this process that this stage uses; what it is fitted on must be verified."""
    refit = stage.refit
    if refit is None:
        return
    _known(f"{key}.reward", "reward of this stage", refit.reward, rewards_of(recipe, stage))
    settings = recipe.rewards[refit.reward]
    if not isinstance(settings, JudgeSettings | ClassifierSettings) or getattr(settings, "server", None) is not None:
        raise ValueError(
            f"{key}.reward: `{refit.reward}` has no weights here to fit; name a judge with `backend: local` or a "
            "classifier"
        )
    if isinstance(settings, JudgeSettings) and (
        settings.quantize != "none" or settings.device == "spread" or not isinstance(settings.device, str)
    ):
        raise ValueError(
            f"{key}.reward: packed weights, copies and spread layers are not trained; set "
            f"rewards.{refit.reward}.quantize to none and its `device` to one device"
        )
    if settings.dtype != "float32" and refit.lora is None:
        raise ValueError(
            f"{key}: steps of {refit.lr:g} are lost in `{settings.dtype}` weights; set rewards.{refit.reward}.dtype to "
            "float32, or `lora`"
        )
    watched = any(
        name == refit.reward or refit.reward in members_of(recipe.rewards.get(name)) for name in stage.monitor.probe
    )
    if watched and 0 < refit.every <= stage.monitor.window:
        raise ValueError(
            f"{key}.every: the monitor's window of {stage.monitor.window} iterations never fills when scores change "
            f"every {refit.every}; raise `every` or lower `monitor.window`"
        )
    if refit.data is not None:
        _check_labels(recipe, f"{key}.data", refit.data)
    elif "verifiable" not in {recipe.rewards[t.reward].kind for t in stage.terms if t.reward in recipe.rewards}:
        raise ValueError(
            f"{key}: no term is verifiable, so no rollout has a label; set `data` to a labeled data set, or add such a "
            "term (its weight may be 0)"
        )
    for name in refit.replay:
        if name in {other.name for other in recipe.stages} and recipe.stage(name).kind not in ("collect", "label"):
            raise ValueError(f"{key}.replay: stage `{name}` collects no responses; name one of kind collect or label")


def _check_benchmarks(recipe: Sections, stage: EvaluateStage, key: str) -> None:
    """What is measured has the answers of its source."""
    for name in stage.benchmarks:
        _known(f"{key}.benchmarks", "benchmark", name, recipe.benchmarks)
        data = recipe.benchmarks[name].data
        if label_stages(recipe, data):
            raise ValueError(
                f"benchmarks.{name}: the labels of `{data}` come from a label stage, and votes are no test labels; "
                "name data with answers of its source"
            )
        _check_labels(recipe, f"benchmarks.{name}", data)


def _check_label(recipe: Sections, stage: StageSettings, key: str) -> None:
    """What votes or is labeled was collected; a judge that labels looks at no answer of the source."""
    if not isinstance(stage, LabelStage):
        return
    for name in responses_of(stage):
        if recipe.stage(name).kind != "collect":
            raise ValueError(f"{key}: stage `{name}` collects no responses; name a stage of kind collect")
    by = labeled_by(recipe, stage)
    if by == "vote" and answered_task(recipe, stage.teacher).format == "open":
        raise ValueError(f"{key}.by: answers to `format: open` cannot be counted; write `by: judge` and name a `judge`")
    if by == "vote" or isinstance(stage.judge, PreferenceSettings):
        return
    if stage.judge is None:
        raise ValueError(f"{key}: answers to `format: open` are labeled by a judge; name a reward in `judge`")
    if recipe.rewards[stage.judge].kind in ("verifiable", "shuffled", "teacher"):
        raise ValueError(
            f"{key}.judge: a reward of kind {recipe.rewards[stage.judge].kind} judges nothing; name a judge, "
            "classifier or ensemble"
        )


def _check_label_stages(recipe: Sections) -> None:
    """The labels of data come from stages that label."""
    kinds = {stage.name: stage.kind for stage in recipe.stages}
    for name, settings in recipe.data.items():
        label = (settings.labels or "").removeprefix("stage:")
        if label and label not in kinds:
            _known(f"data.{name}.labels", "label stage", label, [n for n, kind in kinds.items() if kind == "label"])
        if label and kinds[label] != "label":
            raise ValueError(f"data.{name}.labels: stage `{label}` is of kind {kinds[label]}; name one of kind label")


def _check_taken_for_right(recipe: Sections, stage: StageSettings, key: str) -> None:
    """Solutions that a judge is fitted on as right ones were found good."""
    for name in stage.data if isinstance(stage, FitJudgeStage) else ():
        if recipe.data[name.partition(".")[0]].solutions == "all":
            raise ValueError(f"{key}.data: `{name}` has `solutions: all`, which may be wrong; write `solutions: good`")


def _check_follow(recipe: Sections, stage: DistillStage, key: str) -> None:
    """What follows the policy is a judge of this process that this stage uses, and began as the same weights."""
    if stage.follow is None:
        return
    name = stage.follow.reward
    _known(f"{key}.reward", "reward of this stage", name, rewards_of(recipe, stage))
    settings = recipe.rewards[name]
    if not isinstance(settings, JudgeSettings) or settings.backend != "local" or settings.quantize != "none":
        raise ValueError(f"{key}.reward: `{name}` is no judge with weights here; name one with `backend: local`")
    if not isinstance(settings.device, str) or settings.device == "spread":
        raise ValueError(f"{key}.reward: copies and spread layers cannot follow; name one device in rewards.{name}")
    start = recipe.policy.model if stage.policy is None else stage.policy
    if settings.model != start:
        raise ValueError(f"{key}.reward: `{name}` is no copy of the policy; set rewards.{name}.model to {start}")
    if recipe.parallel.strategy == "fsdp2":
        raise ValueError(f"{key}: a divided policy is not followed; set parallel.strategy to ddp, or remove `follow`")


def _check_shuffled(recipe: Sections, stage: DistillStage, key: str) -> None:
    """A permutation of one score is that score: such a control would be its reward itself, and needs no consent."""
    for i, term in enumerate(stage.terms):
        settings = recipe.rewards.get(term.reward)
        if isinstance(settings, ShuffledSettings) and stage.prompts[term.data] * stage.group_size < 2:
            raise ValueError(
                f"{key}.terms.{i}: `{term.reward}` has one rollout an iteration, which shuffled is itself; raise "
                f"`prompts.{term.data}`"
            )


def _check_labels(recipe: Sections, key: str, name: str) -> None:
    """What is verified needs labels and a format that has a right answer."""
    data = recipe.data[name.partition(".")[0]]
    if not data.labeled and data.labels is None:
        raise ValueError(
            f"{key}: data set `{name}` has `labeled: false`, so nothing can be verified on it; use another"
        )
    if (data.task or recipe.task).format == "open":
        raise ValueError(
            f"{key}: `format: open` has no right answer to verify; use a judge as reward, and no benchmark"
        )


def _check_members(recipe: Sections) -> None:
    """Rewards made of others name plain ones."""
    for name, settings in recipe.rewards.items():
        for member in members_of(settings):
            _known(f"rewards.{name}", "reward", member, set(recipe.rewards) - {name})
            if isinstance(recipe.rewards[member], TeacherSettings):
                raise ValueError(f"rewards.{name}: `{member}` is a teacher, which gives no score; name a reward")
            if members_of(recipe.rewards[member]):
                raise ValueError(f"rewards.{name}: `{member}` is made of rewards itself; name its members instead")


def _check_data(recipe: Sections) -> None:
    for name, settings in recipe.data.items():
        if "." in name:
            raise ValueError(f"data.{name}: a data set's name has no dot; `.development` is added by Yonder")
        for other in settings.mixture or {}:
            _known(f"data.{name}.mixture", "data set", other, data_names(recipe))
        for other in settings.without:
            _known(f"data.{name}.without", "other data set", other, set(recipe.data) - {name})
            if recipe.data[other].mixture is not None or recipe.data[other].without:
                raise ValueError(f"data.{name}.without: `{other}` is itself made of others; name those over one source")
        if settings.shots_from is not None:
            _known(f"data.{name}.shots_from", "data set", settings.shots_from, data_names(recipe))
    for name, benchmark in recipe.benchmarks.items():
        _known(f"benchmarks.{name}.data", "data set", benchmark.data, data_names(recipe))


def _known(key: str, what: str, name: str, names: Any) -> None:
    if name not in names:
        have = ", ".join(sorted(names)) or "none"
        raise ValueError(f"{key}: there is no {what} `{name}`; there is: {have}")
