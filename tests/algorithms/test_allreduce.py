"""Dense averaging."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gossamer.algorithms import BadGradient, BadPayload, Slots
from gossamer.algorithms.tiles import Shape

from .group import Replica, exchange, gradients_of, reduced

SHAPES: list[Shape] = [(5, 3), (4,), (), (0, 2)]


def _sgd(shapes: list[Shape] = SHAPES, lr: float = 0.1, **options: float) -> Replica:
    return Replica("allreduce", shapes, {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0, **options}, lr=lr)


def test_plain_sgd_steps_along_the_mean_over_all_samples() -> None:
    members = [_sgd([(1,)]) for _ in range(2)]
    start = members[0].flat()
    members[0].method.accumulate({"p0": torch.tensor([1.0])}, 3)
    members[1].method.accumulate({"p0": torch.tensor([5.0])}, 1)

    exchange(members, [0, 1], step=0)

    # (3 * 1 + 1 * 5) / 4 = 2, times lr .1.
    assert torch.allclose(members[0].flat(), start - 0.2)
    assert torch.equal(members[0].flat(), members[1].flat())


def test_who_is_left_out_counts_with_all_its_samples_later() -> None:
    members = [_sgd([(1,)]) for _ in range(2)]
    members[0].method.accumulate({"p0": torch.tensor([1.0])}, 2)
    members[1].method.accumulate({"p0": torch.tensor([4.0])}, 2)
    exchange(members, [0], step=0)
    start = members[0].flat()
    members[0].method.accumulate({"p0": torch.tensor([1.0])}, 2)
    members[1].method.accumulate({"p0": torch.tensor([7.0])}, 2)

    exchange(members, [0, 1], step=1)

    # (2 * 1 + 2 * 4 + 2 * 7) / 6 = 4: nothing lost, nothing twice.
    assert torch.allclose(members[0].flat(), start - 0.4)
    assert torch.count_nonzero(members[1].method.local_state()["pending"]) == 0


@pytest.mark.parametrize("options", [{"optimizer": "adamw"}, {"optimizer": "sgd"}])
def test_replicas_stay_bit_identical(options: dict[str, str]) -> None:
    members = [Replica("allreduce", SHAPES, {**options}) for _ in range(3)]

    for step in range(4):
        for slot, member in enumerate(members):
            member.method.accumulate(gradients_of(SHAPES, seed=10 * step + slot), 8)
        exchange(members, [0, 2] if step == 1 else [0, 1, 2], step=step)

    assert torch.equal(members[0].flat(), members[1].flat())
    assert torch.equal(members[0].flat(), members[2].flat())


def test_adamw_equals_that_of_torch() -> None:
    ours = Replica("allreduce", SHAPES, {"weight_decay": 0.3, "clip": 0.0}, lr=0.01)
    theirs = [p.clone().requires_grad_() for p in ours.parameters.values()]
    optimizer = torch.optim.AdamW(theirs, lr=0.01, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.3)

    for step in range(20):
        gradients = gradients_of(SHAPES, seed=step)
        for parameter, gradient in zip(theirs, gradients.values(), strict=True):
            parameter.grad = gradient
        optimizer.step()
        ours.method.accumulate(gradients, 8)
        exchange([ours], [0], step=step)

    expected = torch.cat([p.detach().flatten() for p in theirs])
    assert torch.allclose(ours.flat(), expected, rtol=1e-5, atol=1e-6)


def test_momentum_equals_that_of_torch() -> None:
    ours = _sgd(lr=0.01, momentum=0.9)
    theirs = [p.clone().requires_grad_() for p in ours.parameters.values()]
    optimizer = torch.optim.SGD(theirs, lr=0.01, momentum=0.9)

    for step in range(20):
        gradients = gradients_of(SHAPES, seed=step)
        for parameter, gradient in zip(theirs, gradients.values(), strict=True):
            parameter.grad = gradient
        optimizer.step()
        ours.method.accumulate(gradients, 8)
        exchange([ours], [0], step=step)

    expected = torch.cat([p.detach().flatten() for p in theirs])
    assert torch.allclose(ours.flat(), expected, rtol=1e-5, atol=1e-6)


def test_the_norm_is_clipped_after_averaging() -> None:
    members = [_sgd([(2,)], clip=1.0) for _ in range(2)]
    start = members[0].flat()
    members[0].method.accumulate({"p0": torch.tensor([100.0, 0.0])}, 1)
    members[1].method.accumulate({"p0": torch.tensor([-94.0, 8.0])}, 1)

    exchange(members, [0, 1], step=0)

    # The mean is (3, 4), its norm 5: clipped to (.6, .8).
    assert torch.allclose(members[0].flat(), start - torch.tensor([0.06, 0.08]))


def test_a_round_without_samples_moves_nothing() -> None:
    replica = _sgd()
    before = replica.flat()

    exchange([replica], [0], step=0)

    assert torch.equal(replica.flat(), before)


def test_encoding_changes_nothing_and_has_the_announced_length() -> None:
    replica = _sgd()
    replica.method.accumulate(gradients_of(SHAPES, seed=1), 8)

    assert replica.encode() == replica.encode()
    assert len(replica.encode()) == replica.method.payload_bytes_max() == 4 * (15 + 4 + 1 + 1)


def test_parts_reduced_apart_make_the_vector_reduced_whole() -> None:
    method = _sgd().method
    floats = [np.random.Generator(np.random.Philox(key=i)).standard_normal(20, dtype=np.float32) for i in range(5)]
    vectors = [vector.view(np.uint8) for vector in floats]

    whole = method.reduce(vectors, 0)
    parts = [method.reduce([v[:28] for v in vectors], 0), method.reduce([v[28:] for v in vectors], 7)]

    assert np.array_equal(whole, np.concatenate(parts))


def test_a_restored_replica_goes_on_bit_for_bit() -> None:
    one, other = Replica("allreduce", SHAPES, {}), Replica("allreduce", SHAPES, {})
    for step in range(3):
        one.method.accumulate(gradients_of(SHAPES, seed=step), 8)
        exchange([one], [0], step=step)
    one.method.accumulate(gradients_of(SHAPES, seed=5), 8)

    other.load_state(one)
    for replica in (one, other):
        exchange([replica], [0], step=3)

    assert torch.equal(one.flat(), other.flat())


def test_forgetting_drops_what_is_pending() -> None:
    replica = _sgd()
    replica.method.accumulate(gradients_of(SHAPES, seed=1), 8)

    replica.method.forget_local()

    assert not any(replica.encode())


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e31])
def test_an_unusable_gradient_is_refused_and_changes_nothing(bad: float) -> None:
    replica = _sgd([(2,)])

    with pytest.raises(BadGradient):
        replica.method.accumulate({"p0": torch.tensor([1.0, bad])}, 8)

    assert not any(replica.encode())


@pytest.mark.parametrize(
    "vector", [[1.0], [1.0, 2.0, 3.0, 4.0], [math.nan, 0.0, 1.0], [0.0, math.inf, 1.0], [0.0, 1e31, 1.0]]
)
def test_payloads_of_a_wrong_length_or_with_unusable_values_are_refused(vector: list[float]) -> None:
    with pytest.raises(BadPayload):
        _sgd([(2,)]).method.check(np.array(vector, "<f4").tobytes())


@pytest.mark.parametrize("count", [-1.0, 0.5, 2.0**25, math.nan])
def test_an_impossible_number_of_samples_is_refused(count: float) -> None:
    with pytest.raises(BadPayload):
        _sgd([(2,)]).method.check(np.array([0.0, 0.0, count], "<f4").tobytes())


def test_extreme_payloads_that_pass_the_check_leave_finite_parameters() -> None:
    replica = Replica("allreduce", [(2,)], {})
    payload = np.array([2.0**100, -(2.0**100), 0.0], "<f4").tobytes()
    replica.method.check(payload)
    total = reduced(replica.method, [payload] * 32)

    replica.method.combine([total], mine=None, step=0, slots=Slots.everybody(2))

    assert replica.flat().isfinite().all()
