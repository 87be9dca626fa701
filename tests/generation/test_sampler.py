"""The sampler against transformers' own generation, against the trainer's forward, and its ends."""

import dataclasses
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from tests.models.tiny import CPU, FAMILIES, causal_lm, policy, prompts, sampler, tokenizer
from yonder.errors import DataError, ModelError
from yonder.generation.cache import ROOM, RoomyCache
from yonder.generation.decoding import Row
from yonder.generation.drawing import Sampling, Together, choose
from yonder.generation.dynamic import DynamicDecoder, go_on
from yonder.models.trunk import Trunk
from yonder.schema import Rollout
from yonder.training.batch import Batch, pack
from yonder.training.update import LossSettings, annotate

MOST = 8


def greedy(family: str, samples: int = 1, batch: int = 256) -> list[Rollout]:
    return sampler(family, MOST, batch=batch).sample(prompts(), samples, None, seed=0)


def ids(rollouts: list[Rollout]) -> list[tuple[int, ...]]:
    return [rollout.completion.token_ids for rollout in rollouts]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_transformers_own(family: str) -> None:
    model = causal_lm(family)
    for rollout in greedy(family):
        tokens = torch.tensor([rollout.prompt_ids])
        theirs = model.generate(
            tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=MOST,
            eos_token_id=tokenizer().eos_token_id, pad_token_id=tokenizer().pad_token_id,
        )  # fmt: skip
        assert list(rollout.completion.token_ids) == theirs[0, tokens.shape[1] :].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_group_equals_single_calls(family: str) -> None:
    alone = greedy(family, batch=1)  # every prompt in its own batch: no padding
    grouped = greedy(family, samples=4)  # one batch, left-padded, prefilled once and expanded
    assert ids(grouped) == [each for each in ids(alone) for _ in range(4)]
    assert [rollout.group for rollout in grouped] == [0] * 4 + [1] * 4 + [2] * 4


def annotated(rollouts: list[Rollout], family: str, temperature: float, budget: int) -> Batch:
    batch = pack(rollouts, range(len(rollouts)), terms=1, device=CPU)
    settings = LossSettings(0.2, 0.0, 0.0, 0.2, temperature, 1.0, budget)
    return annotate(batch, policy(family), None, settings, [])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.7, 20)])
def test_trainer_and_sampler_agree_on_logprobs(family: str, temperature: float, top_k: int) -> None:
    """Left padding, cache and dropped rows while sampling; right padding and no cache in training."""
    rollouts = sampler(family, MOST).sample(prompts(), 4, temperature, seed=3, top_k=top_k)
    for budget in (10_000, 40):  # one batch, and about one sequence a batch
        batch = annotated(rollouts, family, temperature, budget)
        assert batch.completion_mask.sum() == sum(len(each) for each in ids(rollouts))
        assert (batch.old_logprobs - batch.rollout_logprobs).abs().max() < 1e-4
        assert batch.rollout_logprobs.min() < -1.0  # and they are not all alike


def test_logprobs_survive_rows_that_end_early() -> None:
    """Rows end at different steps, so the cache is thinned out on the way."""
    model = sampler("llama", 16)
    model.encoder.end_ids = tuple(range(0, 4096, 6))  # one token in six
    rollouts = model.sample(prompts(), 8, 1.0, seed=5)
    lengths = {len(each) for each in ids(rollouts)}
    assert len(lengths) > 3
    assert all(rollout.completion.finished == (rollout.completion.token_ids[-1] % 6 == 0) for rollout in rollouts)
    assert all(token % 6 for each in ids(rollouts) for token in each[:-1])
    batch = annotated(rollouts, "llama", 1.0, 10_000)
    assert (batch.old_logprobs - batch.rollout_logprobs).abs().max() < 1e-4


def test_sampling_is_a_function_of_the_seed() -> None:
    first, again, other = (sampler("llama").sample(prompts(), 2, 1.0, seed) for seed in (1, 1, 2))
    assert first == again
    assert ids(first) != ids(other)


