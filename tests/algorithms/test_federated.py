"""Federated rules among peers, gateways and devices: changes and forward gradients, one model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.algorithms import BadPayload, Slots
from gossamer.algorithms.errors import BadGradient
from gossamer.algorithms.federated import ChangeOfDevice, Federated
from gossamer.algorithms.forward import Contribution, FederatedServer, RoundKey, gradient_of
from gossamer.algorithms.forward.mixed import CHANGES, FORWARD, Changes, Mixed, MixedOptions, combined_change
from gossamer.algorithms.options import BadOption, OptionValue

from .group import NOTHING, Replica, gradients_of

SHAPES = [(4, 3), (4,), (2, 4), (2,)]
N = 26
RUN_ID = b"run".ljust(32)
DENSE, FEW = CHANGES.to_bytes(4, "little"), FORWARD.to_bytes(4, "little")
OPTIONS = MixedOptions(K=8, local_steps=4, local_lr=0.5, batch_size=2)


def replica(rule: str = "fedavg", **changed: OptionValue) -> Replica:
    options = {"K": 8, "local_steps": 4, "local_lr": 0.5, "batch_size": 2, "rule": rule, **changed}
    made = Replica("federated", SHAPES, options, lr=1.0)
    made.method.begin(RUN_ID)
    return made


def method(made: Replica) -> Federated:
    assert isinstance(made.method, Federated)
    return made.method


def key_of(index: int, n_slots: int = 4) -> RoundKey:
    return RoundKey(round_index=index, round_seed=bytes([index + 1]) * 32, n_slots=n_slots)


def change_of(slot: int, values: npt.ArrayLike, index: int = 0) -> ChangeOfDevice:
    return ChangeOfDevice(key=key_of(index), slot=slot, change=np.asarray(values, np.float32))


def differences_of(slot: int, index: int = 0) -> Contribution:
    rng = np.random.default_rng(slot)
    return Contribution(key=key_of(index), slot=slot, differences=rng.standard_normal(8).astype(np.float32) * 1e-3)


def combine(made: Replica, payloads: list[bytes], mine: int | None = None, step: int = 0) -> None:
    made.method.combine(payloads, mine=mine, step=step, slots=Slots.everybody(len(payloads)))


def test_plain_averaging_adds_the_mean_of_the_devices_changes() -> None:
    made = replica()
    start = made.flat().numpy().copy()
    method(made).pending = (change_of(0, np.full(N, 1.0)), change_of(2, np.full(N, 3.0)))

    combine(made, [made.encode()], 0)

    assert made.flat().numpy() == pytest.approx(start + 2.0)
    assert method(made).pending == ()


def test_forward_gradient_stands_for_the_change_of_the_local_steps() -> None:
    made = replica()
    start = made.flat().numpy().copy()
    method(made).pending = (differences_of(0), differences_of(1))
    payload = made.encode()
    read = Mixed.from_bytes(payload, OPTIONS, N)
    assert read.replay is not None

    combine(made, [payload], 0)

    # local_lr * local_steps = 2
    assert made.flat().numpy() == pytest.approx(start - 2.0 * gradient_of(read.replay, RUN_ID, N))


def test_contributions_count_by_samples_and_forward_ones_for_less() -> None:
    made = replica()
    method(made).pending = (change_of(0, np.ones(N)), differences_of(1))

    forward, dense = Mixed.from_bytes(made.encode(), OPTIONS, N).weights(OPTIONS, N)

    assert dense == 2 * 4  # batch_size * local_steps
    assert forward == pytest.approx(2 * 4 * 8 / (8 + 26))  # K directions in n dimensions


def test_change_far_longer_than_most_is_scaled_down() -> None:
    made = replica()
    honest = [change_of(slot, np.full(N, 1.0)) for slot in range(3)]
    method(made).pending = (*honest, change_of(3, np.full(N, -1e6)))

    read = Mixed.from_bytes(made.encode(), OPTIONS, N)

    assert read.changes is not None
    assert read.changes.change == pytest.approx(np.full(N, (3 * 1.0 - 3.0) / 4), abs=1e-6)  # 3 medians at most


@pytest.mark.parametrize("rule", ["fedavg", "fedprox", "fedadam", "fedyogi"])
def test_gateway_peer_and_device_end_with_the_same_bits(rule: str) -> None:
    gateway, peer = replica(rule), replica(rule)
    options = MixedOptions(K=8, local_steps=4, local_lr=0.5, batch_size=2, rule=rule)
    device = FederatedServer(gateway.flat().numpy(), options.server())
    rng = np.random.default_rng(5)
    for step in range(3):
        method(gateway).pending = (change_of(0, rng.standard_normal(N), step), differences_of(1, step))
        peer.method.accumulate(gradients_of(SHAPES, step), 16)
        payloads = [gateway.encode(), peer.encode()]

        combine(gateway, payloads, 0, step)
        combine(peer, payloads, 1, step)
        read = [Mixed.from_bytes(payload, options, N) for payload in payloads]
        device.descend(combined_change(read, options, RUN_ID, N), method(gateway).learning_rate(step))

    assert gateway.flat().numpy().tobytes() == peer.flat().numpy().tobytes() == device.weights.tobytes()
    method(gateway).at_step(3)
    state = method(gateway).device_state()
    assert ("second" in device.state()) == (rule in ("fedadam", "fedyogi"))
    assert {name: state[name].tobytes() for name in state if name != "step"} == {
        name: array.tobytes() for name, array in device.state().items()
    }


def test_payload_names_every_device_behind_it() -> None:
    made = replica()
    method(made).pending = (change_of(0, np.ones(N)), change_of(1, np.ones(N), index=2), differences_of(3))
    payload = made.encode()

    assert method(made).counted([payload]) == {(bytes([1]) * 32, 0), (bytes([3]) * 32, 1), (bytes([1]) * 32, 3)}
    assert method(made).credit([payload])["devices"] == 1
    assert len(payload) <= made.method.payload_bytes_max()


def test_what_did_not_count_waits_for_the_next_update() -> None:
    made = replica()
    method(made).pending = (change_of(0, np.ones(N)),)
    payload = made.encode()
    late = change_of(1, np.ones(N))
    method(made).pending += (late,)

    combine(made, [payload], 0)

    assert [one.slot for one in method(made).pending] == [1]


def test_answers_of_both_kinds_are_read() -> None:
    made = method(replica())
    change = np.arange(N, dtype=np.float32)

    dense = made.read(key_of(0), 1, DENSE + change.tobytes())
    forward = made.read(key_of(0), 1, FEW + bytes(32))

    assert isinstance(dense, ChangeOfDevice)
    assert dense.change.tolist() == change.tolist()
    assert isinstance(forward, Contribution)
    for spoilt in (b"", b"\x03\0\0\0", DENSE[:1], DENSE + bytes(4), DENSE + b"\xff" * 4 * N, FEW):
        with pytest.raises(BadPayload):
            made.read(key_of(0), 1, spoilt)


def test_payloads_that_no_replica_sends_are_refused() -> None:
    made = replica()
    method(made).pending = (change_of(0, np.ones(N)), differences_of(1))
    good = made.encode()
    made.method.check(good)
    nan = Mixed(changes=Changes(samples=1, change=np.full(N, np.nan, np.float32))).to_bytes()

    for spoilt in (b"", b"\0", b"\x04" + good[1:], good[:-1], good + b"\0", good[:1], good[:9], nan):
        with pytest.raises(BadPayload):
            made.method.check(spoilt)


def test_nothing_to_contribute_is_said() -> None:
    with pytest.raises(BadGradient, match="no device has answered"):
        replica().method.encode(NOTHING)


@pytest.mark.parametrize("changed", [{"rule": "fedsgd"}, {"local_steps": 0}, {"local_lr": 0.0}, {"K": 0}, {"mu": -1.0}])
def test_options_that_cannot_be_are_refused(changed: dict[str, OptionValue]) -> None:
    with pytest.raises(BadOption):
        replica(**changed)  # type: ignore[arg-type]  # a table of cases
