"""Eq. 2 of [J], by hand."""

import math

import pytest

from yonder.core.judging import judge_value


@pytest.mark.parametrize(
    ("gap", "tau", "delta", "expected"),
    [
        (math.log(3), 1.0, 0.5, 0.75),  # 1 / (1 + 1/3)
        (math.log(3), 2.0, 0.5, 0.6339746),  # sigmoid(ln 3 / 2) = 1 / (1 + 1 / sqrt 3)
        (-math.log(3), 1.0, 0.0, 0.25),
        (-math.log(3), 1.0, 0.5, 0.0),  # 0.25 < delta
        (0.0, 1.0, 0.5, 0.5),  # exactly delta is kept: r = 0 where r < delta
        (math.log(3), 1.0, 0.750001, 0.0),
        (800.0, 1.0, 0.5, 1.0),  # no overflow on either side
        (-800.0, 1.0, 0.0, 0.0),
        (1.0, 1e-3, 0.5, 1.0),
    ],
)
def test_value(gap: float, tau: float, delta: float, expected: float) -> None:
    assert judge_value(gap, tau, delta) == pytest.approx(expected, abs=1e-6)
