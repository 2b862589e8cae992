"""Who took part in which round, put together from what each peer knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from statistics import median

from ..events import RoundEnded, short_id
from .run import PeerLog, Run


class Part(IntEnum):
    """What a peer did in a round, the more remarkable the higher."""

    CONTRIBUTED = 0
    AWAY = 1
    LEFT_OUT = 2
    UNKNOWN = 3
    FAILED = 4


@dataclass(frozen=True, kw_only=True)
class RoundView:
    """One round as all peers' logs tell it."""

    round: int
    end_s: float
    """When the first peer knew the outcome; seconds since the run's first event."""
    told: dict[str, RoundEnded]
    """Peer -> the last that it said about this round."""

    @property
    def committed(self) -> bool:
        return any(event.outcome == "committed" for event in self.told.values())

    @property
    def duration_s(self) -> float:
        """Median over the peers, likewise the overhead."""
        return median(event.duration_s for event in self.told.values())

    @property
    def overhead_s(self) -> float:
        """Of those that contributed, if they tell of it."""
        told = list(self.told.values())
        return median(event.overhead_s for event in [one for one in told if one.payload_bytes] or told)

    @property
    def step(self) -> int:
        return max(event.step for event in self.told.values())

    def part_of(self, log: PeerLog) -> tuple[Part, str]:
        """What this peer did, and why if that is known. Its own word counts first: lineages may differ."""
        peer, own = log.peer, self.told.get(log.peer)
        witnesses = [own] if own is not None else list(self.told.values())
        for event in witnesses:
            if peer in map(short_id, event.contributors):
                return Part.CONTRIBUTED, ""
            reason = {short_id(name): why for name, why in event.excluded.items()}.get(peer)
            if reason is not None and (own is None or own.outcome == "committed"):
                return (Part.LEFT_OUT if own is not None or log.lived_at(self.end_s) else Part.AWAY), reason
        if own is None:
            return Part.AWAY, ""
        if own.outcome == "committed" and log.only_trains:
            return Part.CONTRIBUTED, "passed microbatches"
        if own.outcome == "committed":
            return Part.LEFT_OUT, "no reason is recorded"
        return (Part.FAILED if own.outcome == "failed" else Part.UNKNOWN), "; ".join(own.excluded.values())


def rounds_of(run: Run) -> list[RoundView]:
    """All rounds that any peer knows of, in order; without those that only changed the roster."""
    told: dict[int, dict[str, RoundEnded]] = {}
    ends: dict[int, float] = {}
    for at_s, log, event in run.told(RoundEnded):
        if event.outcome == "goes on":
            continue
        told.setdefault(event.round, {})[log.peer] = event
        ends.setdefault(event.round, at_s)
    return [RoundView(round=number, end_s=ends[number], told=told[number]) for number in sorted(told)]


def parts_of(rounds: Iterable[RoundView], log: PeerLog) -> list[tuple[Part, str]]:
    """What one peer did in each round."""
    return [view.part_of(log) for view in rounds]


def final_digests(run: Run) -> list[tuple[PeerLog, int, str]]:
    """(peer, round, digest) of the last state that each peer told the digest of."""
    last: list[tuple[PeerLog, int, str]] = []
    for log in run.peers:
        known = [(event.round, event.digest) for _, event in log.told(RoundEnded) if event.digest]
        if known:
            last.append((log, *known[-1]))
    return last
