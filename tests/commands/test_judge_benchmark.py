"""`yonder judge-benchmark` with the shipped judge, on small files that we wrote in the documented shapes."""

import gzip
import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

import yonder.commands.scoring
from yonder.commands.cli import app
from yonder.commands.endings import guarded
from yonder.commands.judge_benchmark import summarise
from yonder.data.columns import Row
from yonder.data.responses import read_lines
from yonder.evaluation.judge_benchmarks import BENCHMARKS
from yonder.judges.prompt import JudgePrompt, read_judge_prompt
from yonder.models.loading import load_tokenizer
from yonder.recipe import judge_settings

QUESTION = "tom has n0 apples . he buys n1 apples . how many apples does he have now ?"


def program(n: int, sign: str = "+") -> str:
    return f"def solution():\n    n0 = {n}\n    n1 = 30\n    return n0 {sign} n1"


def rewardbench2() -> list[dict[str, Any]]:
    wrong = ("-", "*", "/")
    subsets = ("Factuality", "Precise IF", "Math", "Safety", "Focus")
    best = [(str(i), subset, [program(i)], [program(i, s) for s in wrong]) for i, subset in enumerate(subsets)]
    ref = [(f"ref:{i}", "Ties", [program(i)], [program(i, "-")]) for i in (1, 2)]
    tied = [(f"tied:{i}", "Ties", [program(i), program(i + 50)], [program(i, "-")]) for i in (1, 2)]
    return [
        {"id": name, "subset": subset, "prompt": QUESTION, "chosen": chosen, "rejected": rejected}
        | {"num_correct": len(chosen), "num_incorrect": len(rejected)}
        for name, subset, chosen, rejected in [*best, *ref, *tied]
    ]


def rm_bench() -> list[dict[str, Any]]:
    domains = ("chat", "code", "math", "safety-refuse", "safety-response")
    return [
        {"id": i, "domain": domain, "prompt": QUESTION}
        | {"chosen": [program(n) for n in (i, 20, 40)], "rejected": [program(n, "-") for n in (i, 20, 40)]}
        for i, domain in enumerate(domains)
    ]


def judgebench() -> list[dict[str, Any]]:
    sources = ("mmlu-pro-law", "livebench-reasoning", "livebench-math", "livecodebench")
    return [
        {"pair_id": f"p{i}", "source": source, "question": QUESTION, "label": "B>A" if i % 2 else "A>B"}
        | {"response_A": program(i, "-" if i % 2 else "+"), "response_B": program(i, "+" if i % 2 else "-")}
        for i, source in enumerate(sources)
    ]


def processbench() -> list[dict[str, Any]]:
    return [
        {"id": f"{subset}-{i}", "problem": QUESTION, "steps": [program(i, sign)], "label": -1 if sign == "+" else 0}
        for subset in ("gsm8k", "math", "olympiadbench", "omnimath")
        for i in (10, 20)
        for sign in "+-"
    ]


MADE = {
    "rewardbench2": rewardbench2(),
    "rm-bench": rm_bench(),
    "judgebench": judgebench(),
    "processbench": processbench(),
}
LAST = {"rewardbench2": "average", "rm-bench": "average", "judgebench": "overall", "processbench": "average F1"}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `yonder judge-benchmark`; returns the exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            words = ["judge-benchmark", *map(str, arguments), "--model", "yonder:judge"]
            guarded(lambda: app(words, standalone_mode=False))
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def written(folder: Path, name: str, rows: list[dict[str, Any]] | None = None) -> Path:
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in (MADE[name] if rows is None else rows)), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", list(MADE))
def test_the_shipped_judge_on_every_format(name: str, tmp_path: Path, command: Any) -> None:
    """Right are sums and wrong are differences, which the judge tells apart in its own prompt."""
    file = written(tmp_path, name)
    code, said, progress = command(name, "--file", file, "--prompt", "program", "--json")
    assert code == 0, progress
    summary = json.loads(said.splitlines()[-1])
    figures = summary["figures"]
    assert all(figure["value"] >= 0.99 for figure in figures.values())  # Ties ends at 1.01, the average at 1 + 0.01 / 6
    assert list(figures)[-1] == LAST[name]
    assert all(figure["low"] < figure["value"] for figure in figures.values())
    assert (summary["items"], summary["unscored_items"], summary["unscored"]) == (len(MADE[name]), 0, 0)
    lines = read_lines(tmp_path / f"{name}.scored.jsonl")
    assert [len(line["scores"]) for line in lines] == [len(line["right"]) for line in lines]
    for line in lines:
        for score, right in zip(line["scores"], line["right"], strict=True):
            assert (score["logit_gap"] > 0) is right
    record = json.loads((tmp_path / f"{name}.scored.jsonl.judge.json").read_text())
    assert record["summary"] == summary
    assert record["made_by"]["settings"]["prompt"] == "program"


