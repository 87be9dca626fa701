"""Ratings over servers: the local numbers from each, what is not shown is missing mass, nothing is paid for twice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.judges.model_server import ModelServer, serving_model
from tests.judges.test_rating import RULES, rollout
from tests.pipeline.test_pipeline import Heard
from tests.stages.test_label import LABELS, STUDENT, TEACHER, labels_of, planted, recipe_of
from yonder.assembly.judges import build_rater
from yonder.core.judging import rating_mean
from yonder.errors import ModelError, RecipeError
from yonder.judges.cache import RatingsCache
from yonder.judges.rating import LocalRater, RatingPrompt
from yonder.judges.served_rating import ServedRater, read_rating
from yonder.pipeline.running import run
from yonder.recipe import parse_section
from yonder.recipe.rewards import RatingSettings, decisive
from yonder.rewards.early import early_scorers
from yonder.rewards.rating import RatingReward, Ratings

PAIRS = [(f"What is {i} + {i + 1}?", f"It is {i + i + 1}.") for i in range(5)] + [("Why?", "because " * 300)]
ALL = 100_000  # more log-probs than there are tokens


@pytest.fixture(scope="module")
def running() -> Iterator[ModelServer]:
    with serving_model() as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.asked.clear()
    running.hidden.clear()
    running.by_id, running.native, running.shift, running.says = True, True, 0.0, ["7"]
    return running


def settings_of(url: str = "", backend: str = "local", cache: bool = False, **more: Any) -> RatingSettings:
    given: dict[str, Any] = {"kind": "rating", "model": "yonder:judge", "max_tokens": 400, "mass_floor": 0.0}
    if backend != "local":
        chosen = {key: more.pop(key) for key in ("batch", "top_logprobs", "votes") if key in more}
        given |= {"backend": backend, "server": {"urls": [url], "deadline_s": 20, **chosen, "cache": cache}}
    return parse_section(RatingSettings, given | more, "rewards.helpful")


def rater(url: str, backend: str, cache: Path | None = None, **more: Any) -> ServedRater:
    made = build_rater(settings_of(url, backend, cache is not None, **more), "yonder:judge", cache)
    assert isinstance(made, ServedRater)
    return made


def local(**more: Any) -> list[Ratings]:
    made = build_rater(settings_of(**more), "yonder:judge")
    assert isinstance(made, LocalRater)
    return made.ratings(PAIRS)


def same(ours: list[Ratings], theirs: list[Ratings]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert b.probabilities == pytest.approx(a.probabilities, rel=1e-4, abs=1e-9)
        assert (a.truncated, a.reason) == (b.truncated, b.reason)


@pytest.mark.parametrize("scale", [9, 10])
@pytest.mark.parametrize(
    ("backend", "found", "more"),
    [
        ("vllm", "vLLM returns the labels' log-probs", {"batch": 4}),
        ("vllm", f"vLLM returns the {ALL} largest log-probs", {"top_logprobs": ALL}),
        ("sglang", "SGLang returns the labels' probabilities", {"batch": 4}),
        ("llama-cpp", f"llama-server: token ids, the {ALL} largest log-probs", {"top_logprobs": ALL}),
        ("llama-cpp", f"llama-cpp-python: text, the {ALL} largest log-probs", {"top_logprobs": ALL}),
    ],
)
def test_servers_give_the_local_ratings(
    scale: int, backend: str, found: str, more: dict[str, Any], server: ModelServer
) -> None:
    server.by_id, server.native = "labels" in found, "token ids" in found
    served = rater(server.url, backend, scale=scale, **more)
    assert served.found == found
    ours = local(scale=scale)
    assert [len(one.probabilities) for one in ours] == [scale] * 6 and ours[5].truncated
    same(ours, served.ratings(PAIRS))


def test_a_chat_api_gives_the_local_ratings(server: ModelServer) -> None:
    served = rater(server.url, "openai", scale=9, top_logprobs=ALL)
    assert served.found == f"chat API, the {ALL} largest log-probs"
    same(local(scale=9)[:5], served.ratings(PAIRS[:5]))
    with pytest.raises(ModelError, match=r"does not write 10 as one token, .* set the reward's `scale: 9`"):
        rater(server.url, "openai")


def test_what_is_not_shown_is_missing_mass(server: ModelServer) -> None:
    server.by_id = False
    ours = local()[0].probabilities
    made = rater(server.url, "vllm", top_logprobs=ALL)
    assert isinstance(made.prompt, RatingPrompt) and made.prompt.goes_on is not None
    first, zero = made.prompt.first, made.prompt.goes_on
    server.hidden = {first[4], first[6]}
    shown = made.ratings(PAIRS[:1])
    expected = [0.0 if rating in (5, 7) else p for rating, p in enumerate(ours, start=1)]
    assert shown[0].probabilities == pytest.approx(expected, rel=1e-4)
    mass = math.fsum(expected)
    mean = math.fsum(rating * p for rating, p in enumerate(expected, start=1)) / mass
    assert rating_mean(shown[0].probabilities) == (pytest.approx(mean, rel=1e-4), pytest.approx(mass, rel=1e-4))
    server.hidden = {*first, zero}
    before = len(server.asked)
    assert made.ratings(PAIRS[:1]) == [
        Ratings(reason="no rating is among the log-probs that the judge server returned")
    ]
    assert len(server.asked) == before + 1  # there is no 1 to divide
    server.hidden = {zero}
    kept = made.ratings(PAIRS[:1])[0].probabilities
    assert kept[9] == 0 and kept[0] == pytest.approx(ours[0] + ours[9], rel=1e-4)  # the whole 1 stays a 1


def test_mass_below_the_floor_is_unscored(server: ModelServer) -> None:
    made = rater(server.url, "vllm")
    assert RatingReward(made, RULES, 10).model is made
    server.shift = -20.0
    found = RatingReward(made, RULES, 10).score([rollout("It is 5.")])[0]
    assert found.value is None and "only 0.000 of its probability" in found.reason
    server.shift = 20.0
    found = RatingReward(made, RULES, 10).score([rollout("It is 6.")])[0]
    assert found.value is None and found.reason == "the judge server gave numbers that are no probabilities"
    server.shift = math.nan
    found = RatingReward(made, RULES, 10).score([rollout("It is 7.")])[0]
    assert found.value is None and "an answer that cannot be read" in found.reason


def test_sampled_ratings_are_averaged(server: ModelServer) -> None:
    server.says = ["7", " 9.", "8/10", "Well"]
    served = rater(server.url, "votes", votes=4)
    assert served.found == "4 sampled votes a verdict, one request"
    ratings = served.ratings(PAIRS[:1])
    assert ratings == [Ratings((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.25, 0.25, 0.0))]
    found = RatingReward(served, RULES, 10).score([rollout("It is 5.")])[0]
    assert found.value == pytest.approx((8 - 1) / 9) and found.details["mass"] == 0.75
    server.says = ["Well"]
    assert served.ratings(PAIRS[:1]) == [Ratings(reason="none of 4 sampled answers is a rating")]


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        *[("7", 7), (" 10\n", 10), ("**8**", 8), ("9/10", 9), ("11", None), ("0", None), ("8.5", None)],
        *[("10.5", None), ("100", None), ("-3", None), ("I say 3", None), ("", None)],
    ],
)
def test_what_counts_as_a_rating(text: str, rating: int | None) -> None:
    assert read_rating(text, 10) == rating


def test_ratings_are_not_paid_for_twice(server: ModelServer, tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    found = rater(server.url, "vllm", path).ratings(PAIRS)
    again = rater(server.url, "vllm", path)
    before = len(server.asked)
    assert again.ratings(PAIRS) == found and len(server.asked) == before
    assert rater(server.url, "vllm", path, scale=9).ratings(PAIRS)[0] != found[0]  # another prompt
    server.shift = 20.0
    other = [("q?", "other")]
    assert again.ratings(other)[0].reason
    server.shift = 0.0
    assert not again.ratings(other)[0].reason  # what failed is not kept
    empty = RatingsCache(path)
    empty.keep({})
    empty.close()


def test_ratings_begin_while_others_are_written(server: ModelServer) -> None:
    made = rater(server.url, "vllm")
    reward = RatingReward(made, RULES, 10)
    (early,) = early_scorers(reward, ["served"])
    assert early_scorers(reward, ["local"]) == []
    given = [rollout(f"It is {i}.") for i in range(3)]
    early.begin([*given, rollout(" "), rollout("cut", finished=False)])
    reward.score(given)
    prompts = [ids for _, body in server.asked[1:] for ids in body["prompt"]]
    assert len(prompts) == 6  # each once, and once behind its 1; nothing that a guard catches


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backend": "vllm"}, "give `server`"),
        ({"backend": "local"}, "give `server`"),
        ({"model": {"family": "llama"}}, "a served judge is named"),
        ({"dtype": "bfloat16"}, "`dtype` does nothing with `backend: vllm`; leave it out"),
        ({"quantize": "4bit"}, "`quantize` does nothing"),
        ({"device": "cuda:0"}, "`device` does nothing"),
        ({"batch_tokens": 7}, "`batch_tokens` does nothing"),
        ({"backend": "openai", "chat": "off"}, "`chat` does nothing with `backend: openai`"),
        ({"server": {"urls": ["http://x"], "votes": 3}}, "`server.votes` does nothing with `backend: vllm`"),
        ({"backend": "llama-cpp", "server": {"urls": ["http://x"], "batch": 3}}, "`server.batch` does nothing"),
        ({"backend": "votes", "server": {"urls": ["http://x"], "top_logprobs": 3}}, "`server.top_logprobs` does"),
    ],
)
def test_keys_that_would_do_nothing(changes: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"kind": "rating", "model": "m", "backend": "vllm", "server": {"urls": ["http://x"]}}
    given |= changes
    if changes == {"backend": "vllm"}:
        del given["server"]
    with pytest.raises(RecipeError, match=words):
        parse_section(RatingSettings, given, "rewards.helpful")


def test_a_local_rating_is_made_from_what_it_was() -> None:
    assert not {"backend", "server", "allow_failing"} & set(decisive(settings_of()))
    assert {"backend", "server"} <= set(decisive(settings_of("http://x", "vllm")))


def test_labels_of_a_served_rating(server: ModelServer, tmp_path: Path) -> None:
    shared: dict[str, Any] = {"kind": "rating", "model": "yonder:judge", "mass_floor": 0.0}
    there = {"backend": "vllm", "server": {"urls": [server.url], "price_per_million": 2.0}}
    results: dict[str, Any] = {}
    for name, more in (("here", {}), ("there", there)):
        (tmp_path / name).mkdir()
        overrides = ["labels.by=judge", "labels.judge=helpful", "labels.target=0.4"]
        stages = [TEACHER, STUDENT, LABELS]
        recipe = recipe_of(tmp_path / name, *overrides, stages=stages, rewards={"helpful": shared | more})
        for stage in ("teacher", "student"):
            planted(recipe, stage, {i: ["right", 7001] for i in range(3)})
        heard = Heard()
        results[name] = run(recipe, progress=heard)["stages"]["labels"]
        assert any("judge helpful: " in line and "reads the ratings 1 to 10, 10 as 1" in line for line in heard.said)
    ours, theirs = (labels_of(tmp_path / name) for name in ("here", "there"))
    grades = [r.grade for r in ours]
    assert len(grades) == 12 and None not in grades and len(set(grades)) > 2
    assert [r.grade for r in theirs] == pytest.approx(grades, rel=1e-4)
    assert "judge_usage" not in results["here"]
    usage = results["there"]["judge_usage"]["helpful"]
    assert usage["prompt_tokens"] > 100
    assert usage["cost"] == pytest.approx((usage["prompt_tokens"] + usage["completion_tokens"]) * 2e-6)
