"""Verdicts on disk: none is paid for twice, and none is taken for another's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.judges.faulty import Faulty, serving
from tests.judges.test_served import PAIRS, judge, served
from yonder.assembly.judges import build_yes_no
from yonder.errors import ModelError, StorageError
from yonder.judges.cache import VerdictCache
from yonder.judges.served import ServedJudge
from yonder.recipe.rewards import JudgeSettings


@pytest.fixture
def server() -> Iterator[Faulty]:
    with serving() as running:
        yield running


def test_verdicts_are_not_paid_for_twice(server: Faulty, tmp_path: Path) -> None:
    first = served(judge(server.url))
    first.cache = VerdictCache(tmp_path / "cache.sqlite")
    server.faults = [""] * (len(server.asked) + 1) + ["400"] * 3  # the second request stays without an answer
    found = first.verdicts(PAIRS)
    first.cache.close()
    again = served(judge(server.url))
    again.cache = VerdictCache(tmp_path / "cache.sqlite")
    before = len(server.asked)
    server.faults = []
    repeated = again.verdicts(PAIRS)
    unanswered = [list(first.prompt.asked(*pair, 1024).ids) for pair in PAIRS[2:4]]
    assert [body["items"] for body in server.asked[before:]] == [unanswered]
    assert [repeated[i] for i in (0, 1, 4, 5)] == [found[i] for i in (0, 1, 4, 5)]
    assert all(math.isfinite(verdict.logit_gap) for verdict in repeated)
    other = [("What is 0 + 1?", "return 0 + 2")]
    again.verdicts(other)
    assert len(server.asked) == before + 2  # another response is another key


def cached(path: Path, url: str, second: str | None = None, **settings: Any) -> ServedJudge:
    """A judge with the cache at `path`; `server`: settings of the server."""
    server = {"urls": [url, *([second] if second else [])], "deadline_s": 20} | settings.pop("server", {})
    given = {"model": "yonder:judge", "backend": "sglang", "server": server} | settings
    made = build_yes_no(JudgeSettings.model_validate(given), given["model"], path)
    assert isinstance(made, ServedJudge)
    return made


def test_another_server_is_another_judge(server: Faulty, tmp_path: Path) -> None:
    with serving() as other:
        other.opposite = True
        path = tmp_path / "cache.sqlite"
        ours = cached(path, server.url, server={"model": "judge"}).verdicts(PAIRS)
        theirs = cached(path, other.url, server={"model": "judge"}).verdicts(PAIRS)
        assert [v.logit_gap for v in theirs] == pytest.approx([-v.logit_gap for v in ours])
        both = cached(path, server.url, other.url, server={"model": "judge"})
        before = len(server.asked) + len(other.asked)
        both.verdicts(PAIRS)
        asked = len(server.asked) + len(other.asked)
        assert asked > before
        cached(path, other.url, server.url, server={"model": "judge"}).verdicts(PAIRS)
        assert len(server.asked) + len(other.asked) == asked + 1  # the probe: the order of the urls does not count


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"max_tokens": 600}),
        (
            {"model": "yonder:judge"},
            {"model": "yonder:tokenizer"},
        ),  # the same served model, read with another tokenizer
        ({}, {"server": {"model": "other"}}),
        ({}, {"yes": "Right", "no": "Wrong"}),
        ({}, {"prompt": "text"}),
        ({"backend": "votes", "server": {"votes": 2}}, {"backend": "votes", "server": {"votes": 4}}),
        ({"backend": "openai", "server": {"top_logprobs": 5}}, {"backend": "openai", "server": {"top_logprobs": 6}}),
        ({"backend": "llama-cpp", "server": {"top_logprobs": 5}}, {"backend": "llama-cpp"}),
        ({"backend": "vllm", "server": {"top_logprobs": 5}}, {"backend": "vllm"}),
    ],
)
def test_what_decides_a_verdict_is_in_its_key(
    first: dict[str, Any], second: dict[str, Any], server: Faulty, tmp_path: Path
) -> None:
    def verdicts_asked(given: dict[str, Any]) -> int:
        settings = {**given, "server": {"model": "judge"} | given.get("server", {})}
        made = cached(tmp_path / "cache.sqlite", server.url, **settings)
        before = len(server.asked)
        assert not made.verdicts(PAIRS[:1])[0].reason
        return len(server.asked) - before

    assert verdicts_asked(first) > 0
    assert verdicts_asked(first) == 0
    assert verdicts_asked(second) > 0
    assert verdicts_asked(first | {"server": first.get("server", {}) | {"batch": 7, "concurrency": 3}}) == 0


def test_what_was_answered_before_the_run_stopped_is_kept(server: Faulty, tmp_path: Path) -> None:
    limits = {"batch": 2, "concurrency": 1}
    first = cached(tmp_path / "cache.sqlite", server.url, server=limits)
    server.faults = [""] * len(server.asked) + ["", "", "404"]
    with pytest.raises(ModelError, match="answers 404"):
        first.verdicts(PAIRS)
    again = cached(tmp_path / "cache.sqlite", server.url, server=limits)
    before = len(server.asked)
    again.verdicts(PAIRS)
    assert [len(body["items"]) for body in server.asked[before:]] == [2]


def test_of_a_refused_batch_what_is_answered_alone_is_kept(server: Faulty, tmp_path: Path) -> None:
    first = cached(tmp_path / "cache.sqlite", server.url)
    server.faults = [""] * len(server.asked) + ["413", "", "", "404"]  # the batch, two alone, then the end
    with pytest.raises(ModelError):
        first.verdicts(PAIRS)
    again = cached(tmp_path / "cache.sqlite", server.url)
    again.verdicts(PAIRS)
    assert len(server.asked[-1]["items"]) == 4


def test_a_damaged_cache_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError, match=r"judge cache .*cache\.sqlite cannot be used .*delete it"):
        VerdictCache(tmp_path / "cache.sqlite")
