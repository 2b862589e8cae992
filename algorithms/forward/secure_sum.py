"""Secure aggregation: the gateway learns the sum of all devices' integers and nothing of any single one.

After Bonawitz et al. 2017 (CCS, "Practical secure aggregation"), against a gateway that is curious but follows the
protocol (devices answer once, to one list of survivors, and the threshold exceeds half the roster, so that it cannot
have both secrets of a device without lying to devices and their answering twice). Per round and device i:

1. publishes two X25519 keys (`SecureDevice.public`), signed with its identity by the client;
2. `share`: gives every roster member a sealed share of its mask key and of its own seed;
3. `mask`: uploads x + PRG(seed_i) + sum_{j > i} PRG(s_ij) - sum_{j < i} PRG(s_ij)  mod 2^32, s_ij = X25519(i, j);
4. `reveal`: for those who uploaded the share of their seed, for those who dropped out the share of their mask key.

`unmask` removes the masks. Below the threshold every step fails closed: nothing is revealed.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import BadPayload
from .errors import BadCoordinate, TooFewContributions
from .shamir import PRIME, SHARE_BYTES, recover_secret, share_secret
from .stream import ROUNDS_MAX, RUN_ID_BYTES, SLOTS_MAX

U32 = npt.NDArray[np.uint32]

SALT: Final = b"gossamer/secagg/v1"
ENTROPY_BYTES: Final = 32
N_VALUES_MAX: Final = 2**24


@dataclass(frozen=True, kw_only=True)
class SumRound:
    """What all keys of a round are bound to.

    Raises: BadCoordinate for a threshold that lets the gateway unmask a device by splitting the roster in two.
    """

    run_id: bytes
    round_index: int
    roster: tuple[int, ...]
    """Slots that take part, ascending."""
    threshold: int
    """Devices without whose shares nothing is revealed; more than half of the roster."""

    def __post_init__(self) -> None:
        if len(self.run_id) != RUN_ID_BYTES or not 0 <= self.round_index < ROUNDS_MAX:
            raise BadCoordinate(f"round {self.round_index} of a run id of {len(self.run_id)} bytes")
        ascending = all(a < b for a, b in itertools.pairwise(self.roster))
        if not ascending or not self.roster or not 0 <= self.roster[0] <= self.roster[-1] < SLOTS_MAX:
            raise BadCoordinate(f"a roster is ascending slots in [0, {SLOTS_MAX})")
        if not len(self.roster) // 2 < self.threshold <= len(self.roster):
            raise BadCoordinate(f"a threshold of {self.threshold} for a roster of {len(self.roster)}: more than half")

    def label(self, *words: str | int) -> bytes:
        """HKDF info of one purpose."""
        return self.run_id + self.round_index.to_bytes(4, "little") + "/".join(map(str, words)).encode()


@dataclass(frozen=True, kw_only=True)
class PublicKeys:
    """What a device publishes for one round: raw X25519 public keys."""

    channel: bytes
    """Seals shares."""
    mask: bytes
    """Agrees on pairwise masks."""
    seed_digest: bytes
    """SHA-256 of the seed of the device's own mask: a wrong share of it is noticed."""


@dataclass(frozen=True, kw_only=True)
class Reveal:
    """What a survivor tells the gateway in the end; slot -> 33 bytes."""

    seeds: Mapping[int, bytes] = field(default_factory=dict)
    """Shares of the seeds of those who uploaded."""
    keys: Mapping[int, bytes] = field(default_factory=dict)
    """Shares of the mask keys of those who dropped out."""