def test_a_group_is_drawn_from_the_models_distribution() -> None:
    count, model = 2000, sampler("llama", 1, batch=2000)
    rollouts = model.sample(prompts("How many?"), count, 1.0, seed=0, top_k=3)
    tokens = torch.tensor([rollouts[0].prompt_ids])
    logits = causal_lm("llama")(tokens).logits[0, -1]
    best = logits.topk(3)
    for token, share in zip(best.indices.tolist(), best.values.softmax(-1).tolist(), strict=True):
        found = sum(rollout.completion.token_ids[0] == token for rollout in rollouts) / count
        assert found == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)  # four standard errors
    top = next(rollout for rollout in rollouts if rollout.completion.token_ids[0] == best.indices[0])
    expected = logits.log_softmax(-1)[best.indices[0]].item()  # of all tokens, not of the three that were kept
    assert top.completion.logprobs[0] == pytest.approx(expected, abs=1e-4)


def test_choose_divides_by_the_temperature_before_the_cuts() -> None:
    # logits / 2 = ln 2, 0: 2/3 and 1/3; top-p 0.7 must keep both (at temperature 1: 4/5, and it would keep one)
    logits = torch.tensor([[1.3862944, 0.0]]).expand(200, 2)
    points = Together(torch.Generator().manual_seed(0)).some([0] * logits.shape[0])
    chosen, logprobs = choose(logits, Sampling(2.0, top_p=0.7), lambda: points)
    assert set(chosen.tolist()) == {0, 1}
    assert sorted({round(value, 5) for value in logprobs.tolist()}) == [-1.09861, -0.40547]  # ln 1/3, ln 2/3


def test_a_stop_string_ends_a_completion_and_is_cut_off() -> None:
    whole = greedy("llama")[0].completion
    text = whole.text
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    found = sampler("llama", MOST, stop=(stop, "never written")).sample(prompts(), 1, None, seed=0)[0].completion
    assert found.finished
    assert not whole.finished
    assert found.text == text.split(stop, 1)[0]
    assert found.token_ids == whole.token_ids[: len(found.token_ids)]  # the tokens of the stop string stay in the loss
    assert len(found.token_ids) < len(whole.token_ids)


def test_each_of_several_end_tokens_ends() -> None:
    whole = greedy("llama")[0].completion
    for place in (2, 4):
        model = sampler("llama", MOST)
        model.encoder.end_ids = (tokenizer().eos_token_id, whole.token_ids[place])
        found = model.sample(prompts(), 1, None, seed=0)[0].completion
        end = whole.token_ids.index(whole.token_ids[place])
        assert found.token_ids == whole.token_ids[: end + 1]  # the end token belongs to the completion
        assert found.finished
        assert found.text == tokenizer().decode(whole.token_ids[:end])  # but not to its text


def test_a_prompt_that_is_too_long_is_refused_by_name() -> None:
    long = dataclasses.replace(prompts("word " * 200)[0], id="long-one")
    with pytest.raises(DataError, match=r"`long-one` has 400 tokens, more than policy.max_prompt_tokens = 64"):
        sampler("llama").sample([*prompts(), long], 1, 1.0, seed=0)


def test_a_model_that_takes_no_positions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trunk, "takes_positions", property(lambda self: False))
    with pytest.raises(ModelError, match="position_ids"):
        sampler("llama")


