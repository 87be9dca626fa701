"""What counts as a secret, and what only looks like one."""

from typing import Any

import pytest

from tests.reporting.fixture import HUB_SECRET, RECIPE, SECRET, card
from yonder.reporting.redaction import MARK, is_secret, redact, redact_text, redact_yaml


@pytest.mark.parametrize(
    "key",
    [
        "api_key", "apiKey", "OPENAI_API_KEY", "x-api-key", "password", "db.password", "client_secret", "Authorization",
        "HF_TOKEN", "hf_token", "accessToken", "auth-token", "token", "aws_secret_access_key", "private_key", "apikey",
    ],
)  # fmt: skip
def test_secret_keys(key: str) -> None:
    assert is_secret(key, "correct horse battery")
    assert redact({key: "correct horse battery"}) == {key: MARK}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_tokens", 400), ("batch_tokens", "16384"), ("tokenizer", "yonder:tokenizer"),
        ("eos_token", "<|endoftext|>"),
        ("label_token_ids", {"yes": 9454}), ("token", "Yes"), ("token_id", 9454), ("tokens_per_s", 3.5),
        ("api_key", None), ("api_key_env", "OPENAI_API_KEY"),
        ("secret", ""), ("password", True), ("keys", ["a"]), ("author", "Shen"),
    ],
)  # fmt: skip
def test_what_decides_a_number_is_kept(key: str, value: Any) -> None:
    assert redact({key: value}) == {key: value}


def test_a_secret_in_place_of_a_variable_name_is_hidden() -> None:
    assert redact({"api_key_env": "a1b2c3d4e5"}) == {"api_key_env": MARK}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"key {SECRET}, next", f"key {MARK}, next"),
        (f"--token={HUB_SECRET}", f"--token={MARK}"),
        ("Authorization: Bearer abcdefgh.ijkl", f"Authorization: Bearer {MARK}"),
        ("https://user:pw@host/v1?api_key=1234&x=1", f"https://{MARK}@host/v1?api_key={MARK}&x=1"),
        (
            "a task-specific-thing, risk-averse, https://host:8000/v1",
            "a task-specific-thing, risk-averse, https://host:8000/v1",
        ),
    ],
)
def test_secret_values_in_any_text(text: str, left: str) -> None:
    assert redact_text(text) == left
    assert redact([{"note": text}]) == [{"note": left}]


def test_the_card_keeps_everything_else() -> None:
    before, after = card(), redact(card())
    assert after["rewards"]["judge"]["api_key"] == MARK and after["environment"]["HF_TOKEN"] == MARK
    for value in (SECRET, HUB_SECRET, "hunter22", "12345678"):
        assert value not in str(after)
    kept = ("model", "prompt", "label_token_ids", "yes", "tau", "delta", "dtype")
    assert {key: after["rewards"]["judge"][key] for key in kept} == {
        key: before["rewards"]["judge"][key] for key in kept
    }


def test_yaml_line_by_line() -> None:
    lines = redact_yaml(RECIPE).split("\n")
    assert f"    api_key: {MARK}" in lines and "    api_key_env: OPENAI_API_KEY" in lines
    assert f"    headers: {{Authorization: {MARK}, accept: json}}" in lines
    assert f"    private_key: {MARK}" in lines and "line of the key" not in "\n".join(lines)
    same = [line for line in RECIPE.split("\n") if not any(word in line for word in ("key", "Authorization"))]
    assert [line for line in lines if MARK not in line and "api_key_env" not in line] == same


def test_yaml_lists_comments_and_quotes() -> None:
    text = "servers:\n  - \"token\": 'abcdefgh123'\n    url: http://h  # password: none\npassword:\n  - a1\nseed: 1"
    assert (
        redact_yaml(text)
        == f'servers:\n  - "token": {MARK}\n    url: http://h  # password: none\npassword: {MARK}\nseed: 1'
    )
