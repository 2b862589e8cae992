"""Robust rules at work in methods."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gossamer.algorithms import (
    BadOption,
    BadPayload,
    Exchange,
    OptionValue,
    Slots,
    TooFewContributions,
    check_members,
    check_options,
)
from gossamer.algorithms.robust import DENSE_RULES
from gossamer.algorithms.tiles import Shape

from ..group import Replica, exchange, gradients_of

SHAPES: list[Shape] = [(5, 3), (4,), ()]
PLAIN: dict[str, OptionValue] = {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0}


def _dense(shapes: list[Shape] = SHAPES, **options: OptionValue) -> Replica:
    return Replica("allreduce", shapes, {**PLAIN, **options})


@pytest.mark.parametrize("rule", DENSE_RULES)
def test_replicas_stay_bit_identical(rule: str) -> None:
    members = [_dense(aggregate=rule) for _ in range(6)]

    for step in range(3):
        for slot, member in enumerate(members):
            member.method.accumulate(gradients_of(SHAPES, seed=10 * step + slot), 8)
        exchange(members, [0, 1, 2, 3, 5] if step == 1 else range(6), step=step)

    assert all(torch.equal(member.flat(), members[0].flat()) for member in members)
    assert not torch.equal(members[0].flat(), _dense().flat())


@pytest.mark.parametrize("rule", ["trimmed", "median"])
def test_reducing_part_by_part_gives_the_same_bits_as_gathering(rule: str) -> None:
    ends = []
    for way in ("reduce", "gather"):
        members = [_dense(aggregate=rule, exchange=way) for _ in range(4)]
        for slot, member in enumerate(members):
            member.method.accumulate(gradients_of(SHAPES, seed=slot), 8)
        exchange(members, range(4), step=0)
        ends.append(members[0].flat())

    assert torch.equal(ends[0], ends[1])


def test_claiming_many_samples_buys_no_weight() -> None:
    members = [_dense([(1,)], aggregate="median") for _ in range(3)]
    start = members[0].flat()
    for member, (gradient, n_samples) in zip(members, [(1.0, 8), (2.0, 8), (1000.0, 10_000)], strict=True):
        member.method.accumulate({"p0": torch.tensor([gradient])}, n_samples)

    exchange(members, range(3), step=0)

    assert members[0].flat() == pytest.approx(start - 0.1 * 2.0)


def test_work_of_a_round_that_left_us_out_is_averaged_in_later() -> None:
    members = [_dense([(1,)], aggregate="trimmed") for _ in range(4)]
    for member in members:
        member.method.accumulate({"p0": torch.tensor([1.0])}, 1)
    exchange(members, [0, 1, 2], step=0)

    members[3].method.accumulate({"p0": torch.tensor([4.0])}, 2)

    assert np.frombuffer(members[3].encode(), np.float32).tolist() == [3.0]


def test_the_last_result_is_shared_state_of_centered_clipping_only() -> None:
    members = [_dense([(2,)], aggregate="centered") for _ in range(3)]
    for member in members:
        member.method.accumulate({"p0": torch.tensor([3.0, 4.0])}, 8)

    exchange(members, range(3), step=0)

    assert members[1].method.shared_state()["reference"].tolist() == [3.0, 4.0]
    assert "reference" not in _dense().method.shared_state()


@pytest.mark.parametrize(("rule", "n"), [("trimmed", 2), ("median", 2), ("krum", 4), ("centered", 2)])
@pytest.mark.parametrize("n_liars", [1, 2])
def test_too_few_contributions_change_nothing(rule: str, n: int, n_liars: int) -> None:
    member = _dense([(2,)], aggregate=rule, n_liars=n_liars)
    n += 2 * (n_liars - 1)
    member.method.accumulate({"p0": torch.tensor([3.0, 4.0])}, 8)
    before, payload = member.flat(), member.encode()

    assert not member.method.suffices(Slots.everybody(n))
    with pytest.raises(TooFewContributions, match=f"needs {n + 1}"):
        member.method.combine([payload] * n, mine=0, step=0, slots=Slots.everybody(n))

    assert torch.equal(member.flat(), before)
    assert member.encode() == payload


def test_a_reducer_with_too_few_parts_does_not_fail() -> None:
    method = _dense([(2,)], aggregate="trimmed", exchange="reduce").method

    assert not any(method.reduce([np.ones(2, np.float32).view(np.uint8)] * 2, 0))


@pytest.mark.parametrize("bad", [[1.0], [1.0, math.nan], [1e31, 0.0], [1.0, 2.0, 3.0]])
def test_bad_vectors_are_refused(bad: list[float]) -> None:
    with pytest.raises(BadPayload):
        _dense([(2,)], aggregate="krum").method.check(np.array(bad, "<f4").tobytes())


def test_who_was_dropped_is_told() -> None:
    members = [Replica("demo", [(8, 8)], {"tile": 8, "k": 16, "combine": "reject"}) for _ in range(5)]
    gradients = gradients_of([(8, 8)], seed=1)["p0"]
    assert gradients is not None
    for slot, member in enumerate(members):
        member.method.accumulate({"p0": -gradients if slot == 3 else gradients}, 8)

    assert exchange(members, range(5), step=0) == (3,)
    assert all(torch.equal(member.flat(), members[0].flat()) for member in members)


def test_one_liar_cannot_turn_a_vote() -> None:
    members = [Replica("demo", [(8, 8)], {"tile": 8, "k": 16, "combine": "vote"}) for _ in range(3)]
    honest = Replica("demo", [(8, 8)], {"tile": 8, "k": 16, "combine": "vote"})
    gradients = gradients_of([(8, 8)], seed=1)["p0"]
    assert gradients is not None
    for member, scale in zip([*members, honest], (1.0, -1e6, 1.0, 1.0), strict=True):
        member.method.accumulate({"p0": gradients * scale}, 8)

    exchange(members, range(3), step=0)
    exchange([honest], [0], step=0)

    assert torch.equal(members[0].flat(), honest.flat())


@pytest.mark.parametrize("rule", ["trimmed", "median", "krum", "multikrum", "centered", "clip"])
def test_dense_rules_on_sparse_contributions_are_refused_with_the_reason(rule: str) -> None:
    with pytest.raises(BadOption, match=r"sparse contributions: (peers|what|of) .*; choose one of normclip"):
        check_options("demo", {"combine": rule})


@pytest.mark.parametrize("rule", ["reject", "vote", "normclip", "senders"])
def test_sparse_rules_on_dense_contributions_are_refused_with_the_reason(rule: str) -> None:
    with pytest.raises(BadOption, match="for sparse contributions; choose mean or one of trimmed"):
        check_options("allreduce", {"aggregate": rule})


@pytest.mark.parametrize("rule", ["krum", "multikrum", "clip", "centered"])
def test_rules_that_need_whole_vectors_are_not_reduced_in_parts(rule: str) -> None:
    assert _dense(aggregate=rule).method.exchange is Exchange.GATHER
    with pytest.raises(BadOption, match="whole vectors"):
        check_options("allreduce", {"aggregate": rule, "exchange": "reduce"})


@pytest.mark.parametrize(
    "options",
    [{"n_liars": 0}, {"n_liars": 16}, {"radius": -1.0}, {"repeats": 0}, {"exchange": "x"}, {"aggregate": "x"}],
)
def test_options_out_of_bounds_are_refused(options: dict[str, OptionValue]) -> None:
    with pytest.raises(BadOption):
        check_options("allreduce", options)


def test_the_mean_is_not_gathered() -> None:
    with pytest.raises(BadOption, match="leave it out"):
        check_options("allreduce", {"exchange": "gather"})


@pytest.mark.parametrize(("options", "least"), [({}, 1), ({"aggregate": "median"}, 3), ({"aggregate": "krum"}, 5)])
def test_a_rule_that_needs_more_peers_than_start_is_refused_with_their_number(
    options: dict[str, OptionValue], least: int
) -> None:
    check_members("allreduce", options, least)
    if least > 1:
        with pytest.raises(BadOption, match=f"starts with {least - 1} peers.* needs at least {least}$"):
            check_members("allreduce", options, least - 1)
