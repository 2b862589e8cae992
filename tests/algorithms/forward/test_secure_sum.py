"""Secure aggregation: exact sums, dropouts, failing closed, and uploads that say nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.algorithms.errors import BadPayload
from gossamer.algorithms.forward.errors import BadCoordinate, TooFewContributions
from gossamer.algorithms.forward.secure_sum import PublicKeys, Reveal, SecureDevice, SumRound, unmask
from gossamer.algorithms.forward.shamir import PRIME, SHARE_BYTES, recover_secret, share_secret
from gossamer.algorithms.forward.sum_encoding import SumEncoding

from .devices import RUN_ID

U32 = npt.NDArray[np.uint32]
ROSTER = (0, 2, 3, 7, 9)


@dataclass
class Session:
    """A round up to the uploads."""

    terms: SumRound
    devices: dict[int, SecureDevice]
    peers: dict[int, PublicKeys]
    uploads: dict[int, U32]

    def reveals(self, survivors: Sequence[int]) -> dict[int, Reveal]:
        return {slot: self.devices[slot].reveal(survivors) for slot in survivors}

    def total(self, survivors: Sequence[int], reveals: dict[int, Reveal] | None = None) -> U32:
        uploads = {slot: self.uploads[slot] for slot in survivors}
        told = self.reveals(survivors) if reveals is None else reveals
        return unmask(uploads, self.terms.roster, self.peers, told, self.terms)


def _session(values: dict[int, U32], round_index: int = 5, threshold: int = 3) -> Session:
    terms = SumRound(run_id=RUN_ID, round_index=round_index, roster=tuple(sorted(values)), threshold=threshold)
    devices = {slot: SecureDevice(slot, terms, _entropy(slot, round_index)) for slot in terms.roster}
    peers = {slot: device.public for slot, device in devices.items()}
    sealed = {slot: device.share(peers) for slot, device in devices.items()}
    uploads = {
        slot: device.mask(values[slot], {sender: boxes[slot] for sender, boxes in sealed.items() if sender != slot})
        for slot, device in devices.items()
    }
    return Session(terms, devices, peers, uploads)


def _entropy(slot: int, round_index: int) -> bytes:
    return hashlib.sha256(b"entropy %d %d" % (slot, round_index)).digest()


def _values(n: int = 6) -> dict[int, U32]:
    rng = np.random.default_rng(0)
    return {slot: rng.integers(0, 2**32, n).astype(np.uint32) for slot in ROSTER}


def _sum(values: dict[int, U32], slots: Sequence[int]) -> U32:
    total = np.zeros_like(values[slots[0]])
    for slot in slots:
        total += values[slot]
    return total


@pytest.mark.parametrize("survivors", [ROSTER, (0, 2, 3, 7), (2, 7, 9), (0, 3, 9)])
def test_the_sum_over_the_survivors_is_exact(survivors: Sequence[int]) -> None:
    values = _values()

    total = _session(values).total(survivors)

    assert total.tolist() == _sum(values, survivors).tolist()


def test_answers_of_a_threshold_of_survivors_suffice() -> None:
    values = _values()
    session = _session(values)
    reveals = session.reveals((0, 2, 3, 7))
    del reveals[3]

    total = session.total((0, 2, 3, 7), reveals)

    assert total.tolist() == _sum(values, (0, 2, 3, 7)).tolist()


def test_below_the_threshold_nothing_is_revealed() -> None:
    session = _session(_values())
    reveals = session.reveals((0, 2, 3))
    del reveals[0]

    with pytest.raises(TooFewContributions):
        session.devices[7].reveal((0, 7))
    with pytest.raises(TooFewContributions):
        session.total((0, 2), {0: Reveal(), 2: Reveal(), 3: Reveal()})
    with pytest.raises(TooFewContributions):
        session.total((0, 2, 3), reveals)


def test_too_few_sealed_shares_keep_a_device_from_uploading() -> None:
    terms = SumRound(run_id=RUN_ID, round_index=0, roster=ROSTER, threshold=3)
    devices = {slot: SecureDevice(slot, terms, _entropy(slot, 0)) for slot in ROSTER}
    peers = {slot: device.public for slot, device in devices.items()}
    boxes = {slot: device.share(peers) for slot, device in devices.items()}

    with pytest.raises(TooFewContributions):
        devices[0].mask(np.zeros(4, np.uint32), {2: boxes[2][0]})
    with pytest.raises(TooFewContributions):
        SecureDevice(0, terms, bytes(32)).mask(np.zeros(4, np.uint32), {})


def test_the_gateway_is_answered_for_one_set_of_survivors_only() -> None:
    device = _session(_values()).devices[0]

    first = device.reveal((0, 2, 3))

    assert device.reveal((3, 2, 0)) == first
    with pytest.raises(BadPayload, match="other survivors"):
        device.reveal((0, 2, 3, 7))


def test_nobody_reveals_both_secrets_of_a_device() -> None:
    reveal = _session(_values()).devices[0].reveal((0, 2, 3))

    assert sorted(reveal.seeds) == [0, 2, 3]
    assert sorted(reveal.keys) == [7, 9]


@pytest.mark.parametrize("survivors", [(2, 3, 7), (0, 2, 3, 4)])
def test_strange_survivors_are_refused(survivors: tuple[int, ...]) -> None:
    with pytest.raises(BadPayload):
        _session(_values()).devices[0].reveal(survivors)


def test_a_share_that_was_changed_on_the_way_is_refused() -> None:
    terms = SumRound(run_id=RUN_ID, round_index=0, roster=ROSTER, threshold=3)
    devices = {slot: SecureDevice(slot, terms, _entropy(slot, 0)) for slot in ROSTER}
    peers = {slot: device.public for slot, device in devices.items()}
    boxes = {slot: device.share(peers) for slot, device in devices.items()}
    spoilt = bytearray(boxes[2][0])
    spoilt[5] ^= 1

    for sealed in ({2: bytes(spoilt)}, {2: boxes[2][3]}, {3: boxes[2][0]}, {4: boxes[2][0]}, {2: b""}):
        with pytest.raises(BadPayload):
            devices[0].mask(np.zeros(4, np.uint32), sealed)


@pytest.mark.parametrize("kind", ["seeds", "keys"])
def test_a_wrong_share_is_noticed_instead_of_a_wrong_sum(kind: str) -> None:
    session = _session(_values())
    reveals = session.reveals((0, 2, 3))
    wrong = {slot: bytes(SHARE_BYTES) for slot in getattr(reveals[0], kind)}
    reveals[0] = Reveal(**{"seeds": reveals[0].seeds, "keys": reveals[0].keys, kind: wrong})

    with pytest.raises(BadPayload):
        session.total((0, 2, 3), reveals)


def test_keys_of_another_roster_are_refused() -> None:
    terms = SumRound(run_id=RUN_ID, round_index=0, roster=ROSTER, threshold=3)
    devices = {slot: SecureDevice(slot, terms, _entropy(slot, 0)) for slot in ROSTER}
    peers = {slot: device.public for slot, device in devices.items()}

    for changed in (
        {slot: peers[slot] for slot in ROSTER[:-1]},
        {**peers, 4: peers[0]},
        {**peers, 0: peers[2]},
    ):
        with pytest.raises(TooFewContributions):
            devices[0].share(changed)
    zero_key = PublicKeys(channel=bytes(32), mask=bytes(32), seed_digest=bytes(32))
    with pytest.raises(BadPayload, match="no X25519 key"):
        devices[0].share({**peers, 9: zero_key})


@pytest.mark.parametrize(
    ("roster", "threshold"), [(ROSTER, 2), (ROSTER, 6), ((), 1), ((2, 1), 2), ((1, 1), 2), ((-1, 0), 2), ((2**16,), 1)]
)
def test_unsound_terms_are_refused(roster: tuple[int, ...], threshold: int) -> None:
    with pytest.raises(BadCoordinate):
        SumRound(run_id=RUN_ID, round_index=0, roster=roster, threshold=threshold)


def test_a_single_upload_looks_uniform() -> None:
    """Chi-squared on the bytes of one device's upload of zeros, and no correlation between two rounds of it."""
    zeros = {slot: np.zeros(16_384, np.uint32) for slot in ROSTER}
    first, second = (_session(zeros, round_index).uploads[3] for round_index in (5, 6))

    counts = np.bincount(first.view(np.uint8), minlength=256)
    chi_squared = float(((counts - 256.0) ** 2 / 256).sum())
    agreeing_bits = np.unpackbits((first ^ second).view(np.uint8)).mean()

    # 255 degrees of freedom: within 5 standard deviations of sqrt(510).
    assert abs(chi_squared - 255) < 5 * 510**0.5
    assert abs(agreeing_bits - 0.5) < 5 * 0.5 / (32 * 16_384) ** 0.5


