"""SparseLoCo: sparse pseudo-gradients, error feedback, two bits a value."""

from __future__ import annotations

import pytest
import torch

from gossamer.algorithms import BadOption, BadPayload, OptionValue
from gossamer.algorithms.tiles import Shape

from .group import Replica, exchange, gradients_of

SHAPES: list[Shape] = [(70, 66), (5,), ()]
PLAIN_SGD: dict[str, OptionValue] = {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0, "h": 2}


def _work(member: Replica, seeds: list[int]) -> None:
    with member.method.working():
        for seed in seeds:
            member.method.accumulate(gradients_of(SHAPES, seed=seed), 8)


def test_sending_everything_in_full_is_plain_averaging() -> None:
    everything: dict[str, OptionValue] = {**PLAIN_SGD, "k": 4096, "value_bits": 32, "decay": 0.95}
    sparse = [Replica("sparseloco", SHAPES, everything) for _ in range(2)]
    local = [Replica("local", SHAPES, PLAIN_SGD) for _ in range(2)]

    for step in range(0, 8, 2):
        for members in (sparse, local):
            for slot, member in enumerate(members):
                _work(member, [100 * slot + step, 100 * slot + step + 1])
            exchange(members, [0, 1], step=step)

    assert torch.allclose(sparse[0].flat(), local[0].flat(), atol=1e-6)
    assert torch.equal(sparse[0].flat(), sparse[1].flat())


@pytest.mark.parametrize("value_bits", [2, 8, 32])
def test_what_was_not_sent_is_remembered(value_bits: int) -> None:
    member = Replica("sparseloco", SHAPES, {**PLAIN_SGD, "k": 64, "value_bits": value_bits, "outer_lr": 1.0})
    _work(member, [1, 2])
    drift = member.method.local_state()["drift"].clone()
    before = member.flat()

    exchange([member], [0], step=0)

    moved, kept = member.flat() - before, member.method.local_state()["error"]
    # In another order, so compare what does not depend on it: all that was done is either moved or kept.
    assert float(moved.sum() + kept.sum()) == pytest.approx(float(drift.sum()), abs=1e-3)
    assert 0 < int((moved != 0).sum()) < 0.05 * len(drift)
    assert torch.count_nonzero(member.method.local_state()["drift"]) == 0


def test_error_feedback_decays_once_a_round_that_counted() -> None:
    members = [Replica("sparseloco", SHAPES, {**PLAIN_SGD, "decay": 0.5}) for _ in range(2)]
    for slot, member in enumerate(members):
        _work(member, [slot, slot + 10])
    exchange(members, [0, 1], step=0)
    error = members[1].method.local_state()["error"].clone()

    exchange(members, [0], step=2)
    left_out = members[1].method.local_state()["error"].clone()
    exchange(members, [0, 1], step=4)

    assert torch.equal(left_out, error)
    assert float(members[1].method.local_state()["error"].norm()) < float(error.norm())


def test_two_bits_cost_less_than_a_fiftieth_of_a_byte_per_parameter_and_step() -> None:
    member = Replica("sparseloco", [(640, 640)], {"h": 30})

    assert member.method.payload_bytes_max() / (640 * 640) < 0.03
    assert member.method.payload_bytes_max() / (640 * 640) / 30 < 0.001


def test_equal_state_gives_equal_bytes_and_a_truncated_payload_is_refused() -> None:
    member = Replica("sparseloco", SHAPES, PLAIN_SGD)
    _work(member, [1])

    assert member.encode() == member.encode()
    with pytest.raises(BadPayload):
        member.method.check(member.encode()[:-1])


@pytest.mark.parametrize(("name", "value"), [("k", 0), ("value_bits", 3), ("decay", 1.5), ("outer_lr", 0.0)])
def test_options_out_of_bounds_are_refused(name: str, value: OptionValue) -> None:
    with pytest.raises(BadOption, match=name):
        Replica("sparseloco", SHAPES, {name: value})
