"""Log-probabilities, entropy and the two cuts of a distribution, by hand."""

import math

import pytest
import torch

from yonder.core.logprobs import keep_top, token_statistics

LN2, LN3 = math.log(2), math.log(3)
INF = float("-inf")


def test_logprob_and_entropy_at_temperature_one() -> None:
    # softmax(0, ln 3) = 1/4, 3/4; entropy = ln 4 / 4 + 3/4 ln(4/3) = 0.3465736 + 0.2157615 = 0.5623351
    found = token_statistics(torch.tensor([[0.0, LN3], [0.0, LN3]]), torch.tensor([0, 1]))
    assert found.logprobs.tolist() == pytest.approx([-1.3862944, -0.2876821], abs=1e-6)  # ln 1/4, ln 3/4
    assert found.entropy.tolist() == pytest.approx([0.5623351, 0.5623351], abs=1e-6)


def test_temperature_divides_the_logits() -> None:
    # logits / 2: 0, ln 2 -> 1/3, 2/3; entropy = ln 3 / 3 + 2/3 ln(3/2) = 0.3662041 + 0.2703101 = 0.6365142
    found = token_statistics(torch.tensor([[0.0, 2 * LN2]]), torch.tensor([1]), temperature=2.0)
    assert found.logprobs.item() == pytest.approx(-0.4054651, abs=1e-6)  # ln 2/3
    assert found.entropy.item() == pytest.approx(0.6365142, abs=1e-6)


def test_half_precision_logits_are_read_in_float32() -> None:
    found = token_statistics(torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16), torch.tensor([0]))
    assert found.logprobs.dtype == torch.float32
    assert found.logprobs.item() == pytest.approx(-1.3132617, abs=1e-6)  # -ln(1 + e)


# softmax of these is 1/2, 1/4, 1/8, 1/8
LOGITS = torch.tensor([[0.0, 2 * LN2, LN2, 0.0]])


def test_top_k_keeps_the_most_probable() -> None:
    assert keep_top(LOGITS, 2, 1.0)[0].tolist() == pytest.approx([INF, 2 * LN2, LN2, INF])
    assert keep_top(LOGITS, 9, 1.0).tolist() == LOGITS.tolist()  # more than there are: all


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.3, [1]),  # the first token crosses every bound and stays
        (0.5, [1]),  # 1/2 reaches 0.5: the second has mass 0.5 before it, and goes
        (0.6, [1, 2]),  # 1/2 + 1/4 crosses 0.6
        (1.0, [0, 1, 2, 3]),  # off
    ],
)
def test_top_p_keeps_the_token_that_crosses_the_bound(top_p: float, kept: list[int]) -> None:
    found = keep_top(LOGITS, 0, top_p)[0]
    assert [i for i in range(4) if found[i] > INF] == kept
    assert [found[i].item() for i in kept] == [LOGITS[0, i].item() for i in kept]


def test_top_p_is_measured_after_top_k() -> None:
    # top-k 2 leaves 2/3, 1/3 of the mass; top-p 0.6 keeps the first only (of all four, 1/2 would not reach 0.6)
    found = keep_top(LOGITS, 2, 0.6)[0]
    assert [i for i in range(4) if found[i] > INF] == [1]


def test_rows_are_cut_on_their_own() -> None:
    found = keep_top(torch.tensor([[0.0, 5.0, 1.0], [5.0, 0.0, 1.0]]), 0, 0.5)
    assert found.tolist() == [[INF, 5.0, INF], [5.0, INF, INF]]
