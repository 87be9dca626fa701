"""The same verdicts from this process, from vLLM and from llama.cpp, on 500 pairs; a server that dies in mid-run."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.slow import servers
from tests.slow.judge_model import VOCABULARY, pairs, save_judge
from yonder.assembly.judges import build_rater, build_yes_no, load_preference, rating_rules
from yonder.core.judging import rating_mean
from yonder.judges.openai import VotesBackEnd, fold
from yonder.judges.rating import RatingPrompt
from yonder.judges.served import ServedJudge
from yonder.judges.served_rating import ServedRater, TokenRatings
from yonder.judges.vllm import VLLMBackEnd, VLLMReader
from yonder.recipe.rewards import JudgeSettings, RatingSettings
from yonder.rewards.judge import Verdict, YesNoModel
from yonder.rewards.rating import RatingReward, Ratings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def local(model: Path) -> list[Verdict]:
    verdicts = judge(model, backend="local").verdicts(pairs())
    within = sum(abs(verdict.logit_gap) < 4 for verdict in verdicts)
    assert len(verdicts) == 500
    assert 250 <= within < 500
    assert max(v.logit_gap for v in verdicts) - min(v.logit_gap for v in verdicts) > 8
    return verdicts


@pytest.fixture(scope="module")
def vllm(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    server = servers.vllm(model, tmp_path_factory.mktemp("vllm") / "log")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def llama_cpp(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    server = servers.llama_cpp(model, tmp_path_factory.mktemp("llama_cpp") / "log")
    server.start()
    yield server
    server.kill()


def judge(model: Path, server: servers.Server | None = None, **settings: Any) -> YesNoModel:
    given: dict[str, Any] = {"model": str(model), "prompt": "text", "chat": "off"} | settings
    if server is not None:
        given["server"] = {
            "urls": [server.url], "model": "judge", "top_logprobs": VOCABULARY, "concurrency": 4, "deadline_s": 200,
        }  # fmt: skip
    return build_yes_no(JudgeSettings.model_validate(given), str(model))


def largest_difference(ours: list[Verdict], theirs: list[Verdict]) -> float:
    assert [verdict.reason for verdict in theirs if verdict.reason] == []
    assert not any(verdict.missing_yes or verdict.missing_no for verdict in theirs)
    assert max(abs(a.mass - b.mass) for a, b in zip(ours, theirs, strict=True)) < 1e-4
    return max(abs(a.logit_gap - b.logit_gap) for a, b in zip(ours, theirs, strict=True))


def test_batches_and_order_do_not_matter(model: Path, local: list[Verdict]) -> None:
    alone = judge(model, batch_tokens=1).verdicts(pairs())
    in_64s = [v for i in range(0, 500, 64) for v in judge(model, batch_tokens=10**9).verdicts(pairs()[i : i + 64])]
    backwards = judge(model).verdicts(pairs()[::-1])[::-1]
    for other in (alone, in_64s, backwards):
        assert largest_difference(local, other) < 1e-4


@pytest.mark.parametrize("way", ["labels", "scoring", "top"])
def test_vllm_gives_the_local_gaps(way: str, model: Path, local: list[Verdict], vllm: servers.Server) -> None:
    served = judge(model, vllm, backend="vllm")
    assert isinstance(served, ServedJudge)
    assert isinstance(served.back_end, VLLMBackEnd)
    assert served.found == "vLLM returns the labels' log-probs"
    assert served.back_end.scoring
    if way != "labels":
        served.back_end.by_id = False
    if way == "scoring":
        served.back_end.top = 1  # so that no label is among the top log-probs
    some = 500 if way == "labels" else 100
    assert largest_difference(local[:some], served.verdicts(pairs()[:some])) < 0.02


def test_llama_cpp_gives_the_local_gaps(model: Path, local: list[Verdict], llama_cpp: servers.Server) -> None:
    served = judge(model, llama_cpp, backend="llama-cpp")
    assert isinstance(served, ServedJudge)
    assert served.found == f"llama-cpp-python: text, the {VOCABULARY} largest log-probs"
    assert largest_difference(local, served.verdicts(pairs())) < 0.02


@pytest.mark.parametrize("backend", ["vllm", "llama-cpp"])
def test_a_served_judge_prefers_as_the_local_one(backend: str, model: Path, request: pytest.FixtureRequest) -> None:
    server: servers.Server = request.getfixturevalue(backend.replace("-", "_"))
    cases = [(q, a, b) for (q, a), (_, b) in zip(pairs()[:40], pairs()[40:80], strict=True)]
    settings = {"model": str(model), "chat": "off", "mass_floor": 0.0, "device": "cpu"}
    more = {"backend": backend, "server": {"urls": [server.url], "model": "judge", "top_logprobs": VOCABULARY}}
    ours, theirs = (load_preference(given)[0].prefer(cases) for given in (settings, settings | more))
    values = [one.value for one in ours]
    assert all(value is not None for value in values) and len(set(values)) > 10
    assert [one.value for one in theirs] == pytest.approx(values, abs=0.01)


def rater(model: Path, server: servers.Server | None = None, **settings: Any) -> RatingReward:
    given: dict[str, Any] = {"kind": "rating", "model": str(model), "mass_floor": 0.0, "scale": 10, "chat": "off"}
    if server is not None:
        given["server"] = {"urls": [server.url], "model": "judge", "top_logprobs": VOCABULARY, "deadline_s": 200}
    checked = RatingSettings.model_validate(given | settings)
    return RatingReward(build_rater(checked, str(model)), rating_rules(checked, False), checked.scale)


def rewards_apart(ours: RatingReward, theirs: RatingReward, count: int = 60) -> float:
    """The largest difference of the rewards; each rating's probability is near the local one, too."""
    given: tuple[Sequence[Ratings], ...] = (ours.model.ratings(pairs()[:count]), theirs.model.ratings(pairs()[:count]))
    for here, there in zip(*given, strict=True):
        assert there.reason == "" and there.probabilities == pytest.approx(here.probabilities, rel=0.02, abs=1e-6)
    means = [[rating_mean(one.probabilities)[0] for one in side] for side in given]
    assert max(means[0]) - min(means[0]) > 1
    apart = max(abs(a - b) for a, b in zip(*means, strict=True)) / (ours.scale - 1)
    print(f"largest difference of a rating's reward: {apart:.1e}")
    return apart


