"""What a sweep is: grids, rows, files, and a sentence for each mistake."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from yonder.commands.cli import app
from yonder.commands.endings import guarded
from yonder.data.datasets import load_data
from yonder.errors import RecipeError
from yonder.sweeps.command import Asked, list_sweeps
from yonder.sweeps.settings import load_sweep, parse_grid, parse_rows, parse_seeds, shipped_sweeps, slug, table_rows

RECIPE: dict[str, Any] = {
    "policy": {
        "model": {"family": "llama", "hidden_size": 16, "layers": 1, "heads": 2},
        "tokenizer": "yonder:tokenizer",
    },
    "data": {"train": {"source": "word-problems", "options": {"count": 12, "seed": 1}}},
    "benchmarks": {"a": {"data": "train"}, "b": {"data": "train"}},
    "stages": [
        {"name": "warmup", "kind": "warmup", "data": "train", "epochs": 1},
        {"name": "longer", "kind": "warmup", "data": "train", "epochs": 2},
        {"name": "end", "kind": "evaluate", "checkpoints": ["warmup", "longer"], "benchmarks": ["a", "b"]},
    ],
}


def small_recipe(folder: Path) -> str:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return str(path)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    return small_recipe(tmp_path)


def sweep_file(folder: Path, **keys: Any) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"recipe": str(folder / "small.yaml")} | keys))
    return str(path)


def test_a_grid_is_every_combination_and_commas_in_brackets_are_no_ends() -> None:
    assert parse_grid(["a=1,2", "b={x: 1, y: 2},'p, q'"]) == {"a": ["1", "2"], "b": ["{x: 1, y: 2}", "'p, q'"]}
    sweep, name = load_sweep("demo", {"grid": {"seed_": ["1", "2"], "b": ["x", "y"]}})
    assert name == "demo"
    assert [row.name for row in table_rows(sweep)] == ["seed_=1, b=x", "seed_=1, b=y", "seed_=2, b=x", "seed_=2, b=y"]
    assert table_rows(sweep)[1].overrides == ("seed_=1", "b=y")


def test_rows_come_with_every_point_of_a_grid_and_values_of_a_file_are_yaml() -> None:
    rows = parse_rows(["half: t.weight=0.5 'u.x={a: 1}'"])
    assert rows == [{"name": "half", "overrides": ["t.weight=0.5", "u.x={a: 1}"]}]
    sweep, _ = load_sweep("demo", {"rows": rows, "grid": {"flag": [True, None, 1, {"k": [1, "w"]}]}})
    found = [row.overrides[-1] for row in table_rows(sweep)]
    assert found == ["flag=true", "flag=null", "flag=1", "flag={k: [1, w]}"]
    assert all(row.overrides[:2] == ("t.weight=0.5", "u.x={a: 1}") for row in table_rows(sweep))
    assert parse_seeds("3,1") == [3, 1]


def test_folders_are_named_after_rows() -> None:
    assert slug("GSM8K + GSM8K-aug, (.5, .25, .25)") == "gsm8k-gsm8k-aug-.5-.25-.25"
    assert (slug("rl.lr=-1, b=1e-4"), slug("rl.lr=1")) == ("rl.lr=-1-b=1e-4", "rl.lr=1")
    assert slug("λ") == "row"


def test_a_row_shows_its_checkpoint_and_nothing_else_is_run(recipe: str, tmp_path: Path) -> None:
    path = sweep_file(
        tmp_path,
        seeds=[0, 4],
        checkpoint="longer",
        benchmarks=["a"],
        rows=[{"name": "SFT"}, {"name": "short", "checkpoint": "warmup", "seeds": [9], "benchmarks": {"a": "b"}}],
    )
    plan = Asked(path, folder=tmp_path / "out").plan()
    assert [run.name for run in plan.runs] == ["sft/0", "sft/4", "short/9"]
    first, last = plan.runs[0].load(), plan.runs[2].load()
    assert plan.runs[0].stages == ("end",)
    assert (first.stage("end").checkpoints, first.stage("end").benchmarks) == (("longer",), ("a",))  # type: ignore[union-attr]
    assert (last.stage("end").checkpoints, last.stage("end").benchmarks) == (("warmup",), ("b",))  # type: ignore[union-attr]
    assert (last.seed, last.output_dir) == (9, tmp_path / "out" / "short" / "seed-9")


def test_commands_are_the_command_with_the_run_and_find_it_again(recipe: str, tmp_path: Path) -> None:
    asked = Asked(recipe, ["warmup.epochs=3"], ["threads=1,2"], (), "0,1", "threads=1", "warmup", tmp_path / "out")
    plan = asked.plan()
    arguments = asked.arguments(plan.runs[3])
    assert arguments[-2:] == ["--run", "threads=2/1"]
    assert arguments[3:5] == ["--grid", "threads=1,2"]
    assert plan.chosen("threads=2/1") is plan.runs[3]
    with pytest.raises(RecipeError, match=r"--run threads=3/1: there is no such run; there are: threads=1/0, "):
        plan.chosen("threads=3/1")


@pytest.mark.parametrize("name", sorted(shipped_sweeps()))
def test_every_shipped_sweep_has_rows_a_title_notes_and_a_baseline(name: str) -> None:
    plan = Asked(name).plan()
    assert plan.sweep.title and plan.sweep.notes and plan.sweep.baseline
    assert len(plan.rows) >= 3
    assert str(plan.folder) == f"runs/sweep-{name.removeprefix('sweep-')}"
    for row in plan.rows:
        assert set(row.reported) <= set(plan.sweep.benchmarks)
        (stage,) = {run.stages for run in plan.of(row)}
        assert stage is not None and len(stage) == 1


def test_the_demos_sweep_varies_the_weights_alone() -> None:
    plan = Asked("sweep-demo").plan()
    assert len(plan.rows) >= 5 and plan.sweep.seeds == (0, 1, 2)
    weights = {
        row.name: [term.weight for term in plan.of(row)[0].load().stage("distill").terms]  # type: ignore[union-attr]
        for row in plan.rows
    }
    assert weights["lambda 0.5, mu 0.5"] == [0.5, 0.5]
    assert weights["judge only, lambda 0"] == [0, 1]


def test_a_row_says_what_its_author_changed_and_nothing_else(recipe: str) -> None:
    (as_it_is,) = Asked(recipe).plan().runs
    assert [text for text in as_it_is.overrides if not text.startswith(("seed=", "output_dir="))] == []
    (one,) = Asked(recipe, checkpoint="warmup").plan().runs
    assert one.overrides[0] == "stages.end.checkpoints=[warmup]" and len(one.overrides) == 3


def test_the_list_has_every_sweep_with_its_size() -> None:
    lines = list_sweeps()
    assert [line.split()[0] for line in lines] == list(shipped_sweeps())
    assert any(line.startswith("table-4 ") and "10 rows x 3 seeds  [J] Table 4" in line for line in lines)


def test_an_unlabeled_share_has_no_labeled_question_and_the_schedule_stays() -> None:
    plan = Asked("svamp-weights").plan()
    rows = ("judge-0.3-and-0.7", "judge-only-on-questions-without-labels", "judge-25-of-those", "judge-5-of-those")
    recipes = [plan.chosen(f"{name}/0").load() for name in rows]
    drawn = [
        [{p.id for p in load_data(name, one.data, one.task, one.seed)} for name in ("svamp_few", "svamp_questions")]
        for one in recipes
    ]
    assert [len(questions) for _, questions in drawn] == [2161, 1417, 354, 71]  # 25 and 5 % of 1,417
    assert all(not few & questions for few, questions in drawn[1:])
    assert all(one.stage("with_judge") == recipes[0].stage("with_judge") for one in recipes)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing-there"], "there is no sweep, recipe or file `nothing-there`; `yonder sweep --list` and"),
        (["table-44"], "there is no sweep, recipe or file `table-44`; did you mean table-4"),
        (["RECIPE", "--grid", "warmup.epochs"], "--grid warmup.epochs: write KEY=VALUE,VALUE,..."),
        (["RECIPE", "--grid", "warmup.epochs=1,,2"], "--grid warmup.epochs=1,,2: write KEY=VALUE,VALUE,..."),
        (["RECIPE", "--grid", "a=1", "--grid", "a=2"], "--grid a=2: `a` is given twice"),
        (["RECIPE", "--grid", "warmup.epochs=1,-1"], "row warmup.epochs=-1: "),
        (["RECIPE", "--grid", "warmup.epochs=1,1"], "two rows are called `warmup.epochs=1`"),
        (["RECIPE", "--grid", "no.such=1"], "row no.such=1: "),
        (["RECIPE", "--row", "a b=1"], "--row a b=1: write NAME: KEY=VALUE"),
        (["RECIPE", "--row", "a: 'b=1"], "close the quotes"),
        (["RECIPE", "--seeds", "0,x"], "--seeds 0,x: write whole numbers"),
        (["RECIPE", "--seeds", "1,1"], "names one twice"),
        (["RECIPE", "--grid", "seed=1,2"], "row seed=1: `seed=1` is the sweep's to set; use `seeds`"),
        (["RECIPE", "--baseline", "other"], "`baseline: other` is no row; there are: as it is"),
        (
            ["RECIPE", "--checkpoint", "end"],
            "row as it is: there is no checkpoint `end`; there are: base, warmup, longer",
        ),
        (["RECIPE", "other.yaml"], "override `other.yaml`: write key.sub=value"),
        (["RECIPE", "--run", "as-it-is/0", "--table"], "are three things to do; give one of them"),
        (["RECIPE", "--run", "other/0"], "--run other/0: there is no such run"),
    ],
)
def test_a_wrong_command_is_one_sentence(
    arguments: list[str], sentence: str, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [recipe if part == "RECIPE" else part for part in arguments]
    said = refused(["sweep", *given, "--output-dir", str(tmp_path / "out")], capsys)
    assert sentence in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"recipe": None}, "recipe"),
        ({"rowz": []}, "rowz"),
        ({"rows": [{"name": "x", "figure": "best"}]}, "figure"),
        ({"rows": [{"name": "a b"}, {"name": "a-b"}]}, "rows `a b` and `a-b` would have one folder"),
        ({"grid": {"warmup.epochs": []}}, "`grid.warmup.epochs` has no values"),
        ({"benchmarks": ["c"]}, "row as it is: none of its benchmarks (a, b) is a column: c"),
        ({"rows": [{"name": "x", "figure": "vote"}]}, "row x: `figure: vote` needs votes, and benchmark `a` has none"),
        ({"rows": [{"name": "x", "benchmarks": {"a": "c"}}]}, "row x: there is no benchmark `c`; the recipe has a, b"),
        ({"rows": [{"name": "x", "overrides": ["stages=[]"]}]}, "row x: "),
        ({"seeds": []}, "seeds"),
    ],
)
def test_a_wrong_file_is_one_sentence(
    keys: dict[str, Any], sentence: str, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_file(tmp_path, **keys)
    said = refused(["sweep", path, "--output-dir", str(tmp_path / "out")], capsys)
    assert sentence in said


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        guarded(lambda: app(arguments, standalone_mode=False))
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.count("\n") == 1 and said.startswith("yonder: ")
    return said
