"""Bytes of a transformer with numbers small enough to count by hand."""

from dataclasses import replace

from yonder.core.memory import (
    Linear,
    Numbers,
    Shape,
    activation_bytes,
    adapter_size,
    cache_bytes,
    drawing_bytes,
    forward_flops,
    head_flops,
    kept_by_a_layer,
    logits_bytes,
    training_bytes,
    training_factor,
    weight_bytes,
)

# h = 8, two heads of 4 (keys of one), f = 16; 2 layers of q 64, k 32, v 32, o 64, gate 128, up 128, down 128 = 576
LINEARS = (
    Linear("q_proj", 8, 8), Linear("k_proj", 8, 4), Linear("v_proj", 8, 4), Linear("o_proj", 8, 8),
    Linear("gate_proj", 8, 16), Linear("up_proj", 8, 16), Linear("down_proj", 16, 8),
)  # fmt: skip
SHAPE = Shape(2000, LINEARS * 2, layers=2, hidden=8, heads=2, query=8, key=4, inner=16, vocabulary=100)
FULL, HALF, MIXED = Numbers(4, 4), Numbers(2, 2), Numbers(4, 2)


def test_weights_are_held_in_their_type_or_packed() -> None:
    assert weight_bytes(SHAPE, FULL) == 8000
    # 1152 in matrices at (1/2 + 4/64) bytes = 648, the other 848 in two bytes = 1696
    assert weight_bytes(SHAPE, Numbers(2, 2, "4bit")) == 648 + 1696
    assert weight_bytes(SHAPE, Numbers(2, 2, "8bit")) == 1152 + 1696


def test_training_holds_weights_gradients_and_two_moments() -> None:
    assert training_bytes(SHAPE, FULL) == (8000, 8000, 16000)
    assert training_bytes(SHAPE, FULL, devices=4) == (2000, 2000, 4000)
    # r = 2: a layer has 2 (16 + 12 + 12 + 16 + 24 + 24 + 24) = 256, two of them 512, in float32 2048 bytes
    assert adapter_size(SHAPE, 2) == 512
    assert adapter_size(SHAPE, 2, ("q_proj",)) == 64
    assert training_bytes(SHAPE, HALF, 512) == (4000 + 2048, 2048, 4096)


def test_what_a_layer_keeps() -> None:
    # 3 tokens. Norms: inputs and normalised values, 4 h = 32; matrices read 2 h + f = 32; q, o, k, v: 8 + 8 + 4 + 4;
    # gate, its SiLU, up: 48; all of 4 bytes: 136 x 4 = 544; and a float32 of each head: 8
    assert kept_by_a_layer(SHAPE, FULL, 3, 3) == 3 * (544 + 8)
    # half precision: norms keep their inputs in float32: 16 x 4 + 16 x 2 = 96; the rest 104 x 2 = 208; heads 8
    assert kept_by_a_layer(SHAPE, HALF, 3, 3) == 3 * (96 + 208 + 8)
    # autocast: norms 128; three and two copies of what they give, 40, f = 16, 24, 48: 128 x 2 = 256; heads 8
    assert kept_by_a_layer(SHAPE, MIXED, 3, 3) == 3 * (128 + 256 + 8)
    # an adapter, r = 2: norms 16 x 4; 32 + 24 + 48 = 104 x 4 = 416; 7 matrices' r: 14 x 4; heads 8
    assert kept_by_a_layer(SHAPE, FULL, 3, 3, rank=2) == 3 * (64 + 416 + 56 + 8)
    # in half precision its matrices read float32 copies: 40 + 8 + 16 = 64 x 4; norms 64; 24 + 48 = 72 x 2; 56; 8
    assert kept_by_a_layer(SHAPE, HALF, 3, 3, rank=2) == 3 * (256 + 64 + 144 + 56 + 8)
    # LayerNorm, ReLU: 16 + 32 + 24 = 72 x 4, heads 8; and scores of 3 tokens for each of two heads, 6 x 4
    plain = replace(SHAPE, rms=False, gated=False, activation=0)
    assert kept_by_a_layer(plain, FULL, 3, 3) == 3 * (288 + 8)
    assert kept_by_a_layer(replace(plain, square=1), FULL, 3, 3) == 3 * (288 + 8 + 24)


def test_activations_of_all_layers_or_their_inputs_and_one() -> None:
    layer = 3 * 552
    assert activation_bytes(SHAPE, FULL, 3, 3) == 2 * layer
    assert activation_bytes(SHAPE, FULL, 3, 3, recompute=True) == 2 * 3 * 8 * 4 + layer
    # autocast keeps its casts of the matrices: 1152 x 2
    assert activation_bytes(SHAPE, MIXED, 3, 3) == 2 * 3 * 392 + 2304


def test_logits_cache_and_drawing() -> None:
    assert logits_bytes(5, 100, 3) == 5 * 100 * 3 * 4
    # keys and values, 2 layers and one again, 4 wide, 7 rows of 10 tokens, 2 bytes
    assert cache_bytes(SHAPE, 7, 10, 2) == 2 * 3 * 4 * 7 * 10 * 2
    assert drawing_bytes(7, 100) == 7 * 100 * 32


def test_flops() -> None:
    # 10 tokens: 2 x 1152 each; attention 2 layers x 2 x 10 x 8 each
    assert forward_flops(SHAPE, 10, 10) == 10 * (2304 + 320)
    assert head_flops(SHAPE, 10) == 2 * 10 * 8 * 100
    assert [training_factor(a, r) for a in (False, True) for r in (False, True)] == [3, 4, 2, 3]