@pytest.mark.parametrize("backend", ["vllm", "vllm top", "llama-cpp"])
def test_a_served_rating_is_the_local_one(backend: str, model: Path, request: pytest.FixtureRequest) -> None:
    name, _, way = backend.partition(" ")
    theirs = rater(model, request.getfixturevalue(name.replace("-", "_")), backend=name)
    assert isinstance(theirs.model, ServedRater) and isinstance(theirs.model.back_end, TokenRatings)
    reader = theirs.model.back_end.reader
    if isinstance(reader, VLLMReader):
        assert reader.by_id
        reader.by_id = not way
    assert rewards_apart(rater(model), theirs) < 1e-3


def test_a_chat_api_gives_the_local_ratings(model: Path, vllm: servers.Server) -> None:
    theirs = rater(model, vllm, backend="openai", scale=5, chat="auto")
    ours, sent = rater(model, scale=5, chat="on"), theirs.model.ratings(pairs()[:20])
    for here, there in zip(ours.model.ratings(pairs()[:20]), sent, strict=True):  # by text: with or without a space
        assert all(b >= a * 0.98 for a, b in zip(here.probabilities, there.probabilities, strict=True))


@pytest.mark.parametrize("backend", ["vllm", "llama-cpp"])
def test_a_ten_of_two_tokens_takes_a_second_request(backend: str, tmp_path: Path) -> None:
    apart = save_judge(tmp_path / "apart", tens=False)
    make = servers.vllm if backend == "vllm" else servers.llama_cpp
    server = make(apart, tmp_path / "log")
    server.start()
    try:
        theirs = rater(apart, server, backend=backend)
        assert isinstance(theirs.model, ServedRater) and isinstance(theirs.model.prompt, RatingPrompt)
        assert theirs.model.prompt.goes_on is not None
        assert rewards_apart(rater(apart), theirs) < 1e-3
        assert all(one.probabilities[9] > 0 for one in theirs.model.ratings(pairs()[:20]))
    finally:
        server.kill()


