"""Copies of the state that newcomers download, and the download itself: several donors, every chunk checked."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
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
    """The state of one standing as bytes: the whole model's, or one stage's."""

    standing: Standing
    data: bytes
    rounded: bool
    """Whether they are in the run's snapshot codec."""
    hash: bytes
    """SHA-256 of the bytes; of exact ones it is the state's digest."""
    taken_s: float
    stage: int = WHOLE
    progress: tuple[int, int] = (0, 0)
    unsettled: bytes = b""
    """Of a pipeline: updates, and samples behind them."""

    def info(self) -> pb.SnapshotInfo:
        return pb.SnapshotInfo(
            lineage=self.standing.lineage,
            round=self.standing.index,
            digest=self.standing.digest,
            length=len(self.data),
            chunks=chunk_hashes(self.data, CHUNK_BYTES),
            roster=self.standing.roster.to_wire(),
            hash=self.hash,
            rounded=self.rounded,
            stage=self.stage + 1,
            step=self.progress[0],
            samples=self.progress[1],
            unsettled=self.unsettled,
        )


class Shelf:
    """The newest two snapshots of this peer."""

    def __init__(self) -> None:
        self._snapshots: list[Snapshot] = []

    def add(
        self,
        standing: Standing,
        data: bytes,
        *,
        rounded: bool = False,
        stage: int = WHOLE,
        progress: tuple[int, int] = (0, 0),
        unsettled: bytes = b"",
    ) -> None:
        """Keep a copy of the state of a standing."""
        whole = stage == WHOLE and not rounded
        data_hash = standing.digest if whole else hashlib.sha256(data).digest()
        taken_s = asyncio.get_running_loop().time()
        taken = Snapshot(standing, data, rounded, data_hash, taken_s, stage, progress, unsettled)
        self._snapshots = [*self._snapshots, taken][-2:]

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

    def chunk(self, data_hash: bytes, index: int) -> bytes:
        """Raises StaleRound, InvalidMessage."""
        for snapshot in self._snapshots:
            if snapshot.hash == data_hash:
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
    hash: bytes
    """SHA-256 of the whole."""
    rounded: bool
    stage: int = WHOLE

    @property
    def content(self) -> tuple[bytes, tuple[bytes, ...]]:
        """Offers with the same content can be mixed."""
        return self.hash, self.chunks


def read_info(donor: PeerId, data: bytes, lengths: Mapping[bool, int]) -> Offer:
    """Check a donor's answer. Raises InvalidMessage.

    Args:
        lengths: of a rounded state (True), where the run has such, and of an exact one (False).
    """
    info = parse(pb.SnapshotInfo, data, bytes_max=INFO_BYTES_MAX, what="a snapshot's description")
    if info.rounded not in lengths:
        raise InvalidMessage(f"{donor} offers a rounded state; this run's copies are exact: not downloaded from it")
    length = lengths[info.rounded]
    expected = n_chunks(length, CHUNK_BYTES)
    well_formed = all(len(digest) == HASH_BYTES for digest in (info.digest, info.hash, *info.chunks))
    if info.length != length or len(info.chunks) != expected or not well_formed:
        raise InvalidMessage(
            f"{donor} offers a state of {info.length} bytes; this run's has {length}: not downloaded from it"
        )
    if not info.rounded and info.stage == 0 and info.hash != info.digest:
        raise InvalidMessage(f"{donor} offers an exact state whose hash is not its digest: not downloaded from it")
    standing = Standing(
        lineage=info.lineage, index=info.round, roster=Roster.from_wire(info.roster), digest=info.digest
    )
    return Offer(donor, standing, info.length, tuple(info.chunks), info.hash, info.rounded, info.stage - 1)


@dataclass(frozen=True)
class Downloaded:
    data: bytes
    donors: tuple[PeerId, ...]


async def download(network: Network, offers: Sequence[Offer]) -> Downloaded:
    """Fetch one snapshot from all of its donors at once; a donor that fails is dropped, the rest goes on.

    Args:
        offers: of the same content, at least one.
    Raises: PeerUnreachable if no donor is left, ChecksumMismatch if the whole is not what its hash says.
    """
    first = offers[0]
    parts = Reassembly(total_bytes=first.length, size=CHUNK_BYTES, hashes=first.chunks, bytes_max=first.length)
    wanted = list(range(len(first.chunks)))
    served: list[PeerId] = []

    async def draw_from(donor: PeerId) -> None:
        while wanted:
            index = wanted.pop(0)
            request = pb.ChunkRequest(hash=first.hash, index=index).SerializeToString()
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
        await asyncio.gather(*(draw_from(offer.donor) for offer in offers))
    if parts.missing():
        raise PeerUnreachable(f"no donor was left with {len(parts.missing())} chunks of the state missing: trying anew")
    data = parts.result()
    if hashlib.sha256(data).digest() != first.hash:
        raise ChecksumMismatch(f"the state described by {first.donor} does not match its hash: trying another donor")
    return Downloaded(data, tuple(served))