@pytest.mark.parametrize("batch", [2, 256])
def test_a_rollout_is_told_of_at_its_last_token_and_nothing_changes(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An eighth of all tokens are ends here, so that completions have many lengths."""
    one, told, steps = sampler("llama", MOST, batch=batch), list[tuple[int, Rollout]](), [0]
    one.encoder.end_ids = tuple(range(0, one.policy.trunk.head.out_features, 8))
    silent = one.sample(prompts(), 2, 1.0, seed=5)
    add = Row.add

    def counted(row: Row, *arguments: Any) -> bool:
        over = add(row, *arguments)
        steps[0] = len(row.ids)
        return over

    monkeypatch.setattr(Row, "add", counted)
    found = one.sample(prompts(), 2, 1.0, 5, finished=lambda rollouts: told.extend((steps[0], r) for r in rollouts))
    assert found == silent
    assert {rollout.completion.finished for rollout in found} == {True, False}
    assert sorted(map(repr, found)) == sorted(repr(rollout) for _, rollout in told)  # each once, as it is returned
    if batch == 256:  # all together: at the so-manieth step
        assert [step for step, _ in told] == [len(rollout.completion.token_ids) for _, rollout in told]


# ----- what several rows have in common


def test_rows_are_read_once_as_long_as_they_write_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    step = DynamicDecoder._step

    def counted(self: DynamicDecoder, tokens: torch.Tensor, *others: Any) -> torch.Tensor:
        read.append(len(tokens))
        return step(self, tokens, *others)

    monkeypatch.setattr(DynamicDecoder, "_step", counted)
    greedy("llama", samples=4)
    assert read == [3] * (MOST - 1)  # three prompts, twelve rows
    read.clear()
    found = sampler("llama", MOST).sample(prompts(), 4, 0.7, seed=2)
    beginnings = [
        {(r.group, r.completion.token_ids[:n]) for r in found if len(r.completion.token_ids) > n} for n in (1, 2)
    ]
    assert read[:2] == [len(each) for each in beginnings]
    assert read[-1] > 3


def test_where_rows_go_on_by_hand() -> None:
    moved: list[list[int]] = []

    class Cache:
        def batch_select_indices(self, indices: torch.Tensor) -> None:
            moved.append(indices.tolist())

    cache: Any = Cache()
    mask = torch.tensor([[0, 1], [1, 1]])
    # rows 0 to 2 went on from beginning 0, rows 3 and 4 from 1; row 1 is over, rows 0 and 2 wrote the same
    tokens, seen, of = go_on({0: 7, 2: 7, 3: 8, 4: 9}, {0: 0, 1: 0, 2: 0, 3: 1, 4: 1}, cache, mask)
    assert (tokens.tolist(), moved) == ([7, 8, 9], [[0, 1, 1]])
    assert of == {0: 0, 2: 0, 3: 1, 4: 2}
    assert seen.tolist() == [[0, 1, 1], [1, 1, 1], [1, 1, 1]]
    # nothing splits, and all go on
    tokens, seen, of = go_on({0: 5, 2: 5, 3: 6, 4: 4}, of, cache, seen)
    assert (tokens.tolist(), len(moved), of) == ([5, 6, 4], 1, {0: 0, 2: 0, 3: 1, 4: 2})
    # one of three ends: less than three quarters go on
    tokens, seen, of = go_on({0: 5, 2: 5, 4: 4}, of, cache, seen)
    assert (tokens.tolist(), moved[1:], of) == ([5, 4], [[0, 2]], {0: 0, 2: 0, 4: 1})
    # one of five ends: it stays, with any token
    mask, of = torch.ones(5, 1).long(), {i: i for i in range(5)}
    tokens, seen, of = go_on({0: 1, 1: 2, 3: 3, 4: 4}, of, cache, mask)
    assert (tokens.tolist(), len(moved), of) == ([1, 2, 0, 3, 4], 2, {0: 0, 1: 1, 3: 3, 4: 4})


def test_rows_of_one_distribution_are_drawn_as_if_each_had_its_own() -> None:
    generator = torch.Generator().manual_seed(4)
    logits, of = torch.randn(3, 50, generator=generator), [2, 0, 0, 1, 2, 0]
    points = torch.rand(6, 1, generator=generator, dtype=torch.float64)
    for settings in (Sampling(0.9, 0.8, 20), Sampling(None)):
        shared = choose(logits, settings, lambda: points, of)
        own = choose(logits[of], settings, lambda: points)
        assert torch.equal(shared[0], own[0])
        assert torch.allclose(shared[1], own[1])


def test_a_cache_with_room_holds_what_a_growing_one_does() -> None:
    generator = torch.Generator().manual_seed(5)
    ours, theirs = RoomyCache(), DynamicCache()

    def add(rows: int, tokens: int) -> None:
        new = [torch.randn(rows, 2, tokens, 4, generator=generator) for _ in range(2)]
        for layer in range(2):
            found, expected = (cache.update(*[x + layer for x in new], layer) for cache in (ours, theirs))
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert ours.get_seq_length() == theirs.get_seq_length()

    add(2, 5)
    for cache in (ours, theirs):
        cache.batch_repeat_interleave(2)
    for _ in range(ROOM + 2):  # more than there is room for
        add(4, 1)
    for cache in (ours, theirs):
        cache.batch_select_indices(torch.tensor([3, 0, 0]))
    add(3, 2)
