"""What each kind of stage does: settings and a folder in, files and a result out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yonder.assemble import Workshop
from yonder.consent import admit_judges, refuse_judge
from yonder.data.attacks import ATTACKS
from yonder.data.datasets import with_solutions
from yonder.data.negatives import make_attacks, make_negatives
from yonder.data.responses import (
    append_lines,
    append_responses,
    as_rollout,
    keep_complete,
    label,
    read_lines,
    read_responses,
    reference_response,
)
from yonder.engines.build import rollout_sampler
from yonder.errors import DataError
from yonder.evaluation.benchmarks import accuracy_text, evaluate
from yonder.evaluation.judge_check.admission import MASS_FAIL
from yonder.evaluation.judge_check.check import CheckPlan
from yonder.evaluation.judge_check.measuring import measure_judge
from yonder.evaluation.judge_check.sentences import check_sentences
from yonder.handing_on import checkpoint_of, handed_on
from yonder.models.policy import Policy
from yonder.plans import (
    completions_per_step,
    distill_plan,
    estimator,
    kl_control,
    loss_settings,
    monitor_rules,
    run_states,
    safety,
    supervised_plan,
)
from yonder.recipe.attacks import WITHHELD
from yonder.recipe.data import TaskSettings
from yonder.recipe.recipe import Recipe
from yonder.recipe.stages import (
    BASE,
    CheckJudgeStage,
    CollectStage,
    DistillStage,
    EvaluateStage,
    EvaluationSchedule,
    FitJudgeStage,
    StageSettings,
    WarmupStage,
)
from yonder.refitting import build_refit
from yonder.schema import Response
from yonder.signals import StopRequest
from yonder.storage import write_json
from yonder.training.checkpoint import CheckpointStore
from yonder.training.distill import Distiller
from yonder.training.fit import HELD_OUT, LIKELIHOOD, balanced, split_by_question
from yonder.training.learner import Learner
from yonder.training.monitor import Monitor
from yonder.training.progress import Progress
from yonder.training.records import Recorder
from yonder.training.rollout import Term, derived_seed
from yonder.training.sft_losses import LanguageLoss
from yonder.training.supervised import Supervised
from yonder.training.warmup import sft_examples

Result = dict[str, Any]
FEW_FINISHED = 0.1  # share of responses that ended by themselves


@dataclass(frozen=True, slots=True)
class StageContext:
    """What every stage gets."""

    recipe: Recipe
    shop: Workshop
    folder: Path  # this stage's own folder
    folders: dict[str, Path]  # folders of the stages before it
    progress: Progress
    stop: StopRequest
    changed: bool = False  # the recipe or data did since the stage was begun, and the user allowed it


def run_stage(stage: StageSettings, context: StageContext) -> Result:
    """Run one stage in its folder; an unfinished one continues. The result goes into `stage.json` and the summary."""
    runners: dict[str, Callable[[Any, StageContext], Result]] = {
        "warmup": run_warmup,
        "collect": run_collect,
        "fit-judge": run_fit,
        "check-judge": run_check,
        "distill": run_distill,
        "evaluate": run_evaluate,
    }
    return runners[stage.kind](stage, context)


def run_warmup(stage: WarmupStage, context: StageContext) -> Result:
    """SFT on reference solutions."""
    shop = context.shop
    policy = shop.policy(stage.policy, train=True)
    task = shop.task(stage.data)
    everything = shop.data(stage.data)
    prompts = with_solutions(everything, stage.data)
    encoder = shop.encoder(policy, task, sft=True)
    seed = derived_seed(context.recipe.seed, stage.name)
    store = CheckpointStore(context.folder / "checkpoints", 2, context.recipe.policy.lora is not None)
    measure = development_accuracy(stage.evaluate, policy, context)
    job = Supervised(
        plan=supervised_plan(stage.name, seed, stage, stage.evaluate.every, stage.evaluate.patience),
        policy=policy,
        examples=sft_examples(shop.epochs(stage.data, prompts), encoder),
        loss=LanguageLoss(policy, stage.prompt_loss),
        recorder=Recorder(context.folder),
        store=store,
        progress=context.progress,
        evaluate=None if measure is None else lambda: {"development/accuracy": measure()},
        stop=context.stop,
    )
    result = job.run()
    return result | {
        "checkpoint": handed_on(context.recipe, stage.name, store, result, policy),
        "examples": len(prompts),
        "without_solution": len(everything) - len(prompts),
    }


def run_collect(stage: CollectStage, context: StageContext) -> Result:
    """Sample responses and label them; finished questions are kept when the stage is interrupted."""
    shop = context.shop
    policy = shop.policy(stage.policy)
    task = shop.task(stage.data)
    sampler, verifier = shop.sampler(policy, task), shop.verifier(task)
    prompts = shop.data(stage.data)
    path = context.folder / "responses.jsonl"
    per_temperature = [
        stage.samples // len(stage.temperatures) + (i < stage.samples % len(stage.temperatures))
        for i in range(len(stage.temperatures))
    ]
    chunk = max(1, context.recipe.policy.generation_batch // max(per_temperature))
    done = keep_complete(path, stage.samples, chunk)
    context.progress.start(stage.name, len(prompts), done)
    for start in range(done, len(prompts), chunk):
        part = prompts[start : start + chunk]
        found: list[Response] = []
        for temperature, samples in zip(stage.temperatures, per_temperature, strict=True):
            if samples:
                seed = derived_seed(context.recipe.seed, stage.name, part[0].id, temperature)
                rollouts = sampler.sample(part, samples, temperature, seed)
                found += [
                    label(r, s, stage.name, temperature)
                    for r, s in zip(rollouts, verifier.score(rollouts), strict=True)
                ]
        append_responses(path, found)
        context.progress.advance(start + len(part), {})
        if start + chunk < len(prompts):
            context.stop.check(f"{stage.name}: saved after {start + len(part)} questions")
    context.progress.finish()
    responses = read_responses(path)
    labeled = [response for response in responses if response.correct is not None]
    right = sum(bool(response.correct) for response in labeled) / max(1, len(labeled))
    finished = sum(response.finished for response in responses) / len(responses)
    mend = "" if finished > FEW_FINISHED else "; raise policy.max_completion_tokens or set task.stop"
    context.progress.say(
        f"{stage.name}: {len(responses)} responses, {right:.1%} right, {finished:.1%} ended by themselves{mend}"
    )
    return {
        "responses": len(responses),
        "unlabeled": len(responses) - len(labeled),
        "correct": right,
        "finished": finished,
    }


def run_fit(stage: FitJudgeStage, context: StageContext) -> Result:
    """Train a judge or classifier on labeled responses, reference solutions and negatives."""
    shop, seed = context.shop, derived_seed(context.recipe.seed, stage.name)
    responses = [r for name in stage.responses for r in read_responses(context.folders[name] / "responses.jsonl")]
    responses = [response for response in responses if response.correct is not None]
    for name in stage.data:
        responses += [reference_response(prompt, name) for prompt in with_solutions(shop.data(name), name)]
    responses = list({(r.question, r.response): r for r in responses}.values())  # [ReFT]: exact duplicates removed
    task = shop.task(stage.data[0]) if stage.data else responses_task(stage.responses, context)
    shares = {str(kind): share for kind, share in stage.negatives.items()}
    responses += still_wrong(make_negatives(responses, shares, seed), task, context)
    training, held_out = split_by_question(responses, stage.held_out, seed)
    if not training or not held_out:
        raise DataError(
            f"stage {stage.name}: {len(responses)} labeled responses are too few to train on and hold out from"
        )
    trainee = shop.trainee(stage, task)
    examples = trainee.examples(training)
    store = CheckpointStore(context.folder / "checkpoints", keep=2)
    job = Supervised(
        plan=supervised_plan(stage.name, seed, stage, 1, stage.patience),
        policy=trainee.model,
        examples=lambda epoch: examples if stage.balance == "none" else balanced(examples, seed, epoch),
        loss=trainee.loss,
        recorder=Recorder(context.folder),
        store=store,
        progress=context.progress,
        evaluate=trainee.quality(held_out),
        metric=LIKELIHOOD,
        stop=context.stop,
    )
    result = job.run()
    right = sum(bool(r.correct) for r in training) / len(training)
    counts = {"training": len(training), "held_out": len(held_out), "correct_share": right}
    return result | counts | chosen_figures(context.folder, result) | {"checkpoint": checkpoint_of(store, result)}


def chosen_figures(folder: Path, result: Result) -> Result:
    """What the chosen checkpoint of a fit reached on held-out questions."""
    row = next(row for row in read_lines(folder / "metrics.jsonl") if row["epoch"] == result["chosen_step"])
    return {"held_out_figures": {k.removeprefix(HELD_OUT): v for k, v in row.items() if k.startswith(HELD_OUT)}}


def still_wrong(negatives: Sequence[Response], task: TaskSettings, context: StageContext) -> list[Response]:
    """Made negatives without those whose answer is right all the same."""
    scores = context.shop.verifier(task).score([as_rollout(response) for response in negatives])
    return [
        r
        for r, score in zip(negatives, scores, strict=True)
        if score.value is not None and not score.details["correct"]
    ]


def run_check(stage: CheckJudgeStage, context: StageContext) -> Result:
    """Measure a reward against verified responses and the attack suite; a judge that fails stops the run."""
    recipe, settings = context.recipe, context.recipe.rewards.get(stage.reward)
    responses = [r for name in stage.responses for r in read_responses(context.folders[name] / "responses.jsonl")]
    responses = [response for response in responses if response.correct is not None]
    task = responses_task(stage.responses, context)
    attacks = make_attacks(responses, stage.attack_questions, recipe.seed)  # the same for every reward
    responses += still_wrong(attacks, task, context)
    reward = context.shop.reward(stage.reward, task)
    announce(context)
    context.progress.start(stage.name, 1)
    plan = CheckPlan(
        delta=getattr(settings, "delta", 0.0) or 0.5,
        floor=stage.floor,
        mass_floor=min(MASS_FAIL, getattr(settings, "mass_floor", MASS_FAIL)),
        attacks=ATTACKS,
        withheld=WITHHELD,
        likelihood_questions=stage.likelihood_questions,
    )
    check = measure_judge(reward, responses, plan, context.shop.judge_usage)
    context.progress.finish()
    write_json(context.folder / "judge_check.json", check.to_json())
    for sentence in check_sentences(check):
        context.progress.say(f"{stage.name}: {sentence}")
    refuse_judge(recipe, stage, check.admission)
    result: Result = {"verdict": check.admission.verdict, "sentence": check.admission.why}
    if check.attacks is not None:
        result["attacks"] = check.attacks.overall.rate
        result["withheld_attacks"] = check.attacks.withheld.rate
    return result


def announce(context: StageContext) -> None:
    """Say how each judge of this stage reads its verdict: a wrong template shows here first."""
    for name, sentence in context.shop.judges().items():
        context.progress.say(f"judge {name}: {sentence}")


def responses_task(names: Sequence[str], context: StageContext) -> TaskSettings:
    """The task format of the data set that the first of these collect stages answered."""
    stage = context.recipe.stage(names[0]) if names else None
    return context.shop.task(stage.data) if isinstance(stage, CollectStage) else context.recipe.task


def run_distill(stage: DistillStage, context: StageContext) -> Result:
    """RL with weighted terms."""
    recipe, shop = context.recipe, context.shop
    for sentence in admit_judges(recipe, stage, context.folders):
        context.progress.say(f"{stage.name}: {sentence}")
    task = shop.task(stage.terms[0].data)  # of the prompts' form; each term's reward reads its own data set's task
    ppo = stage.algorithm == "ppo"
    outputs = (len(stage.terms) if stage.ppo.value_per_term else 1) if ppo else 0
    policy = shop.policy(stage.policy, outputs, train=True)
    terms = [shop.term(term, policy) for term in stage.terms]
    verified = [
        t for t in terms if recipe.rewards.get(t.reward_name) and recipe.rewards[t.reward_name].kind == "verifiable"
    ]
    labeled = verified[0] if verified else None
    scored = [term for term in terms if term.teacher is None]
    probes = (
        [Term(name, labeled.stream, 0.0, shop.reward(name, shop.task(labeled.stream))) for name in stage.monitor.probe]
        if labeled
        else []
    )
    programs = {t.data: shop.verifier(shop.task(t.data)) for t in stage.terms if shop.task(t.data).format == "program"}
    runs = run_states(scored, programs, stage.monitor.run_unlabeled)
    announce(context)
    refit = build_refit(stage, shop, policy, labeled, context.folders)
    store = CheckpointStore(context.folder / "checkpoints", stage.keep, recipe.policy.lora is not None)
    plan, recorder = distill_plan(stage, recipe), Recorder(context.folder, stage.log_rollouts)
    learner = Learner(
        plan=plan,
        policy=policy,
        reference=shop.reference(stage, policy),
        value_outputs=list(range(len(terms))) if stage.ppo.value_per_term else [0] * len(terms),
        estimator=estimator(stage, recipe),
        loss=loss_settings(stage, recipe),
        recorder=recorder,
        progress=context.progress,
        kl=kl_control(stage),
        sampler_apart=stage.rollouts.engine != "in-process",
    )
    job = Distiller(
        plan=plan,
        learner=learner,
        sampler=rollout_sampler(stage, shop.sampler(policy, task), context.folder),
        streams={name: shop.stream(name) for name in stage.prompts},
        terms=terms,
        probes=probes,
        monitor=Monitor(monitor_rules(stage), scored, probes, labeled.reward_name if labeled else None, runs),
        safety=safety(stage, labeled, () if refit is None else refit.rewards),
        recorder=recorder,
        store=store,
        progress=context.progress,
        evaluate=development_accuracy(stage.evaluate, policy, context),
        refit=refit,
        stop=context.stop,
        changed=context.changed,
    )
    result = job.run()
    if refit is not None:
        result["judge"] = checkpoint_of(store, result, refit.folder)
    result["checkpoint"] = handed_on(recipe, stage.name, store, result, policy)
    return result | {"completions_per_step": completions_per_step(stage)}


def run_evaluate(stage: EvaluateStage, context: StageContext) -> Result:
    """Answer every benchmark with every checkpoint; finished pairs are kept when the stage is interrupted."""
    path = context.folder / "evaluations.jsonl"
    rows = read_lines(path)
    done = {(row["stage"], row["benchmark"]) for row in rows}
    for name in stage.checkpoints:
        for benchmark in stage.benchmarks:
            if (name, benchmark) not in done:
                context.stop.check(f"{stage.name}: saved after {len(rows)} of its evaluations")
                row = {"stage": name, "benchmark": benchmark} | evaluate_one(name, benchmark, context)
                rows.append(row)
                append_lines(path, [row])
    results: dict[str, dict[str, Any]] = {}
    for row in rows:
        figures = {key: value for key, value in row.items() if key not in ("stage", "benchmark")}
        results.setdefault(row["stage"], {})[row["benchmark"]] = figures
    return {"results": results}


def evaluate_one(checkpoint: str, benchmark: str, context: StageContext) -> dict[str, Any]:
    """One cell of the table."""
    shop, settings = context.shop, context.recipe.benchmarks[benchmark]
    policy = shop.policy(None if checkpoint == BASE else f"stage:{checkpoint}")
    task = shop.task(settings.data)
    prompts = shop.data(settings.data)
    context.progress.start(f"{checkpoint} on {benchmark}", len(prompts) * (1 + settings.votes))
    result = evaluate(
        prompts,
        shop.sampler(policy, task),
        shop.verifier(task),
        votes=settings.votes,
        vote_temperature=settings.vote_temperature,
        tolerance=task.tolerance,
        seed=derived_seed(context.recipe.seed, benchmark),
        progress=lambda done, total: context.progress.advance(done, {}),
    )
    context.progress.finish()
    found = result.to_json()
    reasons = f" ({next(iter(result.reasons))})" if result.reasons else ""
    context.progress.say(f"{checkpoint} on {benchmark}: {accuracy_text(found)}{reasons}")
    return found


def development_accuracy(
    settings: EvaluationSchedule, policy: Policy, context: StageContext
) -> Callable[[], float] | None:
    """Greedy accuracy of the live policy on the development split, if the recipe names one."""
    if settings.data is None or not settings.every:
        return None
    shop, task = context.shop, context.shop.task(settings.data)
    prompts = shop.data(settings.data)[: settings.limit]
    sampler, verifier = shop.sampler(policy, task), shop.verifier(task)
    return lambda: evaluate(prompts, sampler, verifier).accuracy.value
