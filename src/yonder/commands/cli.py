"""The command line. Heavy imports happen inside each command, so that `yonder --help` answers at once."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from yonder.commands.endings import alike, guarded, listening
from yonder.errors import Interrupted, RecipeError

app = typer.Typer(
    help="Teach a small language model with the Yes/No of a large one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name or a YAML file.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY.SUB=VALUE]...", help="Values to use instead.")]
AllowChanges = Annotated[
    bool, typer.Option("--allow-changes", help="Go on with unfinished stages though their recipe or data changed.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON line at the end.")]
StageName = Annotated[str | None, typer.Option("--stage", help="Only the stage of this name.")]


@app.command()
def run(
    recipe: RecipeArgument, overrides: Overrides = None, allow_changes: AllowChanges = False, as_json: Json = False
) -> None:
    """Run all stages of a recipe; finished ones are skipped, an unfinished one continues."""
    _run(recipe, overrides, allow_changes, as_json)


def _stage_command(kind: str, summary: str) -> None:
    def command(
        recipe: RecipeArgument,
        overrides: Overrides = None,
        stage: StageName = None,
        allow_changes: AllowChanges = False,
        as_json: Json = False,
    ) -> None:
        _run(recipe, overrides, allow_changes, as_json, kind, stage)

    command.__doc__ = f"{summary} Stages that it reads are run first if they are not done."
    app.command(name=kind)(command)


_stage_command("warmup", "Train the policy on reference solutions (SFT).")
_stage_command("collect", "Sample responses and label them.")
_stage_command("label", "Label responses by a teacher's vote or by a judge.")
_stage_command("fit-judge", "Train a judge or classifier on labeled responses.")
_stage_command("check-judge", "Measure a judge before it may train anything.")
_stage_command("distill", "Train the policy by RL with weighted rewards.")
_stage_command("evaluate", "Answer benchmarks with the stages' checkpoints.")
_stage_command("alpaca-eval", "Compare the checkpoints' answers with a baseline's: AlpacaEval 2.")


@app.command()
def sweep(  # noqa: PLR0913 - one argument an option
    name: Annotated[
        str | None, typer.Argument(metavar="SWEEP|RECIPE", help="A shipped sweep, a sweep's YAML file, or a recipe.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY.SUB=VALUE]...", help="For every run.")] = None,
    grid: Annotated[
        list[str] | None, typer.Option(metavar="KEY=V1,V2", help="One row a value; several: every combination.")
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: KEY=V KEY=V'", help="A row; with --grid, for each of its values."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1,2", help="Each row is run with each.")] = None,
    baseline: Annotated[str | None, typer.Option(metavar="ROW", help="Compare with this row.")] = None,
    checkpoint: Annotated[str | None, typer.Option(metavar="STAGE", help="Whose model the rows show.")] = None,
    output_dir: Annotated[Path | None, typer.Option(help="Default: runs/sweep-NAME.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, each in a process of its own.")] = 1,
    run_: Annotated[str | None, typer.Option("--run", metavar="ROW/SEED", help="Only this run, no table.")] = None,
    print_commands: Annotated[bool, typer.Option("--print-commands", help="One command a run; run nothing.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Only collect what is done, and write the table.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped sweeps.")] = False,
    allow_changes: AllowChanges = False,
    as_json: Json = False,
) -> None:
    """Run one schedule over weights, judges, data or algorithms and seeds, and make the table; go on where it was."""
    from yonder.sweeps.command import Asked, list_sweeps, run_commands

    if list_ or name is None:
        typer.echo("\n".join(list_sweeps()))
        return
    asked = Asked(name, overrides or [], grid or [], row or [], seeds, baseline, checkpoint, output_dir, allow_changes)
    if sum((run_ is not None, print_commands, table)) > 1:
        raise RecipeError("--run, --print-commands and --table are three things to do; give one of them")
    if print_commands:
        typer.echo("\n".join(run_commands(asked)))
        return
    plan = asked.plan()

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from yonder.commands.terminal import Lines, TerminalProgress, print_sweep
    from yonder.sweeps.making import make_run, make_sweep, make_table, refuse_failed

    bar = TerminalProgress() if sys.stderr.isatty() else Lines()
    try:
        with listening() as stop:
            if run_ is not None:
                make_run(plan, run_, stop, bar, allow_changes)
                return
            found = make_table(plan) if table else make_sweep(plan, asked, jobs, stop, bar)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the same command continues where it was") from None
    typer.echo(json.dumps(found)) if as_json else print_sweep(found)
    refuse_failed(found, collecting=table)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories.")],
    output: Annotated[Path | None, typer.Option(help="Where to write the page.")] = None,
) -> None:
    """Write the HTML page of one run, or one page that compares several."""
    from yonder.reporting.page import write_report

    typer.echo(write_report(runs, output))


@app.command()
def watch(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories, or folders that hold them.")],
    terminal: Annotated[bool, typer.Option("--terminal", help="Here, without a browser.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page on this machine; 0: a free one.")] = 0,
    every: Annotated[float | None, typer.Option(metavar="SECONDS", help="Least time between two updates.")] = None,
) -> None:
    """Show runs while they train: the page, served to browsers of this machine, or a view in the terminal."""
    from yonder.watching.command import watch as watch_runs

    watch_runs(runs, terminal, port, every)


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to look, folders in it included.")] = Path(
        "runs"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a run instead.")] = False,
) -> None:
    """List the run directories below a folder: state, stage, accuracy, age."""
    from yonder.watching.command import print_runs, runs_below, summary

    if as_json:
        for state in runs_below(folder):
            typer.echo(json.dumps(summary(state)))
        return
    print_runs(folder)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN_A[:STAGE]", help="A run directory, or one row of it.")],
    second: Annotated[str, typer.Argument(metavar="RUN_B[:STAGE]", help="Another; or the same with another stage.")],
    examples: Annotated[int, typer.Option(min=0, help="Questions to show of each kind of flip.")] = 3,
    as_json: Json = False,
) -> None:
    """Compare two runs question by question: paired difference with its interval, McNemar's test, flips."""
    from yonder.commands.comparing import compare_runs
    from yonder.commands.terminal import print_comparison

    found = compare_runs(first, second, examples)
    if as_json:
        typer.echo(json.dumps(found))
        return
    print_comparison(found)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one; without a name, list all.")] = None,
    written_out: Annotated[bool, typer.Option("--written-out", help="With every default and every round.")] = False,
) -> None:
    """List the shipped recipes, or show one."""
    from yonder.recipe import dump_recipe, find_recipe, load_recipe, shipped_recipes

    if name is not None and written_out:
        typer.echo(dump_recipe(load_recipe(name)))
        return
    if name is not None:
        typer.echo(find_recipe(name).read_text(encoding="utf-8"))
        return
    names = shipped_recipes()
    width = max(len(name) for name in names)
    for known in names:
        typer.echo(f"{known:<{width}}  {load_recipe(known).title}")


