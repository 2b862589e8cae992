"""The gateway's part of BAFFLE: what one device can do to the others' model, and that they learn together."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.algorithms.forward import BaffleOptions, Contribution, Replica, aggregate, gradient_of, mlp
from gossamer.algorithms.forward.aggregation import clip_to_median
from gossamer.algorithms.forward.initialise import initial_weights
from gossamer.algorithms.schedule import Schedule

from .devices import RUN_ID, Fleet, batched, digits, key_of, split, split_by_label

F32 = npt.NDArray[np.float32]
N = mlp(64, 32, 10).n_parameters


def _gradient(rows: list[F32], options: BaffleOptions) -> F32:
    contributions = [Contribution(key=key_of(0, len(rows)), slot=i, differences=row) for i, row in enumerate(rows)]
    replay = aggregate(contributions, options, step=0, learning_rate=0.1, run_id=RUN_ID, n=N)
    return gradient_of(replay, RUN_ID, N)


def _honest(n_devices: int, K: int = 20) -> list[F32]:
    rng = np.random.default_rng(0)
    return [(1e-3 * rng.standard_normal(K)).astype(np.float32) for _ in range(n_devices)]


@pytest.mark.parametrize("lie", [1e6, -1e6, 1e29])
@pytest.mark.parametrize("clipping", [{"clip_inf_norm": 0.0}, {"clip_median": 0.0}])
def test_one_devices_influence_is_bounded_by_either_clipping(lie: float, clipping: dict[str, float]) -> None:
    options = BaffleOptions(K=20, **clipping)  # type: ignore[arg-type]
    honest = _honest(10)
    lying = [*honest[:9], np.full(20, lie, np.float32)]

    influence = _gradient(lying, options) - _gradient(honest, options)

    # A device moves no element further than its share of a bounded gradient.
    bound = 0.3 if options.clip_inf_norm else 3.0 * 1.5
    assert np.abs(influence).max() <= 2 * bound / 10


def test_differences_are_cut_at_three_medians_of_all() -> None:
    derivatives = np.array([[1.0, -2.0, 3.0], [2.0, 100.0, -1e9]])

    clipped = clip_to_median(derivatives, 3.0)

    assert clipped.tolist() == [[1.0, -2.0, 3.0], [2.0, 7.5, -7.5]]


def test_a_gradient_beyond_the_infinity_norm_is_scaled_as_a_whole() -> None:
    free = BaffleOptions(K=20, clip_median=0.0, clip_inf_norm=0.0)
    rows = [row * np.float32(1e3) for row in _honest(1)]

    plain = _gradient(rows, free)
    scaled = _gradient(rows, dataclasses.replace(free, clip_inf_norm=0.3))

    assert np.abs(plain).max() > 1
    assert np.abs(scaled).max() == pytest.approx(0.3, rel=1e-5)
    np.testing.assert_allclose(scaled / scaled[0], plain / plain[0], rtol=1e-3)


def test_the_order_in_which_contributions_arrive_changes_nothing() -> None:
    options = BaffleOptions(K=20)
    contributions = [
        Contribution(key=key_of(round_index, 6), slot=slot, differences=row)
        for round_index in (3, 4)
        for slot, row in enumerate(_honest(6))
    ]

    one, other = (
        aggregate(given, options, step=9, learning_rate=0.1, run_id=RUN_ID, n=N).to_bytes()
        for given in (contributions, contributions[::-1])
    )

    assert one == other


def _train(n_rounds: int, **changes: object) -> tuple[float, float]:
    """Loss on held-out digits before and after."""
    train, held_out = digits()
    non_iid = bool(changes.pop("non_iid", False))
    chosen = changes.pop("options", {})
    assert isinstance(chosen, dict)
    options = BaffleOptions(**{"K": 50, "ema": 0.0, **chosen})
    network = mlp(64, 32, 10)
    replica = Replica(initial_weights(network, np.random.default_rng(0)), options, RUN_ID)
    parts = split_by_label(train, 10, alpha=0.5) if non_iid else split(train, 10)
    schedule = Schedule(lr=0.02, kind="cosine", total_steps=n_rounds)
    fleet = Fleet(batched(network), parts, options, replica, schedule, **changes)  # type: ignore[arg-type]
    before = fleet.engine.loss(replica.weights, held_out)
    for index in range(n_rounds):
        fleet.round(index)
    return before, fleet.engine.loss(replica.weights, held_out)


def test_ten_devices_learn_digits_without_a_gradient() -> None:
    before, after = _train(30)

    assert after < 0.6 * before


@pytest.mark.parametrize(
    "options", [{"value": "int8"}, {"value": "sign"}, {"difference": "central"}, {"K": 500, "perturbations": "shared"}]
)
def test_they_learn_whatever_they_send(options: dict[str, object]) -> None:
    before, after = _train(12, options=options)

    assert after < 0.9 * before


def test_they_learn_from_labels_that_are_spread_unevenly() -> None:
    before, after = _train(30, non_iid=True)

    assert after < 0.75 * before


def test_they_learn_though_three_of_ten_drop_out_of_every_round() -> None:
    before, after = _train(30, present=lambda round_index, slot: (slot + 3 * round_index) % 10 >= 3)

    assert after < 0.6 * before


def test_they_learn_though_two_of_ten_send_a_million() -> None:
    def lie(slot: int, differences: F32) -> F32:
        signs = np.where(np.arange(len(differences)) % 2, 1e6, -1e6).astype(np.float32)
        return signs if slot < 2 else differences

    before, after = _train(30, lie=lie)

    assert after < 0.6 * before
