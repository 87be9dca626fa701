"""One row of a data set we know -> one record. Pure: no network, no `datasets`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from yonder.data.records import (
    LETTERS,
    Record,
    clean_text,
    normalise_label,
    parse_options,
    read_number,
    split_gsm8k,
    with_choice,
)


def gsm8k(row: Mapping[str, Any], name: str) -> Record | None:
    """openai/gsm8k: question; answer = reasoning with calculator marks, `####`, number."""
    text, answer = split_gsm8k(clean_text(row["answer"]))
    return None if answer is None else Record(name, clean_text(row["question"]), answer, text=text)


def gsm8k_aug(row: Mapping[str, Any], name: str) -> Record | None:
    """whynlp/gsm8k-aug: question; steps = ["<<600*30/100=180>>", ...], kept as the reasoning; answer."""
    answer = normalise_label(row["answer"])
    if answer is None or read_number(answer) is None:
        return None
    steps = row["steps"]
    text = steps if isinstance(steps, str) else " ".join(steps or ())
    return Record(name, clean_text(row["question"]), answer, text=text.strip() or None)


def svamp(row: Mapping[str, Any], name: str) -> Record | None:
    """ChilleD/SVAMP: ID, Body, Question, Equation ("( 8.0 - 3.0 )", which becomes a program), Type, Answer ("5.0")."""
    body, question = clean_text(row["Body"]), clean_text(row["Question"])
    joint = " " if not body or body[-1] in ".?!," else ", "  # "... If he had $ 4 at the start" + "How much ...?"
    answer = normalise_label(row["Answer"])
    if answer is None:
        return None
    return Record(
        id=f"{row.get('ID') or name}",
        question=f"{body}{joint}{question}".strip(),
        answer=answer,
        program=_equation_program(str(row.get("Equation") or "")),
        category=str(row.get("Type") or ""),
    )


def mathqa(row: Mapping[str, Any], name: str) -> Record | None:
    """MathQA: Problem, Rationale, options ("a ) 38 , b ) 27 , ..."), correct (letter), category."""
    text = clean_text(row["Rationale"] or "").strip("\"'").strip()
    record = Record(
        id=name,
        question=clean_text(row["Problem"]),
        answer=clean_text(row["correct"]),
        text=text or None,
        options=parse_options(row["options"]),
        category=str(row.get("category") or ""),
    )
    record = with_choice(record)
    return record if record.answer is not None else None


def gsm_plus(row: Mapping[str, Any], name: str) -> Record | None:
    """qintongli/GSM-Plus: question, solution, answer ("72", "1/2" or "None"), perturbation_type, seed_question."""
    record = gsm_plus_whole(row, name)
    return None if record.answer == "None" else record  # "critical thinking": the question has no answer


def gsm_plus_whole(row: Mapping[str, Any], name: str) -> Record:
    """The same with the questions that have no answer; their label is "None"."""
    answer = normalise_label(row["answer"]) or "None"
    text, _ = split_gsm8k(clean_text(row.get("solution") or ""))
    extra = {key: row[key] for key in ("seed_question", "seed_answer") if key in row}
    question = clean_text(row["question"])
    return Record(name, question, answer, text=text or None, category=str(row["perturbation_type"]), extra=extra)


def gsm_symbolic(row: Mapping[str, Any], name: str) -> Record | None:
    """apple/GSM-Symbolic: 50 instances of each template; category = the instance, over which results spread."""
    text, answer = split_gsm8k(clean_text(row["answer"]))
    if answer is None:
        return None
    keys = ("id", "instance", "original_id", "original_question", "original_answer", "canary")
    return Record(
        id=f"{name.rpartition('-')[0]}-{row['id']}-{row['instance']}",
        question=clean_text(row["question"]),
        answer=answer,
        text=text or None,
        category=f"instance-{row['instance']}",
        extra={key: row[key] for key in keys if key in row},
    )


def mmlu_pro(row: Mapping[str, Any], name: str) -> Record | None:
    """TIGER-Lab/MMLU-Pro: question_id, question, options (up to ten), answer (letter), answer_index, cot_content,
    category.

    The letter is the label: where answer_index says otherwise (question 3983) the letter is right. Only validation rows
    have a chain of thought, "A: Let's think step by step. ... The answer is (I)."; options "N/A" fill up a list.
    """
    options = parse_options([option for option in row["options"] if str(option).strip() != "N/A"])
    letter = clean_text(str(row["answer"]))
    text = clean_text(row.get("cot_content") or "").removeprefix("A:").strip()
    record = Record(
        id=f"mmlu-pro-{row['question_id']}",
        question=clean_text(row["question"]),
        answer=letter,
        text=text or None,
        options=options,
        category=str(row["category"]),
    )
    return with_choice(record) if len(letter) == 1 and letter in LETTERS[: len(options)] else None


def with_id(record: Record, name: str) -> Record:
    """The record under another id."""
    return replace(record, id=name)


def _equation_program(equation: str) -> str | None:
    text = equation.strip()
    if not text or set(text) - set("0123456789.+-*/() "):
        return None
    return f"def solution():\n    result = {text.replace('.0 ', ' ').removesuffix('.0')}\n    return result"
