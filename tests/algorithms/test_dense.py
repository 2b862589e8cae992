"""Dense contributions in fewer bytes: what is summed, what is kept, what is refused, and how much is sent."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from gossamer.algorithms import BadOption, BadPayload, OptionValue, Slots
from gossamer.algorithms.dense import CODECS, dense_format
from gossamer.algorithms.errors import BadPart
from gossamer.algorithms.method import F32
from gossamer.algorithms.tiles import Shape

from .group import Replica, exchange, gradients_of, reduced

LOSSY = [name for name in CODECS if name != "fp32"]
DIM = 1000  # fills no unit of 256
SHAPES: list[Shape] = [(30, 20), (70,), ()]
PLAIN_SGD: dict[str, OptionValue] = {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0}
ERROR = {"fp16": 2.0**-11, "bf16": 2.0**-8, "int8": 1 / 254, "dynamic8": 0.45 / 64}
"""At most, relative to the largest value of a vector."""


def _vectors(n: int, count: float = 8.0) -> list[F32]:
    vectors = [np.random.Generator(np.random.Philox(key=k)).standard_normal(DIM + 1, np.float32) for k in range(n)]
    for vector in vectors:
        vector[-1] = count
    return vectors


def _work(member: Replica, seed: int, n_samples: int = 8) -> None:
    with member.method.working():
        member.method.accumulate(gradients_of(SHAPES, seed=seed), n_samples)


@pytest.mark.parametrize("codec", LOSSY)
def test_mean_is_within_two_roundings_and_the_count_is_exact(codec: str) -> None:
    wire, vectors = dense_format(codec, DIM, counted=True), _vectors(3, count=4_000_001)
    parts = [np.frombuffer(wire.encode(vector), np.uint8) for vector in vectors]

    whole = wire.reduce(parts, 0)

    expected = np.mean([vector[:-1] for vector in vectors], axis=0) * 3 / 12_000_003
    peak = max(float(np.abs(vector[:-1]).max()) for vector in vectors)
    assert wire.decode(whole.tobytes())[-1] == 12_000_003
    assert np.abs(wire.mean(whole.tobytes(), 3) - expected).max() <= 2.01 * ERROR[codec] * peak / 4_000_001


@pytest.mark.parametrize("codec", CODECS)
def test_parts_reduced_apart_make_the_vector_reduced_whole(codec: str) -> None:
    wire = dense_format(codec, DIM, counted=True)
    parts = [np.frombuffer(wire.encode(vector), np.uint8) for vector in _vectors(4)]
    n_units = wire.n_bytes // wire.unit_bytes

    edges = [0, 1, n_units // 2, n_units - 1, n_units]
    ranges = itertools.pairwise(edges)
    apart = [wire.reduce([p[a * wire.unit_bytes : b * wire.unit_bytes] for p in parts], a) for a, b in ranges]

    assert np.array_equal(np.concatenate(apart), wire.reduce(parts, 0))


def test_sums_beyond_the_range_of_a_half_are_averaged() -> None:
    wire = dense_format("fp16", 2, counted=True)
    payload = np.frombuffer(wire.encode(np.array([60_000, -60_000, 1], np.float32)), np.uint8)

    assert wire.mean(wire.reduce([payload] * 5, 0).tobytes(), 5).tolist() == [60_000, -60_000]


@pytest.mark.parametrize("codec", CODECS)
def test_contributor_of_nonsense_is_named(codec: str) -> None:
    wire = dense_format(codec, DIM, counted=True)
    parts = [np.frombuffer(wire.encode(vector), np.uint8).copy() for vector in _vectors(3)]
    parts[1][: wire.unit_bytes] = 0xFF

    with pytest.raises(BadPart) as caught:
        wire.reduce(parts, 0)

    assert caught.value.position == 1


@pytest.mark.parametrize("count", [-1.0, 0.5, np.nan, 2.0**25])
@pytest.mark.parametrize("codec", CODECS)
def test_impossible_count_is_refused_by_reducer_and_check(codec: str, count: float) -> None:
    wire = dense_format(codec, DIM, counted=True)
    good, bad = (wire.encode(vector) for vector in (*_vectors(1), *_vectors(1, count)))

    with pytest.raises(BadPart) as caught:
        wire.reduce([np.frombuffer(payload, np.uint8) for payload in (good, good, bad)], 0)
    with pytest.raises(BadPayload):
        wire.check(bad)
    with pytest.raises(BadPayload):
        wire.check(good[:-1])

    assert caught.value.position == 2


@pytest.mark.parametrize("codec", CODECS)
def test_who_counts_as_more_than_one_is_named_by_whoever_reduces_the_end(codec: str) -> None:
    wire = dense_format(codec, DIM, counted=True)
    wire.counts = range(1, 2)
    honest, claimed = (wire.encode(vector) for vector in (*_vectors(1, 1.0), *_vectors(1, 2.0)))
    parts = [np.frombuffer(payload, np.uint8) for payload in (honest, claimed)]
    end = wire.n_bytes // wire.unit_bytes - 1

    wire.reduce([part[: end * wire.unit_bytes] for part in parts], 0)
    with pytest.raises(BadPart) as caught:
        wire.reduce([part[end * wire.unit_bytes :] for part in parts], end)

    assert caught.value.position == 1


def test_finite_values_whose_sum_is_not_are_refused_too() -> None:
    wire = dense_format("fp32", 2, counted=True)
    parts = [np.array([1, x, 1], np.float32).view(np.uint8) for x in (1.0, 2e38, 3e38)]

    with pytest.raises(BadPart) as caught:
        wire.reduce(parts, 0)

    assert caught.value.position == 2


@pytest.mark.parametrize(("codec", "fraction"), [("fp16", 0.5), ("bf16", 0.5), ("int8", 0.254), ("dynamic8", 0.254)])
def test_payload_is_that_much_smaller(codec: str, fraction: float) -> None:
    large = dense_format(codec, 10_000_000, counted=True).n_bytes

    assert large / dense_format("fp32", 10_000_000, counted=True).n_bytes == pytest.approx(fraction, abs=1e-4)
    for name in ("allreduce", "local", "diloco"):
        member = Replica(name, SHAPES, {**PLAIN_SGD, "codec": codec})
        assert len(member.encode()) == member.method.payload_bytes_max()
        assert len(member.encode()) % member.method.unit_bytes == 0


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize("name", ["allreduce", "local"])
def test_plain_sgd_of_one_step_a_round_stays_close_to_fp32(name: str, codec: str) -> None:
    coded, plain = (
        [Replica(name, SHAPES, {**PLAIN_SGD, "codec": c, **({"h": 1} if name == "local" else {})}) for _ in range(3)]
        for c in (codec, "fp32")
    )
    start = plain[0].flat()

    for step in range(50):
        for members in (coded, plain):
            for slot, member in enumerate(members):
                _work(member, 10 * step + slot)
            exchange(members, [0, 2] if step % 7 == 3 else [0, 1, 2], step=step)

    assert all(torch.equal(member.flat(), coded[0].flat()) for member in coded)
    # Roundings of the reduced mean add up like a random walk, far below their bound; those of senders do not add up.
    moved, apart = (plain[0].flat() - start).norm(), (coded[0].flat() - plain[0].flat()).norm()
    assert apart < 2 * ERROR[codec] * moved


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize("aggregate", ["mean", "trimmed"])
def test_what_was_dropped_of_a_gradient_is_sent_later(codec: str, aggregate: str) -> None:
    member = Replica(
        "allreduce",
        SHAPES,
        {**PLAIN_SGD, "codec": codec, "aggregate": aggregate, "exchange": "reduce"}
        if aggregate != "mean"
        else {**PLAIN_SGD, "codec": codec},
    )
    wire = dense_format(codec, member.flat().numel(), counted=aggregate == "mean")
    sent, given = torch.zeros(wire.dim), torch.zeros(wire.dim)
    group = [member] * 3 if aggregate == "trimmed" else [member]

    for step in range(40):
        _work(member, step)
        given += torch.cat([g.flatten() for g in gradients_of(SHAPES, seed=step).values() if g is not None]) * 8
        payload = member.encode()
        decoded = torch.from_numpy(wire.decode(payload)[: wire.dim].copy())
        sent += decoded if aggregate == "mean" else 8 * decoded
        result = reduced(member.method, [payload] * len(group))
        _combine(member, result, len(group), step)

    left = member.method.local_state()["pending"]
    assert torch.allclose(sent + left[:-1], given, atol=1e-3)
    assert left[-1] == 0
    # One round's rounding, not the sum of forty.
    assert left[:-1].abs().max() <= 1.01 * ERROR[codec] * 8 * 5 * (3 if codec == "dynamic8" else 1)


def _combine(member: Replica, result: bytes, n: int, step: int) -> None:
    member.method.combine([result], mine=0, step=step, slots=Slots.everybody(n))


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize("name", ["local", "diloco"])
def test_what_was_dropped_of_a_drift_stays_in_it(name: str, codec: str) -> None:
    member = Replica(name, SHAPES, {**PLAIN_SGD, "codec": codec, "h": 1})
    _work(member, 1)
    drift = member.method.local_state()["drift"].clone()

    decoded = dense_format(codec, drift.numel(), counted=True).decode(member.encode())[:-1]
    exchange([member], [0], step=0)

    left = member.method.local_state()["drift"]
    assert torch.equal(left, drift - torch.from_numpy(decoded.copy()))
    assert 0 < left.abs().max() <= 1.01 * ERROR[codec] * drift.abs().max()


def test_work_done_while_a_coded_round_was_under_way_stays_too() -> None:
    member = Replica("local", SHAPES, {**PLAIN_SGD, "codec": "int8", "h": 1, "overlap": True})
    _work(member, 1)
    payload = member.encode()
    sent = member.method.local_state()["sent"].clone()
    _work(member, 2)
    drift = member.method.local_state()["drift"].clone()

    _combine(member, reduced(member.method, [payload]), 1, 0)

    assert torch.equal(member.method.local_state()["drift"], drift - sent)


@pytest.mark.parametrize("codec", LOSSY)
def test_who_was_left_out_keeps_everything(codec: str) -> None:
    members = [Replica("allreduce", SHAPES, {**PLAIN_SGD, "codec": codec}) for _ in range(2)]
    for slot, member in enumerate(members):
        _work(member, slot)
    kept = members[1].method.local_state()["pending"].clone()

    exchange(members, [0], step=0)

    assert torch.equal(members[1].method.local_state()["pending"], kept)
    assert torch.equal(members[0].flat(), members[1].flat())


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize("rule", ["trimmed", "median", "krum"])
def test_robust_rules_hold_off_a_liar_in_any_codec(codec: str, rule: str) -> None:
    options: dict[str, OptionValue] = {**PLAIN_SGD, "codec": codec, "aggregate": rule}
    if rule in ("trimmed", "median"):
        options["exchange"] = "reduce"
    members = [Replica("allreduce", SHAPES, options) for _ in range(5)]
    start, gradient = members[0].flat(), gradients_of(SHAPES, seed=1)
    for slot, member in enumerate(members):
        factor = -1000.0 if slot == 2 else 1.0
        member.method.accumulate({name: g * factor for name, g in gradient.items() if g is not None}, 8)

    exchange(members, range(5), step=0)

    flat = torch.cat([g.flatten() for g in gradient.values() if g is not None])
    assert torch.allclose(
        members[0].flat(), start - 0.1 * flat, atol=0.1 * 2.01 * ERROR[codec] * float(flat.abs().max())
    )


def test_fp32_is_what_it_was_bit_for_bit() -> None:
    vectors = _vectors(3)
    wire = dense_format("fp32", DIM, counted=True)
    payloads = [wire.encode(vector) for vector in vectors]

    total = wire.reduce([np.frombuffer(payload, np.uint8) for payload in payloads], 0)

    assert payloads == [vector.astype("<f4").tobytes() for vector in vectors]
    expected = vectors[0] + vectors[1] + vectors[2]
    assert total.tobytes() == expected.tobytes()
    assert np.array_equal(wire.mean(total.tobytes(), 3), expected[:-1] / expected[-1])


@pytest.mark.parametrize("name", ["allreduce", "local", "diloco"])
def test_unknown_codec_is_refused(name: str) -> None:
    with pytest.raises(BadOption, match="codec"):
        Replica(name, SHAPES, {"codec": "fp8"})
