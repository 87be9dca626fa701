"""Faults of judge servers: nothing becomes a zero, nothing is lost, what cannot be mended is one sentence."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.judges.faulty import Faulty, scores, serving
from tests.judges.model_server import serving_model
from tests.pipeline.test_pipeline import Heard, write
from yonder.assembly.judges import load_judge, load_preference
from yonder.errors import ModelError, RecipeError
from yonder.judges.llama_cpp import LlamaCppBackEnd
from yonder.judges.prompt import Asked, LabelTokens
from yonder.judges.served import ServedJudge, verdict_of, verdict_of_probabilities
from yonder.models.loading import load_tokenizer
from yonder.pipeline.running import run
from yonder.recipe import load_recipe
from yonder.rewards.judge import JudgeReward, Verdict
from yonder.transport import Limits, Transport, Unanswered

PAIRS = [(f"What is {i} + {i + 1}?", f"return {i} + {i + 1}") for i in range(6)]


@pytest.fixture
def server() -> Iterator[Faulty]:
    with serving() as running:
        yield running


def judge(*urls: str, **server_settings: Any) -> JudgeReward:
    given = {"urls": list(urls), "batch": 2, "concurrency": 1, "timeout_s": 0.4, "deadline_s": 20} | server_settings
    return load_judge({"model": "yonder:judge", "backend": "sglang", "mass_floor": 0.0, "server": given})


def served(reward: JudgeReward) -> ServedJudge:
    assert isinstance(reward.model, ServedJudge)
    return reward.model


def true_gaps(reward: JudgeReward) -> list[float]:
    found: list[float] = []
    for question, response in PAIRS:
        yes, no = scores(list(served(reward).prompt.asked(question, response, 1024).ids))
        found.append(math.log(yes) - math.log(no))
    return found


def test_a_server_that_names_tokens_by_their_texts_is_told_from_vllm() -> None:
    with serving_model() as server:
        server.plain, server.by_id = True, False
        with pytest.raises(ModelError) as caught:
            load_judge({"model": "yonder:judge", "backend": "vllm", "server": {"urls": [server.url]}})
    said = str(caught.value)
    assert "does not answer with token ids as vLLM does" in said and "`backend: llama-cpp`" in said
    assert "`openai` for chat completions" in said and "ValueError" not in said and "start it" not in said
    assert len(server.asked) == 1  # what no second try mends


@pytest.mark.parametrize("fault", ["reset", "hang", "429", "408", "500", "503", "half", "NaN", "too few"])
def test_a_passing_fault_costs_nothing(fault: str, server: Faulty) -> None:
    reward = judge(server.url)
    server.faults = [""] * len(server.asked) + ["", fault, fault]
    found = reward.score(PAIRS)
    assert [score.logit_gap for score in found] == pytest.approx(true_gaps(reward), abs=1e-9)
    assert all(score.mass == pytest.approx(0.9) for score in found)
    assert served(reward).back_end.transport.usage.retries == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("missing labels", "the judge server gives both labels the probability 0"),
        ("NaN", "an answer that cannot be read (ValueError: nan is not a finite number), 3 times"),
        ("half", "an answer that cannot be read"),
        ("400", "the judge server refuses this prompt (400:"),
    ],
)
def test_a_lasting_fault_leaves_its_own_prompts_unscored(fault: str, reason: str, server: Faulty) -> None:
    reward = judge(server.url)
    before = len(server.asked)
    server.faults = [""] * before + ["", *[fault] * (3 if fault != "missing labels" else 1)]
    found = reward.score(PAIRS)
    assert [score.value is None for score in found] == [False, False, True, True, False, False]
    assert reason in found[2].reason
    gaps = true_gaps(reward)
    assert [found[i].logit_gap for i in (0, 1, 4, 5)] == pytest.approx([gaps[i] for i in (0, 1, 4, 5)], abs=1e-9)


def test_a_prompt_that_is_refused_does_not_cost_its_neighbour(server: Faulty) -> None:
    reward = judge(server.url)
    server.faults = [""] * len(server.asked) + ["413", "", "413"]  # the pair, then each alone
    found = reward.score(PAIRS[:2])
    assert [score.value is None for score in found] == [False, True]


def test_one_missing_label_is_bounded_and_flagged(server: Faulty) -> None:
    reward = judge(server.url)
    server.faults = [""] * len(server.asked) + ["one label"] * 3
    found = reward.score(PAIRS)
    assert all(score.missing_no and not score.missing_yes and score.value is not None for score in found)
    yes = [math.log(scores(item)[0]) for body in server.asked[-3:] for item in body["items"]]
    assert [score.logit_gap for score in found] == pytest.approx([x + 149 * math.log(2) for x in yes], abs=1e-9)


@pytest.mark.parametrize(
    ("status", "words"),
    [("401", "check the key that `server.key_env` names"), ("404", "answers 404"), ("403", "answers 403")],
)
def test_what_no_retry_mends_ends_the_run(status: str, words: str, server: Faulty) -> None:
    reward = judge(server.url)
    server.faults = [""] * len(server.asked) + [status]
    begun = time.monotonic()
    with pytest.raises(ModelError, match=words):
        reward.score(PAIRS)
    assert time.monotonic() - begun < 5


def test_a_server_that_is_not_there_is_said_before_the_run() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        with pytest.raises(ModelError, match=r"cannot be used: no answer .* ConnectError.*; start it, or mend"):
            judge(f"http://127.0.0.1:{taken.getsockname()[1]}", deadline_s=1)


def test_a_server_that_goes_away_leaves_rollouts_unscored_and_says_why() -> None:
    with serving() as server:
        reward = judge(server.url, deadline_s=1)
    found = reward.score(PAIRS)
    assert [score.value for score in found] == [None] * 6
    assert all("within the deadline; the last fault: ConnectError" in score.reason for score in found)


def test_another_server_takes_over(server: Faulty) -> None:
    with serving() as other:
        reward = judge(server.url, other.url)
        server.faults = ["500"] * 1000
        found = reward.score(PAIRS)
        assert [score.logit_gap for score in found] == pytest.approx(true_gaps(reward), abs=1e-9)
        assert len(other.asked) >= 3


def test_work_is_spread_over_servers(server: Faulty) -> None:
    with serving() as other:
        reward = judge(server.url, other.url, concurrency=4, batch=1, timeout_s=10)
        server.faults = other.faults = ["hang"] * 20  # slow answers, so that several are open at once
        before = len(server.asked), len(other.asked)
        reward.score(PAIRS)
        assert len(server.asked) > before[0]
        assert len(other.asked) > before[1]


def test_requests_a_minute_are_kept() -> None:
    with serving() as server:
        transport = Transport((server.url,), Limits(requests_per_minute=600.0))
        begun = time.monotonic()
        for _ in range(5):
            transport.post("/v1/score", {"items": [[1]]}, lambda answer: answer["scores"])
        assert 0.38 < time.monotonic() - begun < 3  # four gaps of 0.1 s


def test_usage_is_counted(server: Faulty) -> None:
    reward = judge(server.url)
    before = served(reward).back_end.transport.usage.prompt_tokens
    reward.score(PAIRS)
    asked = sum(len(item) for body in server.asked[-3:] for item in body["items"])
    usage = served(reward).back_end.transport.usage.to_json()
    assert usage["prompt_tokens"] - before == asked
    assert usage["faults"] == {}


def test_a_key_is_sent_and_a_missing_one_is_named(server: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_JUDGE_KEY", "s3cret")
    judge(server.url, key_env="MY_JUDGE_KEY")
    assert server.headers_seen[-1]["Authorization"] == "Bearer s3cret"
    monkeypatch.delenv("MY_JUDGE_KEY")
    with pytest.raises(ModelError, match="the environment variable MY_JUDGE_KEY"):
        judge(server.url, key_env="MY_JUDGE_KEY")


@pytest.mark.parametrize("fault", ["half", "NaN", "too few", "400", "413", "422", "401", "403", "404", "405"])
def test_a_healthy_server_answers_for_a_bad_one(fault: str, server: Faulty) -> None:
    with serving() as other:
        server.faults = [fault] * 1000
        reward = judge(server.url, other.url)
        found = reward.score(PAIRS)
        assert [score.logit_gap for score in found] == pytest.approx(true_gaps(reward), abs=1e-9)
        if fault.startswith("40") and fault != "400":
            assert len(server.asked) == 1  # it rests


def test_when_every_server_says_wrong_the_run_stops(server: Faulty) -> None:
    with serving() as other:
        reward = judge(server.url, other.url, concurrency=4, batch=1)
        server.faults = other.faults = ["404"] * 1000
        begun = time.monotonic()
        for _ in range(2):  # a later call asks anew
            before = len(server.asked) + len(other.asked)
            with pytest.raises(ModelError, match="answers 404"):
                reward.score(PAIRS)
            assert len(server.asked) + len(other.asked) >= before + 2
        assert time.monotonic() - begun < 5
        server.faults = []
        assert None not in [score.value for score in reward.score(PAIRS)]


def test_a_prompt_that_every_server_refuses_is_unscored(server: Faulty) -> None:
    with serving() as other:
        reward = judge(server.url, other.url)
        server.faults = other.faults = ["404", *["413"] * 1000]
        server.faults = ["413"] * 1000
        found = reward.score(PAIRS[:2])
        assert all("refuses this prompt (413:" in score.reason for score in found)


@pytest.mark.parametrize(("said", "least"), [("1", 1.0), ("date", 0.9)])
def test_retry_after_is_kept_to(said: str, least: float, server: Faulty) -> None:
    server.retry_after = said if said != "date" else format_datetime(datetime.now(UTC) + timedelta(seconds=2))
    transport = Transport((server.url,), Limits(deadline_s=20))
    server.faults = ["429"]
    begun = time.monotonic()
    transport.post("/v1/score", {"items": [[1]]}, lambda answer: answer["scores"])
    assert least <= time.monotonic() - begun < 5


def test_a_long_retry_after_is_not_cut_short(server: Faulty) -> None:
    server.retry_after = "90"
    transport = Transport((server.url,), Limits(deadline_s=60))
    server.faults = ["429"]
    begun = time.monotonic()
    with pytest.raises(Unanswered, match=r"within the deadline; the last fault: status 429 \(Retry-After: 90 s\)"):
        transport.post("/v1/score", {"items": [[1]]}, lambda answer: answer["scores"])
    assert len(server.asked) == 1
    assert time.monotonic() - begun < 5  # it would come too late: nothing is gained by waiting for it


def test_votes_that_are_no_labels_are_no_verdict(server: Faulty) -> None:
    given = {"urls": [server.url], "votes": 3}
    reward = load_judge({"model": "m", "backend": "votes", "mass_floor": 0.0, "server": given})
    server.vote = "Maybe"
    found = reward.score(PAIRS[:1])[0]
    assert (found.value, found.reason) == (None, "none of 3 sampled answers is a label")
    server.vote = " no."
    found = reward.score(PAIRS[1:2])[0]
    assert (found.value, found.mass) == (0.0, 1.0)
    assert found.logit_gap == pytest.approx(math.log(0.5 / 3.5))


@pytest.mark.parametrize("adds", [True, False])
def test_the_text_route_of_llama_cpp_has_one_bos_token(adds: bool, server: Faulty) -> None:
    server.adds_bos = adds
    transport = Transport((server.url,), Limits(deadline_s=5))
    labels = LabelTokens((1,), (2,), (" Yes",), (" No",))
    back_end = LlamaCppBackEnd(transport, "m", labels, 5, "<s>")
    assert back_end.probe().startswith("llama-cpp-python: text")
    back_end.ask([Asked((3,), "<s>[INST] <s> 2? [/INST]", False), Asked((3,), "2?", False)])
    assert [body["prompt"] for body in server.asked[-2:]] == [("" if adds else "<s>") + "[INST] <s> 2? [/INST]", "2?"]


def test_verdict_of_by_hand() -> None:
    # ln(0.3 + 0.1) - ln(0.2) = ln 2; mass 0.6
    both = verdict_of([math.log(0.3), math.log(0.1)], [math.log(0.2)], -9.0)
    assert both.logit_gap == pytest.approx(math.log(2))
    assert both.mass == pytest.approx(0.6)
    assert verdict_of([-1.0], [], -5.0) == Verdict(4.0, math.exp(-1.0), missing_no=True)
    assert verdict_of([], [], -5.0).reason.startswith("neither label")


def test_a_probability_of_zero_is_bounded_by_the_smallest_float32() -> None:
    found = verdict_of_probabilities([0.0], [0.99])  # not by the other label, which would make it a tie
    assert found.logit_gap == pytest.approx(-103.2789 - math.log(0.99), abs=1e-4)
    assert found[1:] == (pytest.approx(0.99), False, True, False, "")
    assert verdict_of_probabilities([0.0, 0.5], [0.25, 0.0]).logit_gap == pytest.approx(math.log(2))
    none = verdict_of_probabilities([0.0], [0.0])
    assert none.reason == "the judge server gives both labels the probability 0"
    assert math.isnan(none.logit_gap)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "m", "backend": "vllm"}, "give `server`"),
        ({"model": "m", "server": {"urls": ["http://x"]}}, "give `server`"),
        (
            {"model": {"family": "llama"}, "backend": "vllm", "server": {"urls": ["http://x"]}},
            "a served judge is named",
        ),
        ({"modle": "m"}, "modle"),
    ],
)
def test_settings_that_cannot_be_served(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_judge(settings)


def test_a_stage_says_how_it_judges_and_what_that_cost(server: Faulty, tmp_path: Path) -> None:
    stages = [
        {"name": "answers", "kind": "collect", "data": "train", "samples": 2},
        {"name": "check", "kind": "check-judge", "reward": "judge", "responses": ["answers"], "attack_questions": 1},
    ]
    served = {"urls": [server.url], "price_per_million": 2.0}
    rewards = {"judge": {"kind": "judge", "model": "yonder:judge", "backend": "sglang", "server": served, "guards": []}}
    heard = Heard()
    summary = run(load_recipe(write(tmp_path, stages, rewards=rewards)), progress=heard)
    expected = "judge judge: SGLang returns the labels' probabilities; reads ' Yes' ("
    assert any(line.startswith(expected) and line.endswith("Answer:'") for line in heard.said), heard.said
    usage = summary["stages"]["check"]["judge_usage"]["judge"]
    assert usage["prompt_tokens"] > 100
    assert usage["cost"] == pytest.approx(usage["prompt_tokens"] * 2e-6)
    assert (tmp_path / "run" / "judge_cache.sqlite").is_file()
    found = json.loads((tmp_path / "run/stages/check/judge_check.json").read_text())
    assert found["speed"]["cost"] == usage["cost"]
    assert found["speed"]["tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert found["baseline"]["note"].startswith("not measured: only a judge in this process")


def test_a_served_judge_prefers_in_both_orders(server: Faulty) -> None:
    """Both prompts go over the wire as token ids; the preference is the mean of what came back."""
    given = {"model": "yonder:judge", "backend": "sglang", "server": {"urls": [server.url]}, "mass_floor": 0.0}
    preferring, _ = load_preference(given)
    found = preferring.prefer([("q?", "one", "two"), ("q?", "one", "one")])
    items = [item for body in server.asked[1:] for item in body["items"]]
    assert len(items) == 2  # the probe was first; equal responses are not asked about
    shares = [yes / (yes + no) for yes, no in map(scores, items)]
    assert found[0].value == pytest.approx((shares[0] + 1 - shares[1]) / 2)
    assert found[0].bias == pytest.approx(shares[0] + shares[1] - 1)
    decoded = [load_tokenizer("yonder:judge").decode(item) for item in items]
    assert decoded[0].index("one") < decoded[0].index("two") and decoded[1].index("two") < decoded[1].index("one")
