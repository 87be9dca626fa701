"""Hub data sets: rows of the documented shape, through real `datasets` objects; no network."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from yonder.data.hub import read_hub
from yonder.data.programs import HEADER, solution_body
from yonder.data.sources import fingerprint, read_records
from yonder.errors import DataError
from yonder.recipe.data import DataSettings

Serve = Callable[[Mapping[str, list[dict[str, Any]]]], list[tuple[Any, ...]]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Make `load_dataset` return these splits as a real Dataset, and record what it was asked."""

    def start(splits: Mapping[str, list[dict[str, Any]]]) -> list[tuple[Any, ...]]:
        asked: list[tuple[Any, ...]] = []

        def load_dataset(path: str, name: str | None = None, *, split: str, revision: str | None = None) -> Any:
            asked.append((path, name, split, revision))
            return datasets.Dataset.from_list(splits[split])

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return start


def mathqa_row(problem: str, options: str, correct: str) -> dict[str, Any]:
    return {
        "Problem": problem, "Rationale": '"40 % of 50 = 20 . answer : b ."', "options": options, "correct": correct,
        "annotated_formula": "add(n0,n1)", "linear_formula": "add(n0,n1)|", "category": "gain",
    }  # fmt: skip


def test_mathqa_parses_options_and_drops_test_questions(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    options = "a ) rs . 27,000 , b ) 7 1 / 2 , c ) none of these"
    train = [mathqa_row("what is 1.5 + 2 ?", options, "b"), mathqa_row("is it none ?", options, "c")]
    train += [mathqa_row("What is 1.5+2, sir?", options, "a"), mathqa_row("damaged", "a ) 1 , c ) 2", "c")]
    asked = serve({"train": train, "test": [mathqa_row("what is 1.5 + 2, sir ?", options, "b")]})
    with caplog.at_level(logging.WARNING):
        first, second = read_hub("mathqa", "train", {}, {})
    assert (first.answer, first.value, first.category) == ("B", "7.5", "gain")
    assert first.options == ("rs . 27,000", "7 1 / 2", "none of these")
    assert first.text == "40 % of 50 = 20 . answer : b ."
    assert (second.id, second.answer, second.value) == ("mathqa-train-1", "C", None)
    assert "left out 1 of 4 questions without a label" in caplog.text
    assert "left out 1 questions that also occur in its test split" in caplog.text
    assert [request[2] for request in asked] == ["train", "test"]
    assert asked[0][0] == "regisss/math_qa"  # allenai/math_qa is a script, which `datasets` refuses
    assert len(read_hub("hub:allenai/math_qa", "test", {}, {})) == 1


def test_gsm_plus_drops_none_and_reads_fractions(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def row(question: str, answer: str, kind: str) -> dict[str, Any]:
        return {
            "question": question, "solution": f"It is <<1+1=2>>2.\n#### {answer}", "answer": answer,
            "perturbation_type": kind, "seed_question": "s", "seed_solution": "t", "seed_answer": "3",
        }  # fmt: skip

    rows = [
        row("q1", "4.33", "numerical substitution"),
        row("q2", "None", "critical thinking"),
        row("q3", "1/4", "digits"),
    ]
    asked = serve({"testmini": rows})
    with caplog.at_level(logging.WARNING):
        records = read_hub("gsm-plus", "testmini", {"revision": "abc"}, {})
    assert [(record.id, record.answer) for record in records] == [
        ("gsm-plus-testmini-0", "4.33"),
        ("gsm-plus-testmini-2", "0.25"),
    ]
    assert (records[0].text, records[0].category) == ("It is 2.", "numerical substitution")
    assert records[0].extra["seed_question"] == "s"
    assert "left out 1 of 3" in caplog.text
    assert asked == [("qintongli/GSM-Plus", None, "testmini", "abc")]


def test_gsm_symbolic_keeps_instance_and_canary(serve: Serve) -> None:
    row = {
        "id": 3, "instance": 17, "question": "Q", "answer": "A.\n#### 1,072",
        "original_id": 9, "original_question": "O", "original_answer": "B", "canary": "CANARY",
    }  # fmt: skip
    asked = serve({"test": [row, row | {"instance": 18}]})
    first, second = read_hub("gsm-symbolic", "test", {"config": "p1"}, {})
    assert (first.answer, first.text, first.category) == ("1072", "A.", "instance-17")
    assert first.extra["canary"] == "CANARY"
    assert (first.id, second.id) == ("gsm-symbolic-test-3-17", "gsm-symbolic-test-3-18")
    assert asked[0][1] == "p1"
    assert read_hub("gsm-symbolic", "test", {}, {}) and asked[1][1] == "main"


def test_gsm8k_and_aug(serve: Serve) -> None:
    asked = serve({"train": [{"question": "Q", "answer": "48/2 = <<48/2=24>>24\n#### 24"}]})
    (record,) = read_hub("hub:openai/gsm8k", "train", {}, {})
    assert (record.id, record.answer, record.text) == ("gsm8k-train-0", "24", "48/2 = 24")
    assert asked[0][:2] == ("openai/gsm8k", "main")
    rows = [{"question": "Q", "steps": ["<<6*3=18>>", "<<18/2=9>>"], "answer": "9.0"}]
    rows += [{"question": "R", "steps": [], "answer": "seven"}]
    serve({"train": rows})
    (record,) = read_hub("gsm8k-aug", "train", {}, {})
    assert (record.answer, record.text) == ("9", "<<6*3=18>> <<18/2=9>>")


def test_svamp_equation_becomes_a_program(serve: Serve) -> None:
    row = {"ID": "chal-1", "Body": "Dan had $ 3 left", "Question": "How much now?", "Equation": "( 4.0 - 3.5 )", "Type": "Sub", "Answer": "0.5"}  # fmt: skip # noqa: E501
    serve({"train": [row, row | {"Equation": "__import__('os')"}]})
    first, second = read_hub("hub:ChilleD/SVAMP", "train", {}, {})
    assert (first.id, first.question, first.answer) == ("chal-1", "Dan had $ 3 left, How much now?", "0.5")
    body = solution_body(first.program or "")
    space: dict[str, Any] = {}
    exec(HEADER + (body or ""), space)
    assert space["solution"]() == 0.5
    assert body == "    result = ( 4 - 3.5 )\n    return result"
    assert (second.id, second.program) == ("chal-1#2", None)


def test_any_repository_with_columns(serve: Serve) -> None:
    serve({"train": [{"prompt": "Q", "label": 3.0}]})
    (record,) = read_hub("hub:someone/questions", "train", {}, {"question": "prompt", "answer": "label"})
    assert (record.question, record.answer) == ("Q", "3")
    with pytest.raises(DataError, match=r"hub:someone/questions has no column `question`.*prompt, label"):
        read_hub("hub:someone/questions", "train", {}, {})


def test_changed_columns_are_named(serve: Serve) -> None:
    serve({"test": [{"question": "Q", "label": "1"}]})
    with pytest.raises(DataError, match=r"gsm-plus, row 0: .*'answer'.* it has question, label"):
        read_hub("gsm-plus", "test", {}, {})


def test_a_downloaded_folder_is_read_without_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "copy" / "main"
    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist([{"question": "Q", "answer": "A.\n#### 5"}])
    pyarrow.parquet.write_table(table, folder / "test-00000-of-00001.parquet")
    (record,) = read_hub("hub:openai/gsm8k", "test", {"path": str(tmp_path / "copy"), "config": None}, {})
    assert (record.answer, record.text) == ("5", "A.")
    with pytest.raises(DataError, match="give the folder of a complete download"):
        read_hub("hub:openai/gsm8k", "test", {"path": str(tmp_path / "nowhere")}, {})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ConnectionError("Couldn't reach 'whynlp/gsm8k-aug' on the Hub\nmore"),
            "Couldn't reach 'whynlp/gsm8k-aug' on the Hub;",
        ),
        (FileNotFoundError("Dataset doesn't exist"), "Dataset doesn't exist;"),
        (TimeoutError(), "TimeoutError;"),
    ],
)
def test_unreachable_hub_names_two_mends(monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as caught:
        read_hub("gsm8k-aug", "train", {}, {})
    message = str(caught.value)
    for part in ("gsm8k-aug: whynlp/gsm8k-aug (split train)", reason, "connect to the hub", "options: {path: FOLDER}"):
        assert part in message
    assert "\n" not in message


def test_the_real_library_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="connect to the hub"):
        read_hub("hub:nobody/nothing", "train", {}, {})