@pytest.mark.parametrize("backend", ["vllm", "llama-cpp"])
def test_verdicts_begun_one_by_one_are_the_local_ones(
    backend: str, model: Path, local: list[Verdict], request: pytest.FixtureRequest
) -> None:
    served = judge(model, request.getfixturevalue(backend.replace("-", "_")), backend=backend)
    assert isinstance(served, ServedJudge)
    for pair in pairs()[:80]:
        served.begin([pair])
    assert largest_difference(local[:100], served.verdicts(pairs()[:100])) < 0.02  # 80 begun, 20 not


def test_a_chat_api_gives_the_local_gaps(model: Path, vllm: servers.Server) -> None:
    ours = judge(model, chat="on", every_spelling=True).verdicts(pairs()[:50])  # the API's tokens match by text
    theirs = judge(model, vllm, backend="openai").verdicts(pairs()[:50])
    assert largest_difference(ours, theirs) < 0.02


def test_votes_are_shares_of_what_the_server_samples(tmp_path: Path) -> None:
    """A model that is sure of what it writes; the labels are the two answers that it writes most often."""
    sure = save_judge(tmp_path / "sure", head=0.6)
    server = servers.vllm(sure, tmp_path / "log")
    server.start()
    try:
        served = judge(sure, server, backend="votes")
        assert isinstance(served, ServedJudge)
        assert isinstance(served.back_end, VotesBackEnd)
        pair, votes = pairs()[0], 400
        message = {"role": "user", "content": served.prompt.asked(*pair, 300).text}
        body = {"model": "judge", "messages": [message], "max_tokens": 3, "temperature": 1.0, "n": votes}
        choices = httpx2.post(f"{server.url}/v1/chat/completions", json=body, timeout=200).json()["choices"]
        written = Counter(fold(choice["message"]["content"]).rstrip(".!,") for choice in choices)
        (yes, more), (no, less) = written.most_common(2)
        served.back_end.labels, served.back_end.votes = (yes, no), votes
        (verdict,) = served.verdicts([pair])
    finally:
        server.kill()
    assert more + less > votes / 5
    assert verdict.mass == pytest.approx((more + less) / votes, abs=0.14)  # 4 standard deviations at most
    assert verdict.logit_gap == pytest.approx(math.log((more + 0.5) / (less + 0.5)), abs=1.0)


def test_votes_without_a_label_are_no_verdict(model: Path, vllm: servers.Server) -> None:
    (verdict,) = judge(model, vllm, backend="votes").verdicts(pairs()[:1])
    assert verdict.reason == "none of 8 sampled answers is a label"


def test_a_bound_stands_for_a_label_that_is_not_returned(model: Path, vllm: servers.Server) -> None:
    served = judge(model, vllm, backend="vllm")
    assert isinstance(served, ServedJudge)
    assert isinstance(served.back_end, VLLMBackEnd)
    served.back_end.by_id = served.back_end.scoring = False
    served.back_end.top = 1
    found = served.verdicts(pairs()[:20])
    assert all(verdict.reason or verdict.missing_yes or verdict.missing_no for verdict in found)


def test_a_server_that_is_killed_and_comes_back_loses_nothing(
    model: Path, local: list[Verdict], llama_cpp: servers.Server
) -> None:
    served = judge(model, llama_cpp, backend="llama-cpp")
    assert isinstance(served, ServedJudge)
    found: list[Verdict] = []
    work = threading.Thread(target=lambda: found.extend(served.verdicts(pairs())))
    work.start()
    while served.back_end.transport.usage.requests < 50:
        time.sleep(0.01)
    llama_cpp.kill()
    time.sleep(1.0)
    llama_cpp.start()
    work.join(240)
    assert served.back_end.transport.usage.retries > 0
    assert largest_difference(local, found) < 0.02