def test_the_table_says_what_is_missing(tmp_path: Path, command: Any) -> None:
    file = written(tmp_path, "judgebench", judgebench()[:2])
    code, said, _ = command("judgebench", "--file", file, "--prompt", "program")
    assert code == 0
    assert said.startswith("JudgeBench: pairs whose right response scores higher")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if line.startswith("│")]
    assert [row[:2] for row in rows] == [
        ["knowledge", "100.0"],
        ["reasoning", "100.0"],
        ["math", "not measured"],
        ["coding", "not measured"],
        ["overall", "100.0"],
    ]
    assert rows[-1][2:] == ["20.7 to 100.0", "2"]  # both are of one question, so one trial
    assert "0 of 2 items left out, 0 of 4 responses unscored, 0 cut short, 0 ties" in said
    assert said.splitlines()[-1] == str(tmp_path / "judgebench.scored.jsonl")


@pytest.mark.parametrize("name", list(MADE))
def test_each_has_a_prompt_that_fits(name: str, tmp_path: Path, command: Any) -> None:
    file = written(tmp_path, name, MADE[name][:1])
    assert command(name, "--file", file)[0] == 0
    record = json.loads((tmp_path / f"{name}.scored.jsonl.judge.json").read_text())
    prompts = {"rewardbench2": "open", "rm-bench": "open", "judgebench": "text", "processbench": "steps"}
    assert record["made_by"]["settings"]["prompt"] == prompts[name]


def test_an_unscored_response_leaves_its_item_out(tmp_path: Path, command: Any) -> None:
    long = QUESTION + " he buys n1 apples ." * 60
    rows = [row | {"question": long} if row["pair_id"] == "p1" else row for row in judgebench()]
    file = written(tmp_path, "judgebench", rows)
    code, said, _ = command("judgebench", "--file", file, "--prompt", "program", "--set", "max_tokens=200", "--json")
    assert code == 0
    summary = json.loads(said)
    assert (summary["items"], summary["unscored_items"], summary["unscored"]) == (4, 1, 2)
    assert summary["reasons"] == {"the question alone fills the judge's 200 tokens; raise `max_tokens`": 2}
    assert summary["figures"]["reasoning"] is None
    assert (summary["figures"]["overall"]["value"], summary["figures"]["overall"]["n"]) == (1.0, 3)


def test_cut_responses_and_ties_are_counted(tmp_path: Path, command: Any) -> None:
    """Where the judge reads the beginning alone, both responses are the same to it."""
    file = written(tmp_path, "judgebench", judgebench()[:1])
    code, said, _ = command("judgebench", "--file", file, "--prompt", "program", "--set", "max_tokens=58")
    assert code == 0
    assert "0 of 1 items left out, 0 of 2 responses unscored, 2 cut short, 1 ties" in said
    assert "note: raise max_tokens" in said
    assert "│ overall   │          0.0" in said


def test_delta_and_tau_decide_what_is_refused(tmp_path: Path, command: Any) -> None:
    file = written(tmp_path, "processbench", processbench()[:2])
    strict = ("--prompt", "program", "--set", "delta=0.9", "--set", "tau=100", "--json")
    _, said, _ = command("processbench", "--file", file, *strict)
    figures = json.loads(said)["figures"]
    assert (figures["gsm8k error"]["value"], figures["gsm8k correct"]["value"]) == (1.0, 0.0)
    assert figures["average F1"] is None
    _, said, _ = command(
        "processbench", "--file", file, *strict[:2], "--set", "delta=0", "--json", "--output", tmp_path / "o"
    )
    figures = json.loads(said)["figures"]  # delta 0 cuts nothing, so one half decides
    assert (figures["gsm8k error"]["value"], figures["gsm8k correct"]["value"]) == (1.0, 1.0)


def test_every_beginning_of_a_solution_is_asked(tmp_path: Path, command: Any) -> None:
    steps = [program(10), "def more():\n    return solution()", program(20, "-")]
    rows = [
        {"id": "gsm8k-0", "problem": QUESTION, "steps": steps, "label": 2},
        {"id": "gsm8k-1", "problem": QUESTION, "steps": steps[:2], "label": -1},
    ]
    code, said, _ = command("processbench", "--file", written(tmp_path, "processbench", rows), "--prompt", "program")
    assert code == 0
    lines = read_lines(tmp_path / "processbench.scored.jsonl")
    assert [line["right"] for line in lines] == [[True, True, False], [True, True]]
    assert lines[0]["scores"][:2] == lines[1]["scores"]  # the same beginnings
    assert "0 of 5 responses unscored" in said