def test_wrong_split_and_option_need_no_download() -> None:
    with pytest.raises(DataError, match="gsm-plus has no split `train`; use `test` or `testmini`"):
        read_hub("gsm-plus", "train", {}, {})
    with pytest.raises(DataError, match="no option `name`; options it knows: config, revision, path"):
        read_hub("gsm-plus", "test", {"name": "x"}, {})


def test_mmlu_pro_has_worked_questions_apart(serve: Serve) -> None:
    row: dict[str, Any] = {
        "question_id": 7, "question": "q?", "options": ["x"] * 9 + ["y"], "answer": "J", "answer_index": 9,
        "cot_content": "A: Let's think. The answer is (J).", "category": "law", "src": "s",
    }  # fmt: skip
    asked = serve({"test": [row | {"cot_content": ""}], "validation": [row]})
    (test,), (worked,) = (read_hub("mmlu-pro", split, {}, {}) for split in ("test", "validation"))
    assert (test.id, test.answer, test.category, test.text) == ("mmlu-pro-7", "J", "law", None)
    assert worked.text == "Let's think. The answer is (J)."
    assert [request[:3] for request in asked] == [("TIGER-Lab/MMLU-Pro", None, name) for name in ("test", "validation")]
    with pytest.raises(DataError, match="use `test` or `validation`"):
        read_hub("mmlu-pro", "train", {}, {})


