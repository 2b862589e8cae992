"""What replicas say of themselves in the DHT: stage, version, queue and speed. A view; it decides nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from ...protocol import pipelines_pb2 as pb
from ...protocol.errors import GossamerError, InvalidMessage, NetworkClosed
from ...protocol.identity import PeerId
from ...protocol.network import Network
from ...protocol.wire import parse
from ..rounds.roster import STAGES_MAX

KEY = "stages"
TTL_S = 90.0
EVERY_S, EVERY_S_MAX, SLOWER = 10.0, 30.0, 1.25
"""Less and less often, the longer a replica serves its stage: what it says of its speed is of all that time."""
SAMPLES_PER_S_MAX = 1e9
RECORDS_REMEMBERED, RECORD_BYTES_MAX = 1024, 1024
"""Not parsed again: most say the same at the next look, and daemons may share a process."""


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """One replica's word."""

    stage: int
    version: int
    n_waiting: int
    """Passes in its queue."""
    samples_per_s: float
    """Forward passes; 0: not measured yet."""
    incarnation: int
    rested_s: float = 0.0
    """Since it was moved to its stage; 0: it never was."""

    def to_wire(self) -> pb.StageRecord:
        return pb.StageRecord(
            stage=self.stage,
            version=max(0, self.version),
            n_waiting=self.n_waiting,
            samples_per_s=self.samples_per_s,
            incarnation=self.incarnation,
            rested_s=self.rested_s,
        )


class StageBoard:
    """Publishes this peer's record and reads the others'.

    Args:
        say: this peer's record now; None while it serves nothing.
        on_view: called after each look.
    """

    def __init__(
        self,
        network: Network,
        say: Callable[[], StageRecord | None],
        on_view: Callable[[dict[PeerId, StageRecord]], None],
        warn: Callable[[str], None],
    ) -> None:
        self._network = network
        self._say = say
        self._on_view = on_view
        self._warn = warn

    async def run(self) -> None:
        """Publish and look, for ever."""
        every_s, place = EVERY_S, None
        while True:
            try:
                record = self._say()
                if record is not None:
                    before, place = place, (record.stage, record.incarnation)
                    every_s = min(EVERY_S_MAX, SLOWER * every_s) if place == before else EVERY_S
                    await self._network.publish(KEY, record.to_wire().SerializeToString(), ttl_s=TTL_S)
                self._on_view(await self.look())
            except NetworkClosed:
                raise
            except GossamerError as error:
                self._warn(f"stage records: {error}")
            await asyncio.sleep(every_s)

    async def look(self) -> dict[PeerId, StageRecord]:
        """What all replicas say. Raises NetworkError."""
        view = {}
        for found in await self._network.lookup(KEY):
            try:
                view[found.signer] = _read(found.value)
            except GossamerError as error:
                self._warn(f"stage record of {found.signer} ignored: {error}")
        return view


@lru_cache(maxsize=RECORDS_REMEMBERED)
def _read(value: bytes) -> StageRecord:
    """Raises InvalidMessage."""
    message = parse(pb.StageRecord, value, bytes_max=RECORD_BYTES_MAX, what="a stage's record")
    if message.stage >= STAGES_MAX or not math.isfinite(message.samples_per_s + message.rested_s):
        raise InvalidMessage(f"it speaks of stage {message.stage} and {message.samples_per_s} samples/s")
    return StageRecord(
        stage=message.stage,
        version=message.version,
        n_waiting=message.n_waiting,
        samples_per_s=min(SAMPLES_PER_S_MAX, max(0.0, message.samples_per_s)),
        incarnation=message.incarnation,
        rested_s=max(0.0, message.rested_s),
    )