def test_values_do_not_show_in_an_upload() -> None:
    """The upload of x less x is the upload of zeros: masks do not depend on values."""
    values = _values(64)
    zeros = {slot: np.zeros(64, np.uint32) for slot in ROSTER}

    loud, quiet = _session(values).uploads[2], _session(zeros).uploads[2]

    assert (loud - values[2]).tolist() == quiet.tolist()
    assert abs(np.corrcoef(loud.astype(float), values[2].astype(float))[0, 1]) < 0.5


def test_the_fields_modulus_is_prime() -> None:
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1

    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        x = pow(base, odd, PRIME)
        assert x in (1, PRIME - 1) or any((x := x * x % PRIME) == PRIME - 1 for _ in range(twos - 1))


@given(st.binary(min_size=32, max_size=32), st.data())
def test_any_threshold_of_shares_gives_the_secret_back(secret: bytes, data: st.DataObject) -> None:
    coefficients = data.draw(st.lists(st.integers(0, PRIME - 1), min_size=2, max_size=2))
    chosen = data.draw(st.lists(st.sampled_from(ROSTER), min_size=3, max_size=3, unique=True))

    shares = share_secret(secret, ROSTER, coefficients)

    assert recover_secret({slot: shares[slot] for slot in chosen}, 3) == secret
    with pytest.raises(TooFewContributions):
        recover_secret({slot: shares[slot] for slot in chosen[:2]}, 3)


