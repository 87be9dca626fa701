"""Learning rates at single steps, by hand."""

import pytest

from yonder.core.schedules import learning_rate


@pytest.mark.parametrize(
    ("step", "shape", "expected"),
    [
        (0, "linear", 1.0),  # warm-up of 2 of 10 steps: 2 * 1/2
        (1, "linear", 2.0),  # 2 * 2/2
        (2, "linear", 2.0),  # progress 0/8
        (6, "linear", 1.0),  # progress 4/8
        (9, "linear", 0.25),  # progress 7/8: zero would be reached at step 10
        (0, "cosine", 1.0),
        (2, "cosine", 2.0),  # 2 * 0.5 * (1 + cos 0)
        (4, "cosine", 1.7071068),  # 2 * 0.5 * (1 + cos(pi / 4))
        (6, "cosine", 1.0),
        (1, "constant", 2.0),
        (9, "constant", 2.0),
    ],
)
def test_rate(step: int, shape: str, expected: float) -> None:
    assert learning_rate(step, 10, 2.0, shape, 0.2) == pytest.approx(expected, abs=1e-6)


def test_no_warmup_starts_at_the_peak() -> None:
    assert learning_rate(0, 10, 3e-6, "constant", 0.0) == 3e-6
    assert learning_rate(0, 10, 3e-6, "linear", 0.0) == 3e-6


def test_one_step() -> None:
    assert learning_rate(0, 1, 1.0, "linear", 0.1) == 1.0  # round(0.1) = 0 warm-up steps