class SecureDevice:
    """One device in one round.

    Args:
        slot: its own, in the roster.
        entropy: 32 fresh random bytes, never used for another round.
    Raises: BadCoordinate.
    """

    def __init__(self, slot: int, terms: SumRound, entropy: bytes) -> None:
        if len(entropy) != ENTROPY_BYTES or slot not in terms.roster:
            raise BadCoordinate(f"slot {slot} with {len(entropy)} bytes of entropy")
        self._slot, self._terms = slot, terms
        self._channel_secret, self._mask_secret, self._seed, self._dealer = (
            _derive(entropy, terms.label(word)) for word in ("channel", "mask", "seed", "coefficients")
        )
        self._channel = X25519PrivateKey.from_private_bytes(self._channel_secret)
        self._mask = X25519PrivateKey.from_private_bytes(self._mask_secret)
        self._peers: dict[int, PublicKeys] = {}
        self._held: dict[int, bytes] = {}
        self._revealed: tuple[int, ...] | None = None

    @property
    def public(self) -> PublicKeys:
        """For everybody."""
        channel, mask = (key.public_key().public_bytes_raw() for key in (self._channel, self._mask))
        return PublicKeys(channel=channel, mask=mask, seed_digest=hashlib.sha256(self._seed).digest())

    def share(self, peers: Mapping[int, PublicKeys]) -> dict[int, bytes]:
        """Sealed shares for the others: slot -> ciphertext, for the gateway to hand on.

        Args:
            peers: the published keys of the whole roster, their signatures checked by the caller.
        Raises: TooFewContributions if keys of the roster are missing; BadPayload for a key that is none.
        """
        if set(peers) != set(self._terms.roster) or peers[self._slot] != self.public:
            raise TooFewContributions("secure aggregation needs the keys of exactly the roster, my own among them")
        self._peers = dict(peers)
        threshold, roster = self._terms.threshold, self._terms.roster
        coefficients = _field_elements(self._dealer, 2 * (threshold - 1))
        seeds = share_secret(self._seed, roster, coefficients[: threshold - 1])
        keys = share_secret(self._mask_secret, roster, coefficients[threshold - 1 :])
        self._held[self._slot] = seeds[self._slot] + keys[self._slot]
        return {
            slot: self._channel_cipher(slot).encrypt(_nonce(self._slot, slot), seeds[slot] + keys[slot], None)
            for slot in roster
            if slot != self._slot
        }

    def mask(self, values: U32, sealed: Mapping[int, bytes]) -> U32:
        """The upload, uint32 of the values' shape.

        Args:
            values: uint32 [n] of one SumEncoding.
            sealed: from slot -> what it sealed for me; who is missing here does not take part.
        Raises: TooFewContributions below the threshold; BadPayload for a share that does not open.
        """
        if not self._peers:
            raise TooFewContributions("share before you mask")
        if not values.size <= N_VALUES_MAX:
            raise BadCoordinate(f"{values.size} values are more than {N_VALUES_MAX}")
        for slot in sorted(sealed):
            if slot not in self._peers or slot == self._slot:
                raise BadPayload(f"a share from slot {slot}, which is not another member of the roster")
            self._held[slot] = self._open(slot, sealed[slot])
        if len(self._held) < self._terms.threshold:
            raise TooFewContributions(f"{len(self._held)} devices take part, {self._terms.threshold} are needed")
        total = values.reshape(-1) + expand(_derive(self._seed, self._terms.label("self mask")), values.size)
        for slot in sorted(self._held):
            if slot != self._slot:
                total += pairwise_mask(self._mask, self._peers[slot].mask, self._slot, slot, self._terms, values.size)
        return total.reshape(values.shape)

    def reveal(self, survivors: Collection[int]) -> Reveal:
        """Shares that unmask the sum over the survivors. Answered once a round, for one set of survivors.

        Raises: TooFewContributions below the threshold; BadPayload for a second, different set or an unknown slot.
        """
        wanted = tuple(sorted(set(survivors)))
        if self._revealed is not None and wanted != self._revealed:
            raise BadPayload("the gateway names other survivors than before: nothing more is revealed")
        if len(wanted) < self._terms.threshold:
            raise TooFewContributions(f"{len(wanted)} devices uploaded, {self._terms.threshold} are needed")
        if not set(wanted) <= set(self._held) or self._slot not in wanted:
            raise BadPayload("the gateway names survivors that did not take part, or leaves me out")
        self._revealed = wanted
        seeds = {slot: share[:SHARE_BYTES] for slot, share in self._held.items() if slot in wanted}
        keys = {slot: share[SHARE_BYTES:] for slot, share in self._held.items() if slot not in wanted}
        return Reveal(seeds=seeds, keys=keys)

    def _open(self, slot: int, sealed: bytes) -> bytes:
        try:
            shares = self._channel_cipher(slot).decrypt(_nonce(slot, self._slot), sealed, None)
        except InvalidTag as error:
            raise BadPayload(f"the share from slot {slot} does not open: it was changed or not meant for me") from error
        if len(shares) != 2 * SHARE_BYTES:
            raise BadPayload(f"slot {slot} sealed {len(shares)} bytes, not two shares")
        return shares

    def _channel_cipher(self, slot: int) -> ChaCha20Poly1305:
        secret = _agree(self._channel, self._peers[slot].channel)
        return ChaCha20Poly1305(_derive(secret, self._terms.label("share", *sorted((self._slot, slot)))))


