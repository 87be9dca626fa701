"""A collect stage with a teacher: what is asked, kept, counted and refused; faults, limits, kills."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.test_pipeline import Heard, write
from tests.teachers.server import FUNCTION, Teacher, serving
from yonder.data.responses import read_lines, read_responses
from yonder.errors import BudgetReached, ModelError, RecipeError, ServerError, Stopped
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.signals import StopRequest
from yonder.teachers.spending import Budget, Prices


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    with serving() as running:
        yield running


STAGE = {"name": "answers", "kind": "collect", "data": "train", "samples": 3, "temperatures": [0.3, 1.0]}


def recipe_of(folder: Path, to: Teacher, *overrides: str, stage: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A recipe of one stage over 12 questions, 36 requests."""
    access = {"urls": [to.url], "timeout_s": 5, "deadline_s": 20, "concurrency": 4} | settings.pop("server", {})
    section = {"backend": "vllm", "model": "teacher", "server": access, "max_tokens": 40} | settings
    stages = [STAGE | {"teacher": section} | (stage or {})]
    return load_recipe(write(folder, stages, task={"format": "text"}), list(overrides))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return read_lines(folder / "run/stages/answers/answers.jsonl")


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run/stages/answers/stage.json").read_text())["result"]


def test_answers_are_asked_kept_read_and_labeled(teacher: Teacher, tmp_path: Path) -> None:
    heard = Heard()
    teacher.writes = FUNCTION
    program = recipe_of(tmp_path, teacher, "task={format: program, docstring: false}", system="Be brief.", stop=["###"])
    run(program, progress=heard)
    paths, bodies = zip(*teacher.asked, strict=True)
    assert set(paths) == {"/v1/chat/completions"}
    assert Counter(body["temperature"] for body in bodies) == {0.3: 24, 1.0: 12}  # 2 and 1 of 3 to 12 questions
    questions = Counter(body["messages"][1]["content"].rpartition("Question:\n")[2] for body in bodies)
    assert len(questions) == 12 and set(questions.values()) == {3}
    first = bodies[0]
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {key: first[key] for key in first if key not in ("messages", "temperature")} == {
        "model": "teacher", "max_tokens": 40, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
        "stop": ["###"], "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    responses = read_responses(tmp_path / "run/stages/answers/responses.jsonl")
    prompts = list(dict.fromkeys(response.prompt_id for response in responses))
    assert [(r.prompt_id, r.temperature) for r in responses] == [(p, t) for p in prompts for t in (0.3, 0.3, 1.0)]
    assert all(re.fullmatch(r"def solution\(\):\n    return \d+", r.response) for r in responses)
    assert {r.source for r in responses} == {"answers"} and all(r.correct is not None for r in responses)
    found = result_of(tmp_path)
    expected = {"responses": 36, "unread": 0, "unanswered": 0, "prompt_tokens": 36 * 50, "completion_tokens": 360}
    assert {key: found[key] for key in expected} == expected
    assert found["tokens_counted"] and found["teacher_usage"]["requests"] == 36 and "cost" not in found
    assert re.fullmatch(
        r"answers: 36 answers to ask for, about [\d,]+ tokens to read and at most 1,440 to write", heard.said[0]
    )
    assert re.fullmatch(
        r"answers: \d+ answers to ask for \(\d\d are there\), .* and about \d+0 to write",
        heard.said[1],
    )
    assert heard.said[2].startswith("answers: 36 responses, 0 lacking, 0 unread, ")
    assert heard.said[2].endswith("; 1,800 tokens read and 360 written")


def test_a_stage_that_is_done_needs_no_teacher(teacher: Teacher, tmp_path: Path) -> None:
    run(recipe_of(tmp_path, teacher))
    gone = recipe_of(tmp_path, teacher, server={"urls": ["http://127.0.0.1:9"]})
    assert run(gone)["stages"]["answers"]["status"] == "skipped"
    assert len(teacher.asked) == 36
    with pytest.raises(ModelError, match=r"^stages\.answers\.teacher: the teacher cannot be asked: .*; start it, or"):
        run(recipe_of(tmp_path, teacher, "answers.samples=4", server={"urls": ["http://127.0.0.1:9"], "deadline_s": 1}))


@pytest.mark.parametrize(("backend", "seeded"), [("vllm", False), ("llama-cpp", True), ("openai", False)])
def test_each_server_gets_the_settings_that_it_knows(
    backend: str, seeded: bool, teacher: Teacher, tmp_path: Path
) -> None:
    run(recipe_of(tmp_path, teacher, backend=backend))
    bodies = [body for _, body in teacher.asked]
    assert all(("seed" in body) == seeded for body in bodies)
    assert not seeded or len({body["seed"] for body in bodies}) == 36
    assert ("top_k" in bodies[0], "chat_template_kwargs" in bodies[0], "top_p" in bodies[0]) == (
        (False, False, False) if backend == "openai" else (True, True, True)
    )


def test_a_completion_goes_on_from_the_policys_prompt(teacher: Teacher, tmp_path: Path) -> None:
    teacher.writes = "    return {number}\n\nQuestion:\n"
    task = "task={format: program, docstring: false, stop: [END]}"
    run(recipe_of(tmp_path, teacher, task, way="completions", stop=["###"]))
    path, body = teacher.asked[0]
    assert path == "/v1/completions"
    assert body["prompt"].startswith("Question:\n") and body["prompt"].endswith("Answer reasoning:\ndef solution():\n")
    assert body["stop"] == ["###", "END"]
    responses = read_responses(tmp_path / "run/stages/answers/responses.jsonl")
    assert all(re.fullmatch(r"def solution\(\):\n    return \d+", r.response) for r in responses)


def test_what_cannot_be_read_is_kept_and_counted(teacher: Teacher, tmp_path: Path) -> None:
    teacher.writes = "I would rather not."
    heard = Heard()
    run(recipe_of(tmp_path, teacher), progress=heard)
    responses = read_responses(tmp_path / "run/stages/answers/responses.jsonl")
    assert {r.response for r in responses} == {"I would rather not."}
    assert {r.correct for r in responses} == {False}
    assert all(r.detail.startswith("unread: no number; ") for r in responses)
    assert result_of(tmp_path)["unread"] == 36
    assert "36 unread (no number (36))" in heard.said[-1]


def test_unlabeled_answers_have_no_verdict(teacher: Teacher, tmp_path: Path) -> None:
    run(recipe_of(tmp_path, teacher, "data.train.labeled=false"))
    responses = read_responses(tmp_path / "run/stages/answers/responses.jsonl")
    assert {r.correct for r in responses} == {None} and {r.detail for r in responses} == {"no label"}
    assert result_of(tmp_path)["unlabeled"] == 36 and result_of(tmp_path)["correct"] is None


FAULTS = ["reset", "500", "503", "429", "408", "half"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_passing_fault_costs_a_retry(fault: str, teacher: Teacher, tmp_path: Path) -> None:
    teacher.faults = ["", fault, "", fault]
    run(recipe_of(tmp_path, teacher))
    assert (len(teacher.asked), teacher.answered) == (38, 36)
    assert sorted(number_in(row) for row in rows_of(tmp_path)) == list(range(36))
    assert result_of(tmp_path)["teacher_usage"]["retries"] == 2


def number_in(row: dict[str, Any]) -> int:
    """Which of the server's answers it is."""
    return int(re.findall(r"\d+", row["text"])[0])


def test_a_question_that_is_refused_is_asked_again_at_the_next_start(teacher: Teacher, tmp_path: Path) -> None:
    train = run_ids(teacher, tmp_path / "first")
    teacher.refuses = train[0][1]
    begun = len(teacher.asked)
    with pytest.raises(ServerError, match=r"3 requests have no answer \(the teacher server refuses .*too long for me"):
        run(recipe_of(tmp_path, teacher, max_unanswered=0.06))  # 2 of 36
    assert not (tmp_path / "run/stages/answers/responses.jsonl").exists()
    kept = [row for row in rows_of(tmp_path) if row["text"] is not None]
    refused = [row for row in rows_of(tmp_path) if row["text"] is None]
    assert len(refused) == 3 and {row["prompt_id"] for row in refused} == {train[0][0]}
    assert len(teacher.asked) - begun == len(kept) + 3
    teacher.refuses = ""
    run(recipe_of(tmp_path, teacher))
    assert len(teacher.asked) - begun == 36 + 3  # the refused ones alone twice
    assert result_of(tmp_path)["unanswered"] == 0


def run_ids(teacher: Teacher, folder: Path) -> list[tuple[str, str]]:
    """Ids and questions of the data set."""
    folder.mkdir()
    run(recipe_of(folder, teacher, stage={"samples": 1, "temperatures": [1.0]}))
    return [(r.prompt_id, r.question) for r in read_responses(folder / "run/stages/answers/responses.jsonl")]


def test_a_few_answers_may_lack(teacher: Teacher, tmp_path: Path) -> None:
    train = run_ids(teacher, tmp_path / "first")
    teacher.refuses = train[0][1]
    heard = Heard()
    run(recipe_of(tmp_path, teacher), progress=heard)  # 3 of 36 are within 10 %
    assert result_of(tmp_path)["unanswered"] == 3 and result_of(tmp_path)["responses"] == 33
    assert "33 responses, 3 lacking" in heard.said[-1]


def test_a_budget_stops_the_stage_and_a_larger_one_goes_on(teacher: Teacher, tmp_path: Path) -> None:
    stopped = r"^stage answers: the budget of 1,000 tokens allows no further request after \d+ of 36 answers, which are"
    with pytest.raises(BudgetReached, match=stopped):
        run(recipe_of(tmp_path, teacher, budget={"tokens": 1000}))
    used = sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows_of(tmp_path))
    assert 1000 - 60 * 2 - 60 < used <= 1000  # a request may take 40 tokens to write and about 60 to read
    asked = len(teacher.asked)
    with pytest.raises(BudgetReached):
        run(recipe_of(tmp_path, teacher, budget={"tokens": 1000}))
    assert len(teacher.asked) == asked  # nothing more is bought
    run(recipe_of(tmp_path, teacher, budget={"tokens": 100_000}, server={"concurrency": 2}))
    assert len(teacher.asked) == 36
    assert sorted(number_in(row) for row in rows_of(tmp_path)) == list(range(36))


def test_a_budget_of_money(teacher: Teacher, tmp_path: Path) -> None:
    prices = {"price_per_million": 1000.0, "completion_price_per_million": 5000.0}  # 0.05 + 0.05 an answer
    heard = Heard()
    enough = {"budget": {"cost": 1.0}, "max_unanswered": 1.0}
    run(recipe_of(tmp_path, teacher, server=prices, **enough), progress=heard)
    found = result_of(tmp_path)
    assert found["cost"] == pytest.approx(found["responses"] * 0.1) and 0.5 < found["cost"] <= 1.0
    assert found["unanswered"] == 36 - found["responses"] > 0
    assert re.search(r"at most 1,440 to write, at most \d+\.\d\d to pay$", heard.said[0])
    assert re.search(r"written, 0\.\d\d to pay$", heard.said[-1])


def test_budgets_by_hand() -> None:
    prices = Prices(2.0, 3.0)
    assert prices.cost(10, 100) == 320.0  # 10 * 2 + 100 * 3
    assert Prices(2.0).cost(10, 100) == 220.0
    assert Prices().cost(10, 100) is None
    assert Budget(110).allows(10, 100) and not Budget(109).allows(10, 100)
    assert Budget(None, 320.0, prices).allows(10, 100) and not Budget(None, 319.0, prices).allows(10, 100)


def test_a_server_without_usage_is_counted_by_characters(teacher: Teacher, tmp_path: Path) -> None:
    teacher.usage = None
    run(recipe_of(tmp_path, teacher))
    found = result_of(tmp_path)
    row = rows_of(tmp_path)[0]
    assert not found["tokens_counted"]
    assert row["completion_tokens"] == len(row["text"]) // 4 + 1
    assert found["prompt_tokens"] == sum(len(b["messages"][0]["content"]) // 4 + 1 for _, b in teacher.asked)


def test_a_limit_by_its_newer_name(teacher: Teacher, tmp_path: Path) -> None:
    teacher.faults = ["old limit"]
    run(recipe_of(tmp_path, teacher, backend="openai", server={"concurrency": 1}))
    assert "max_tokens" in teacher.asked[0][1]
    assert all(body["max_completion_tokens"] == 40 and "max_tokens" not in body for _, body in teacher.asked[1:])
    assert len(teacher.asked) == 37


def test_a_request_to_stop_keeps_what_is_under_way(teacher: Teacher, tmp_path: Path) -> None:
    class Stopping(Heard):
        def advance(self, done: int, facts: dict[str, str]) -> None:
            request.asked = request.asked or done >= 10

    request = StopRequest()
    with pytest.raises(Stopped, match=r"answers: (\d+) of 36 answers are kept; stopped as asked"):
        run(recipe_of(tmp_path, teacher), progress=Stopping(), stop=request)
    assert 10 <= len(rows_of(tmp_path)) == teacher.answered < 20
    run(recipe_of(tmp_path, teacher))
    assert len(teacher.asked) == teacher.answered == 36


def test_a_stop_does_not_wait_for_a_server_that_is_gone(teacher: Teacher, tmp_path: Path) -> None:
    class Stopping(Heard):
        def advance(self, done: int, facts: dict[str, str]) -> None:
            request.asked = True

    request = StopRequest()
    teacher.faults = ["", *["503"] * 1000]
    begun = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yonder.teachers.gathering.PATIENCE_S", 1.0)
        with pytest.raises(Stopped):
            run(recipe_of(tmp_path, teacher, server={"deadline_s": 600}), progress=Stopping(), stop=request)
    assert time.monotonic() - begun < 30
    assert [row["text"] is None for row in rows_of(tmp_path)] == [False]  # what was not waited for is not noted


@pytest.mark.slow
def test_a_killed_collection_asks_nothing_twice(teacher: Teacher, tmp_path: Path) -> None:
    """Killed with answers under way: these alone are asked again. A torn last line is one of them."""
    teacher.pause_s = 0.05
    recipe = recipe_of(tmp_path, teacher)
    command = [sys.executable, "-m", "yonder", "run", str(tmp_path / "small.yaml")]
    work = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = tmp_path / "run/stages/answers/answers.jsonl"
    end = time.monotonic() + 60
    while time.monotonic() < end and not (path.is_file() and path.read_bytes().count(b"\n") >= 8):
        time.sleep(0.01)
    work.send_signal(signal.SIGKILL)
    work.wait()
    time.sleep(0.2)
    kept, answered = rows_of(tmp_path), teacher.answered
    assert 8 <= len(kept) < 36 and len(teacher.asked) - len(kept) <= 4  # as many as may be open
    with path.open("ab") as file:
        file.write(b'{"prompt_id": "tor')
    run(recipe)
    assert teacher.answered == answered + 36 - len(kept)
    rows = rows_of(tmp_path)
    assert rows[: len(kept)] == kept and len(rows) == 36
    assert len({(row["prompt_id"], row["temperature"], row["index"]) for row in rows}) == 36


def test_the_order_of_answers_does_not_matter(teacher: Teacher, tmp_path: Path) -> None:
    run(recipe_of(tmp_path, teacher, server={"concurrency": 1}))
    folder = tmp_path / "run/stages/answers"
    before = (folder / "responses.jsonl").read_bytes()
    lines = (folder / "answers.jsonl").read_text().splitlines()
    record = json.loads((folder / "stage.json").read_text()) | {"status": "unfinished"}
    (folder / "stage.json").write_text(json.dumps(record))
    (folder / "answers.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    run(recipe_of(tmp_path, teacher))
    assert (folder / "responses.jsonl").read_bytes() == before
    assert len(teacher.asked) == 36


def test_what_another_prompt_brought_is_not_mixed_in(teacher: Teacher, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("Code, please: {question}")
    with pytest.raises(BudgetReached):
        run(recipe_of(tmp_path, teacher, prompt=str(mine), budget={"tokens": 1000}))
    assert teacher.asked[0][1]["messages"][0]["content"].startswith("Code, please: ")
    mine.write_text("Python, please: {question}")
    with pytest.raises(RecipeError, match=r"begun with something else \(files.teacher.prompt: Code, please"):
        run(recipe_of(tmp_path, teacher, prompt=str(mine), budget={"tokens": 1000}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Answer.", r"must contain \{question\} exactly once"),
        ("{question} {question}", r"must contain \{question\} exactly once"),
        ("{question} {reference}", r"nothing stands for \{reference\}"),
        (None, r"there is no teacher prompt `.*mine.txt`; give a path, or one of: choice, open, program, text"),
    ],
)
def test_prompts_that_cannot_be_used(text: str | None, said: str, teacher: Teacher, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(RecipeError, match=said):
        run(recipe_of(tmp_path, teacher, prompt=str(tmp_path / "mine.txt")))
    assert teacher.asked == []


def test_the_teacher_is_looked_for_before_anything_runs(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher.models = ["one", "org/two"]
    unknown = r"stages\.answers\.teacher: http:.* knows no model `teacher` but one, org/two;"
    with pytest.raises(ModelError, match=unknown):
        run(recipe_of(tmp_path, teacher))
    assert not (tmp_path / "run/recipe.yaml").exists()
    run(recipe_of(tmp_path, teacher, model="two", stage={"samples": 1, "temperatures": [1.0]}))
    teacher.models = []  # no such route: taken at its word
    run(recipe_of(tmp_path, teacher, model="any", stage={"samples": 1, "temperatures": [1.0]}))
    with pytest.raises(ModelError, match=r"the environment variable MY_TEACHER_KEY \(server.key_env\) is not set"):
        run(recipe_of(tmp_path, teacher, server={"key_env": "MY_TEACHER_KEY"}))
    monkeypatch.setenv("MY_TEACHER_KEY", "s3cret")
    run(recipe_of(tmp_path, teacher, server={"key_env": "MY_TEACHER_KEY"}))
    assert teacher.keys[-1] == "Bearer s3cret"
    assert "s3cret" not in (tmp_path / "run/recipe.yaml").read_text()


def test_of_several_servers_one_may_be_away(teacher: Teacher, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yonder.teachers.build.GREETING_S", 1.0)
        run(recipe_of(tmp_path, teacher, server={"urls": ["http://127.0.0.1:9", teacher.url]}))
    assert result_of(tmp_path)["responses"] == 36


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"way": "completions", "system": "Hi"}, "leave out `prompt`, `system` and `thinking`"),
        ({"backend": "openai", "thinking": True}, "has no switch for `thinking`"),
        ({"budget": {"cost": 1.0}}, "`budget.cost` needs `server.price_per_million`"),
        ({"server": {"completion_price_per_million": 1.0}}, "needs `server.price_per_million` beside it"),
        ({"stage": {"policy": "m"}}, "`policy` and `teacher` cannot both answer"),
        ({"max_unanswered": 2}, "less than or equal to 1"),
    ],
)
def test_settings_that_contradict(settings: dict[str, Any], said: str, teacher: Teacher, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe_of(tmp_path, teacher, **settings)


def test_a_chat_template_of_the_policy_is_not_continued(teacher: Teacher, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"stages.answers.teacher.way: completions excludes `task.chat`"):
        recipe_of(tmp_path, teacher, "task.chat=true", way="completions")


def test_a_tokenizer_measures_the_prompts(teacher: Teacher, tmp_path: Path) -> None:
    by_characters, by_tokens = Heard(), Heard()
    run(recipe_of(tmp_path, teacher), progress=by_characters)
    (tmp_path / "other").mkdir()
    run(recipe_of(tmp_path / "other", teacher, tokenizer="yonder:tokenizer"), progress=by_tokens)
    said = [heard.said[0] for heard in (by_characters, by_tokens)]
    read = [int(re.findall(r"about ([\d,]+) tokens to read", one)[0].replace(",", "")) for one in said]
    assert read[0] == sum(len(b["messages"][0]["content"]) // 4 + 1 for _, b in teacher.asked[:36])
    assert read[1] != read[0] and 0.3 < read[1] / read[0] < 3


def test_a_plan_has_no_memory_for_a_teacher_elsewhere(teacher: Teacher, tmp_path: Path) -> None:
    from yonder.planning.report import plan_recipe

    recipe = recipe_of(tmp_path, teacher)
    assert plan_recipe(recipe, "8GB", 1, False, 1.0, None)["stages"] == []
