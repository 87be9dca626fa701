"""Development split, limit, labels, mixtures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from yonder.data.datasets import MOST_OPTIONS, load_data, resampled, with_solutions
from yonder.data.sources import fingerprint
from yonder.errors import DataError
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.rewards.answers import LETTERS
from yonder.schema import Prompt

TASK = TaskSettings()
TEXT = TaskSettings(format="text")  # quick: no program is parsed


def recipe(**data: dict[str, Any]) -> dict[str, DataSettings]:
    return {name: DataSettings.model_validate(values) for name, values in data.items()}


def ids(name: str, data: Mapping[str, DataSettings], seed: int = 0, task: TaskSettings = TASK) -> list[str]:
    result = [prompt.id for prompt in load_data(name, data, task, seed)]
    assert len(result) == len(set(result))
    return result


def write(tmp_path: Path, rows: list[dict[str, Any]], name: str = "q.jsonl") -> str:
    (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows))
    return str(tmp_path / name)


def test_development_is_disjoint_and_stable() -> None:
    data = recipe(a={"source": "svamp", "development": 200})
    held, rest = ids("a.development", data), ids("a", data, task=TEXT)
    assert len(held) == 200
    assert not set(held) & set(rest)
    assert held == ids("a.development", data)
    assert held != ids("a.development", data, seed=1)
    everything = load_data("all", recipe(all={"source": "svamp"}), TASK, 0)
    questions = {prompt.id: prompt.question for prompt in everything}
    assert not {questions[name] for name in held} & {questions[name] for name in rest}  # SVAMP repeats 9 questions
    assert len(rest) == 3043 - 200 - 30  # so many stand in it in other punctuation
    limited = recipe(a={"source": "svamp", "development": 200, "limit": 50})
    assert ids("a.development", limited) == held
    assert set(ids("a", limited)) <= set(rest)


def test_a_development_question_in_other_punctuation_is_not_trained_on(tmp_path: Path) -> None:
    rows = [
        {"question": text, "answer": "1"} for i in range(20) for text in (f"Bo has {i} hens?", f"bo has {i} hens ?")
    ]
    data = recipe(a={"source": write(tmp_path, rows), "development": 10})
    everything = load_data("a", recipe(a={"source": write(tmp_path, rows)}), TEXT, 0)
    questions = {prompt.id: prompt.question.lower().replace(" ?", "?") for prompt in everything}
    held, rest = ({questions[name] for name in ids(part, data, task=TEXT)} for part in ("a.development", "a"))
    assert held and rest and not held & rest


def test_development_follows_questions_not_rows_labels_or_task(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": str(n), "question": f"q {n}", "answer": "1"} for n in range(100)]
    partly = [row | {"answer": row["answer"] if n % 2 else None} for n, row in enumerate(rows)]
    held = set(ids("a.development", recipe(a={"source": write(tmp_path, rows), "development": 20})))
    assert len(held) == 20
    again = recipe(a={"source": write(tmp_path, rows[::-1]), "development": 20})
    assert set(ids("a.development", again)) == held
    source = write(tmp_path, partly, "partly.jsonl")
    data = recipe(
        a={"source": source, "development": 20},
        b={"source": source, "labeled": False},
        m={"mixture": {"a": 1.0}, "labeled": False},
    )
    assert set(ids("a.development", data)) < held  # those with a label
    assert not held & (set(ids("a", data)) | set(ids("b", data)))
    assert not held & {name.removeprefix("a/") for name in ids("m", data)}
    more = [*rows, *({"id": f"new {n}", "question": f"new {n}", "answer": "1"} for n in range(5))]
    moved = set(ids("a.development", recipe(a={"source": write(tmp_path, more), "development": 20}))) ^ held
    assert len(moved) <= 2 * 5


def test_no_other_name_trains_on_a_development_question() -> None:
    data = recipe(
        a={"source": "gsm8k", "development": 300, "options": {"programs_only": True}},
        b={"source": "gsm8k", "labeled": False},
        c={"source": "gsm8k", "limit": 7000},
        t={"source": "gsm8k", "split": "test"},
    )
    held = set(ids("a.development", data, task=TEXT))
    assert len(held) == 300
    assert not held & set(ids("b", data, task=TEXT))
    assert not held & set(ids("c", data, task=TEXT))
    assert len(ids("b", data, task=TEXT)) == 7473 - 300
    assert len(ids("t", data, task=TEXT)) == 1319


def test_limits_are_nested_and_seeded() -> None:
    small, large = recipe(a={"source": "svamp", "limit": 50}), recipe(a={"source": "svamp", "limit": 100})
    assert len(ids("a", small)) == 50
    assert set(ids("a", small)) < set(ids("a", large))
    assert ids("a", small) != ids("a", small, seed=1)


def test_what_is_left_of_a_source_of_which_some_is_labeled(tmp_path: Path) -> None:
    data = recipe(
        few={"source": "svamp", "limit": 700},
        same={"source": "svamp", "labeled": False, "limit": 500},
        rest={"source": "svamp", "labeled": False, "without": ["few"]},
        some={"source": "svamp", "labeled": False, "without": ["few"], "limit": 500},
    )
    few, rest = set(ids("few", data, task=TEXT)), ids("rest", data, task=TEXT)
    assert set(ids("same", data, task=TEXT)) < few  # one seed draws alike
    assert not few & set(rest) and len(rest) > 2000
    assert set(ids("some", data, task=TEXT)) < set(rest)
    rows = [{"question": "How many?", "answer": 1}, {"question": "how many ?", "answer": 2}]
    data = recipe(
        a={"source": write(tmp_path, rows), "limit": 1}, b={"source": write(tmp_path, rows), "without": ["a"]}
    )
    with pytest.raises(DataError, match="every question of `b` is one of `a`"):
        ids("b", data, task=TEXT)


def test_a_rest_is_made_anew_when_what_it_is_without_changes() -> None:
    rest = {"source": "svamp", "without": ["few"]}
    one, other = (recipe(few={"source": "svamp", "limit": n}, rest=rest) for n in (700, 800))
    assert fingerprint(one["rest"], one) != fingerprint(other["rest"], other)


def test_unlabeled_hides_what_labeled_shows() -> None:
    data = recipe(a={"source": "svamp"}, b={"source": "svamp", "labeled": False})
    shown, hidden = load_data("a", data, TASK, 0), load_data("b", data, TASK, 0)
    assert [prompt.text for prompt in shown] == [prompt.text for prompt in hidden]
    assert all(prompt.answer and prompt.solution for prompt in shown)
    assert all(prompt.answer is None and prompt.solution is None for prompt in hidden)


def test_task_of_the_data_set_wins() -> None:
    data = recipe(a={"source": "svamp", "limit": 3, "task": {"format": "text"}}, b={"source": "svamp", "limit": 3})
    assert load_data("a", data, TASK, 0)[0].prefix == ""
    assert load_data("b", data, TASK, 0)[0].prefix.startswith("def solution():")


def test_rows_without_a_label(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[dict[str, Any]] = [{"question": "a", "answer": "1"}, {"question": "b"}]
    rows += [{"question": "c", "solution": "def solution():\n    return 1"}]
    source = write(tmp_path, rows)
    assert ids("x", recipe(x={"source": source})) == ["row-0", "row-2"]
    assert "left out 1 of 3" in caplog.text
    assert len(ids("x", recipe(x={"source": source, "labeled": False}))) == 3
    assert len(ids("x", recipe(x={"source": source, "task": {"format": "open"}}))) == 3
    bare = recipe(x={"source": write(tmp_path, [{"question": "b"}])})
    with pytest.raises(DataError, match=r"data\.x: no row has an answer.*`labeled: false`"):
        load_data("x", bare, TASK, 0)
    with pytest.raises(DataError, match="`format: choice` needs options"):
        load_data("x", bare, TaskSettings(format="choice"), 0)


def test_multiple_choice_as_numbers_leaves_out_words(tmp_path: Path) -> None:
    rows = [{"question": "a", "options": ["4", "none"], "answer": letter} for letter in "ab"]
    data = recipe(x={"source": write(tmp_path, rows)})
    assert [prompt.answer for prompt in load_data("x", data, TaskSettings(format="choice"), 0)] == ["A", "B"]
    assert [prompt.answer for prompt in load_data("x", data, TASK, 0)] == ["4"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("b", {"a": {"source": "svamp"}}, "there is no data set `b`; the recipe has a"),
        ("a.development", {"a": {"source": "svamp"}}, "data.a has no development split"),
        ("a", {"a": {"source": "svamp", "development": 3043}}, "no question is left"),
        ("m", {"m": {"mixture": {"m": 1.0}}}, "a mixture cannot contain itself"),
        ("m", {"m": {"mixture": {"a": 1.0}, "limit": 5}, "a": {"source": "svamp"}}, "a mixture takes no `limit`"),
        ("m", {"m": {"mixture": {"a": 1.0}, "development": 5}, "a": {"source": "svamp"}}, "takes no `development`"),
    ],
)
def test_errors(name: str, data: dict[str, dict[str, Any]], said: str) -> None:
    with pytest.raises(DataError) as caught:
        load_data(name, recipe(**data), TASK, 0)
    assert said in str(caught.value)


def test_a_mixture_is_one_pass_in_exact_shares() -> None:
    data = recipe(
        a={"source": "svamp", "limit": 90},
        b={"source": "gsm8k", "limit": 300, "options": {"programs_only": True}},
        m={"mixture": {"a": 0.3, "b": 0.7}, "labeled": False, "task": {"format": "text"}},
    )
    names = ids("m", data)
    # a has 90 questions for 30 %: 300 in all, of which b gives 210
    assert (sum(name.startswith("a/") for name in names), sum(name.startswith("b/") for name in names)) == (90, 210)
    prompts = load_data("m", data, TASK, 0)
    assert all(prompt.answer is None and prompt.prefix == "" for prompt in prompts)


def test_with_solutions(caplog: pytest.LogCaptureFixture) -> None:
    prompts = [Prompt("1", "q", "q", solution="s"), Prompt("2", "q", "q")]
    assert [prompt.id for prompt in with_solutions(prompts, "mine")] == ["1"]
    assert "mine: left out 1 of 2" in caplog.text
    with pytest.raises(DataError, match="mine: none of its 1 questions has a solution"):
        with_solutions(prompts[1:], "mine")
    with_solutions([*prompts[:1], *prompts], "several")
    assert "several: left out 1 of 2 questions" in caplog.text


def test_resampled_is_a_pure_function_of_seed_epoch_and_id() -> None:
    prompts = load_data("a", recipe(a={"source": "svamp", "limit": 60}), TASK, 0)
    once = resampled(prompts, TASK, seed=0, epoch=1)
    assert once == resampled(prompts, TASK, seed=0, epoch=1)
    assert once[30:] == resampled(prompts[30:], TASK, seed=0, epoch=1)
    assert once != resampled(prompts, TASK, seed=0, epoch=2)
    changed = [(new, old) for new, old in zip(once, prompts, strict=True) if new != old]
    assert len(changed) > 30
    for new, old in changed:
        assert new.id == old.id
        assert new.answer is None
        assert new.question in new.text
        compile(new.prefix + (new.solution or ""), "program", "exec")
    plain = TaskSettings(format="text")
    words = load_data("a", recipe(a={"source": "svamp", "limit": 5}), plain, 0)
    assert resampled(words, plain, seed=0, epoch=1) == words


def test_options_beyond_the_letters_that_are_read_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(LETTERS) == MOST_OPTIONS
    rows = [{"question": f"q{n}?", "options": [f"t{i}" for i in range(n)], "answer": "B"} for n in (4, 10, 11)]
    choice = TaskSettings(format="choice")
    found = load_data("some", recipe(some={"source": write(tmp_path, rows)}), choice, 0)
    assert [len(prompt.options) for prompt in found] == [4, 10]
    assert "data.some: left out 1 of 3 questions, which have more than 10 options" in caplog.text
    with pytest.raises(DataError, match="all 1 questions have more than 10 options"):
        load_data("many", recipe(many={"source": write(tmp_path, rows[2:], "many.jsonl")}), choice, 0)
