"""The modelled DHT: signed records that take time to store, to spread and to find."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass

from ..protocol.errors import InvalidMessage
from ..protocol.identity import PeerId
from ..protocol.network import Record
from ..protocol.records import CheckedRecord, check_record, newer
from .wires import Wires

HOPS_MIN, HOPS_MAX = 2, 4


@dataclass(eq=False, kw_only=True)
class Version:
    """A record that somebody stored."""

    record: CheckedRecord
    publisher: str
    visible_at_s: float
    """When it has spread."""
    withheld: dict[str, float]
    """Hosts that were cut off when it was stored -> when they see it; inf until the partition heals."""

    def is_visible(self, viewer: str, now_s: float) -> bool:
        return viewer == self.publisher or now_s >= max(self.visible_at_s, self.withheld.get(viewer, 0.0))


class Directory:
    """All records of a simulated world. Only valid ones are kept, as by a DHT whose nodes check signatures."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wires: Wires, *, seed: int, spread_s: float) -> None:
        """Args: spread_s: mean time until others see what was stored."""
        self._loop = loop
        self._wires = wires
        self._spread_s = spread_s
        self._random = random.Random(f"directory {seed}")
        self._versions: dict[str, dict[PeerId, list[Version]]] = {}

    def draw_delay_s(self, host: str) -> float:
        """How long a store or a search by this host takes: a few hops, there and back."""
        others = [name for name in self._wires.hosts if name != host]
        if not others:
            return 0.0
        n_hops = self._random.randint(HOPS_MIN, HOPS_MAX)
        return sum(self._wires.round_trip_s(host, self._random.choice(others)) for _ in range(n_hops))

    def store(self, key: str, data: bytes, *, host: str, now_unix_s: float) -> bool:
        """Keep a record if it is valid and newer than its signer's last. Whether it was kept."""
        try:
            record = check_record(data, key=key, now_s=now_unix_s)
        except InvalidMessage:
            return False
        versions = self._versions.setdefault(key, {}).setdefault(record.signer, [])
        if versions and not newer(record, versions[-1].record):
            return False
        now = self._loop.time()
        spread_at_s = now + self._draw_spread_s()
        withheld = {name: math.inf for name in self._wires.hosts if self._wires.is_cut(host, name)}
        versions.append(Version(record=record, publisher=host, visible_at_s=spread_at_s, withheld=withheld))
        self._forget_replaced(versions, now)
        return True

    def find(self, key: str, *, host: str, now_unix_s: float) -> list[Record]:
        """What a host finds: of every signer the newest record that has reached it and has not expired."""
        now = self._loop.time()
        found: list[Record] = []
        for _, versions in sorted(self._versions.get(key, {}).items()):
            visible = [version.record for version in versions if version.is_visible(host, now)]
            if visible and visible[-1].expires_at_s > now_unix_s:
                found.append(visible[-1])
        return found

    def heal(self) -> None:
        """No partition any more: what was withheld begins to spread."""
        seen_at_s = self._loop.time() + self._draw_spread_s()
        for signers in self._versions.values():
            for versions in signers.values():
                for version in versions:
                    late = [host for host, when in version.withheld.items() if when == math.inf]
                    version.withheld.update(dict.fromkeys(late, seen_at_s))

    def _draw_spread_s(self) -> float:
        return self._spread_s * self._random.uniform(0.5, 1.5)

    def _forget_replaced(self, versions: list[Version], now: float) -> None:
        """Drop what everybody sees a newer version of."""
        for index in range(len(versions) - 1, 0, -1):
            version = versions[index]
            if all(version.is_visible(name, now) for name in self._wires.hosts):
                del versions[:index]
                return
