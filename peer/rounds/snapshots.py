"""Copies of the state that newcomers download, and the download itself: several donors, every chunk checked."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ...protocol import rounds_pb2 as pb
from ...protocol.chunks import Reassembly, chunk_hashes, n_chunks
from ...protocol.errors import ChecksumMismatch, GossamerError, InvalidMessage, PeerUnreachable, StaleRound
from ...protocol.identity import PeerId
from ...protocol.network import Network
from ...protocol.wire import parse
from .decision import HASH_BYTES
from .roster import WHOLE, Roster

CHUNK_BYTES = 256 << 10
KEEP_S = 300.0
INFO_BYTES_MAX = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A point in a run's history: the state before round `index`, and who decides that round."""

    lineage: bytes
    index: int
    roster: Roster
    digest: bytes


@dataclass(frozen=True)
class Snapshot:
    """The state of one standing as bytes: the whole model's, whose SHA-256 is `standing.digest`, or one stage's."""

    standing: Standing
    data: bytes
    taken_s: float
    digest: bytes
    """SHA-256 of the data."""
    stage: int = WHOLE

    def info(self) -> pb.SnapshotInfo:
        return pb.SnapshotInfo(
            lineage=self.standing.lineage,
            round=self.standing.index,
            digest=self.digest,
            length=len(self.data),
            chunks=chunk_hashes(self.data, CHUNK_BYTES),
            roster=self.standing.roster.to_wire(),
            base=self.standing.digest if self.stage != WHOLE else b"",
            stage=self.stage + 1,
        )


class Shelf:
    """The newest two snapshots of this peer."""

    def __init__(self) -> None:
        self._snapshots: list[Snapshot] = []

    def add(self, standing: Standing, data: bytes, *, stage: int = WHOLE) -> None:
        taken_s = asyncio.get_running_loop().time()
        digest = standing.digest if stage == WHOLE else hashlib.sha256(data).digest()
        self._snapshots = [*self._snapshots, Snapshot(standing, data, taken_s, digest, stage)][-2:]

    def newest(self, lineage: bytes, first_round: int | None, index: int) -> Snapshot | None:
        """The newest one from which the kept rounds lead on to now. Drops what is too old."""
        now = asyncio.get_running_loop().time()
        self._snapshots = [snapshot for snapshot in self._snapshots if now - snapshot.taken_s < KEEP_S]
        for snapshot in reversed(self._snapshots):
            reaches = snapshot.standing.index == index or (
                first_round is not None and first_round <= snapshot.standing.index
            )
            if snapshot.standing.lineage == lineage and reaches:
                return snapshot
        return None

    def chunk(self, digest: bytes, index: int) -> bytes:
        """Raises StaleRound, InvalidMessage."""
        for snapshot in self._snapshots:
            if snapshot.digest == digest:
                start = index * CHUNK_BYTES
                if start >= len(snapshot.data):
                    raise InvalidMessage(f"chunk {index} of a snapshot with {len(snapshot.data)} bytes: ask for less")
                return snapshot.data[start : start + CHUNK_BYTES]
        raise StaleRound("that snapshot is not kept any more: ask for the newest")


@dataclass(frozen=True)
class Offer:
    """What one donor says it has."""

    donor: PeerId
    standing: Standing
    length: int
    chunks: tuple[bytes, ...]
    digest: bytes
    """SHA-256 of the whole."""


def read_info(donor: PeerId, data: bytes, state_bytes: int) -> Offer:
    """Check a donor's answer. Raises InvalidMessage."""
    info = parse(pb.SnapshotInfo, data, bytes_max=INFO_BYTES_MAX, what="a snapshot's description")
    expected = n_chunks(state_bytes, CHUNK_BYTES)
    well_formed = len(info.digest) == HASH_BYTES and all(len(digest) == HASH_BYTES for digest in info.chunks)
    if info.length != state_bytes or len(info.chunks) != expected or not well_formed:
        raise InvalidMessage(
            f"{donor} offers a state of {info.length} bytes; this run's has {state_bytes}: not downloaded from it"
        )
    standing = Standing(
        lineage=info.lineage, index=info.round, roster=Roster.from_wire(info.roster), digest=info.digest
    )
    return Offer(donor, standing, info.length, tuple(info.chunks), info.digest)


@dataclass(frozen=True)
class Downloaded:
    data: bytes
    donors: tuple[PeerId, ...]


async def download(network: Network, offers: Sequence[Offer]) -> Downloaded:
    """Fetch one snapshot from all of its donors at once; a donor that fails is dropped, the rest goes on.

    Args:
        offers: of the same standing, at least one.
    Raises: PeerUnreachable if no donor is left, ChecksumMismatch if the whole is not what the digest says.
    """
    first = offers[0]
    same = [offer for offer in offers if offer.chunks == first.chunks]
    parts = Reassembly(total_bytes=first.length, size=CHUNK_BYTES, hashes=first.chunks, bytes_max=first.length)
    wanted = list(range(len(first.chunks)))
    served: list[PeerId] = []

    async def draw_from(donor: PeerId) -> None:
        while wanted:
            index = wanted.pop(0)
            request = pb.ChunkRequest(digest=first.digest, index=index).SerializeToString()
            try:
                parts.accept(index, await network.call(donor, "sync/chunk", request, timeout_s=30.0))
            except GossamerError:
                wanted.insert(0, index)
                return
            except BaseException:
                wanted.insert(0, index)
                raise
            if donor not in served:
                served.append(donor)

    for _ in range(2):
        await asyncio.gather(*(draw_from(offer.donor) for offer in same))
    if parts.missing():
        raise PeerUnreachable(f"no donor was left with {len(parts.missing())} chunks of the state missing: trying anew")
    data = parts.result()
    if hashlib.sha256(data).digest() != first.digest:
        raise ChecksumMismatch(f"the state described by {first.donor} does not match its digest: trying another donor")
    return Downloaded(data, tuple(served))