def unmask(
    uploads: Mapping[int, U32],
    participants: Iterable[int],
    peers: Mapping[int, PublicKeys],
    reveals: Mapping[int, Reveal],
    terms: SumRound,
) -> U32:
    """The gateway's part: the sum of the survivors' values mod 2^32.

    Args:
        uploads: survivor -> masked values, all of one shape.
        participants: slots whose shares were handed on, survivors and those who dropped out after.
        peers: published keys.
        reveals: from survivors, at least `threshold` of them.
    Raises: TooFewContributions below the threshold; BadPayload for shares that do not fit a published key.
    """
    survivors = sorted(uploads)
    if min(len(survivors), len(reveals)) < terms.threshold:
        raise TooFewContributions(
            f"{len(survivors)} uploads and {len(reveals)} answers, {terms.threshold} are needed: nothing is unmasked"
        )
    shape = uploads[survivors[0]].shape
    if any(upload.shape != shape or upload.dtype != np.uint32 for upload in uploads.values()):
        raise BadPayload("uploads of different shapes cannot be summed")
    total = np.zeros(int(np.prod(shape)), np.uint32)
    for slot in survivors:
        total += uploads[slot].reshape(-1)
        seed = recover_secret(_gather(reveals, slot, lost=False), terms.threshold)
        if hashlib.sha256(seed).digest() != peers[slot].seed_digest:
            raise BadPayload(f"the shares of slot {slot} do not give the seed that it committed to: one was wrong")
        total -= expand(_derive(seed, terms.label("self mask")), total.size)
    for lost in sorted(set(participants) - set(survivors)):
        key = X25519PrivateKey.from_private_bytes(recover_secret(_gather(reveals, lost, lost=True), terms.threshold))
        if key.public_key().public_bytes_raw() != peers[lost].mask:
            raise BadPayload(f"the shares of slot {lost} do not give the key that it published: a share was wrong")
        for slot in survivors:
            # What the survivor added for the lost one is what the lost one would have subtracted.
            total += pairwise_mask(key, peers[slot].mask, lost, slot, terms, total.size)
    return total.reshape(shape)


def pairwise_mask(mine: X25519PrivateKey, theirs: bytes, me: int, other: int, terms: SumRound, n: int) -> U32:
    """What `me` adds on account of `other`; `other` adds its negative. uint32 [n]."""
    key = _derive(_agree(mine, theirs), terms.label("pairwise mask", *sorted((me, other))))
    mask = expand(key, n)
    return mask if me < other else np.negative(mask)


def expand(key: bytes, n: int) -> U32:
    """ChaCha20 keystream of a one-time key as uint32 [n], little-endian."""
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(4 * n))
    return np.frombuffer(stream, "<u4").astype(np.uint32)


def _gather(reveals: Mapping[int, Reveal], slot: int, *, lost: bool) -> dict[int, bytes]:
    told = {holder: reveal.keys if lost else reveal.seeds for holder, reveal in reveals.items()}
    return {holder: shares[slot] for holder, shares in told.items() if slot in shares}


def _agree(mine: X25519PrivateKey, theirs: bytes) -> bytes:
    try:
        return mine.exchange(X25519PublicKey.from_public_bytes(theirs))
    except ValueError as error:
        raise BadPayload(f"a published key is no X25519 key: {error}") from error


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=SALT, info=info).derive(secret)


def _nonce(sender: int, receiver: int) -> bytes:
    # One key seals one message in each direction.
    return sender.to_bytes(6, "little") + receiver.to_bytes(6, "little")


def _field_elements(key: bytes, n: int) -> list[int]:
    """Uniform field elements: 48 bytes each, so that the bias of the remainder is below 2^-127."""
    stream = expand(key, 12 * n).astype("<u4").tobytes()
    return [int.from_bytes(stream[start : start + 48], "little") % PRIME for start in range(0, 48 * n, 48)]