@app.command()
def judge(  # noqa: PLR0913 - one argument an option
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Responses, one JSON object a line.")],
    model: Annotated[str, typer.Option(help="The judge: a hub name, a folder, or yonder:judge.")],
    prompt: Annotated[
        str, typer.Option(help="program, program-fenced, text, steps, open, or a file of yours.")
    ] = "program",
    output: Annotated[Path | None, typer.Option(help="Where to write; default: FILE.scored.jsonl.")] = None,
    question: Annotated[str, typer.Option(metavar="COLUMN", help="Column with the question.")] = "question",
    response: Annotated[str, typer.Option(metavar="COLUMN", help="Column with the response.")] = "response",
    correct: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column that says whether it is right; default: correct.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other key of a reward of kind judge.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score the responses in a file (JSONL, JSON, CSV, parquet) with a judge; an interrupted call continues."""
    from yonder.recipe import judge_settings

    checked = judge_settings(model, prompt, settings or [])

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from yonder.commands.scoring import Columns, score_file
    from yonder.commands.terminal import progress_for_this_terminal
    from yonder.evaluation.scored_file import one_line

    target = output or _scored(file)
    columns = Columns(question, response, correct)
    try:
        summary = score_file(file, checked, columns, target, progress_for_this_terminal())
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; the same command continues {target}") from None
    typer.echo(json.dumps(summary) if as_json else f"{one_line(summary)}; {target}")


@app.command(name="judge-benchmark")
def judge_benchmark(  # noqa: PLR0913 - one argument an option
    name: Annotated[str, typer.Argument(metavar="NAME", help="rewardbench2, rm-bench, judgebench or processbench.")],
    model: Annotated[str, typer.Option(help="The judge: a hub name, a folder, or yonder:judge.")],
    file: Annotated[
        Path | None, typer.Option(help="Its file, or a folder with a downloaded copy; default: the hub.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="One split of the hub instead of the usual ones.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A judge prompt; default: the one that fits.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other key of a reward of kind judge.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many items of each subset, for a trial.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to write; default: FILE.scored.jsonl or NAME.scored.jsonl.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a judge on a published benchmark; an interrupted call continues."""
    from yonder.evaluation.judge_benchmarks import benchmark_of
    from yonder.evaluation.judge_benchmarks.reading import read_items
    from yonder.recipe import RECIPES_ONLY, judge_settings

    benchmark = benchmark_of(name)
    unused = {**RECIPES_ONLY, "show_reference": "needs references, which benchmarks do not have"}
    checked = judge_settings(model, prompt or benchmark.prompt, settings or [], unused)
    items = read_items(benchmark, file, split, limit)

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from yonder.commands.judge_benchmark import run_benchmark
    from yonder.commands.terminal import print_benchmark, progress_for_this_terminal

    target = output or (Path(f"{name}.scored.jsonl") if file is None or file.is_dir() else _scored(file))
    try:
        summary = run_benchmark(benchmark, items, checked, target, progress_for_this_terminal())
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; the same command continues {target}") from None
    if as_json:
        typer.echo(json.dumps(summary))
        return
    print_benchmark(summary)


@app.command()
def plan(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    memory: Annotated[
        str | None, typer.Option(help="Of one device, as 80GB or 24GiB; default: this machine's GPU, or its RAM.")
    ] = None,
    devices: Annotated[
        int, typer.Option(min=1, help="Devices over which weights, gradients and optimizer are sharded.")
    ] = 1,
    offload: Annotated[bool, typer.Option("--offload", help="Keep these in host memory.")] = False,
    tflops: Annotated[float | None, typer.Option(help="What a device reaches; default: measured here.")] = None,
    gbps: Annotated[float | None, typer.Option(help="Memory bandwidth of a device, GB/s, beside --tflops.")] = None,
    as_json: Json = False,
) -> None:
    """Say what each stage needs in memory and time, whether it fits, and what to change; no weight is loaded."""
    from yonder.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])

    from yonder.commands.terminal import print_plan
    from yonder.planning.report import plan_recipe

    found = plan_recipe(loaded, memory, devices, offload, tflops, gbps)
    if as_json:
        typer.echo(json.dumps(found))
        return
    print_plan(found)


