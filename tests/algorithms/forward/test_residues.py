"""Residues: what a run's options make of differences."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.algorithms.errors import BadPayload
from gossamer.algorithms.forward import BaffleOptions
from gossamer.algorithms.forward.residues import decode_mean, encode, encoding, from_bytes, privacy, threshold, to_bytes
from gossamer.algorithms.options import BadOption

SECURE = BaffleOptions(K=4, sigma=1e-3, perturbations="shared", secure=True)
DIFFERENCES = np.array([1e-3, -2e-3, 0.0, 3.0], np.float32)


def test_threshold_is_more_than_half_and_at_least_the_runs_fraction() -> None:
    assert [threshold(SECURE, n) for n in (2, 3, 4, 10)] == [2, 3, 3, 7]
    half = BaffleOptions(perturbations="shared", secure=True, secure_fraction=0.5)
    assert [threshold(half, n) for n in (2, 3, 4, 10)] == [2, 2, 3, 6]


def test_sum_of_residues_is_the_mean_of_clipped_values() -> None:
    residues = [encode(sign * DIFFERENCES, SECURE, 3, bytes(32)) for sign in (1, 1, -1)]
    total = np.stack(residues).sum(axis=0, dtype=np.uint32)

    mean = decode_mean(np.asarray(total), SECURE, n_roster=3, n=3)

    # The last one is cut to a slope of 20, a difference of .02.
    assert mean == pytest.approx([1e-3 / 3, -2e-3 / 3, 0.0, 0.02 / 3], abs=1e-9)


def test_noise_is_shared_among_the_threshold_of_a_sum_and_whole_without_one() -> None:
    alone = BaffleOptions(dp_clip=2.0, dp_noise=3.0)
    together = BaffleOptions(dp_clip=2.0, dp_noise=3.0, perturbations="shared", secure=True, secure_fraction=0.5)

    terms, shared = privacy(alone, 1), privacy(together, 7)

    assert terms is not None
    assert shared is not None
    assert privacy(SECURE, 3) is None
    assert terms.share == pytest.approx(3.0 * 2.0 * alone.sigma)
    assert shared.share == pytest.approx(terms.share / 2)
    assert encoding(together, 7).n_devices == 7


def test_bytes_are_exactly_those_of_k_residues() -> None:
    residues = np.array([1, 2**32 - 1, 0, 7], np.uint32)

    assert from_bytes(to_bytes(residues), 4).tolist() == residues.tolist()
    with pytest.raises(BadPayload):
        from_bytes(to_bytes(residues)[:-1], 4)


@pytest.mark.parametrize(
    "options",
    [
        {"secure": True},
        {"secure": True, "perturbations": "shared", "value": "int8"},
        {"dp_clip": 1.0},
        {"dp_noise": 1.0},
        {"dp_clip": 1.0, "dp_noise": 1.0, "value": "sign"},
        {"secure_fraction": 0.4},
    ],
)
def test_combinations_that_cannot_be_private_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(BadOption):
        BaffleOptions(**options)  # type: ignore[arg-type]  # wrong on purpose
