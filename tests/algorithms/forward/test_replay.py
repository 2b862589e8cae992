"""What a round comes down to, and that gateway and devices take the same step from it."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.algorithms.errors import BadPayload
from gossamer.algorithms.forward import (
    BaffleOptions,
    Contribution,
    Part,
    PerturbationStream,
    Replay,
    Replica,
    TooFewContributions,
    aggregate,
    aggregate_shared,
    gradient_of,
    mlp,
)
from gossamer.algorithms.forward.initialise import initial_weights
from gossamer.algorithms.schedule import Schedule

from .devices import RUN_ID, Fleet, batched, key_of, random_batch, seed_of, split

SMALL = mlp(12, 6, 3)
N = SMALL.n_parameters


def _fleet(options: BaffleOptions, n_devices: int = 3) -> Fleet:
    weights = initial_weights(SMALL, np.random.default_rng(0))
    schedule = Schedule(lr=1e-2, kind="cosine", total_steps=150)
    parts = split(random_batch(SMALL, 60), n_devices)
    return Fleet(batched(SMALL), parts, options, Replica(weights, options, RUN_ID), schedule)


@pytest.mark.parametrize("perturbations", ["distinct", "shared"])
def test_devices_and_gateway_hold_the_same_weights_after_100_replayed_rounds(perturbations: str) -> None:
    options = BaffleOptions(K=5, perturbations=perturbations, batch_size=8)
    fleet = _fleet(options)
    device = Replica(fleet.replica.weights, options, RUN_ID)
    first = device.digest()

    for index in range(100):
        device.apply(Replay.from_bytes(fleet.round(index).to_bytes(), K=5))

    assert device.digest() == fleet.replica.digest() != first
    assert device.averaged().tobytes() == fleet.replica.averaged().tobytes()


def test_the_average_forgets_the_beginning_of_a_short_run_and_decays_by_ema_in_a_long_one() -> None:
    options = BaffleOptions(K=3, ema=0.9, weight_decay=0.0)
    replica = Replica(np.zeros(1, np.float32), options, RUN_ID)
    average, total = 0.0, 0.0

    for step in range(60):
        replica.descend(np.ones(1, np.float32), 0.1)
        decay = min(0.9, (2 + step) / (5 + step))
        average, total = decay * average + (1 - decay) * float(replica.weights[0]), decay * total + 1 - decay
        assert replica.averaged()[0] == pytest.approx(average / total, rel=1e-5)


def test_the_bits_of_a_replayed_run_are_pinned() -> None:
    """Golden: another CPU, numpy or system that adds in another order or fuses operations shows here."""
    options = BaffleOptions(K=3, weight_decay=5e-4)
    replica = Replica(np.linspace(-1, 1, N).astype(np.float32), options, RUN_ID)

    for index in range(10):
        scalars = (np.arange(6, dtype=np.float32) - 2.5).reshape(2, 3) / np.float32(7 + index)
        part = Part(round_seed=seed_of(index), round_index=index, n_slots=4, slots=(1, 3), scalars=scalars)
        replica.apply(Replay(step=index, learning_rate=float(np.float32(0.01)), parts=(part,)))

    assert replica.digest() == "5fc287e5e4e9a7540dfb7acd93bd99a66ff45e4831bdac81794073e88f6c08ed"


def test_the_gradient_is_summed_in_slot_then_k_order_in_float32() -> None:
    scalars = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    part = Part(round_seed=seed_of(0), round_index=0, n_slots=9, slots=(0, 4, 8), scalars=scalars)

    gradient = gradient_of(Replay(step=0, learning_rate=0.1, parts=(part,)), RUN_ID, N)

    expected, stream = np.zeros(N, np.float32), PerturbationStream(seed_of(0), RUN_ID)
    for slot, row in zip(part.slots, scalars, strict=True):
        for z, scalar in zip(stream.signs(round_index=0, slot=slot, ks=range(4), n=N), row, strict=True):
            expected = expected + scalar * z.astype(np.float32)
    assert gradient.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("n_devices", "K"), [(1, 100), (10, 100), (1600, 2)])
def test_the_downlink_is_scalars_only(n_devices: int, K: int) -> None:
    options = BaffleOptions(K=K)
    contributions = [
        Contribution(key=key_of(0, n_devices), slot=slot, differences=np.ones(K, np.float32))
        for slot in range(n_devices)
    ]

    replay = aggregate(contributions, options, step=0, learning_rate=0.1, run_id=RUN_ID, n=N)

    assert len(replay.to_bytes()) <= 4 * K * n_devices + 256


def test_shared_perturbations_need_one_row_for_all_devices() -> None:
    options = BaffleOptions(K=50, perturbations="shared")
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((7, 50)).astype(np.float32) * np.float32(1e-4)
    contributions = [Contribution(key=key_of(0, 7), slot=i, differences=row) for i, row in enumerate(rows)]
    unbounded = dataclasses.replace(options, clip_median=0.0)

    one_by_one = aggregate(contributions, unbounded, step=0, learning_rate=0.1, run_id=RUN_ID, n=N)
    mean = rows.astype(np.float64).mean(axis=0)
    summed = aggregate_shared(mean, key_of(0, 7), options, step=0, learning_rate=0.1, run_id=RUN_ID, n=N)

    assert len(summed.to_bytes()) <= 4 * 50 + 256
    np.testing.assert_allclose(one_by_one.parts[0].scalars, summed.parts[0].scalars, rtol=1e-6)


def test_contributions_of_an_earlier_round_keep_their_own_perturbations() -> None:
    options = BaffleOptions(K=4, clip_median=0.0, clip_inf_norm=0.0)
    rng = np.random.default_rng(0)
    late, fresh = rng.standard_normal((2, 4)).astype(np.float32)
    contributions = [
        Contribution(key=key_of(9, 3), slot=0, differences=fresh),
        Contribution(key=key_of(7, 5), slot=4, differences=late),
    ]

    replay = aggregate(contributions, options, step=0, learning_rate=0.1, run_id=RUN_ID, n=N)
    gradient = gradient_of(Replay.from_bytes(replay.to_bytes(), K=4), RUN_ID, N)

    expected = np.zeros(N)
    for round_index, slot, differences in ((7, 4, late), (9, 0, fresh)):
        stream = PerturbationStream(seed_of(round_index), RUN_ID)
        signs = stream.signs(round_index=round_index, slot=slot, ks=range(4), n=N)
        expected += (differences.astype(np.float64) / options.sigma / 4 / 2) @ signs
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-3)


def test_a_replay_out_of_turn_changes_nothing() -> None:
    fleet = _fleet(BaffleOptions(K=5, batch_size=8))
    replays = [fleet.round(index) for index in range(3)]
    device = Replica(fleet.replica.weights, fleet.options, RUN_ID)
    device.apply(replays[0])
    before = device.digest()

    for replay in (replays[0], replays[2]):
        with pytest.raises(BadPayload, match="cannot follow"):
            device.apply(replay)

    assert (device.digest(), device.step) == (before, 1)


def test_a_newcomer_goes_on_from_another_replicas_state() -> None:
    fleet = _fleet(BaffleOptions(K=5, batch_size=8))
    for index in range(5):
        fleet.round(index)
    newcomer = Replica(np.zeros(N, np.float32), fleet.options, RUN_ID)

    newcomer.restore(fleet.replica.state())
    newcomer.apply(fleet.round(5))

    assert newcomer.digest() == fleet.replica.digest()
    assert newcomer.averaged().tobytes() == fleet.replica.averaged().tobytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", np.full(N, np.nan, np.float32)),
        ("weights", np.zeros(N + 1, np.float32)),
        ("first", np.zeros(N, np.float64)),
        ("decays", np.array([0.5, 0.5, 0.5, 1.5])),
        ("decays", np.array([2.0, 0.5, 0.5, 1.0])),
        ("surplus", np.zeros(N, np.float32)),
    ],
)
def test_a_state_that_no_replica_has_is_refused(name: str, value: np.ndarray) -> None:
    replica = Replica(np.ones(N, np.float32), BaffleOptions(), RUN_ID)
    before = replica.digest()

    with pytest.raises(BadPayload):
        replica.restore({**replica.state(), name: value})

    assert replica.digest() == before


def test_no_contribution_is_no_replay() -> None:
    with pytest.raises(TooFewContributions):
        aggregate([], BaffleOptions(), step=0, learning_rate=0.1, run_id=RUN_ID, n=N)


def _replay_bytes() -> bytes:
    scalars = np.arange(6, dtype=np.float32).reshape(2, 3)
    part = Part(round_seed=seed_of(0), round_index=4, n_slots=10, slots=(2, 9), scalars=scalars)
    return Replay(step=5, learning_rate=0.25, parts=(part,)).to_bytes()


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        _replay_bytes()[:-1],
        _replay_bytes() + b"\0",
        struct.pack("<IfIB", 5, 0.25, 2, 1) + _replay_bytes()[13:],
        struct.pack("<IfIB", 5, 0.25, 3, 0) + _replay_bytes()[13:],
        struct.pack("<IfIB", 5, 0.25, 3, 17) + _replay_bytes()[13:],
        struct.pack("<IfIB", 5, float("nan"), 3, 1) + _replay_bytes()[13:],
        struct.pack("<IfIB", 5, -1.0, 3, 1) + _replay_bytes()[13:],
        _replay_bytes()[:-4] + struct.pack("<f", float("inf")),
        _replay_bytes()[:49] + struct.pack("<I", 2**31) + _replay_bytes()[53:],
        _replay_bytes()[:53] + b"\xff\xff" + _replay_bytes()[55:],
        _replay_bytes()[:53] + b"\0\0" + _replay_bytes()[55:],
    ],
)
def test_a_spoilt_replay_is_refused(spoilt: bytes) -> None:
    with pytest.raises(BadPayload):
        Replay.from_bytes(spoilt, K=3)


@given(st.binary(max_size=120), st.integers(1, 70_000))
@settings(max_examples=200)
def test_random_bytes_are_refused_or_read(data: bytes, K: int) -> None:
    try:
        replay = Replay.from_bytes(data, K=K)
    except BadPayload:
        return
    assert replay.to_bytes() == data
