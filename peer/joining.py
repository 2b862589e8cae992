"""How a peer comes by its place in a run: by the owner's genesis, by its own checkpoint, or from several donors."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..protocol import rounds_pb2 as pb
from ..protocol.errors import BadTensor, ChecksumMismatch, GossamerError, InvalidMessage, NetworkClosed, PeerUnreachable
from ..protocol.identity import PeerId
from ..protocol.network import MAX_MESSAGE_BYTES, MAX_RECORD_BYTES, Network
from ..protocol.wire import parse
from .membership import Announcement
from .replica import Replica
from .rounds.decision import HASH_BYTES, LINEAGE_BYTES
from .rounds.roster import Roster
from .rounds.snapshots import Downloaded, Offer, Standing, download, read_info

GENESIS_KEY = "genesis"
GENESIS_TTL_S = 24 * 3600.0 - 60


def standing_of_genesis(data: bytes, run_id: str) -> Standing:
    """Where a genesis starts the run. The record it came in must be signed by the owner. Raises InvalidMessage."""
    genesis = parse(pb.Genesis, data, bytes_max=MAX_RECORD_BYTES, what="a genesis")
    if genesis.run_id != run_id or len(genesis.digest) != HASH_BYTES:
        raise InvalidMessage("a genesis of another run: ignored")
    lineage = hashlib.sha256(b"genesis" + data).digest()[:LINEAGE_BYTES]
    roster = Roster.from_wire(genesis.roster)
    return Standing(lineage=lineage, index=genesis.round, roster=roster, digest=genesis.digest)


async def find_genesis(network: Network, owner: PeerId, run_id: str) -> Standing | None:
    """The newest genesis that the owner has published; None if there is none that can be used."""
    for record in await network.lookup(GENESIS_KEY):
        if record.signer == owner:
            with contextlib.suppress(InvalidMessage):
                return standing_of_genesis(record.value, run_id)
    return None


def best_lineage(claims: Iterable[Announcement]) -> bytes | None:
    """Of a split run the lineage with more samples behind it wins, then the smaller name; one that nobody claims to be
    able to go on with comes last."""
    active = [claim for claim in claims if claim.active and len(claim.lineage) == LINEAGE_BYTES]
    if not active:
        return None
    return min(active, key=lambda claim: (not claim.decides, -claim.samples, claim.lineage)).lineage


@dataclass(frozen=True, kw_only=True)
class Resync:
    """A state that was taken over."""

    standing: Standing
    bytes: int
    donors: tuple[PeerId, ...]
    how: str


async def resume_from_log(network: Network, standing: Standing, donors: Sequence[PeerId]) -> bool:
    """Whether some donor still keeps every round since `standing`, so that replaying them is enough."""
    request = pb.LogRequest(lineage=standing.lineage, from_round=standing.index).SerializeToString()
    for donor in donors:
        try:
            answer = await network.call(donor, "round/log", request, timeout_s=5.0)
            log = parse(pb.Log, answer, bytes_max=MAX_MESSAGE_BYTES, what="a log of rounds")
        except NetworkClosed:
            raise
        except GossamerError:
            continue
        if log.first_round <= standing.index:
            return True
    return False


async def resync(
    network: Network, replica: Replica, claims: Mapping[PeerId, Announcement], genesis: Standing | None = None
) -> Resync | None:
    """Take over the group's state from several donors; None if they are not ready for it yet.

    A snapshot counts when a quorum of the roster that it names describes it alike, or when it is the state that the
    owner's genesis names.
    """
    lineage = best_lineage(claims.values())
    donors = [peer for peer, claim in sorted(claims.items()) if claim.active and claim.lineage == lineage]
    offers = await _offers(network, donors, replica.download_bytes(), lineage or b"")
    vouched = _vouched(offers, genesis)
    for alike in _by_content(vouched):
        if (got := await _take_over(network, replica, alike)) is not None:
            standing = alike[0].standing
            how = f"{len(vouched)} of {len(standing.roster)} members vouched for the state of round {standing.index}"
            return Resync(standing=standing, bytes=len(got.data), donors=got.donors, how=how)
    return None


async def _take_over(network: Network, replica: Replica, alike: Sequence[Offer]) -> Downloaded | None:
    """None if what these donors offer cannot be had, or is not what they say."""

    def restore(data: bytes) -> None:
        if alike[0].rounded:
            replica.restore_rounded(data, alike[0].standing.digest)
        else:
            replica.restore(data)

    try:
        got = await download(network, alike)
        await network.compute(lambda: restore(got.data), replica.apply_cost())
    except (ChecksumMismatch, BadTensor, PeerUnreachable):
        return None
    return got


def _by_content(offers: Sequence[Offer]) -> list[list[Offer]]:
    """Offers that can be mixed, together; what most donors offer first."""
    contents = dict.fromkeys(offer.content for offer in offers)
    groups = [[offer for offer in offers if offer.content == content] for content in contents]
    return sorted(groups, key=lambda group: -len(group))


async def _offers(
    network: Network, donors: Sequence[PeerId], lengths: Mapping[bool, int], lineage: bytes
) -> list[Offer]:
    request = pb.SnapshotRequest(lineage=lineage).SerializeToString()

    async def ask(donor: PeerId) -> Offer | None:
        try:
            return read_info(donor, await network.call(donor, "sync/snapshot", request, timeout_s=5.0), lengths)
        except NetworkClosed:
            raise
        except GossamerError:
            return None

    answers = await asyncio.gather(*(ask(donor) for donor in donors))
    return [offer for offer in answers if offer is not None and offer.standing.lineage == lineage]


def _vouched(offers: Sequence[Offer], genesis: Standing | None) -> list[Offer]:
    """The newest offers that a quorum of their own roster makes alike."""
    for candidate in sorted(offers, key=lambda offer: -offer.standing.index):
        alike = [offer for offer in offers if offer.standing == candidate.standing]
        members = [offer for offer in alike if candidate.standing.roster.slot_of(offer.donor) is not None]
        if candidate.standing == genesis or len(members) >= candidate.standing.roster.quorum:
            return [candidate, *(offer for offer in alike if offer is not candidate)]
    return []
