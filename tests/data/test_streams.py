"""Streams: order, exact resume, mixture shares."""

import json
from collections import Counter
from typing import Any

import pytest

from yonder.data.streams import MixtureStream, PromptStream, build_stream
from yonder.errors import DataError
from yonder.protocols import Stream
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.schema import Prompt


def prompts(count: int, mark: str = "p") -> list[Prompt]:
    return [Prompt(f"{mark}{n}", "q", "q") for n in range(count)]


def drawn(stream: Stream, *counts: int) -> list[str]:
    return [prompt.id for count in counts for prompt in stream.next(count)]


def mixture(shares: dict[str, float], seed: int = 0) -> MixtureStream:
    parts = {name: PromptStream(prompts(7 + 4 * n, name), seed, name) for n, name in enumerate(shares)}
    return MixtureStream(parts, shares)


def test_every_epoch_has_every_prompt_once_in_a_new_order() -> None:
    names = drawn(PromptStream(prompts(10), seed=0), *[4] * 10)  # batches of 4 cross the ends of epochs of 10
    assert len(names) == 40
    epochs = [names[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == sorted(f"p{n}" for n in range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_order_depends_on_seed_and_name_not_on_batch_size() -> None:
    reference = drawn(PromptStream(prompts(10), 0, "a"), 25)
    assert reference == drawn(PromptStream(prompts(10), 0, "a"), 3, 1, 8, 13)
    assert reference != drawn(PromptStream(prompts(10), 1, "a"), 25)
    assert reference != drawn(PromptStream(prompts(10), 0, "b"), 25)
    assert reference[:4] == ["p8", "p4", "p2", "p1"]  # written down: a run today and next year see the same order


def test_too_few_questions_for_what_is_asked_at_once_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    stream = PromptStream(prompts(3), 0, "few")
    stream.next(2)
    stream.next(3)  # over the end of an epoch
    assert caplog.text == ""
    assert sorted(Counter(drawn(stream, 7)).values()) == [2, 2, 3]
    stream.next(7)
    (said,) = caplog.messages
    assert said.startswith("data.few has 3 questions for 7 prompts at once: some come several times")
    assert "\n" not in said
    mixture({"a": 0.5, "b": 0.5}).next(14)  # 7 of each, of 7 and 11
    assert len(caplog.messages) == 1
    mixture({"a": 0.5, "b": 0.5}).next(16)
    assert [text.split(" questions")[0] for text in caplog.messages[1:]] == ["data.a has 7"]


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8])  # 5 batches of 4 end exactly at an epoch of 10
def test_resume_equals_uninterrupted(steps: int) -> None:
    for make in (lambda: PromptStream(prompts(10), 0), lambda: mixture({"a": 0.5, "b": 0.3, "c": 0.2})):
        whole, interrupted, resumed = make(), make(), make()
        expected = drawn(whole, *[4] * 12)
        before = drawn(interrupted, *[4] * steps)
        resumed.next(3)  # wherever it stood
        resumed.load_state(json.loads(json.dumps(interrupted.state())))
        assert before + drawn(resumed, *[4] * (12 - steps)) == expected


def test_state_is_a_copy() -> None:
    stream = mixture({"a": 0.5, "b": 0.5})
    state = stream.state()
    text = json.dumps(state)
    stream.next(5)
    assert json.dumps(state) == text


def test_changed_data_are_refused() -> None:
    state = PromptStream(prompts(10), 0).state()
    changed = [*prompts(9), Prompt("p9", "q", "other text")]
    for other in (
        PromptStream(prompts(9), 0),
        PromptStream(prompts(10)[::-1], 0),
        PromptStream(changed, 0),
        PromptStream(prompts(10), 1),
    ):
        with pytest.raises(DataError, match="not those of the saved run"):
            other.load_state(state)
    with pytest.raises(DataError, match="damaged"):
        PromptStream(prompts(10), 0).load_state(state | {"position": 11})
    with pytest.raises(DataError, match="not those of the saved run"):
        mixture({"a": 0.5, "b": 0.5}).load_state(mixture({"a": 0.6, "b": 0.4}).state())


def test_empty_streams_are_refused() -> None:
    with pytest.raises(DataError, match=r"data\.mine has no question"):
        PromptStream([], 0, "mine")
    with pytest.raises(DataError, match="no part has a share"):
        MixtureStream({"a": PromptStream(prompts(1), 0)}, {"a": 0.0}, "mine")


@pytest.mark.parametrize(
    "shares", [{"a": 0.5, "b": 0.5}, {"a": 0.7, "b": 0.3}, {"a": 0.1, "b": 0.2, "c": 0.7}, {"a": 1 / 3, "b": 2 / 3}]
)
def test_shares_are_exact_over_time(shares: dict[str, float]) -> None:
    stream = mixture(shares)
    count: Counter[str] = Counter()
    for draws in range(1, 601):
        count[stream.next(1)[0].id[0]] += 1
        for part, share in shares.items():
            assert abs(count[part] - share * draws) < (1 if len(shares) == 2 else len(shares) - 1)
    assert {part: count[part] for part in shares} == {part: round(share * 600) for part, share in shares.items()}


def test_the_turns_of_a_mixture() -> None:
    # share * n - drawn before the n-th draw: a .75 b .25 | a .5 b .5 (tie: a) | a .25 b .75 | a 1 b 0 | a .75 b .25 ...
    names = drawn(mixture({"a": 0.75, "b": 0.25}), 8)
    assert [name[0] for name in names] == list("aabaaaba")
    assert names[0].startswith("a/a")


def test_build_stream() -> None:
    raw: dict[str, dict[str, Any]] = {
        "a": {"source": "svamp", "limit": 20, "development": 5},
        "b": {"source": "word-problems", "options": {"count": 30, "seed": 1}},
        "m": {"mixture": {"a": 0.25, "b": 0.75}, "labeled": False},
    }
    data = {name: DataSettings.model_validate(values) for name, values in raw.items()}
    stream = build_stream("m", data, TaskSettings(), 0)
    batch = stream.next(8)
    assert Counter(prompt.id.split("/")[0] for prompt in batch) == {"a": 2, "b": 6}
    assert all(prompt.answer is None for prompt in batch)
    seen = {prompt.id for prompt in stream.next(80)} | {prompt.id for prompt in batch}
    assert len(seen) == 20 + 30  # over time a stream reaches all of each part, not one pass only
    held = {prompt.id for prompt in build_stream("a.development", data, TaskSettings(), 0).next(5)}
    assert len(held) == 5
    assert not held & {name.removeprefix("a/") for name in seen}