def test_an_item_is_left_out_that_has_no_score_before_the_first_refusal() -> None:
    """Gaps -1 is refused, 1 accepted; None has no score."""
    benchmark = BENCHMARKS["processbench"]
    made = {
        "gsm8k-0": (1, [1, -1, None]),  # decided: found
        "gsm8k-1": (1, [1, None, -1]),  # left out, though the whole has a score
        "gsm8k-2": (0, [None, -1, -1]),  # left out
        "gsm8k-3": (-1, [1, 1, None]),  # left out
        "gsm8k-4": (-1, [1, 1, 1]),
        "gsm8k-5": (0, [1, 1, -1]),  # not found, refused as a whole
    }
    rows = [
        {"id": name, "problem": name, "steps": ["a", "b", "c"], "label": label} for name, (label, _) in made.items()
    ]
    items = [benchmark.read(Row("f.jsonl", row)) for row in rows]
    lines = [
        {"scores": [{"value": gap, "logit_gap": gap, "reason": "no mass", "truncated": False} for gap in gaps]}
        for _, gaps in made.values()
    ]
    summary = summarise(benchmark, items, lines, judge_settings("yonder:judge", "steps", []))
    assert (summary["items"], summary["unscored_items"], summary["unscored"]) == (6, 3, 4)
    figures = summary["figures"]
    assert (figures["gsm8k error"]["value"], figures["gsm8k error"]["n"]) == (0.5, 2)
    assert (figures["gsm8k correct"]["value"], figures["gsm8k correct"]["n"]) == (1.0, 1)
    assert (figures["gsm8k whole F1"]["value"], figures["gsm8k whole F1"]["n"]) == (1.0, 2)


def test_what_beginnings_share(tmp_path: Path) -> None:
    """With a fence in the prompt the question and what follows it up to the fence, without one also the first step."""
    row = processbench()[0] | {"steps": ["first step .", "second step .", "third step ."]}
    item = BENCHMARKS["processbench"].read(Row("f.jsonl", row))
    plain = tmp_path / "plain.txt"
    plain.write_text(read_judge_prompt("steps").replace("{fence}", ""), encoding="utf-8")
    shared: list[str] = []
    for name in ("steps", str(plain)):
        prompt = JudgePrompt(load_tokenizer("yonder:tokenizer"), read_judge_prompt(name), "auto", ("Yes", "No"))
        sequences = [prompt.tokens(item.question, response, 1000)[0] for response in item.responses]
        beginning = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*sequences, strict=False))
        shared.append(str(prompt.tokenizer.decode([tokens[0] for tokens in beginning])))
    assert QUESTION in shared[0] and "begin with ====" in shared[0] and "first step" not in shared[0]
    assert "first step ." in shared[1] and "second" not in shared[1]


def test_an_interrupted_benchmark_goes_on(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yonder.commands.scoring, "CHUNK", 2)
    file, output = written(tmp_path, "rewardbench2"), tmp_path / "out.jsonl"
    call = ("rewardbench2", "--file", file, "--prompt", "program", "--output", output, "--json")
    first = command(*call)
    lines = output.read_text().splitlines(keepends=True)
    kept = json.loads(lines[0])
    kept["scores"][0]["mass"] = 0.5
    output.write_text("".join([json.dumps(kept) + "\n", *lines[1:5]]) + lines[5][:40])
    code, said, progress = command(*call)
    assert code == 0
    assert "out.jsonl: 5/9" in progress
    assert read_lines(output)[0]["scores"][0]["mass"] == 0.5  # what was whole is kept
    again, before = json.loads(said), json.loads(first[1])
    assert again["figures"]["average"]["value"] == pytest.approx(before["figures"]["average"]["value"], abs=1e-6)
    monkeypatch.setattr(yonder.commands.scoring, "load_judge", None)  # a finished one asks no judge
    assert command(*call)[:2] == (0, said)


def test_an_output_of_other_items_or_settings_is_refused(tmp_path: Path, command: Any) -> None:
    file = written(tmp_path, "judgebench")
    call = ("judgebench", "--file", file, "--prompt", "program")
    assert command(*call)[0] == 0
    code, _, said = command(*call, "--set", "tau=2")
    assert code == 2
    assert "judgebench.scored.jsonl is there already" in said and "give another --output" in said
    rows = judgebench()
    written(tmp_path, "judgebench", [rows[0] | {"question": "another"}, *rows[1:]])
    code, _, said = command(*call)
    assert code == 2
    assert "judgebench.scored.jsonl is there already" in said


