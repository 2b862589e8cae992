"""Local steps, averaged parameters, and DiLoCo's outer step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gossamer.algorithms import BadGradient, BadOption, BadPayload, OptionValue, Schedule, Slots, build_method
from gossamer.algorithms.tiles import Shape

from .group import Replica, exchange, gradients_of, reduced

SHAPES: list[Shape] = [(4, 3), (5,), ()]
PLAIN_SGD: dict[str, OptionValue] = {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0}


def _work(member: Replica, seeds: list[int]) -> None:
    with member.method.working():
        for seed in seeds:
            member.method.accumulate(gradients_of(SHAPES, seed=seed), 8)


def _group(name: str, n: int, **options: OptionValue) -> list[Replica]:
    return [Replica(name, SHAPES, {**PLAIN_SGD, **options}) for _ in range(n)]


def test_h_1_with_plain_sgd_is_data_parallel_sgd() -> None:
    local = _group("local", 3, h=1)
    dense = _group("allreduce", 3)

    for step in range(20):
        for members in (local, dense):
            for slot, member in enumerate(members):
                _work(member, [10 * step + slot])
            exchange(members, [0, 1, 2], step=step)

    assert torch.allclose(local[0].flat(), dense[0].flat(), atol=1e-6)


def test_two_steps_on_a_line_can_be_done_by_hand() -> None:
    members = [Replica("local", [()], {**PLAIN_SGD, "h": 2}, lr=0.5) for _ in range(2)]
    start = float(members[0].parameters["p0"])

    for member, slope in zip(members, (1.0, 3.0), strict=True):
        with member.method.working():
            member.method.accumulate({"p0": torch.tensor(slope)}, 1)
            member.method.accumulate({"p0": torch.tensor(slope)}, 1)
    exchange(members, [0, 1], step=0)

    # They went down by .5 * (1 + 1) and .5 * (3 + 3): 2 on average.
    assert float(members[0].parameters["p0"]) == pytest.approx(start - 2.0)


def test_between_rounds_parameters_are_the_agreed_ones_bit_for_bit() -> None:
    (member,) = _group("local", 1, h=3)
    before = member.flat()

    _work(member, [1, 2, 3])

    assert torch.equal(member.flat(), before)
    assert member.method.local_state()["drift"].abs().max() > 0


def test_local_steps_go_on_where_the_last_ended_when_a_round_failed() -> None:
    failed, steady = _group("local", 2, h=4)

    _work(failed, [1, 2])
    _work(failed, [3, 4])
    _work(steady, [1, 2, 3, 4])
    for member in (failed, steady):
        exchange([member], [0], step=0)

    assert torch.allclose(failed.flat(), steady.flat(), atol=1e-6)


def test_who_was_left_out_keeps_its_steps_for_the_next_round() -> None:
    members = _group("local", 2, h=1)
    for slot, member in enumerate(members):
        _work(member, [slot])
    kept = members[1].method.local_state()["drift"].clone()

    exchange(members, [0], step=0)

    assert torch.equal(members[0].flat(), members[1].flat())
    assert torch.equal(members[1].method.local_state()["drift"], kept)
    assert members[0].method.local_state()["drift"].abs().max() == 0


def test_work_done_while_a_round_was_under_way_stays() -> None:
    (member,) = _group("local", 1, h=1)
    _work(member, [1])
    payload = member.encode()
    sent = member.method.local_state()["drift"].clone()
    with member.method.working():
        member.method.accumulate(gradients_of(SHAPES, seed=2), 8)
    later = member.method.local_state()["drift"] - sent

    exchanged = reduced(member.method, [payload])
    before = member.flat()
    member.method.combine([exchanged], mine=0, step=0, slots=Slots.everybody(1))

    assert torch.allclose(member.flat(), before + sent, atol=1e-6)
    assert torch.allclose(member.method.local_state()["drift"], later, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_diloco_with_rate_1_and_no_momentum_is_plain_averaging(optimizer: str) -> None:
    options: dict[str, OptionValue] = {"optimizer": optimizer, "h": 3}
    diloco = _group("diloco", 2, outer_lr=1.0, outer_momentum=0.0, **options)
    local = _group("local", 2, **options)

    for step in range(0, 12, 3):
        for members in (diloco, local):
            for slot, member in enumerate(members):
                _work(member, [100 * slot + step, 100 * slot + step + 1, 100 * slot + step + 2])
            exchange(members, [0, 1], step=step)

    assert torch.equal(diloco[0].flat(), local[0].flat())


def test_one_diloco_worker_with_those_settings_is_its_inner_optimizer() -> None:
    (diloco,) = _group("diloco", 1, h=4, outer_lr=1.0, outer_momentum=0.0, optimizer="adamw")
    (dense,) = _group("allreduce", 1, optimizer="adamw")

    for start in range(0, 16, 4):
        _work(diloco, list(range(start, start + 4)))
        exchange([diloco], [0], step=start)
        for step in range(start, start + 4):
            _work(dense, [step])
            exchange([dense], [0], step=step)

    assert torch.allclose(diloco.flat(), dense.flat(), atol=1e-5)


def test_the_outer_step_by_hand() -> None:
    (member,) = [Replica("diloco", [()], {**PLAIN_SGD, "h": 1, "outer_lr": 0.7, "outer_momentum": 0.9}, lr=1.0)]
    start = float(member.parameters["p0"])

    for step in range(2):
        with member.method.working():
            member.method.accumulate({"p0": torch.tensor(1.0)}, 1)
        exchange([member], [0], step=step)

    # D = 1 both times; v = 1, then 1.9; moves .7 (1 + .9) and .7 (1 + 1.71).
    assert float(member.parameters["p0"]) == pytest.approx(start - 0.7 * 1.9 - 0.7 * 2.71, abs=1e-5)


def test_the_inner_rate_follows_the_schedule_step_by_step() -> None:
    parameters = {"p0": torch.zeros(())}
    schedule = Schedule(lr=1.0, kind="linear", total_steps=4)
    method = build_method("local", parameters, {**PLAIN_SGD, "h": 4}, schedule)

    with method.working():
        for _ in range(4):
            method.accumulate({"p0": torch.tensor(1.0)}, 1)

    # 1 + 3/4 + 1/2 + 1/4
    assert float(method.local_state()["drift"]) == pytest.approx(-2.5)


def test_a_bad_gradient_changes_nothing() -> None:
    (member,) = _group("local", 1)
    before = member.flat()

    with pytest.raises(BadGradient), member.method.working():
        member.method.accumulate({"p1": torch.full((5,), float("nan"))}, 8)

    assert torch.equal(member.flat(), before)
    assert member.method.local_state()["drift"].abs().max() == 0


@pytest.mark.parametrize("spoil", [b"", b"\0" * 4, None])
def test_malformed_payloads_are_refused(spoil: bytes | None) -> None:
    (member,) = _group("local", 1)
    good = member.encode()
    two = np.frombuffer(good, "<f4").copy()
    two[-1] = 2

    with pytest.raises(BadPayload):
        member.method.check(two.tobytes() if spoil is None else good[:-4] + spoil * 2)


@pytest.mark.parametrize(("name", "value"), [("h", 0), ("rule", "cubic"), ("alpha", -1.0)])
def test_options_out_of_bounds_are_refused(name: str, value: OptionValue) -> None:
    with pytest.raises(BadOption, match=name):
        Replica("local", SHAPES, {name: value})
