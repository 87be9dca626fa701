"""AlpacaEval's win rates: by hand, and against numbers of the alpaca_eval package 0.6.6 on the same made-up rows."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.alpaca import annotation_rows, write_gamed
from yonder.core.length_control import Gamed, win_rate
from yonder.evaluation.alpaca_eval import figures, read_gamed


def test_the_plain_win_rate_by_hand() -> None:
    # mean of 0.9, 0.2, 0.5, 0.8, 0.1, 0.5 = 0.5; deviations 0.4, -0.3, 0, 0.3, -0.4, 0: squares sum to 0.5;
    # variance 0.5 / 5 = 0.1; standard error sqrt(0.1 / 6) = 0.1291
    found = win_rate([0.9, 0.2, None, 0.5, 0.8, 0.1, 0.5], [(1, 2)] * 7, None)
    assert (found.wins, found.losses, found.draws, found.n) == (2, 2, 2, 6)
    assert found.win_rate == pytest.approx(50.0) and found.standard_error == pytest.approx(100 * math.sqrt(0.1 / 6))
    with pytest.raises(ValueError, match="4 judgements"):
        win_rate([0.5, None, 0.5, 0.5, 0.5], [(1, 2)] * 5, None)


def test_length_explains_what_it_explains() -> None:
    # liked 73 % when longer, 27 % when shorter, alike at equal length: longer outputs win without being better
    lengths = [(100, 300)] * 300 + [(300, 100)] * 100
    liked = [0.73] * 300 + [0.27] * 100
    found = win_rate(liked, lengths, None)
    assert found.win_rate == pytest.approx(61.5)
    assert found.length_controlled == pytest.approx(50.0, abs=1.5)
    assert found.model == "length_controlled_minimal"
    same = win_rate([0.7, 0.7, 0.7, 0.7, 0.7, 0.7], [(9, 9)] * 6, None)  # no spread of lengths
    assert same.length_controlled == pytest.approx(70, abs=0.1)


def test_difficulties_must_be_known() -> None:
    gamed = Gamed(np.array([0.5] * 6), np.arange(6), np.linspace(-1, 1, 6), np.zeros(6))
    with pytest.raises(ValueError, match="instruction 6 is not known"):
        win_rate([0.5] * 7, [(1, 2)] * 7, gamed)


OF_THE_PACKAGE = {  # seed -> win rate, standard error, length-controlled v1, its standard error, minimal
    0: (52.422361, 0.865497, 52.371960, 0.005783, 52.523454),
    1: (55.897253, 0.831862, 55.546971, 0.007357, 56.144565),
    2: (53.186756, 0.865719, 52.794978, 0.034994, 52.470313),
}


@pytest.mark.parametrize("seed", OF_THE_PACKAGE)
def test_the_packages_numbers(seed: int, tmp_path: Path) -> None:
    write_gamed(tmp_path / "df_gamed.csv")
    plain, error, controlled, controlled_error, minimal = OF_THE_PACKAGE[seed]
    rows = annotation_rows(seed)
    found = figures(rows, read_gamed(str(tmp_path / "df_gamed.csv")))
    assert (found["win_rate"], found["standard_error"]) == pytest.approx((plain, error))
    assert found["length_controlled"] == pytest.approx(controlled, abs=0.01)
    assert found["length_controlled_error"] == pytest.approx(controlled_error, abs=0.01)
    assert found["model"] == "length_controlled_v1" and found["n"] == 803 and found["unjudged"] == 2
    assert figures(rows, None)["length_controlled"] == pytest.approx(minimal, abs=0.05)
