"""What replicas say of the states that they could give, and what of it a quorum vouches for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...protocol import rounds_pb2 as pb
from ...protocol.chunks import n_chunks
from ...protocol.errors import GossamerError, InvalidMessage, NetworkClosed
from ...protocol.identity import PeerId
from ...protocol.network import Network
from ...protocol.wire import parse
from ..rounds.decision import HASH_BYTES
from ..rounds.roster import Roster
from ..rounds.snapshots import CHUNK_BYTES, INFO_BYTES_MAX, Offer, Standing

COUNT_MAX = 1 << 48


@dataclass(frozen=True)
class Vouched:
    """A donor's word."""

    offer: Offer
    stage: int
    step: int
    """Updates of the run before the offer's round."""
    samples: int
    unsettled: bytes
    """What single replicas held then."""


async def ask_donors(
    network: Network, donors: Sequence[PeerId], lineage: bytes, *, renew: bool = False
) -> list[Vouched]:
    """What each of them says it has; who does not answer says nothing.

    Args:
        renew: have them take another copy, since what they offered before was no use.
    """
    request = pb.SnapshotRequest(lineage=lineage, renew=renew).SerializeToString()

    async def ask(donor: PeerId) -> Vouched | None:
        try:
            answer = await network.call(donor, "sync/snapshot", request, timeout_s=5.0)
            return _read(donor, answer)
        except NetworkClosed:
            raise
        except GossamerError:
            return None

    answers: list[Any] = await asyncio.gather(*(ask(donor) for donor in donors))
    return [one for one in answers if one is not None and one.offer.standing.lineage == lineage]


def _read(donor: PeerId, data: bytes) -> Vouched:
    """Raises InvalidMessage."""
    info = parse(pb.SnapshotInfo, data, bytes_max=INFO_BYTES_MAX, what="a snapshot's description")
    hashes = [info.digest, info.hash, *info.chunks]
    if any(len(digest) != HASH_BYTES for digest in hashes) or len(info.chunks) != n_chunks(info.length, CHUNK_BYTES):
        raise InvalidMessage(f"{donor} describes a snapshot that cannot be: not downloaded from it")
    if max(info.step, info.samples) > COUNT_MAX:
        raise InvalidMessage(f"{donor} describes a snapshot after {info.step} updates: not downloaded from it")
    standing = Standing(
        lineage=info.lineage, index=info.round, roster=Roster.from_wire(info.roster), digest=info.digest
    )
    offer = Offer(donor, standing, info.length, tuple(info.chunks), info.hash, info.rounded)
    return Vouched(offer=offer, stage=info.stage - 1, step=info.step, samples=info.samples, unsettled=info.unsettled)


def _alike(told: Sequence[Vouched]) -> list[Vouched]:
    """Words of members on the newest standing for which a quorum of its roster vouches."""
    for one in sorted(told, key=lambda one: -one.offer.standing.index):
        standing = one.offer.standing
        slots = standing.roster.slots
        alike = [other for other in told if other.offer.standing == standing and other.offer.donor in slots]
        if standing.roster.has_quorum(slots[other.offer.donor] for other in alike):
            return alike
    return []


def newest_vouched(told: Sequence[Vouched]) -> Vouched | None:
    """The newest standing, with the step that most say it has."""
    alike = _alike(told)
    if not alike:
        return None
    most, _ = Counter((one.step, one.samples, one.unsettled) for one in alike).most_common(1)[0]
    return next(one for one in alike if (one.step, one.samples, one.unsettled) == most)


def donors_of(told: Sequence[Vouched], stage: int, state_bytes: int) -> list[Offer]:
    """Offers of one stage's state, by members that served it then, at the newest round that a quorum vouches for."""
    members = {(member.peer, member.stage) for one in _alike(told)[:1] for member in one.offer.standing.roster.members}
    mine = [
        one.offer
        for one in _alike(told)
        if one.stage == stage and one.offer.length == state_bytes and (one.offer.donor, stage) in members
    ]
    if not mine:
        return []
    most, _ = Counter(offer.hash for offer in mine).most_common(1)[0]
    return [offer for offer in mine if offer.hash == most]