@app.command(name="export")
def export_model(  # noqa: PLR0913 - one argument an option
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="A folder that is new or empty.")],
    stage: Annotated[
        str | None, typer.Option(help="Whose model; default: the last distill stage that is done.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; default: that of the training.")
    ] = None,
    value_head: Annotated[bool, typer.Option("--value-head", help="Also PPO's value head, in a file beside.")] = False,
    licence: Annotated[str | None, typer.Option("--license", metavar="ID", help="For the card, as apache-2.0.")] = None,
    push: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Upload it to this repository too.")] = None,
    public: Annotated[bool, typer.Option("--public", help="A new repository is public; default: private.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Upload without asking.")] = False,
) -> None:
    """Write a stage's model with tokenizer and model card into a folder, and upload it to a hub if asked."""
    from yonder.exporting.asking import export_and_push

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    export_and_push(run, to, (stage, dtype, value_head, licence), push, public, yes)


@app.command()
def doctor() -> None:
    """Say what this machine can run, what is missing, and how to get it."""
    from yonder.commands.doctor import findings

    worst = 0
    for finding in findings():
        typer.echo(
            f"{'ok  ' if finding.good else 'note' if finding.optional else 'MISS'}  {finding.name:<22} {finding.says}"
        )
        worst |= not (finding.good or finding.optional)
    raise typer.Exit(int(worst))


def _scored(file: Path) -> Path:
    return file.with_name(f"{file.name.partition('.json')[0]}.scored.jsonl")


def _run(
    recipe: str,
    overrides: list[str] | None,
    allow_changes: bool,
    as_json: bool,
    kind: str | None = None,
    stage: str | None = None,
) -> None:
    from yonder.recipe import load_recipe

    with alike():
        loaded = load_recipe(recipe, overrides or [])

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from yonder.commands.terminal import print_results, progress_for_this_terminal
    from yonder.models.loading import pick_device
    from yonder.pipeline.running import names_of_kind
    from yonder.pipeline.running import run as run_pipeline
    from yonder.training.meeting import begun

    with alike():
        names = None if kind is None else names_of_kind(loaded, kind, stage)
        device, how = pick_device(loaded.policy.device), loaded.parallel
    try:
        with listening() as stop, begun(how.strategy, how.offload, how.timeout_s, device) as world:
            summary = run_pipeline(loaded, names, progress_for_this_terminal(), stop, allow_changes, world)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the same command continues from the last checkpoint") from None
    if not world.first:
        return
    if as_json:
        typer.echo(json.dumps(summary, default=str))
        return
    print_results(summary)


def main() -> None:
    """Entry point: an error that the user can mend is one sentence and an exit code, never a traceback."""
    guarded(app)


if __name__ == "__main__":
    main()
