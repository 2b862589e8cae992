"""TernGrad: the checks of its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gossamer.algorithms import BadGradient, BadOption, BadPayload, OptionValue, Slots, build_method, ternary
from gossamer.algorithms.kernels.threefry import Word, threefry
from gossamer.algorithms.method import F32
from gossamer.algorithms.schedule import Schedule
from gossamer.algorithms.terngrad import HEADER
from gossamer.algorithms.tiles import Shape

from .group import NOTHING, Replica, gradients_of, parameters_of

SHAPES: list[Shape] = [(13, 7), (5,), (), (0, 3), (64,), (6, 3, 5, 5)]
PACKINGS = ["2bit", "base3"]


def _replica(shapes: list[Shape] = SHAPES, /, **options: OptionValue) -> Replica:
    return Replica("terngrad", shapes, {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0, **options})


def _exchange(members: list[Replica], contributors: list[int], *, step: int) -> list[bytes]:
    """One committed round, scalers agreed on by the contributors."""
    floats = [members[i].method.agree() for i in contributors]
    agreed = np.max(floats, axis=0) if len(floats[0]) else NOTHING
    payloads = [members[i].method.encode(agreed) for i in contributors]
    for payload in payloads:
        members[0].method.check(payload)
    for slot, member in enumerate(members):
        mine = contributors.index(slot) if slot in contributors else None
        slots = Slots(contributors=tuple(contributors), n_members=len(members))
        member.method.combine(payloads, mine=mine, step=step, slots=slots)
    return payloads


def _codes(packed: bytes, n: int, packing: str) -> F32:
    total = np.zeros(n, np.float32)
    ternary.add(total, [np.frombuffer(packed, np.uint8)], scaler=1.0, packing=packing)
    return total


def _normal(n: int, seed: int = 0) -> F32:
    return np.random.Generator(np.random.Philox(key=seed)).standard_normal(n, dtype=np.float32)


def test_the_random_bits_are_those_of_the_published_vectors() -> None:
    def words(*numbers: int) -> tuple[Word, Word]:
        return np.array(numbers[:1], np.uint32), np.array(numbers[1:], np.uint32)

    of_zeros = threefry(words(0, 0), words(0, 0), rounds=20)
    of_pi = threefry(words(0x13198A2E, 0x03707344), words(0x243F6A88, 0x85A308D3), rounds=20)

    assert [int(word[0]) for word in of_zeros] == [0x6B200159, 0x99BA4EFE]
    assert [int(word[0]) for word in of_pi] == [0xC4923A9C, 0x483DF7A0]
    assert [int(word[0]) for word in threefry(words(0, 0), words(0, 0))] == [0x9D1C5EC6, 0x8BD50731]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("n", [64, 65, 66, 67, 69, 1279, 1280, 1281, 1283, 2600])
def test_codes_are_the_definitions_for_every_remainder(packing: str, n: int) -> None:
    values = _normal(n)
    scaler, bound = ternary.scaler_of(values)

    packed = ternary.encode(values, bound=bound, scaler=scaler, packing=packing, key=(5, 6), stream=7)

    i = np.arange(n)
    counters = np.array(i // 32 * 16 + i % 16, np.uint32), np.full(n, 7, np.uint32)
    first: Word
    second: Word
    first, second = threefry((np.full(n, 5, np.uint32), np.full(n, 6, np.uint32)), counters)
    drawn = np.array(np.where(i % 32 < 16, first, second), np.uint32)
    uniform = (drawn >> np.uint32(9)).astype(np.float32) + np.float32(0.5)
    threshold = np.minimum(np.abs(values), np.float32(bound)) * (np.float32(2**23) / np.float32(scaler))
    assert np.array_equal(_codes(packed, n, packing), np.where(uniform < threshold, np.sign(values), 0))
    assert len(packed) == -(-n // (4 if packing == "2bit" else 5))


def test_the_expectation_is_the_clipped_gradient_and_the_error_as_predicted() -> None:
    n, n_draws = 20_000, 2000
    values = _normal(n) * np.float32(0.3)
    scaler, bound = ternary.scaler_of(values)
    clipped = np.clip(values, -bound, bound).astype(np.float64)
    total, square_error = np.zeros(n, np.float32), 0.0

    for draw in range(n_draws):
        packed = ternary.encode(values, bound=bound, scaler=scaler, packing="2bit", key=(1, draw), stream=0)
        ternary.add(total, [np.frombuffer(packed, np.uint8)], scaler=1.0, packing="2bit")
        if draw < 100:
            square_error += float(((scaler * _codes(packed, n, "2bit") - clipped) ** 2).sum()) / 100

    variance = scaler * np.abs(clipped) - clipped**2
    uncertain = variance > 0
    z = (scaler * total / n_draws - clipped)[uncertain] / np.sqrt(variance[uncertain] / n_draws)
    assert 0.97 < np.sqrt((z**2).mean()) < 1.03
    assert abs(z.mean()) < 0.03
    assert square_error == pytest.approx(scaler * np.abs(clipped).sum() - (clipped**2).sum(), rel=0.02)


def test_a_constant_tensor_survives_clipping_and_zeros_stay_zeros() -> None:
    constant, zeros = np.full(100, -0.5, np.float32), np.zeros(100, np.float32)

    for values in (constant, zeros):
        scaler, bound = ternary.scaler_of(values)
        packed = ternary.encode(values, bound=bound, scaler=scaler, packing="base3", key=(0, 0), stream=0)
        assert (np.float32(scaler) * _codes(packed, 100, "base3")).tolist() == values.tolist()


def test_magnitudes_beyond_two_and_a_half_rms_are_clipped() -> None:
    values = np.ones(100, np.float32)
    values[0] = 100.0

    scaler, bound = ternary.scaler_of(values)

    assert scaler == bound == pytest.approx(2.5 * np.sqrt((99 + 100**2) / 100))


@pytest.mark.parametrize("packing", PACKINGS)
def test_sums_under_a_shared_scaler_are_integers_times_it(packing: str) -> None:
    rows = [_normal(1000, seed) for seed in range(5)]
    packed = [
        ternary.encode(row, bound=9, scaler=9.0, packing=packing, key=(1, 2), stream=i) for i, row in enumerate(rows)
    ]
    total = np.zeros(1000, np.float32)

    ternary.add(total, [np.frombuffer(p, np.uint8) for p in packed], scaler=0.25, packing=packing)

    assert np.array_equal(total, np.float32(0.25) * sum(_codes(p, 1000, packing) for p in packed))
    assert np.abs(total * 4).max() <= 5


@pytest.mark.parametrize(
    "options", [{}, {"packing": "2bit"}, {"shared_scaler": False}, {"dense_last": True}, {"warmup_rounds": 2}]
)
def test_replicas_stay_bit_identical(options: dict[str, OptionValue]) -> None:
    members = [_replica(optimizer="adamw", **options) for _ in range(3)]

    for step in range(4):
        for slot, member in enumerate(members):
            member.method.accumulate(gradients_of(SHAPES, seed=10 * step + slot), 8)
        _exchange(members, [0, 1, 2] if step != 1 else [0, 2], step=step)

    assert torch.equal(members[0].flat(), members[1].flat())
    assert torch.equal(members[0].flat(), members[2].flat())


def test_with_agreed_scalers_all_contributions_carry_the_same() -> None:
    members = [_replica() for _ in range(3)]
    for slot, member in enumerate(members):
        member.method.accumulate(gradients_of(SHAPES, seed=slot), 8)

    payloads = _exchange(members, [0, 1, 2], step=0)

    # Three tensors have 64 elements or more.
    assert len({payload[HEADER.size : HEADER.size + 12] for payload in payloads}) == 1


def test_scalers_that_differ_are_as_right() -> None:
    shapes: list[Shape] = [(64,)]
    members = [_replica(shapes, shared_scaler=False) for _ in range(2)]
    # Constant magnitudes are kept with certainty.
    members[0].method.accumulate({"p0": torch.full((64,), 1.0)}, 1)
    members[1].method.accumulate({"p0": torch.full((64,), -3.0)}, 1)
    before = members[0].flat()

    _exchange(members, [0, 1], step=0)

    assert torch.allclose(before - members[0].flat(), torch.full((64,), 0.1 * (1.0 - 3.0) / 2))


@pytest.mark.parametrize(
    "agreed", [np.array([np.nan], np.float32), np.array([0.5], np.float32), np.empty(3, np.float32)]
)
def test_an_agreement_that_cannot_be_used_is_replaced_by_ones_own(agreed: F32) -> None:
    replica = _replica([(64,)])
    replica.method.accumulate({"p0": torch.ones(64)}, 1)

    payload = replica.method.encode(agreed)

    assert np.frombuffer(payload, "<f4", 1, HEADER.size).tolist() == [1.0]


def test_in_full_precision_it_is_the_mean_over_all_samples() -> None:
    members = [_replica(warmup_rounds=1) for _ in range(2)]
    gradients = [gradients_of(SHAPES, seed=slot) for slot in (0, 1)]
    members[0].method.accumulate(gradients[0], 1)
    members[1].method.accumulate(gradients[1], 3)
    before = members[0].flat()

    _exchange(members, [0, 1], step=0)

    flat = [torch.cat([g.flatten() for g in of_slot.values() if g is not None]) for of_slot in gradients]
    assert torch.allclose(before - members[0].flat(), 0.1 * (flat[0] + 3 * flat[1]) / 4, atol=1e-5)


def test_the_last_layer_travels_in_full_precision_if_asked() -> None:
    parameters = {"body.weight": torch.zeros(100), "head.weight": torch.zeros(100), "head.bias": torch.zeros(70)}
    method = build_method("terngrad", parameters, {"dense_last": True}, Schedule(lr=0.1))

    assert method.payload_bytes_max() == HEADER.size + 4 + 20 + 4 * 170


def test_who_is_left_out_keeps_its_work_and_draws_new_bits() -> None:
    members = [_replica(shared_scaler=False) for _ in range(2)]
    for slot, member in enumerate(members):
        member.method.accumulate(gradients_of(SHAPES, seed=slot), 8)
    before, payload = members[1].method.local_state()["pending"].clone(), members[1].encode()

    _exchange(members, [0], step=0)

    assert torch.equal(members[1].method.local_state()["pending"], before)
    assert members[1].encode() != payload
    assert torch.count_nonzero(members[0].method.local_state()["pending"]) == 0


def test_equal_replicas_in_different_slots_draw_different_bits() -> None:
    members = [_replica() for _ in range(2)]
    for step in range(2):
        for member in members:
            member.method.accumulate(gradients_of(SHAPES, seed=step), 8)
        payloads = _exchange(members, [0, 1], step=step)

    assert payloads[0] != payloads[1]


def test_a_restored_replica_goes_on_bit_for_bit() -> None:
    one, other = _replica(optimizer="adamw"), _replica(optimizer="adamw")
    for step in range(3):
        one.method.accumulate(gradients_of(SHAPES, seed=step), 8)
        _exchange([one], [0], step=step)
    one.method.accumulate(gradients_of(SHAPES, seed=5), 8)

    other.load_state(one)
    assert one.encode() == other.encode()
    for replica in (one, other):
        _exchange([replica], [0], step=3)

    assert torch.equal(one.flat(), other.flat())


def test_it_ends_where_sgd_with_the_same_clipping_ends() -> None:
    target = parameters_of([(40, 40)], seed=9)["p0"]
    ternary_one, dense = _replica([(40, 40)]), _replica([(40, 40)], warmup_rounds=1000)

    for step in range(300):
        for replica in (ternary_one, dense):
            difference = replica.parameters["p0"] - target
            bound = 2.5 * difference.square().mean().sqrt()
            replica.method.accumulate({"p0": difference.clamp(-bound, bound)}, 1)
            _exchange([replica], [0], step=step)

    assert (dense.parameters["p0"] - target).square().mean() < 1e-4
    assert (ternary_one.parameters["p0"] - target).square().mean() < 1e-2


def test_a_gradient_that_is_not_finite_is_refused_and_changes_nothing() -> None:
    replica = _replica([(3,)])

    with pytest.raises(BadGradient):
        replica.method.accumulate({"p0": torch.tensor([1.0, float("nan"), 0.0])}, 8)

    assert all(torch.count_nonzero(tensor) == 0 for tensor in replica.method.local_state().values())


@pytest.mark.parametrize("packing", PACKINGS)
def test_lengths_are_exact_and_every_other_is_refused(packing: str) -> None:
    replica = _replica(packing=packing)
    replica.method.accumulate(gradients_of(SHAPES, seed=0), 8)
    payload = replica.encode()

    assert len(payload) == replica.method.payload_bytes_max()
    for wrong in [*(payload[:length] for length in range(len(payload))), payload + b"\0"]:
        with pytest.raises(BadPayload):
            replica.method.check(wrong)


def _payload(scaler: float = 1.0, packed: bytes = b"\0" * 14, header: tuple[int, ...] = (1, 0, 0, 1, 8)) -> bytes:
    """For one tensor of 66 elements: 13 bytes hold 65, one more the last."""
    return HEADER.pack(*header) + np.float32(scaler).tobytes() + packed


@pytest.mark.parametrize(
    "payload",
    [
        _payload(scaler=np.nan),
        _payload(scaler=np.inf),
        _payload(scaler=-1.0),
        _payload(scaler=2e30),
        _payload(packed=b"\xf3" + b"\0" * 13),
        _payload(packed=b"\0" * 13 + b"\3"),
        _payload(header=(2, 0, 0, 1, 8)),
        _payload(header=(1, 2, 0, 1, 8)),
        _payload(header=(1, 1, 0, 1, 8)),
        _payload(header=(1, 0, 1, 1, 8)),
        _payload(header=(1, 0, 0, 2, 8)),
        _payload(header=(1, 0, 0, 1, 2**24 + 1)),
    ],
)
def test_what_no_honest_replica_sends_is_refused(payload: bytes) -> None:
    replica = _replica([(66,)])

    replica.method.check(_payload(packed=b"\xf2" * 13 + b"\2"))
    with pytest.raises(BadPayload):
        replica.method.check(payload)


def test_a_code_of_three_and_padding_are_refused_in_two_bits() -> None:
    replica = _replica([(66,)], packing="2bit")

    replica.method.check(_payload(packed=b"\xaa" * 16 + b"\x0a"))
    for packed in (b"\xc0" + b"\0" * 16, b"\0" * 16 + b"\x10"):
        with pytest.raises(BadPayload):
            replica.method.check(_payload(packed=packed))


@pytest.mark.parametrize(("option", "value"), [("packing", "base4"), ("warmup_rounds", -1), ("seed", -1)])
def test_options_out_of_bounds_are_refused(option: str, value: OptionValue) -> None:
    with pytest.raises(BadOption, match=option):
        _replica([(3,)], **{option: value})