def test_one_file_stands_for_the_hub(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """GSM-Symbolic's repository has one file a configuration, MathQA's one a split."""
    row = {
        "id": 3, "instance": 17, "question": "Q", "answer": "A.\n#### 1,072",
        "original_id": 9, "original_question": "O", "original_answer": "B", "canary": "CANARY",
    }  # fmt: skip
    path = tmp_path / "GSM_p2.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"instance": 18}) + "\n")
    settings = DataSettings(source="gsm-symbolic", split="test", options={"path": str(path)})
    first, second = read_records(settings, "p2")
    assert (first.answer, first.category, second.category) == ("1072", "instance-17", "instance-18")
    assert (first.extra["canary"], first.extra["original_question"]) == ("CANARY", "O")
    before = fingerprint(settings)
    path.write_text(json.dumps(row | {"answer": "#### 5"}) + "\n")
    assert fingerprint(settings) != before
    train = tmp_path / "train.json"
    train.write_text(json.dumps([mathqa_row("what ?", "a ) 1 , b ) 2", "b")]))
    with caplog.at_level(logging.WARNING):
        (record,) = read_hub("mathqa", "train", {"path": str(train)}, {})
    assert record.value == "2" and "its test split is not in" in caplog.text
    with pytest.raises(DataError, match="no split"):
        read_hub("gsm-symbolic", "train", {"path": str(path)}, {})


def test_gsm_plus_keeps_its_questions_without_an_answer_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "gsmplus_test.jsonl"
    rows = [
        {"question": "q1", "solution": "x", "answer": "1 1/2", "perturbation_type": "t", "seed_question": "s"},
        {"question": "q2", "solution": "y", "answer": "None", "perturbation_type": "critical thinking"},
        {"question": "q3", "solution": "z", "answer": None, "perturbation_type": "critical thinking"},
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    options = {"path": str(path)}
    assert [record.answer for record in read_hub("gsm-plus", "test", options, {})] == ["1.5"]
    kept = read_hub("gsm-plus", "test", options | {"unanswerable": True}, {})
    assert [record.answer for record in kept] == ["1.5", "None", "None"]
    with pytest.raises(DataError, match="mathqa has no option `unanswerable`"):
        read_hub("mathqa", "test", {"unanswerable": True}, {})
