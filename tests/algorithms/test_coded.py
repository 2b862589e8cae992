"""Averaging of gradients with redundant work."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from gossamer.algorithms import BadOption, BadPayload, OptionValue, Slots, TooFewContributions, check_options
from gossamer.algorithms.gradient_coding import subgroups
from gossamer.algorithms.tiles import Shape

from .group import Replica, exchange, gradients_of

SHAPES: list[Shape] = [(3, 2), (2,)]
PLAIN: dict[str, OptionValue] = {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0}


def _replica(**options: OptionValue) -> Replica:
    return Replica("coded", SHAPES, {**PLAIN, **options})


def _worked(n: int, seed: int = 0, **options: OptionValue) -> list[Replica]:
    """A group whose members have all done their share of a round's work."""
    members = [_replica(**options) for _ in range(n)]
    for slot, member in enumerate(members):
        _work(member, slot, n, seed)
    return members


def _work(member: Replica, slot: int, n: int, seed: int = 0) -> None:
    shares = member.method.shares(slot, n)
    with member.method.working():
        for share in shares:
            member.method.accumulate(gradients_of(SHAPES, seed=100 * seed + share), 8)


def _survivors(n: int, n_missing: int) -> list[tuple[int, ...]]:
    return [s for missing in range(n_missing + 1) for s in itertools.combinations(range(n), n - missing)]


def _mean_gradient(n: int) -> torch.Tensor:
    return torch.stack([_flat(gradients_of(SHAPES, seed=share)) for share in range(n)]).mean(0)


def _flat(tensors: Mapping[str, torch.Tensor | None]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values() if tensor is not None])


@pytest.mark.parametrize(("n", "s"), [(2, 1), (4, 1), (5, 1), (6, 2), (7, 2), (8, 3), (2, 3), (1, 1)])
def test_repetition_decodes_the_same_bits_whoever_straggles(n: int, s: int) -> None:
    members = _worked(n, n_stragglers=s)
    payloads = [member.encode() for member in members]
    ends = []

    for survivors in _survivors(n, min(s, n - 1)):
        observer = _replica(n_stragglers=s)
        slots = Slots(contributors=survivors, n_members=n)
        assert observer.method.suffices(slots)
        observer.method.combine([payloads[i] for i in survivors], mine=None, step=0, slots=slots)
        ends.append(observer.flat())

    assert all(torch.equal(end, ends[0]) for end in ends)
    assert torch.allclose(ends[0], _replica().flat() - 0.1 * _mean_gradient(n), atol=1e-6)


@pytest.mark.parametrize("n", [4, 5, 7])
def test_cyclic_decodes_the_same_up_to_rounding_whoever_straggles(n: int) -> None:
    members = _worked(n, n_stragglers=2, code="cyclic")
    payloads = [member.encode() for member in members]
    expected = _replica().flat() - 0.1 * _mean_gradient(n)

    for survivors in _survivors(n, 2):
        observer = _replica(n_stragglers=2, code="cyclic")
        slots = Slots(contributors=survivors, n_members=n)
        observer.method.combine([payloads[i] for i in survivors], mine=None, step=0, slots=slots)
        assert torch.allclose(observer.flat(), expected, atol=1e-5)


@pytest.mark.parametrize("code", ["repetition", "cyclic"])
@pytest.mark.parametrize(("n", "s"), [(4, 1), (6, 2)])
def test_one_straggler_too_many_is_noticed_and_changes_nothing(n: int, s: int, code: str) -> None:
    members = _worked(n, n_stragglers=s, code=code)
    payloads = [member.encode() for member in members]
    observer = members[0]
    before = observer.flat()

    for survivors in itertools.combinations(range(n), n - s - 1):
        slots = Slots(contributors=survivors, n_members=n)
        one_gone = any(not set(group) & set(survivors) for group in subgroups(n, s))
        assert observer.method.suffices(slots) is not (one_gone or code == "cyclic")
        if one_gone or code == "cyclic":
            with pytest.raises(TooFewContributions):
                observer.method.combine([payloads[i] for i in survivors], mine=0, step=0, slots=slots)

    assert torch.equal(observer.flat(), before)
    assert observer.encode() == payloads[0]


def test_a_round_retires_the_work_of_stragglers_too() -> None:
    members = _worked(4)

    exchange(members, [0, 2], step=0)
    for slot, member in enumerate(members):
        _work(member, slot, 4, seed=1)

    assert members[0].encode() == members[1].encode()
    assert all(torch.equal(member.flat(), members[0].flat()) for member in members)


def test_work_of_a_failed_round_is_not_mixed_into_the_next() -> None:
    steady, hasty = _worked(4)[:2]

    _work(steady, 0, 4, seed=5)
    _work(hasty, 1, 4, seed=6)
    _work(hasty, 1, 4, seed=5)

    assert steady.encode() == hasty.encode()


def test_work_done_for_another_roster_does_not_count() -> None:
    members = _worked(4)
    stale, slots = _worked(6)[1], Slots(contributors=(0, 1, 2), n_members=4)
    payloads = [members[0].encode(), stale.encode(), members[2].encode()]

    assert members[3].method.combine(payloads, mine=None, step=0, slots=slots) == (1,)
    with pytest.raises(TooFewContributions, match="slots 0 to 1"):
        members[3].method.combine(payloads[1:], mine=None, step=1, slots=Slots(contributors=(1, 2), n_members=4))


def test_a_liar_is_outvoted_by_those_that_did_the_same_work() -> None:
    members, honest = _worked(6, n_stragglers=2), _worked(6, n_stragglers=2)
    members[0].method.local_state()["pending"][:-3] *= -1000

    assert exchange(members, range(6), step=0) == (0,)
    exchange(honest, range(6), step=0)

    assert torch.equal(members[5].flat(), honest[5].flat())


def test_an_update_is_made_of_the_samples_of_all_members() -> None:
    assert _replica().method.n_shares(Slots(contributors=(0, 2), n_members=4)) == 4


def test_a_restored_replica_goes_on_bit_for_bit() -> None:
    members = _worked(4)
    other = _replica()

    other.load_state(members[1])
    exchange([members[0], other, *members[2:]], range(4), step=0)

    assert torch.equal(other.flat(), members[0].flat())


def _payload(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


@pytest.mark.parametrize(
    "numbers",
    [
        [0.0] * 10,
        [0.0] * 12,
        [math.nan, *[0.0] * 10],
        [1e31, *[0.0] * 10],
        [*[0.0] * 8, 1.5, 4.0, 0.0],
        [*[0.0] * 8, 8.0, -4.0, 0.0],
        [*[0.0] * 8, 8.0, 4.0, 2.0**25],
    ],
)
def test_malformed_payloads_are_refused(numbers: Sequence[float]) -> None:
    with pytest.raises(BadPayload):
        _replica().method.check(_payload(*numbers))


@pytest.mark.parametrize("options", [{"n_stragglers": 0}, {"n_stragglers": 16}, {"code": "magic"}])
def test_options_out_of_bounds_are_refused(options: dict[str, OptionValue]) -> None:
    with pytest.raises(BadOption):
        check_options("coded", options)
