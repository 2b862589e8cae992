"""Fixed point among gateways: votes of all, one integer model, and the floats that it stands for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gossamer.algorithms import BadPayload, Schedule, Slots
from gossamer.algorithms.errors import BadGradient
from gossamer.algorithms.fixedpoint import Ballot, FixedPoint
from gossamer.algorithms.forward import RoundKey, mlp
from gossamer.algorithms.forward.fixedpoint import (
    IntegerReplica,
    VoteReplay,
    VotingOptions,
    calibrate_scales,
    dequantise,
    quantise,
)
from gossamer.algorithms.forward.initialise import initial_weights
from gossamer.algorithms.options import BadOption

NETWORK = mlp(6, 5, 3)
RUN_ID = b"run".ljust(32)
WEIGHTS = initial_weights(NETWORK, np.random.default_rng(3))


def options(**changed: Any) -> VotingOptions:
    chosen = VotingOptions(n_devices=4, **changed)
    inputs = np.random.default_rng(4).random((32, 6), np.float32) - np.float32(0.5)
    calibration = chosen.calibration(n_rounds=10, input_scale=2 / 255, input_offset=-0.5)
    return chosen.calibrated(*calibrate_scales(NETWORK, WEIGHTS, inputs, calibration))


def method(**changed: Any) -> tuple[FixedPoint, dict[str, torch.Tensor]]:
    parameters = {
        str(index): torch.from_numpy(WEIGHTS[p.start : p.stop].copy().reshape(p.shape))
        for index, p in enumerate(NETWORK.parameters())
    }
    made = FixedPoint(parameters, options(**changed), Schedule(lr=1.0))
    made.begin(RUN_ID)
    return made, parameters


def ballots(*slots: int, index: int = 0, seed: int = 1) -> tuple[Ballot, ...]:
    rng = np.random.default_rng(seed)
    key = RoundKey(round_index=index, round_seed=bytes([index + 1]) * 32, n_slots=8)
    return tuple(Ballot(key=key, slot=slot, votes=rng.integers(-1, 2, 3).astype(np.int8)) for slot in slots)


def test_floats_and_integers_stand_for_one_another() -> None:
    chosen = options()
    plan = chosen.read_plan()
    scales = chosen.read_scales(plan)

    integers = quantise(plan, scales, WEIGHTS)
    floats = dequantise(plan, scales, integers)

    assert np.abs(floats - WEIGHTS).max() <= 4 * max(scale.weight for scale in scales)
    assert quantise(plan, scales, floats).tobytes() == integers.tobytes()
    kernel = WEIGHTS[:30].reshape(5, 6)
    # An input activation of 0 stands for -0.5, so the first layer's integer bias lacks half the kernel's sum.
    bias = integers[: plan.matrices()[0].stop].reshape(5, 7)[:, -1] * scales[0].bias
    assert bias == pytest.approx(WEIGHTS[30:35] - 0.5 * kernel.sum(axis=1), abs=2 * scales[0].bias)


def test_two_gateways_and_a_device_end_with_the_same_integers() -> None:
    (first, floats), (second, others) = method(), method()
    device = IntegerReplica(first.weights, first.plan, RUN_ID)
    start = first.weights.copy()

    for step in range(3):
        first.pending, second.pending = ballots(0, 2, index=2 * step), ballots(1, index=2 * step + 1)
        payloads = [one.encode(np.empty(0, np.float32)) for one in (first, second)]
        for index, one in enumerate((first, second)):
            one.combine(payloads, mine=index, step=step, slots=Slots.everybody(2))
        parts = [part for payload in payloads for part in VoteReplay.from_bytes(payload, n_votes=3).parts]
        device.apply(VoteReplay(step=step, parts=tuple(parts)))

    assert first.weights_digest() == second.weights_digest() == device.digest()
    assert first.weights.tobytes() != start.tobytes()
    assert all(torch.equal(floats[name], others[name]) for name in floats)
    assert first.pending == second.pending == ()


def test_what_counted_is_forgotten_and_the_rest_waits() -> None:
    made, _ = method()
    made.pending = ballots(0, 1)
    payload = made.encode(np.empty(0, np.float32))
    late = ballots(3)
    made.pending += late

    made.combine([payload], mine=0, step=0, slots=Slots.everybody(1))

    assert made.pending == late
    assert made.counted([payload]) == {(bytes([1]) * 32, 0), (bytes([1]) * 32, 1)}


@pytest.mark.parametrize("changed", [{}, {"guidance": 1}])
def test_state_is_restored_in_place(changed: dict[str, Any]) -> None:
    (trained, _), (fresh, _) = method(**changed), method(**changed)
    trained.pending = ballots(0, 1, 2)
    trained.combine([trained.encode(np.empty(0, np.float32))], mine=0, step=0, slots=Slots.everybody(1))

    for name, tensor in fresh.shared_state().items():
        tensor.copy_(trained.shared_state()[name])

    assert fresh.weights_digest() == trained.weights_digest()
    fresh.at_step(1)
    ours, theirs = fresh.device_state(), trained.device_state()
    assert list(ours) == list(theirs) == ["weights", *(["momentum"] if changed else []), "step"]
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_gradients_have_no_use() -> None:
    made, parameters = method()

    with pytest.raises(BadGradient, match="gateway"):
        made.accumulate(dict(parameters), 1)
    with pytest.raises(BadGradient, match="no device has answered"):
        made.encode(np.empty(0, np.float32))


@pytest.mark.parametrize("payload", [b"", b"\0" * 6, b"\xff" * 60])
def test_payloads_that_no_gateway_sends_are_refused(payload: bytes) -> None:
    made, _ = method()

    with pytest.raises(BadPayload):
        made.check(payload)


def test_cut_and_extended_payloads_are_refused() -> None:
    made, _ = method()
    made.pending = ballots(0, 1)
    payload = made.encode(np.empty(0, np.float32))

    made.check(payload)
    assert len(payload) <= made.payload_bytes_max()
    for spoilt in (payload[:-1], payload + b"\0"):
        with pytest.raises(BadPayload):
            made.check(spoilt)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"plan": ""}, "calibrated"),
        ({"plan": "{}"}, "plan"),
        ({"plan": "[1"}, "plan"),
        ({"scales": "[]"}, "scales"),
        ({"scales": '[{"weight":0,"bias":1,"offset":0},{"weight":1,"bias":1,"offset":0}]'}, "scales"),
    ],
)
def test_constants_that_are_none_are_refused(changed: dict[str, Any], what: str) -> None:
    good = options()
    parameters = {str(index): torch.zeros(p.shape) for index, p in enumerate(NETWORK.parameters())}

    with pytest.raises(BadOption, match=what):
        FixedPoint(parameters, replace(good, **changed), Schedule(lr=1.0))


def test_plan_of_another_model_is_refused() -> None:
    with pytest.raises(BadOption, match="plan"):
        FixedPoint({"w": torch.zeros(3, 3), "b": torch.zeros(3)}, options(), Schedule(lr=1.0))
