"""Differential privacy: exact noise, bounded sensitivity, the accountant."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gossamer.algorithms.forward.discrete_gaussian import DiscreteGaussian
from gossamer.algorithms.forward.errors import BadCoordinate
from gossamer.algorithms.forward.privacy import PrivacyOptions, clip_to_norm, epsilon_spent, privatise
from gossamer.algorithms.forward.sum_encoding import SumEncoding
from gossamer.algorithms.options import BadOption

from .devices import seed_of


@pytest.mark.parametrize("variance", [1, 2, 9])
def test_samples_follow_the_discrete_gaussian(variance: int) -> None:
    samples = DiscreteGaussian(seed_of(variance)).draw(6000, variance)

    support = np.arange(-60, 61)
    law = np.exp(-(support**2) / (2 * variance))
    law /= law.sum()
    seen = np.array([(samples == x).mean() for x in support])
    # Every frequency within 4.5 standard deviations of the law.
    assert np.all(np.abs(seen - law) <= 4.5 * np.sqrt(law * (1 - law) / len(samples)) + 1e-6)


def test_large_variances_are_met() -> None:
    samples = DiscreteGaussian(seed_of(0)).draw(3000, 10**10)

    assert samples.std() == pytest.approx(1e5, rel=0.06)
    assert abs(samples.mean()) < 4 * 1e5 / math.sqrt(3000)


def test_the_same_seed_gives_the_same_noise() -> None:
    one, two, other = (DiscreteGaussian(seed_of(i)).draw(20, 100).tolist() for i in (0, 0, 1))

    assert one == two != other


@pytest.mark.parametrize("variance", [0, -1, 2**81])
def test_variances_out_of_bounds_are_refused(variance: int) -> None:
    with pytest.raises(BadCoordinate):
        DiscreteGaussian(bytes(32)).draw(1, variance)


def test_a_vector_is_cut_to_the_norm() -> None:
    long, short = np.array([30.0, 40.0], np.float32), np.array([0.3, 0.4], np.float32)

    assert clip_to_norm(long, 1.0).tolist() == pytest.approx([0.6, 0.8])
    np.testing.assert_array_equal(clip_to_norm(short, 1.0), short.astype(np.float64))


def test_one_device_moves_the_integers_by_no_more_than_the_clipping() -> None:
    options = PrivacyOptions(clip_norm=1.0, noise_multiplier=1.0)
    encoding = options.encoding(1)
    liar, silent = np.full(50, 1e20, np.float32), np.zeros(50, np.float32)

    with_liar, without = (
        encoding.decode(privatise(values, options, encoding, seed_of(0))) for values in (liar, silent)
    )

    assert np.linalg.norm(with_liar - without) <= 1.0


def test_shares_of_noise_add_up_to_the_noise_of_the_sum() -> None:
    options = PrivacyOptions(clip_norm=2.0, noise_multiplier=3.0, n_devices=16)
    encoding = options.encoding(16)
    total = np.zeros(400, np.uint32)

    for device in range(16):
        total += privatise(np.zeros(400, np.float32), options, encoding, seed_of(device))

    assert encoding.decode(total).std() == pytest.approx(6.0, rel=0.15)


def test_an_encoding_without_room_for_the_noise_is_refused() -> None:
    options = PrivacyOptions(clip_norm=1.0, noise_multiplier=1.0)

    with pytest.raises(BadOption, match="bound"):
        privatise(np.zeros(3, np.float32), options, SumEncoding(bound=2.0, n_devices=1), bytes(32))
    with pytest.raises(BadOption, match="noise_multiplier"):
        privatise(np.zeros(3, np.float32), options, SumEncoding(bound=1e9, n_devices=100), bytes(32))


def test_the_accountant_agrees_with_the_zcdp_bound() -> None:
    pytest.importorskip("dp_accounting")
    options = PrivacyOptions(clip_norm=1.0, noise_multiplier=20.0)

    epsilon = epsilon_spent(options, n_rounds=300, delta=1e-5)

    rho = 300 / (2 * 20.0**2)
    bound = rho + 2 * math.sqrt(rho * math.log(1e5))
    assert 0.7 * bound <= epsilon <= bound
    assert epsilon_spent(options, n_rounds=600, delta=1e-5) > epsilon
