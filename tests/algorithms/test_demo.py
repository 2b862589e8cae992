"""DeMo: the checks of its definition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from gossamer.algorithms import BadGradient, BadPayload, Slots, dct
from gossamer.algorithms.payload import PayloadFormat
from gossamer.algorithms.tiles import Shape, Tiling

from .group import Replica, exchange, gradients_of

SHAPES: list[Shape] = [(130, 67), (7,), (), (0, 5), (64, 64), (6, 3, 5, 5), (97, 1)]
BITS = [1, 8, 32]


def _replica(shapes: Sequence[Shape] = SHAPES, **options: float | str) -> Replica:
    return Replica("demo", shapes, {"beta": 0.9, "clip": 0.0, **options})


def _momentum(replica: Replica) -> torch.Tensor:
    return replica.method.local_state()["momentum"]


def _plain_momentum(replica: Replica, shapes: Sequence[Shape]) -> torch.Tensor:
    """The momentum outside of the DCT domain, as one flat vector in the order of the parameters."""
    tiling = Tiling(shapes, 64)
    matrices = dct.inverse(_momentum(replica).numpy(), tiling)
    return torch.cat([torch.from_numpy(matrix).flatten() for matrix in matrices])


def _flat(gradients: dict[str, torch.Tensor | None]) -> torch.Tensor:
    return torch.cat([g.flatten() for g in gradients.values() if g is not None])


@pytest.mark.parametrize("value_bits", BITS)
def test_what_was_sent_and_what_stayed_add_up_to_the_plain_momentum(value_bits: int) -> None:
    replica = _replica(value_bits=value_bits)
    tiling = Tiling(SHAPES, 64)
    form = PayloadFormat(tiling, size=64, k=32, value_bits=value_bits)
    before = torch.zeros_like(replica.flat())
    for step in range(4):
        gradients = gradients_of(SHAPES, seed=step)
        replica.method.accumulate(gradients, 8)
        in_dct_domain = _momentum(replica).numpy().copy()
        sent = form.decode(replica.encode())

        exchange([replica], [0], step=step)

        # 1 bit: the kept coefficients leave entirely; else what the others decoded.
        removed = np.zeros_like(in_dct_domain)
        removed[sent.positions] = in_dct_domain[sent.positions] if value_bits == 1 else sent.values
        parts = [torch.from_numpy(m).flatten() for m in dct.inverse(removed, tiling)]
        expected = 0.9 * before + 0.1 * _flat(gradients)
        after = _plain_momentum(replica, SHAPES)
        assert (after + torch.cat(parts) - expected).norm() <= 1e-6 * expected.norm()
        before = after


def test_everything_sent_by_one_worker_is_sign_sgd_and_leaves_nothing() -> None:
    replica = _replica(k=4096, value_bits=32)
    before, gradients = replica.flat(), gradients_of(SHAPES, seed=1)

    replica.method.accumulate(gradients, 8)
    exchange([replica], [0], step=0)

    assert torch.count_nonzero(_momentum(replica)) == 0
    assert torch.equal(replica.flat(), before - 0.1 * _flat(gradients).sign())


@pytest.mark.parametrize("value_bits", BITS)
@pytest.mark.parametrize("combine", ["normclip", "senders"])
def test_replicas_stay_bit_identical(value_bits: int, combine: str) -> None:
    members = [_replica(value_bits=value_bits, combine=combine) for _ in range(3)]

    for step in range(3):
        for slot, member in enumerate(members):
            member.method.accumulate(gradients_of(SHAPES, seed=10 * step + slot), 8)
        exchange(members, [0, 1, 2] if step != 1 else [0, 2], step=step)

    assert torch.equal(members[0].flat(), members[1].flat())
    assert torch.equal(members[0].flat(), members[2].flat())
    assert not torch.equal(members[0].flat(), _replica().flat())


def test_whoever_applies_the_same_roster_gets_the_same_bits_whatever_arrived_first() -> None:
    senders = [_replica() for _ in range(4)]
    for slot, sender in enumerate(senders):
        sender.method.accumulate(gradients_of(SHAPES, seed=slot), 8)
    payloads = {slot: sender.encode() for slot, sender in enumerate(senders)}
    results = []

    for arrival in ([0, 1, 2, 3], [3, 1, 0, 2]):
        observer = _replica()
        held = {slot: payloads[slot] for slot in arrival}
        observer.method.combine(
            [held[slot] for slot in sorted(held)], mine=None, step=0, slots=Slots.everybody(len(held))
        )
        results.append(observer.flat())

    assert torch.equal(results[0], results[1])


def test_encoding_changes_nothing_and_repeats_itself() -> None:
    replica = _replica()
    replica.method.accumulate(gradients_of(SHAPES, seed=1), 8)
    before = _momentum(replica).clone()

    assert replica.encode() == replica.encode()
    assert torch.equal(_momentum(replica), before)


def test_who_is_left_out_keeps_its_work_and_sends_it_later() -> None:
    members = [_replica(value_bits=32) for _ in range(2)]
    for slot, member in enumerate(members):
        member.method.accumulate(gradients_of(SHAPES, seed=slot), 8)
    before, payload = _momentum(members[1]).clone(), members[1].encode()

    exchange(members, [0], step=0)

    assert torch.equal(_momentum(members[1]), before)
    assert members[1].encode() == payload
    assert _momentum(members[0]).norm() < before.norm()


def test_missing_gradients_count_as_zeros() -> None:
    shapes: list[Shape] = [(64, 64), (7,), (3,), ()]
    zeros, missing = _replica(shapes), _replica(shapes)
    gradients = gradients_of(shapes, seed=1)
    gradients["p0"], gradients["p1"] = torch.zeros(64, 64), torch.zeros(7)
    zeros.method.accumulate(gradients, 8)
    still = missing.parameters["p0"].clone()

    missing.method.accumulate({"p0": None, "p2": gradients["p2"], "p3": gradients["p3"]}, 8)

    assert missing.encode() == zeros.encode()
    exchange([missing], [0], step=0)
    assert torch.equal(missing.parameters["p0"], still)


def test_the_local_gradient_is_clipped_if_asked() -> None:
    clipped, scaled = _replica(clip=1.0), _replica()
    gradients = gradients_of(SHAPES, seed=1)
    norm = _flat(gradients).norm()

    clipped.method.accumulate(gradients, 8)
    scaled.method.accumulate({name: None if g is None else g / norm for name, g in gradients.items()}, 8)

    assert torch.allclose(_momentum(clipped), _momentum(scaled), rtol=1e-5, atol=1e-9)


def test_weight_decay_shrinks_even_what_no_gradient_reaches() -> None:
    replica = _replica([(4,)], weight_decay=0.5)
    before = replica.flat()

    exchange([replica], [0], step=0)

    assert torch.allclose(replica.flat(), before * (1 - 0.1 * 0.5))


def test_a_liar_moves_no_more_than_the_median_norm_allows() -> None:
    shapes: list[Shape] = [(64, 64)]
    honest = gradients_of(shapes, seed=1)
    liar = {"p0": torch.full((64, 64), 1e20)}
    with_liar = [_replica(shapes, k=4096, value_bits=32) for _ in range(4)]
    for member in with_liar[:3]:
        member.method.accumulate(honest, 8)
    with_liar[3].method.accumulate(dict(liar), 8)
    before = with_liar[0].flat()

    exchange(with_liar, [0, 1, 2, 3], step=0)

    moved_as_honest = (before - with_liar[0].flat()).sign() == _flat(honest).sign()
    assert moved_as_honest.float().mean() > 0.8


def test_a_restored_replica_goes_on_bit_for_bit() -> None:
    one, other = _replica(), _replica()
    for step in range(3):
        one.method.accumulate(gradients_of(SHAPES, seed=step), 8)
        exchange([one], [0], step=step)
    one.method.accumulate(gradients_of(SHAPES, seed=5), 8)

    other.load_state(one)
    for replica in (one, other):
        exchange([replica], [0], step=3)
        replica.method.accumulate(gradients_of(SHAPES, seed=6), 8)

    assert torch.equal(one.flat(), other.flat())
    assert one.encode() == other.encode()


def test_forgetting_drops_the_momentum_only() -> None:
    replica = _replica()
    replica.method.accumulate(gradients_of(SHAPES, seed=1), 8)
    before = replica.flat()

    replica.method.forget_local()

    assert torch.count_nonzero(_momentum(replica)) == 0
    assert torch.equal(replica.flat(), before)


def test_a_gradient_that_is_not_finite_is_refused_and_changes_nothing() -> None:
    replica = _replica([(3,)])

    with pytest.raises(BadGradient):
        replica.method.accumulate({"p0": torch.tensor([1.0, float("nan"), 0.0])}, 8)

    assert torch.count_nonzero(_momentum(replica)) == 0


def test_a_gradient_of_the_wrong_name_or_shape_is_refused() -> None:
    replica = _replica([(3,)])

    with pytest.raises(ValueError, match="no parameter"):
        replica.method.accumulate({"q": torch.zeros(3)}, 8)
    with pytest.raises(ValueError, match="shape"):
        replica.method.accumulate({"p0": torch.zeros(4)}, 8)


def test_a_payload_for_another_model_or_options_is_refused() -> None:
    replica = _replica()
    strangers = [_replica(SHAPES[:-1]), _replica(value_bits=32), _replica(k=33), _replica([(8, 8)])]

    for stranger in strangers:
        stranger.method.accumulate(gradients_of([tuple(p.shape) for p in stranger.parameters.values()], seed=1), 8)
        with pytest.raises(BadPayload):
            replica.method.check(stranger.encode())


def test_no_honest_payload_is_longer_than_announced() -> None:
    for value_bits in BITS:
        replica = _replica(value_bits=value_bits)
        assert len(replica.encode()) <= replica.method.payload_bytes_max()

        replica.method.accumulate(gradients_of(SHAPES, seed=1), 8)

        assert len(replica.encode()) == replica.method.payload_bytes_max()


def test_momentum_in_the_dct_domain_equals_the_plain_form_over_many_steps() -> None:
    shapes: list[Shape] = [(70, 66), (9,)]
    replica, tiling = _replica(shapes, value_bits=32), Tiling(shapes, 64)
    form = PayloadFormat(tiling, size=64, k=32, value_bits=32)
    plain = torch.zeros_like(replica.flat())

    for step in range(300):
        gradients = gradients_of(shapes, seed=step)
        replica.method.accumulate(gradients, 8)
        plain = 0.9 * plain + 0.1 * _flat(gradients)
        views = [plain[: 70 * 66].numpy(), plain[70 * 66 :].numpy()]
        coefficients = dct.forward(views, tiling)
        sent = form.decode(form.encode(coefficients))
        removed = np.zeros_like(coefficients)
        removed[sent.positions] = sent.values
        plain -= torch.cat([torch.from_numpy(m).flatten() for m in dct.inverse(removed, tiling)])
        exchange([replica], [0], step=step)

    assert (_plain_momentum(replica, shapes) - plain).norm() <= 5e-6 * plain.norm()
