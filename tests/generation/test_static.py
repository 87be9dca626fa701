"""Sampling with a cache of fixed size: the same completions, steps that can be replayed, a host that never waits for a
token."""

import contextlib
import copy
import gc
import importlib
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tests.models.tiny import CPU, FAMILIES, causal_lm, policy, prompts, tokenizer
from yonder.errors import ModelError
from yonder.generation import graphs, picking, static
from yonder.generation.cache import FixedLayer, contents
from yonder.generation.drawing import Sampling
from yonder.generation.dynamic import DynamicDecoder
from yonder.generation.graphs import Graphs, Watch
from yonder.generation.picking import Batch, Picker
from yonder.generation.room import Room, Size, rounded
from yonder.generation.sampler import PolicySampler
from yonder.generation.soundness import refusal
from yonder.generation.static import CHUNK, StaticDecoder
from yonder.models.encoding import PromptEncoder
from yonder.models.policy import Policy
from yonder.recipe.models import Decoding
from yonder.schema import Rollout
from yonder.training.batch import pack
from yonder.training.update import LossSettings, annotate

MOST = 40  # tokens: several chunks
ENDS = tuple(range(0, 4096, 20))  # one token in twenty ends, so that rows leave at many places
FIRST = Batch([(1, 2, 3), (4, 5)], [MOST] * 2, 4, Sampling(1.0))
SETTINGS = (Sampling(None), Sampling(1.0), Sampling(0.7, top_k=50), Sampling(1.3, top_p=0.9))


def sampler(model: Policy, decoding: Decoding, batch: int = 256, most: int = MOST) -> PolicySampler:
    encoder = PromptEncoder(tokenizer(), 64, context=128)
    encoder.end_ids = ENDS
    return PolicySampler(model, encoder, most, batch, by_prompt=True, decoding=decoding)


def own(family: str) -> Policy:
    """A policy that the test may change."""
    return Policy(copy.deepcopy(causal_lm(family)), tokenizer())


def drawn(one: PolicySampler, settings: Sampling, samples: int = 8, seed: int = 3) -> list[Rollout]:
    return one.sample(prompts(), samples, settings.temperature, seed, settings.top_p, settings.top_k)


def assert_same(ours: Sequence[Rollout], theirs: Sequence[Rollout]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a.group, a.completion.token_ids) == (b.group, b.completion.token_ids)
        assert (a.completion.text, a.completion.finished) == (b.completion.text, b.completion.finished)
        assert a.completion.logprobs == pytest.approx(b.completion.logprobs, abs=1e-4)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_completions_are_those_of_a_growing_cache(family: str, settings: Sampling) -> None:
    fixed, growing = (sampler(policy(family), way) for way in ("static", "dynamic"))
    found = drawn(fixed, settings)
    assert_same(found, drawn(growing, settings))
    assert isinstance(fixed.picker.picked, StaticDecoder)
    if settings.temperature is not None:  # rows have left on the way
        assert len({len(rollout.completion.token_ids) for rollout in found}) > 2
        assert len({rows for rows, _, _ in fixed.picker.picked._steps}) > 1


@pytest.mark.parametrize("batch", [1, 8, 16])
def test_several_batches_share_a_room(batch: int) -> None:
    fixed, growing = (sampler(policy("llama"), way, batch, 70) for way in ("static", "dynamic"))
    for seed in (1, 2):
        assert_same(drawn(fixed, Sampling(1.0), seed=seed), drawn(growing, Sampling(1.0), seed=seed))
    assert isinstance(fixed.picker.picked, StaticDecoder)
    room = fixed.picker.picked._room
    assert room is not None
    places = [x.data_ptr() for x in room.tensors]
    drawn(fixed, Sampling(1.0))
    assert [x.data_ptr() for x in room.tensors] == places
    long = prompts("word " * 30)  # no row of the room is so wide
    assert_same(fixed.sample(long, 2, 1.0, 0), growing.sample(long, 2, 1.0, 0))
    assert fixed.picker.picked._room is not room