def test_two_of_three_shares_fit_every_secret() -> None:
    """Perfect secrecy: given two shares, each secret has the one polynomial that leads to it."""
    shares = share_secret(b"\x01" * 32, (0, 1, 2), [5, 7])
    x1, y1, x2, y2 = 1, int.from_bytes(shares[0], "little"), 2, int.from_bytes(shares[1], "little")
    other = int.from_bytes(b"\x02" * 32, "little")

    # Solve other + a x + b x^2 = y at both points.
    b = ((y2 - other) * x1 - (y1 - other) * x2) * pow(x1 * x2 * (x2 - x1), -1, PRIME) % PRIME
    a = ((y1 - other) * pow(x1, -1, PRIME) - b * x1) % PRIME
    again = share_secret(b"\x02" * 32, (0, 1, 2), [a, b])

    assert [again[0], again[1]] == [shares[0], shares[1]]
    assert again[2] != shares[2]


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.floats(0.01, 50))
def test_encoded_values_sum_without_overflow(values: list[float], bound: float) -> None:
    encoding = SumEncoding(bound=bound, n_devices=len(values))

    total = np.zeros(1, np.uint32)
    for value in values:
        total += encoding.encode(np.array([value]))

    clipped = np.clip(values, -bound, bound)
    error_max = len(values) * 0.5 * 2.0**-encoding.fraction_bits
    assert abs(encoding.decode(total)[0] - clipped.sum()) <= error_max * 1.001


def test_a_full_house_of_extremes_fits() -> None:
    encoding = SumEncoding(bound=0.3, n_devices=2**16)

    total = (encoding.encode(np.array([0.3])).astype(np.uint64) * 2**16).astype(np.uint32)

    assert encoding.decode(total)[0] == pytest.approx(0.3 * 2**16, rel=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_not_encoded(bad: float) -> None:
    with pytest.raises(BadCoordinate):
        SumEncoding(bound=1.0, n_devices=3).encode(np.array([0.0, bad]))
