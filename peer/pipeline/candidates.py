"""The replicas of a stage as one trainer knows them, and what a microbatch has been through with them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...protocol.identity import PeerId
from ..rounds.roster import Member
from .speed import Speed

FIRST_GUESS = 100.0
"""Samples/s that a replica is believed to do before anything is known of it."""


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """A replica's word that it serves a stage."""

    peer: PeerId
    stage: int
    sequence: int
    """Grows with each announcement of this peer."""
    samples_per_s: float
    """Forward passes that it has measured, or its guess: the start of our own average."""


def announced(members: Sequence[Member], told: Mapping[PeerId, float]) -> list[Announcement]:
    """Of all members. Who says nothing of its speed is thought to be like the others: else newcomers would get too
    much, or nothing.

    Args:
        told: samples/s; 0: not known.
    """
    known = {peer: speed for peer, speed in told.items() if speed > 0}
    guess = statistics.median(known.values()) if known else FIRST_GUESS
    return [
        Announcement(
            peer=member.peer,
            stage=member.stage,
            sequence=member.incarnation,
            samples_per_s=known.get(member.peer, guess),
        )
        for member in members
    ]


@dataclass(frozen=True, kw_only=True)
class Ban:
    """Why a replica gets nothing."""

    until_s: float
    reason: str
    sequence: int
    """Of the announcement that it was banned under."""


@dataclass(eq=False)
class Candidate:
    """A replica that gets passes."""

    announced: Announcement
    speed: Speed
    tie: float
    cost: float = 0.0
    n_skips: int = 0
    """Steps in which it was passed over, since it got something."""
    is_skipped: bool = False
    """In this step."""
    n_bans: int = 0
    ban: Ban | None = None


@dataclass(eq=False)
class Attempts:
    """What a microbatch has been through at one stage in one pass. One for each, kept until it succeeds."""

    failed: dict[PeerId, str] = field(default_factory=dict)
    """Whom we asked, and why it did not work out."""
    n_retries: int = 0
    n_crowded: int = 0
    """How often there was no room for it."""
