"""Sources by name, their errors, and fingerprints."""

from pathlib import Path
from typing import Any

import pytest

from yonder.data.sources import fingerprint, read_records
from yonder.errors import DataError
from yonder.recipe.data import DataSettings


def settings(**values: Any) -> DataSettings:
    return DataSettings.model_validate(values)


@pytest.mark.parametrize(
    ("values", "count", "programs"),
    [
        ({"source": "gsm8k"}, 7473, 7014),
        ({"source": "gsm8k", "options": {"programs_only": True}}, 7014, 7014),
        ({"source": "gsm8k", "split": "test"}, 1319, 0),
        ({"source": "svamp"}, 3043, 3043),
        ({"source": "svamp", "split": "test"}, 1000, 0),
        ({"source": "word-problems", "options": {"count": 50, "seed": 1}}, 50, 50),
    ],
)
def test_embedded_sources(values: dict[str, Any], count: int, programs: int) -> None:
    records = read_records(settings(**values), "data")
    assert len(records) == len({record.id for record in records}) == count
    assert sum(record.program is not None for record in records) == programs
    assert all(record.question and record.answer is not None for record in records)


def test_word_problems_options_reach_the_generator() -> None:
    records = read_records(
        settings(source="word-problems", options={"count": 9, "seed": 2, "templates": ["buys"]}), "data"
    )
    assert {record.category for record in records} <= {"1 event", "2 events", "3 events"}
    assert all(" buys " in record.question for record in records)
    space: dict[str, Any] = {}
    exec(records[0].program or "", space)
    assert float(space["solution"]()) == float(records[0].answer or "nan")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"source": "svmp"}, "no source `svmp`; did you mean svamp?"),
        ({"source": "gsm_plus"}, "did you mean gsm-plus"),
        ({"source": "zzz"}, "sources are svamp, gsm8k, word-problems, mathqa"),
        ({"source": "svamp", "split": "dev"}, "svamp has no split `dev`; use `train` or `test`"),
        ({"source": "svamp", "options": {"config": "x"}}, "svamp has no option `config`"),
        ({"source": "svamp", "columns": {"answer": "x"}}, "`columns` are for files and hub: sources"),
        ({"source": "gsm8k", "split": "test", "options": {"programs_only": True}}, "gsm8k test has no programs"),
        ({"source": "word-problems"}, "word-problems needs `options.count`"),
        ({"source": "word-problems", "options": {"count": 0, "seed": 1}}, "`options.count` is 0"),
        ({"source": "word-problems", "options": {"count": 1, "seed": 1, "size": 2}}, "no option `size`"),
        ({"source": "word-problems", "options": {"count": 1, "seed": 1, "templates": ["x"]}}, "word-problems: "),
        ({"source": "word-problems", "split": "test"}, "word-problems has no split `test`"),
        ({"source": "./none.jsonl"}, "there is no file none.jsonl"),
        ({"mixture": {"a": 1.0}}, "data.mine is a mixture"),
    ],
)
def test_errors_name_the_data_set(values: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_records(settings(**values), "mine")
    assert said in str(caught.value)
    assert str(caught.value).startswith("data.mine")


def test_a_file_has_no_split_or_options(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "Q"}')
    assert len(read_records(settings(source=str(path)), "mine")) == 1
    for extra in ({"split": "test"}, {"options": {"config": "x"}}):
        with pytest.raises(DataError, match="is a file and"):
            read_records(settings(source=str(path), **extra), "mine")


def test_fingerprint_follows_content_and_settings(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text('{"question": "Q"}')
    copy.write_text('{"question": "Q"}')
    before = fingerprint(settings(source=str(path)))
    assert before == fingerprint(settings(source=str(copy)))
    assert before != fingerprint(settings(source=str(path), labeled=False))
    path.write_text('{"question": "R"}')
    assert before != fingerprint(settings(source=str(path)))
    path.unlink()
    with pytest.raises(DataError, match="there is no file"):
        fingerprint(settings(source=str(path)))


def test_fingerprint_of_other_sources() -> None:
    variants = [
        settings(source="svamp"),
        settings(source="svamp", split="test"),
        settings(source="gsm8k"),
        settings(source="gsm8k", options={"programs_only": True}),
        settings(source="word-problems", options={"count": 5, "seed": 1}),
        settings(source="word-problems", options={"count": 5, "seed": 2}),
        settings(source="gsm-symbolic", split="test"),
        settings(source="gsm-symbolic", split="test", options={"config": "p1"}),
    ]
    assert len({fingerprint(variant) for variant in variants}) == len(variants)
    assert fingerprint(variants[0]) == fingerprint(settings(source="svamp"))


def test_fingerprint_of_a_mixture_follows_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "Q"}')
    data = {"a": settings(source=str(path), development=1), "m": settings(mixture={"a": 0.5, "a.development": 0.5})}
    before = fingerprint(data["m"], data)
    path.write_text('{"question": "R"}')
    assert before != fingerprint(data["m"], data)
