"""How many contributions to wait for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gossamer.algorithms.stragglers import Arrivals, NoiseScale, best_k, progress

ONE_SLOW = [1.0, 1.0, 1.0, 1.0, 10.0]


def test_progress_saturates_when_the_noise_is_averaged_out() -> None:
    assert [progress(k, 4.0) for k in (1, 4, 12)] == [0.2, 0.5, 0.75]
    assert [progress(k, 0.0) for k in (1, 5)] == [1.0, 1.0]
    assert [progress(k, math.inf) for k in (1, 5)] == [1.0, 5.0]


@pytest.mark.parametrize("noise", [0.0, 1.0, 100.0, math.inf])
def test_one_slow_peer_is_not_waited_for(noise: float) -> None:
    assert best_k(ONE_SLOW, noise=noise, overhead_s=0.0, k_min=1) == 4


def test_a_peer_that_is_hardly_slower_is_worth_its_contribution() -> None:
    # 4 a second against 5 in 1.2 seconds.
    assert best_k([1.0, 1.0, 1.0, 1.0, 1.2], noise=math.inf, overhead_s=0.0, k_min=1) == 5
    # With B = 1: 4/5 against 5/6 in 1.2 seconds.
    assert best_k([1.0, 1.0, 1.0, 1.0, 1.2], noise=1.0, overhead_s=0.0, k_min=1) == 4


def test_what_a_round_takes_anyway_makes_waiting_cheap() -> None:
    assert best_k([1.0, 1.0, 1.0, 1.0, 2.0], noise=math.inf, overhead_s=0.0, k_min=1) == 4
    assert best_k([1.0, 1.0, 1.0, 1.0, 2.0], noise=math.inf, overhead_s=10.0, k_min=1) == 5


def test_never_fewer_than_the_least() -> None:
    assert best_k([1.0, 10.0, 20.0, 30.0], noise=0.0, overhead_s=0.0, k_min=3) == 3


def test_the_kth_arrival_is_averaged_over_rounds() -> None:
    arrivals: Arrivals[str] = Arrivals()
    arrivals.record("abc", {"a": 1.0, "b": 2.0, "c": 6.0}, 6.0)
    arrivals.record("abc", {"a": 4.0, "b": 1.0, "c": 3.0}, 4.0)

    # In order 1 2 6 and 1 3 4.
    assert arrivals.times_s("abc").tolist() == [1.0, 2.5, 5.0]


def test_who_was_not_waited_for_is_as_slow_as_when_last_seen() -> None:
    arrivals: Arrivals[str] = Arrivals()
    arrivals.record("abc", {"a": 1.0, "b": 1.0, "c": 9.0}, 9.0)
    for _ in range(3):
        arrivals.record("abc", {"a": 1.0, "b": 1.0}, 1.5)

    assert arrivals.times_s("abc").tolist() == [1.0, 1.0, 9.0]


def test_who_was_never_seen_takes_longer_than_it_was_waited_for() -> None:
    arrivals: Arrivals[str] = Arrivals()
    arrivals.record("abc", {"a": 1.0, "b": 1.0}, 1.5)
    arrivals.record("abc", {"a": 1.0, "b": 1.0}, 30.0)

    assert arrivals.times_s("abc").tolist() == [1.0, 1.0, 30.0]


def test_a_peer_that_became_fast_is_believed() -> None:
    arrivals: Arrivals[str] = Arrivals()
    arrivals.record("abc", {"a": 1.0, "b": 1.0, "c": 30.0}, 30.0)
    for _ in range(10):
        arrivals.record("abc", {"a": 1.0, "b": 1.0}, 1.5)
    before = arrivals.times_s("abc")[2]

    arrivals.record("abc", {"a": 1.0, "b": 1.0, "c": 1.0}, 1.0)

    assert before == 30.0
    assert arrivals.times_s("abc")[2] < 5.0


def test_a_newcomer_counts_as_the_median_one() -> None:
    arrivals: Arrivals[str] = Arrivals()
    arrivals.record("abc", {"a": 1.0, "b": 2.0, "c": 6.0}, 6.0)

    assert arrivals.times_s("abcd").tolist() == [1.0, 2.0, 2.0, 6.0]
    assert arrivals.times_s("d").tolist() == [0.0]


@pytest.mark.parametrize("true_noise", [0.5, 20.0])
def test_the_noise_scale_is_found_from_norms(true_noise: float) -> None:
    generator = np.random.Generator(np.random.Philox(key=5))
    dim, n, estimate = 400, 5, NoiseScale()
    mean = np.ones(dim)

    for _ in range(300):
        contributions = mean + math.sqrt(true_noise) * generator.standard_normal((n, dim))
        estimate.observe(float(np.sum(contributions[0] ** 2)), float(np.sum(contributions.mean(axis=0) ** 2)), n)

    assert estimate.value == pytest.approx(true_noise, rel=0.1)


def test_the_noise_scale_is_infinite_until_something_is_known() -> None:
    estimate = NoiseScale()

    estimate.observe(1.0, 1.0, 1)
    estimate.observe(math.inf, 1.0, 5)

    assert estimate.value == math.inf


def test_contributions_that_cancel_are_all_noise() -> None:
    estimate = NoiseScale()

    estimate.observe(1.0, 0.0, 5)

    assert estimate.value == math.inf
