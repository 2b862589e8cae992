"""BAFFLE among peers: payloads of both kinds, one model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gossamer.algorithms import BadPayload, Slots
from gossamer.algorithms.baffle import Baffle
from gossamer.algorithms.errors import BadGradient
from gossamer.algorithms.forward import BaffleOptions, Contribution, RoundKey, gradient_of
from gossamer.algorithms.forward import Replica as DeviceReplica
from gossamer.algorithms.forward.exchange import combined_gradient, contributions_in, decode, shares_of, weight_of
from gossamer.algorithms.forward.replay import Replay

from .group import NOTHING, Replica, gradients_of

SHAPES = [(4, 3), (4,), (2, 4), (2,)]
N = 26
OPTIONS = {"K": 8}
RUN_ID = b"run".ljust(32)


def replica() -> Replica:
    made = Replica("baffle", SHAPES, OPTIONS)
    made.method.begin(RUN_ID)
    return made


def method(made: Replica) -> Baffle:
    assert isinstance(made.method, Baffle)
    return made.method


def _flat(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    tensors = [tensor for tensor in gradients_of(SHAPES, seed).values() if tensor is not None]
    return np.concatenate([tensor.numpy().ravel() for tensor in tensors])


def contributions(n: int, *, index: int = 0, seed: int = 1) -> tuple[Contribution, ...]:
    rng = np.random.default_rng(seed)
    key = RoundKey(round_index=index, round_seed=bytes([index + 1]) * 32, n_slots=n)
    return tuple(
        Contribution(key=key, slot=slot, differences=rng.standard_normal(8).astype(np.float32) * np.float32(1e-3))
        for slot in range(n)
    )


def combine(made: Replica, payloads: list[bytes], mine: int | None = None, step: int = 0) -> None:
    made.method.combine(payloads, mine=mine, step=step, slots=Slots.everybody(len(payloads)))


def test_gateway_peer_and_device_end_with_the_same_bits() -> None:
    gateway, peer = replica(), replica()
    options = BaffleOptions(K=8)
    device = DeviceReplica(gateway.flat().numpy(), options, RUN_ID)
    for step in range(3):
        method(gateway).pending = contributions(3, index=step)
        peer.method.accumulate(gradients_of(SHAPES, step), 16)
        payloads = [gateway.encode(), peer.encode()]

        combine(gateway, payloads, 0, step)
        combine(peer, payloads, 1, step)
        device.descend(combined_gradient(payloads, options, RUN_ID, N), method(gateway).learning_rate(step))

    assert gateway.flat().numpy().tobytes() == peer.flat().numpy().tobytes() == device.weights.tobytes()
    state, own = method(gateway).device_state(), device.state()
    method(gateway).at_step(3)
    assert {name: array.tobytes() for name, array in method(gateway).device_state().items()} == {
        name: array.tobytes() for name, array in own.items()
    }
    assert set(state) == set(own)


def test_what_is_evaluated_is_the_average_that_devices_hold_too() -> None:
    gateway, options = replica(), BaffleOptions(K=8)
    device = DeviceReplica(gateway.flat().numpy(), options, RUN_ID)
    baffle = method(gateway)
    assert baffle.served(gateway.parameters, baffle.shared_state()) is gateway.parameters

    for step in range(5):
        baffle.pending = contributions(3, index=step)
        payload = gateway.encode()
        combine(gateway, [payload], 0, step)
        device.descend(combined_gradient([payload], options, RUN_ID, N), baffle.learning_rate(step))

    buffers = {"running": torch.ones(3)}
    served = baffle.served({**gateway.parameters, **buffers}, baffle.shared_state())
    flat = torch.cat([served[name].flatten() for name in gateway.parameters])
    assert flat.numpy().tobytes() == device.averaged().tobytes() != device.weights.tobytes()
    assert [tuple(served[name].shape) for name in gateway.parameters] == SHAPES
    assert torch.equal(served["running"], buffers["running"])


@pytest.mark.parametrize(
    ("options", "rate"),
    [({}, 0.07), ({"K": 500}, 0.1565), ({"K": 4000}, 0.2), ({"K": 1000, "perturbations": "shared"}, 0.07)],
)
def test_more_perturbations_make_for_a_higher_rate(options: dict[str, int | str], rate: float) -> None:
    assert Baffle.default_rate(options) == rate


def test_one_gateways_update_is_its_replay() -> None:
    gateway = replica()
    method(gateway).pending = contributions(3)
    payload = gateway.encode()
    replay = decode(payload, BaffleOptions(K=8), N)
    assert isinstance(replay, Replay)

    gradient = combined_gradient([payload], BaffleOptions(K=8), RUN_ID, N)

    assert gradient.tobytes() == gradient_of(replay, RUN_ID, N).tobytes()


def test_peers_that_backpropagate_average_by_samples() -> None:
    one, two = replica(), replica()
    one.method.accumulate(gradients_of(SHAPES, 1), 10)
    two.method.accumulate(gradients_of(SHAPES, 2), 30)

    gradient = combined_gradient([one.encode(), two.encode()], BaffleOptions(K=8), RUN_ID, N)

    flat = [
        np.concatenate([t.numpy().ravel() for t in gradients_of(SHAPES, s).values() if t is not None]) for s in (1, 2)
    ]
    np.testing.assert_allclose(gradient, 0.25 * flat[0] + 0.75 * flat[1], atol=1e-6)


def test_forward_gradient_counts_for_fewer_samples_the_fewer_its_directions() -> None:
    gateway, peer = replica(), replica()
    method(gateway).pending = contributions(3)
    peer.method.accumulate(gradients_of(SHAPES, 1), 96)
    options = BaffleOptions(K=8)
    payloads = [gateway.encode(), peer.encode()]

    assert weight_of(decode(payloads[0], options, N), options, N) == pytest.approx(3 * 32 * 24 / (24 + N))
    assert weight_of(decode(payloads[1], options, N), options, N) == 96
    shares = shares_of(payloads, options, N)
    assert shares["devices"] == pytest.approx(24 / (24 + N) / (24 / (24 + N) + 1))


def test_what_was_left_out_is_sent_again_and_what_counted_is_not() -> None:
    gateway, other = replica(), replica()
    method(gateway).pending = contributions(2)
    other.method.accumulate(gradients_of(SHAPES, 1), 16)

    combine(gateway, [other.encode()], None)
    assert len(method(gateway).pending) == 2
    payload = gateway.encode()
    combine(gateway, [payload], None, 1)  # by its seed and slots it is ours, whoever says that it counted

    assert method(gateway).pending == ()
    assert contributions_in([payload], BaffleOptions(K=8), N) == {(bytes([1]) * 32, 0), (bytes([1]) * 32, 1)}
    with pytest.raises(BadGradient):
        gateway.method.encode(NOTHING)


def test_resync_drops_what_is_pending() -> None:
    gateway = replica()
    method(gateway).pending = contributions(2)
    gateway.method.accumulate(gradients_of(SHAPES, 1), 16)

    gateway.method.forget_local()

    with pytest.raises(BadGradient):
        gateway.encode()


def malformed() -> list[bytes]:
    gateway, peer = replica(), replica()
    method(gateway).pending = contributions(2)
    peer.method.accumulate(gradients_of(SHAPES, 1), 16)
    forward, dense = gateway.encode(), peer.encode()
    nan = np.array(np.nan, "<f4").tobytes()
    return [
        b"",
        b"\x00",
        b"\x03" + forward[1:],
        forward[:-1],
        forward + b"\0",
        forward[:-4] + nan,
        dense[:-1],
        dense + b"\0",
        dense[:-4] + nan,
        dense[:1] + bytes(4) + dense[5:],
        dense[:1] + b"\xff" * 4 + dense[5:],
    ]


@pytest.mark.parametrize("payload", malformed())
def test_payload_that_no_honest_replica_sends_is_refused(payload: bytes) -> None:
    with pytest.raises(BadPayload):
        replica().method.check(payload)


def test_state_can_be_taken_over_in_place() -> None:
    one, two = replica(), replica()
    one.method.accumulate(gradients_of(SHAPES, 1), 16)
    combine(one, [one.encode()], 0)

    two.load_state(one)
    for made in (one, two):
        made.method.accumulate(gradients_of(SHAPES, 2), 16)
        combine(made, [made.encode()], 0, 1)

    assert one.flat().numpy().tobytes() == two.flat().numpy().tobytes()