def test_limit_takes_the_first_items_of_each_subset(tmp_path: Path, command: Any) -> None:
    file = written(tmp_path, "rewardbench2", rewardbench2() * 1)
    assert command("rewardbench2", "--file", file, "--prompt", "program", "--limit", 1)[0] == 0
    lines = read_lines(tmp_path / "rewardbench2.scored.jsonl")
    assert [line["id"] for line in lines] == ["0", "1", "2", "3", "4", "ref:1", "tied:1"]


def test_other_kinds_of_file_read_alike(tmp_path: Path, command: Any) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = rm_bench()
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(written(tmp_path, "rm-bench").read_bytes()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "c.parquet")
    found = [
        json.loads(command("rm-bench", "--file", tmp_path / name, "--prompt", "program", "--json")[1])
        for name in ("rm-bench.jsonl", "a.json", "b.jsonl.gz", "c.parquet")
    ]
    assert [summary["figures"] for summary in found[1:]] == [found[0]["figures"]] * 3
    names = ["a.scored.jsonl", "b.scored.jsonl", "c.parquet.scored.jsonl"]
    assert [Path(summary["output"]).name for summary in found[1:]] == names


def test_a_downloaded_copy_is_a_folder(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for split in ("gpt", "claude"):
        (copy / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in judgebench()[: len(split) - 2]))
    (copy / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - {split: gpt, path: gpt.jsonl}\n  - {split: claude, path: claude.jsonl}\n---\n"
    )
    assert command("judgebench", "--file", copy, "--prompt", "program")[0] == 0
    assert len(read_lines(tmp_path / "judgebench.scored.jsonl")) == 1  # gpt is read unless asked otherwise
    call = ("judgebench", "--file", copy, "--prompt", "program", "--split", "claude", "--output", "claude.jsonl")
    assert command(*call)[0] == 0
    assert len(read_lines(tmp_path / "claude.jsonl")) == 4


REFUSED = [  # benchmark, lines, options, what the sentence says
    ("judgebench", [], [], ["f.jsonl is empty; give a file with at least one row of JudgeBench"]),
    ("rm-bench", [{"prompt": "p"}], [], ["f.jsonl has no column `id`, which RM-Bench has; it has prompt"]),
    ("judgebench", [*judgebench()[:1], judgebench()[1] | {"label": "A"}], [], ["line 2: `label` is 'A'; write one of"]),
    ("processbench", [processbench()[0] | {"label": "0"}], [], ["line 1: `label` is '0'; write the first wrong step"]),
    ("rewardbench2", [*rewardbench2(), rewardbench2()[5]], [], ["line 10: the id 'ref:1' occurs a second time"]),
    ("rm-bench", rm_bench(), ["--limit", 0], ["--limit 0: give 1 or more items of each group"]),
    ("rm-bench", rm_bench(), ["--split", "train"], ["--split train is of the hub; a file is read whole"]),
    ("rm-bench", rm_bench(), ["--split", "test"], ["RM-Bench has no split `test`; it has train"]),
    ("rm-bench", rm_bench(), ["--set", "taux=1"], ["judge: unknown key `taux`; did you mean `tau`?"]),
    ("rm-bench", rm_bench(), ["--prompt", "nope"], ["there is no judge prompt `nope`"]),
    ("rewardbench", rm_bench(), [], ["no judge benchmark `rewardbench`; choose one of: rewardbench2, rm-bench"]),
]


@pytest.mark.parametrize(("name", "rows", "options", "words"), REFUSED, ids=[case[3][0][:40] for case in REFUSED])
def test_bad_input_is_one_sentence(
    name: str, rows: list[dict[str, Any]], options: list[object], words: list[str], tmp_path: Path, command: Any
) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, said = command(name, "--file", file, *options)
    assert (code, out) == (2, "")
    assert [line.startswith("yonder: ") for line in said.splitlines()] == [True]
    for word in words:
        assert word in said
    assert list(tmp_path.iterdir()) == [file]


def test_without_the_hub_it_says_how_to_bring_a_copy(
    tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def offline(*arguments: object, **options: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    monkeypatch.chdir(tmp_path)
    code, _, said = command("processbench")
    assert code == 2
    assert "hub:Qwen/ProcessBench: Qwen/ProcessBench (split gsm8k) could not be loaded: no network" in said
    assert said.rstrip().endswith("Qwen/ProcessBench) and give the file or the folder as --file")
    assert list(tmp_path.iterdir()) == []
