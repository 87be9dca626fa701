"""Means over clusters and their growth, by hand."""

from __future__ import annotations

import math

import pytest

from yonder.core.drift import Clusters, clustered_mean, growth


def test_clusters_by_hand() -> None:
    # totals 2 of 2, 0 of 2, 1 of 4: mean 3/8; residuals 2 - 0.75 = 1.25, -0.75, 1 - 1.5 = -0.5, each over 8
    # squares 1.5625 + 0.5625 + 0.25 = 2.375; variance 3/2 * 2.375 / 64 = 0.0556640625
    found = clustered_mean({"a": (2.0, 2), "b": (0.0, 2), "c": (1.0, 4), "none": (0.0, 0)})
    assert found is not None
    assert found.value == pytest.approx(0.375, abs=1e-9)
    assert found.error == pytest.approx(math.sqrt(0.0556640625), abs=1e-9)
    assert found.n == 8


def test_alike_rollouts_of_a_prompt_do_not_count_as_many() -> None:
    alone = clustered_mean({str(i): (float(i % 2), 1) for i in range(80)})
    alike = clustered_mean({str(i): (8.0 * (i % 2), 8) for i in range(10)})
    assert alone is not None and alike is not None
    assert alone.value == alike.value == 0.5
    assert alike.error > 2.5 * alone.error


def test_little_is_not_certain() -> None:
    assert clustered_mean({}) is None
    assert clustered_mean({"a": (0.0, 0)}) is None
    single = clustered_mean({"a": (3.0, 8)})
    assert single is not None and math.isinf(single.error)
    none_of_ten = clustered_mean({str(i): (0.0, 1) for i in range(10)})
    assert none_of_ten is not None and none_of_ten.error == pytest.approx(math.sqrt(2) / 10, abs=1e-9)
    assert growth({}, {"a": (1.0, 1)}) is None
    same = growth({"a": (1.0, 1)}, {"a": (1.0, 1)})
    assert same is not None and same == (0.0, 0.0)


def test_growth_by_hand() -> None:
    # before 1 of 4 (a: 1 of 2, b: 0 of 2), now 3 of 4 on other prompts: residuals -+ 0.125 on all four
    # error sqrt(4/3 * 4 * 0.015625) = 0.288675, but at least sqrt(2)/4 = 0.353553
    found = growth({"a": (1.0, 2), "b": (0.0, 2)}, {"c": (2.0, 2), "d": (1.0, 2)})
    assert found is not None
    assert found.value == pytest.approx(0.5, abs=1e-9)
    assert found.z == pytest.approx(0.5 / 0.3535534, abs=1e-5)


def test_a_prompt_is_compared_with_itself() -> None:
    """Easy prompts stay easy and hard ones hard: paired, the same growth is surer."""

    def half_easy(name: str, more: float) -> Clusters:
        return {f"{name}{i}": (8.0 * (i % 2) * 0.75 + more + 0.25 * (i % 3), 8) for i in range(40)}

    paired, apart = growth(half_easy("a", 0.0), half_easy("a", 1.0)), growth(half_easy("a", 0.0), half_easy("b", 1.0))
    assert paired is not None and apart is not None
    assert paired.value == apart.value == pytest.approx(0.125, abs=1e-9)
    assert apart.z < 3 < 10 < paired.z
