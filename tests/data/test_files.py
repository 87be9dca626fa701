"""Local files: what can be read, and one mendable sentence for what cannot."""

import gzip
import json
from pathlib import Path

import pytest

from yonder.data.files import read_file
from yonder.errors import DataError

ROWS = [
    {"id": "a", "question": "1 + 1?", "answer": "2", "solution": "def solution():\n    return 1 + 1"},
    {"id": "b", "question": "Caf\u00e9?", "answer": "1,000.0", "solution": "It is."},
]


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def lines(rows: list[dict[str, object]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def test_every_kind_of_file_reads_alike(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows: list[dict[str, object]] = [dict(row) for row in ROWS]
    write(tmp_path / "q.jsonl", "\ufeff" + lines(rows).replace("\n", "\r\n\n"))
    write(tmp_path / "q.jsonl.gz", gzip.compress(lines(rows).encode()))
    write(tmp_path / "q.json", json.dumps(rows))
    csv = 'id,question,answer,solution\na,1 + 1?,2,"def solution():\n    return 1 + 1"\nb,Caf\u00e9?,"1,000.0",It is.\n'
    write(tmp_path / "q.csv", csv)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "q.parquet")
    for name in ("q.jsonl", "q.jsonl.gz", "q.json", "q.csv", "q.parquet"):
        first, second = read_file(tmp_path / name, {})
        assert (first.id, first.question, first.answer, first.text) == ("a", "1 + 1?", "2", None), name
        assert first.program == "def solution():\n    return 1 + 1", name
        assert (second.question, second.answer, second.program, second.text) == (
            "Caf\u00e9?",
            "1000",
            None,
            "It is.",
        ), name


def test_columns_are_mapped(tmp_path: Path) -> None:
    row = {"Problem": "Profit?", "choices": ["4", "8"], "key": "b", "subject": "gain", "uid": 7.0, "gold": "Eight."}
    columns = {"reference": "gold"} | {
        "question": "Problem",
        "options": "choices",
        "answer": "key",
        "category": "subject",
        "id": "uid",
    }
    (record,) = read_file(write(tmp_path / "q.jsonl", lines([row])), columns)
    assert (record.id, record.question, record.category) == ("7", "Profit?", "gain")
    assert record.reference == "Eight."
    assert (record.options, record.answer, record.value) == (("4", "8"), "B", "8")


def test_own_and_gsm8k_forms_need_no_map(tmp_path: Path) -> None:
    rows = [
        {"question": "Q1", "answer": "3", "cot_program": "def solution():\n    return 3", "cot_text": "Three."},
        {"question": "Q2", "answer": "48/2 = <<48/2=24>>24\n#### 1,024"},
        {"question": "Q3"},
    ]
    own, gsm8k, bare = read_file(write(tmp_path / "q.jsonl", lines([dict(row) for row in rows])), {})
    assert (own.program, own.text) == ("def solution():\n    return 3", "Three.")
    assert (gsm8k.answer, gsm8k.text) == ("1024", "48/2 = 24")
    assert (bare.id, bare.answer) == ("row-2", None)


def test_repeated_ids_get_a_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "q.jsonl", lines([{"id": "a", "question": "x"}, {"id": "a", "question": "y"}]))
    assert [record.id for record in read_file(path, {})] == ["a", "a#2"]
    assert "1 repeated ids" in caplog.text


BROKEN: list[tuple[str, str | bytes, dict[str, str], list[str]]] = [
    (
        "q.jsonl",
        '{"question": "a"}\n\n{"question": "b"\n',
        {},
        ["q.jsonl, line 3", "character", "mend or delete the line"],
    ),
    ("q.jsonl", '{"question": "a"}\n[1]\n', {}, ["line 2", "a list, not an object"]),
    ("q.jsonl", '[{"question": "a"}]', {}, ["line 1", "rename the file to .json"]),
    ("q.jsonl", '{"question": "a"}\n{"question": "  "}\n', {}, ["line 2", "`question` is empty"]),
    ("q.jsonl", '{"question": "a"}\n{"answer": "2"}\n', {}, ["line 2", "`question` is empty or missing"]),
    (
        "q.jsonl",
        '{"prompt": "a", "label": 1}',
        {},
        ["no column `question`", "prompt, label", "columns: {question: NAME}"],
    ),
    ("q.jsonl", '{"question": "a"}', {"answer": "label"}, ["no column `label` (for `answer`)", "are question"]),
    ("q.jsonl", '{"question": "a"}', {"label": "x"}, ["no field `label`", "solution"]),
    ("q.jsonl", '{"question": "a"', {}, ["not JSON (Expecting ',' delimiter at character 17)", "mend or delete"]),
    ("q.jsonl", '{"question": "a', {}, ["not JSON (Unterminated string starting at character 14)"]),
    ("q.jsonl", '{"prompt": "a"}\n{"prompt": 5}', {"question": "prompt"}, ["q.jsonl, line 2: `prompt` is not text"]),
    ("q.json", '[{"question": ["a"]}]', {}, ["item 1: `question` is not text but list (['a'])"]),
    ("q.jsonl", "", {}, ["is empty"]),
    ("q.jsonl", b'{"question": "a"}\n{"question": "caf\xe9"}', {}, ["line 2", "not UTF-8", "0xe9", "iconv"]),
    ("q.jsonl", "[" * 100_000, {}, ["line 1", "nested too deeply"]),
    (
        "q.jsonl",
        '{"question": "a", "options": "b ) 1", "answer": "b"}',
        {},
        ["line 1", "options 'b ) 1' cannot be read"],
    ),
    (
        "q.jsonl",
        '{"question": "a", "options": ["1", "2"], "answer": "e"}',
        {},
        ["line 1", "'e' is none of the 2 options"],
    ),
    ("q.json", '{"question": "a"}', {}, ["a dict, not a list"]),
    ("q.json", '[{"question": "a"}, 3]', {}, ["item 2"]),
    ("q.json", '{"question": "a"}\n{"question": "b"}', {}, ["rename it to .jsonl"]),
    ("q.json", "", {}, ["is empty"]),
    ("q.jsonl.gz", "not gzip", {}, ["not a complete gzip file"]),
    ("q.jsonl.gz", gzip.compress(b'{"question": "a"}' * 99)[:-9], {}, ["not a complete gzip file"]),
    ("q.csv", "question,answer\na,1\nb,2,3\n", {}, ["line 3", "the header has 2 columns", "double quotes"]),
    ("q.csv", "question,answer\na\n", {}, ["line 2", "the header has 2 columns"]),
    ("q.csv", 'question\n"a\n', {}, ["not CSV"]),
    ("q.parquet", "not parquet", {}, ["not a Parquet file"]),
    ("q.txt", "a", {}, ["only .jsonl", "convert it"]),
]


@pytest.mark.parametrize(("name", "data", "columns", "said"), BROKEN)
def test_broken_files(tmp_path: Path, name: str, data: str | bytes, columns: dict[str, str], said: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read_file(write(tmp_path / name, data), columns)
    for part in said:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_shows_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "questions.jsonl", "{}")
    with pytest.raises(DataError, match=r"no file .*question\.jsonl; .* has questions\.jsonl"):
        read_file(tmp_path / "question.jsonl", {})
    with pytest.raises(DataError, match="there is no folder"):
        read_file(tmp_path / "none" / "q.jsonl", {})


def test_missing_file_of_a_relative_path_tells_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begin = "relative paths begin at the folder that the command is typed in"
    for name, folder in (
        ("labeled.jsonl", f"{tmp_path} has no"),
        ("none/q.jsonl", f"no folder {tmp_path}/none either"),
    ):
        with pytest.raises(DataError) as caught:
            read_file(name, {})
        assert folder in str(caught.value) and str(caught.value).endswith(begin)