def test_a_completion_is_told_of_once_and_limits_hold() -> None:
    told: list[Rollout] = []
    fixed, growing = (sampler(policy("qwen3"), way) for way in ("static", "dynamic"))
    for one in (fixed, growing):
        one.max_total_tokens = 32  # unequal prompts have unequal limits
    found = fixed.sample(prompts(), 6, 1.0, 5, finished=told.extend)
    assert sorted(map(repr, told)) == sorted(map(repr, found))
    assert_same(found, growing.sample(prompts(), 6, 1.0, 5))
    assert max(len(r.prompt_ids) + len(r.completion.token_ids) for r in found) == 32


def test_a_stop_string_ends_a_completion_although_the_host_looks_late() -> None:
    fixed, growing = (sampler(policy("llama"), way) for way in ("static", "dynamic"))
    for one in (fixed, growing):
        one.encoder.end_ids = ()
    whole = drawn(fixed, Sampling(None), 1)[0].completion.text
    stop = whole[len(whole) // 3 : len(whole) // 3 + 2]
    for one in (fixed, growing):
        one.encoder.stop = (stop,)
    found = drawn(fixed, Sampling(None), 1)
    assert_same(found, drawn(growing, Sampling(None), 1))
    assert found[0].completion.text == whole.split(stop, 1)[0]


@pytest.mark.parametrize("kind", [None, torch.bfloat16])
def test_weights_that_were_trained_are_seen(kind: torch.dtype | None) -> None:
    """Under autocast a copy of the weights is sampled with: the update must reach it."""
    model = own("llama")
    model.autocast = kind
    fixed = sampler(model, "static")
    drawn(fixed, Sampling(1.0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    rollouts = drawn(fixed, Sampling(1.0))
    batch = pack(rollouts, range(len(rollouts)), terms=1, device=CPU)
    batch = annotate(batch, model, None, LossSettings(0.2, 0.0, 0.0, 0.2, 1.0, 1.0, 10_000), [])
    gap = (batch.old_logprobs - batch.rollout_logprobs).abs().max()
    assert gap < (1e-4 if kind is None else 0.06)  # without the update's: 1 and more


def test_weights_at_new_places_are_captured_anew() -> None:
    model = own("llama")
    fixed = sampler(model, "static")
    before = drawn(fixed, Sampling(None))
    assert isinstance(fixed.picker.picked, StaticDecoder)
    steps = dict(fixed.picker.picked._steps)
    drawn(fixed, Sampling(None))
    assert dict(fixed.picker.picked._steps) == steps
    weight = model.trunk.head.weight
    weight.data = -weight.data
    assert [r.completion.token_ids for r in drawn(fixed, Sampling(None))] != [r.completion.token_ids for r in before]
    assert not set(map(id, fixed.picker.picked._steps.values())) & set(map(id, steps.values()))


def test_numbers_that_are_none_do_not_stay_in_the_room() -> None:
    fixed = sampler(policy("llama"), "static")
    before = drawn(fixed, Sampling(1.0))
    assert isinstance(fixed.picker.picked, StaticDecoder)
    assert fixed.picker.picked._room is not None
    for pair in contents(fixed.picker.picked._room.cache):
        for x in pair:
            x.fill_(float("nan"))
    assert drawn(fixed, Sampling(1.0)) == before


def test_rows_that_are_nobodys_start_anew_and_none_goes_beyond_its_limit() -> None:
    model = policy("llama")
    fixed = sampler(model, "static")
    fixed.max_total_tokens = 40  # a long prompt's rows may write less
    states: list[list[list[int]]] = []
    for _ in range(3):
        fixed.sample(prompts(), 3, 1.0, 7)  # 9 rows of 16
        assert isinstance(fixed.picker.picked, StaticDecoder)
        room = fixed.picker.picked._room
        assert room is not None
        assert int(room.positions.max()) < 40
        states.append([x.tolist() for x in (room.tokens, room.positions, room.seen)])
    assert states[0] == states[1] == states[2]


def test_a_room_for_both_only_where_they_have_much_in_common() -> None:
    assert Size(64, 256, 40).joined(Size(48, 384, 20)) == Size(64, 384, 40)
    assert Size(512, 128, 40).joined(Size(8, 2048, 40)) is None
    assert Size(64, 256, 40).holds(Size(64, 128, 40))
    assert not Size(64, 256, 40).holds(Size(64, 128, 41))


def test_what_is_large_is_given_back_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    one, rested = sampler(policy("llama"), "static"), list[int]()
    drawn(one, Sampling(1.0))
    assert isinstance(one.picker.picked, StaticDecoder)
    monkeypatch.setattr(one.picker.picked, "rest", lambda: rested.append(1))

    def fails(rollouts: Sequence[Rollout]) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        one.sample(prompts(), 2, 1.0, 0, finished=fails)
    assert rested == [1]
    monkeypatch.undo()
    assert_same(drawn(one, Sampling(1.0)), drawn(sampler(policy("llama"), "dynamic"), Sampling(1.0)))


@pytest.mark.parametrize(("memory", "kept"), [(10**9, True), (10**4, False)])
def test_a_room_stays_where_it_is_small(memory: int, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    one = sampler(policy("llama"), "static")
    drawn(one, Sampling(1.0))
    decoder: Any = one.picker.picked
    monkeypatch.setattr(decoder, "graphs", object())
    properties = type("Properties", (), {"total_memory": memory})
    monkeypatch.setattr(static.torch.cuda, "get_device_properties", lambda _: properties)
    decoder.rest()
    assert (decoder._room is not None, bool(decoder._steps)) == (kept, kept)


# ----- what a CUDA graph needs


def replayed(work: Callable[[], None], part: Any, seen: list[str]) -> Callable[[], None]:
    """The work's operations on its very tensors, as recorded once: what a CUDA graph would repeat. Raises where the
    work asks a tensor for its value."""
    tensors = [*(x for x in part if isinstance(x, Tensor)), *(x for pair in contents(part.cache) for x in pair)]
    before = [x.clone() for x in tensors]
    recorded = make_fx(work)()
    for x, old in zip(tensors, before, strict=True):
        x.copy_(old)  # recording has done a step
    seen += [str(node.target) for node in recorded.graph.nodes if node.op == "call_function"]
    return recorded


@pytest.mark.parametrize(
    ("family", "kind"),
    [*((family, None) for family in FAMILIES), *((family, torch.bfloat16) for family in ("llama", "gpt2"))],
)
def test_steps_that_are_recorded_once_write_the_same(
    family: str, kind: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, operations, times = own(family), list[str](), [0, 0]
    model.autocast = kind
    plain, recorded = sampler(model, "static"), sampler(model, "static")

    first_time = StaticDecoder._first

    def first(self: StaticDecoder, room: Room, rows: int, columns: int, settings: Sampling) -> Callable[[], None]:
        work: Any = first_time(self, room, rows, columns, settings)
        again = replayed(work, work.args[3], operations)
        times[0] += 1

        def counted() -> None:
            times[1] += 1
            again()

        return counted

    expected = [drawn(plain, settings, seed=seed) for settings in SETTINGS[:2] for seed in (1, 2)]
    monkeypatch.setattr(StaticDecoder, "_first", first)
    found = [drawn(recorded, settings, seed=seed) for settings in SETTINGS[:2] for seed in (1, 2)]
    assert found == expected
    assert times[1] > 4 * times[0] > 0
    assert not [name for name in operations if "lift_fresh" in name or "local_scalar" in name]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_asks_for_no_value_and_brings_nothing_from_elsewhere(family: str, settings: Sampling) -> None:
    """On a device without values, a tensor of another device, or a question for a value, raises."""
    model = own(family)
    layers = contents(prefilled(model))
    model.model.to("meta")
    decoder = StaticDecoder(model, PromptEncoder(tokenizer(), 64, context=128))
    room = Room.made((16, 128, MOST), [(k.to("meta"), v.to("meta")) for k, v in layers], model)
    with torch.no_grad():
        decoder._first(room, 8, 128, settings)
    room.where = torch.zeros(1, dtype=torch.long)
    with torch.no_grad(), pytest.raises((RuntimeError, NotImplementedError)):
        decoder._first(room, 8, 128, settings)


def prefilled(model: Policy) -> Any:
    from yonder.generation.dynamic import prefill

    with torch.no_grad():
        return prefill(model, [[1, 2, 3], [4, 5]])[0]


def test_the_host_looks_once_in_a_chunk_and_a_chunk_late(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    advance, take = StaticDecoder._advance, StaticDecoder._take

    def launched(self: StaticDecoder, room: Room, count: int, steps: int, settings: Sampling) -> None:
        told.append(f"launch {steps}")
        advance(self, room, count, steps, settings)

    def looked(self: StaticDecoder, seen: Any, *others: Any) -> None:
        told.append(f"look at {seen.ids.shape[1]}")
        take(self, seen, *others)

    one = sampler(policy("llama"), "static")
    drawn(one, Sampling(None))  # the trial, too
    one.encoder.end_ids = ()
    monkeypatch.setattr(StaticDecoder, "_advance", launched)
    monkeypatch.setattr(StaticDecoder, "_take", looked)
    drawn(one, Sampling(None))
    chunks = [CHUNK] * ((MOST - 1) // CHUNK) + [(MOST - 1) % CHUNK]
    expected: list[str] = []
    for chunk, before in zip(chunks, [1, *chunks], strict=False):
        expected += [f"launch {chunk}", f"look at {before}"]
    assert told == [*expected, f"look at {chunks[-1]}"]


def test_few_steps_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "MOST_STEPS", 2)
    fixed, growing = (sampler(policy("llama"), way) for way in ("static", "dynamic"))
    assert_same(drawn(fixed, Sampling(1.0)), drawn(growing, Sampling(1.0)))
    assert isinstance(fixed.picker.picked, StaticDecoder)
    assert len(fixed.picker.picked._steps) == 2


@pytest.mark.parametrize(
    ("count", "least", "size"),
    [(1, 8, 8), (8, 8, 8), (9, 8, 16), (17, 8, 24), (25, 8, 32), (33, 8, 48), (49, 8, 64), (65, 8, 96), (500, 8, 512),
     (129, 128, 256), (700, 128, 768), (769, 128, 1024)],
)  # fmt: skip
def test_sizes_that_steps_come_in(count: int, least: int, size: int) -> None:
    assert rounded(count, least) == size


class FakeCuda:
    """torch.cuda's streams and captures without a device: what is captured is not run. A capture that broke off leaves
    the allocator in it, as the real one does."""

    def __init__(self, refuses: bool) -> None:
        self.refuses = refuses
        self.capturing = False
        self.in_pool = 0
        self.streams = ["default"]

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = self

        class Stream:
            def __init__(self, *_: Any) -> None: ...
            def wait_stream(self, other: Any) -> None: ...
            def __enter__(self) -> None:
                fake.streams.append("side")

            def __exit__(self, *_: Any) -> None:
                fake.streams.pop()

        class Graph:
            def capture_begin(self, pool: Any, capture_error_mode: str) -> None:
                assert fake.streams[-1] == "side"
                assert capture_error_mode == "thread_local"  # another thread may use the device meanwhile
                fake.capturing = True
                fake.in_pool += 1

            def capture_end(self) -> None:
                fake.capturing = False
                if fake.refuses:
                    raise RuntimeError("operation failed\nmore")
                fake.in_pool -= 1

            def replay(self) -> None:
                raise AssertionError("there is no device")

        def end(index: int, pool: Any) -> None:
            fake.in_pool -= 1

        for name, what in (
            ("Stream", Stream), ("CUDAGraph", Graph), ("stream", lambda s: s), ("current_stream", Stream),
            ("graph_pool_handle", lambda: 1), ("synchronize", lambda *_: None), ("current_device", lambda: 0),
            ("mem_get_info", lambda *_: (0, 1)), ("empty_cache", lambda: None),
        ):  # fmt: skip
            monkeypatch.setattr(graphs.torch.cuda, name, what)
        native = importlib.import_module("torch._C")
        monkeypatch.setattr(native, "_cuda_endAllocateToPool", end, raising=False)
        monkeypatch.setattr(native, "_cuda_releasePool", lambda *_: None, raising=False)


@pytest.mark.parametrize("refuses", [False, True])
def test_work_that_cannot_be_captured_goes_on_without(
    refuses: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake, done = FakeCuda(refuses), list[tuple[bool, str]]()
    fake.install(monkeypatch)
    found = Graphs(torch.device("cuda"), "steps of a test")

    def work() -> None:
        done.append((fake.capturing, fake.streams[-1]))

    again = found.run(work)
    assert done == [(False, "side"), (True, "side")]  # once, and once for the capture
    assert (fake.streams, fake.in_pool) == (["default"], 0)
    assert (again is work, found.able) == (refuses, not refuses)
    assert [r.getMessage() for r in caplog.records] == (
        ["steps of a test cannot be captured as CUDA graphs (operation failed) and go on without, slower"]
        if refuses
        else []
    )
    if refuses:
        assert found.run(work) is work
        assert done[2:] == [(False, "default")]


def test_no_room_while_a_capture_broke_off_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(False)
    fake.install(monkeypatch)
    found = Graphs(torch.device("cuda"), "steps of a test")

    def work() -> None:
        if fake.capturing:
            raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        found.run(work)
    assert (fake.streams, fake.in_pool, fake.capturing) == (["default"], 0, False)


def test_what_cannot_be_captured_is_seen_before(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that asks for a value in a step: the first step is watched, and nothing is captured then."""
    fake, model = FakeCuda(False), own("llama")
    fake.install(monkeypatch)
    growing = drawn(sampler(model, "dynamic"), Sampling(1.0))
    one = sampler(model, "static")
    decoder = StaticDecoder(model, one.encoder)
    decoder.graphs = Graphs(torch.device("cuda"), "steps of a test")
    one.picker.picked = decoder
    forward = model.trunk.body.forward

    def asking(*inputs: Any, **options: Any) -> Any:
        found = forward(*inputs, **options)
        float(found[0].sum())
        return found

    monkeypatch.setattr(model.trunk.body, "forward", asking)
    monkeypatch.setattr(decoder, "_pull", lambda *a: _pulled(decoder, *a))
    monkeypatch.setattr(static.torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(decoder, "rest", lambda: None)
    assert_same(drawn(one, Sampling(1.0)), growing)
    assert "_local_scalar_dense asks for a value" in caplog.text
    assert len(caplog.records) == 1


def _pulled(decoder: StaticDecoder, room: Room, begin: int, end: int, slots: list[int]) -> Any:
    """What `_pull` gives without a device."""
    kept, decoder.graphs = decoder.graphs, None
    try:
        return StaticDecoder._pull(decoder, room, begin, end, slots)
    finally:
        decoder.graphs = kept


def test_copies_from_another_device_are_seen() -> None:
    with Watch() as watch:
        torch.ones(3).to("meta")
        torch.empty(3, device="meta").copy_(torch.ones(3))
        torch.ones(3).to(torch.float64).copy_(torch.zeros(3))
    assert watch.found == ["_to_copy copies from cpu", "copy_ copies from cpu"]


def test_nothing_stays_when_a_sampler_goes() -> None:
    """No garbage collector is needed: it does not know that a GPU is full."""
    one = sampler(own("llama"), "static")
    drawn(one, Sampling(1.0))
    decoder = weakref.ref(one.picker.picked)
    gc.disable()
    try:
        del one
        assert decoder() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", [None, torch.bfloat16])
def test_on_a_gpu_graphs_write_what_a_growing_cache_does(kind: torch.dtype | None) -> None:
    model = Policy(copy.deepcopy(causal_lm("llama")).to("cuda"), tokenizer())
    model.autocast = kind
    fixed, growing = (sampler(model, way) for way in ("auto", "dynamic"))
    for seed in (1, 2, 3):
        found, expected = (drawn(one, Sampling(1.0), seed=seed) for one in (fixed, growing))
        if kind is None:
            assert_same(found, expected)
    assert isinstance(fixed.picker.picked, StaticDecoder)
    assert fixed.picker.picked.graphs is not None
    assert fixed.picker.picked.graphs.able


# ----- which decoder


def test_who_decodes() -> None:
    model, encoder = policy("llama"), PromptEncoder(tokenizer(), 64, context=128)
    assert isinstance(Picker(model, encoder, "auto").decoder(FIRST), DynamicDecoder)  # on a CPU
    assert isinstance(Picker(model, encoder, "dynamic").decoder(FIRST), DynamicDecoder)
    assert isinstance(Picker(model, encoder, "static").decoder(FIRST), StaticDecoder)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[list[list[int]]]:
    """As if the host waited for this device: the lengths of each race's rows, decoder by decoder."""
    monkeypatch.setattr(picking, "WAITING", ("cpu",))
    lengths: list[list[list[int]]] = []
    plain = picking.seconds

    def seconds(policy: Policy, decoder: Any, batch: Batch) -> float:
        decode = decoder.decode

        def noted(prompts: Any, rows: Any, *others: Any) -> None:
            decode(prompts, rows, *others)
            lengths.append([[len(row.ids) for row in rows if row.prompt == p] for p in range(len(prompts))])

        decoder.decode = noted
        try:
            return plain(policy, decoder, batch)
        finally:
            del decoder.decode

    monkeypatch.setattr(picking, "seconds", seconds)
    return lengths


@pytest.mark.parametrize(("slow", "picked"), [(DynamicDecoder, StaticDecoder), (StaticDecoder, DynamicDecoder)])
def test_where_the_host_waits_the_faster_one_is_picked(
    slow: type, picked: type, waiting: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    growing, decode = sampler(policy("llama"), "dynamic"), slow.decode

    def slowly(*given: Any) -> None:
        decode(*given)
        time.sleep(0.5)

    monkeypatch.setattr(slow, "decode", slowly)
    one = sampler(policy("llama"), "auto")
    found = drawn(one, Sampling(1.0))
    assert type(one.picker.picked) is picked
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"sampling with a cache of {'fixed' if picked is StaticDecoder else 'growing'} size: ")
    quarters = [[8, 16, 24, 32, 8, 16, 24, 32]] * len(prompts())
    assert waiting == [quarters] * 2 * (picking.TURNS + 1)
    assert_same(found, drawn(growing, Sampling(1.0)))  # no random number was used up


@pytest.mark.parametrize("family", ["opt", "gpt2"])
def test_no_row_of_a_race_is_longer_than_it_may_be(family: str, waiting: list[Any]) -> None:
    """A long prompt beside short ones: beyond the last position is no embedding."""
    one, growing = (sampler(policy(family), way) for way in ("auto", "dynamic"))
    for each in (one, growing):
        each.encoder.max_prompt_tokens, each.encoder.cut, each.max_total_tokens = 124, True, 128
    texts = prompts(*["a"] * 7, "word " * 120)
    found = one.sample(texts, 1, 1.0, 0)
    left = 128 - max(len(rollout.prompt_ids) for rollout in found)
    assert left < 8
    assert waiting[0] == [[8], [16], [24], [32], [8], [16], [24], [left]]  # one sample a prompt: quarters all the same
    assert_same(found, growing.sample(texts, 1, 1.0, 0))


def test_a_much_larger_batch_is_raced_anew(waiting: list[Any]) -> None:
    one = sampler(policy("llama"), "auto")
    for samples, races in ((1, 1), (2, 1), (4, 2), (8, 2), (16, 3)):
        drawn(one, Sampling(1.0), samples)
        assert len(waiting) == races * 2 * (picking.TURNS + 1)


@pytest.mark.parametrize(("broken", "picked"), [(DynamicDecoder, StaticDecoder), (StaticDecoder, DynamicDecoder)])
def test_one_that_fails_in_the_race_leaves_the_other(
    broken: type, picked: type, waiting: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decode = broken.decode

    def fails(self: Any, prompts: Any, rows: Any, *others: Any) -> None:
        if len(rows) > 18:  # not in the trial
            raise torch.OutOfMemoryError("full\nmore")
        decode(self, prompts, rows, *others)

    monkeypatch.setattr(broken, "decode", fails)
    one = sampler(policy("llama"), "auto")
    assert len(drawn(one, Sampling(1.0))) == 8 * len(prompts())
    assert type(one.picker.picked) is picked
    assert f"{broken.__name__} fails, so the other way to sample is taken: full" in caplog.messages


def test_about_even_is_the_fixed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, encoder = policy("llama"), PromptEncoder(tokenizer(), 64, context=128)
    both = DynamicDecoder(model, encoder), StaticDecoder(model, encoder)
    nothing = float("inf")
    cases = (((1.0, 1.09), 1), ((1.0, 1.11), 0), ((2.0, 1.0), 1), ((nothing, 1.0), 1), ((nothing, nothing), 0))
    for taken, picked in cases:
        times = dict(zip(both, taken, strict=True))
        monkeypatch.setattr(picking, "seconds", lambda _policy, one, _batch, times=times: times[one])
        assert picking.faster(model, *both, FIRST) is both[picked]


def test_nothing_is_asked_for(waiting: list[Any]) -> None:
    one = sampler(policy("llama"), "auto")
    assert one.sample([], 4, 1.0, 0) == []
    assert one.picker.picked is None  # nothing to race with
    assert waiting == []


def test_a_model_that_writes_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, encoder = policy("opt"), PromptEncoder(tokenizer(), 64, context=128)
    assert refusal(model, encoder, StaticDecoder(model, encoder)) is None
    update = FixedLayer.update

    def elsewhere(self: FixedLayer, keys: Tensor, values: Tensor, *others: Any, **more: Any) -> tuple[Tensor, Tensor]:
        return update(self, keys.flip(0), values.flip(0), *others, **more)  # another row's

    monkeypatch.setattr(FixedLayer, "update", elsewhere)
    encoder.end_ids = tuple(range(4096))  # the trial's rows go on all the same
    with pytest.raises(ModelError, match=r"policy.decoding: static is not for this policy: OPTForCausalLM gives other"):
        Picker(model, encoder, "static").decoder(FIRST)


def test_models_that_hide_more_or_take_no_mask_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, encoder = own("llama"), PromptEncoder(tokenizer(), 64, context=128)
    decoder = StaticDecoder(model, encoder)

    def fails(*others: Any, **more: Any) -> None:
        raise ValueError("no mask of\nmine")

    with monkeypatch.context() as patched:
        patched.setattr(model.trunk.body, "forward", fails)
        assert refusal(model, encoder, decoder) == "LlamaForCausalLM does not run with it (no mask of)"
    with monkeypatch.context() as patched:
        patched.setattr(model.model.config, "sliding_window", 16, raising=False)
        assert refusal(model, encoder, decoder) == "LlamaForCausalLM attends to a window of the last tokens"
    with monkeypatch.context() as patched:
        patched.setattr(model.model.config, "rope_parameters", {"rope_type": "longrope", "rope_theta": 1e4})
        assert refusal(model, encoder, decoder) == "LlamaForCausalLM turns all rows by the longest one's position"
    with monkeypatch.context() as patched:
        patched.setattr(model, "home", CPU)
        assert refusal(model, encoder, decoder) == "its weights move between devices"
    with monkeypatch.context() as patched:
        patched.setattr(model.model.config, "_attn_implementation", "flash_attention_2")
        assert refusal(model, encoder, decoder) == "attention by flash_attention_2 takes no mask of its own"
    assert refusal(model, encoder, decoder) is None
