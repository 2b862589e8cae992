"""Federated server updates against numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.algorithms.forward.errors import TooFewContributions
from gossamer.algorithms.forward.federated import (
    FederatedOptions,
    FederatedServer,
    LocalUpdate,
    mean_change,
    proximal_gradient,
)
from gossamer.algorithms.options import BadOption

F32 = npt.NDArray[np.float32]


def _update(slot: int, *change: float, n_samples: int = 1) -> LocalUpdate:
    return LocalUpdate(slot=slot, change=np.array(change, np.float32), n_samples=n_samples)


def test_fedavg_with_rate_1_is_the_mean_weighted_by_samples() -> None:
    server = FederatedServer(np.array([10, 20], np.float32), FederatedOptions())

    server.apply([_update(0, 1, 0, n_samples=3), _update(1, -1, 4, n_samples=1)])

    assert server.weights.tolist() == [10.5, 21.0]


def test_fedadam_by_hand() -> None:
    options = FederatedOptions(rule="fedadam", server_lr=0.1, beta1=0.5, beta2=0.5, tau=1.0)
    server = FederatedServer(np.zeros(1, np.float32), options)

    server.apply([_update(0, 2)])

    # m = .5 * 2 = 1; v = .5 * 1 + .5 * 4 = 2.5; step = .1 * 1 / (sqrt(2.5) + 1)
    assert server.weights[0] == pytest.approx(0.1 / (2.5**0.5 + 1))


def test_fedyogi_by_hand() -> None:
    options = FederatedOptions(rule="fedyogi", server_lr=0.1, beta1=0.5, beta2=0.5, tau=1.0)
    server = FederatedServer(np.zeros(1, np.float32), options)

    server.apply([_update(0, 2)])

    # v = 1 - .5 * 4 * sign(1 - 4) = 3
    assert server.weights[0] == pytest.approx(0.1 / (3**0.5 + 1))


def test_fedprox_pulls_back_to_the_rounds_start() -> None:
    pull = proximal_gradient(np.array([3.0, 1.0], np.float32), np.array([1.0, 1.0], np.float32), 0.5)

    assert pull.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("rule", ["fedavg", "fedprox", "fedadam", "fedyogi"])
def test_every_rule_descends_a_quadratic(rule: str) -> None:
    options = FederatedOptions(rule=rule, server_lr=1.0 if rule in ("fedavg", "fedprox") else 0.3)
    server = FederatedServer(np.full(5, 4.0, np.float32), options)
    targets = [np.linspace(-1, 1, 5).astype(np.float32) * scale for scale in (0.5, 1.5)]

    for _ in range(60):
        server.apply([_update(slot, *(0.3 * (target - server.weights))) for slot, target in enumerate(targets)])

    assert np.abs(server.weights - np.linspace(-1, 1, 5)).max() < 0.3


def test_arrival_order_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    updates = [_update(slot, *rng.standard_normal(50), n_samples=slot + 1) for slot in range(9)]

    assert mean_change(updates, 50).tobytes() == mean_change(updates[::-1], 50).tobytes()


@pytest.mark.parametrize(
    "update", [_update(0, 1.0), _update(0, 1.0, np.nan), _update(0, np.inf, 1.0), _update(0, 1, 1, n_samples=0)]
)
def test_updates_that_do_not_fit_change_nothing(update: LocalUpdate) -> None:
    server = FederatedServer(np.ones(2, np.float32), FederatedOptions())

    with pytest.raises(ValueError, match="slot 0"):
        server.apply([_update(1, 1, 1), update])

    assert server.weights.tolist() == [1, 1]


def test_no_update_is_no_round() -> None:
    with pytest.raises(TooFewContributions):
        FederatedServer(np.ones(2, np.float32), FederatedOptions()).apply([])


@pytest.mark.parametrize("options", [{"rule": "fedsgd"}, {"beta1": 1.0}, {"tau": 0.0}, {"server_lr": -1.0}])
def test_options_out_of_bounds_are_refused(options: dict[str, float | str]) -> None:
    with pytest.raises(BadOption):
        FederatedOptions(**options)  # type: ignore[arg-type]
