"""What the death of a daemon cost the others, and itself."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from ..events import Resynced
from .participation import Part, RoundView
from .run import Incarnation, PeerLog, Run

_ROUNDS_AFTER = 5
_ROUNDS_BEFORE = 40
_SLOW = 1.5


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A daemon whose log broke off while the others went on."""

    peer: PeerLog
    at_s: float
    """Its last word; seconds since the run's first event."""
    step: int
    """Steps that the group had made by then."""
    delay_s: float
    """By how much the next rounds, where they were slow, exceeded the median of the rounds before."""
    median_s: float
    """Median duration of the rounds before."""
    n_failed: int
    """Rounds that failed among the next."""
    n_missed: int
    """Committed rounds from its death to its next contribution, or to the end of the run."""
    back_after_s: float | None
    """From its last word to its next contribution; None if there was none."""
    resync: Resynced | None


def kills_of(run: Run, rounds: list[RoundView]) -> list[Kill]:
    """All kills of a run, by time."""
    found = [
        _kill(log, place, rounds)
        for log in run.peers
        for place, life in enumerate(log.lives)
        if life.fate == "broke off" and _others_went_on(log, place, rounds)
    ]
    return sorted(found, key=lambda kill: kill.at_s)


def _others_went_on(log: PeerLog, place: int, rounds: list[RoundView]) -> bool:
    if place + 1 < len(log.lives):
        return True
    end_s = log.lives[place].end_s
    return any(view.end_s > end_s and view.committed and log.peer not in view.told for view in rounds[-2:])


def _kill(log: PeerLog, place: int, rounds: list[RoundView]) -> Kill:
    at_s = log.lives[place].end_s
    next_life = log.lives[place + 1] if place + 1 < len(log.lives) else None
    before = [view for view in rounds if view.end_s <= at_s]
    after = [view for view in rounds if view.end_s > at_s]
    median_s = median(view.duration_s for view in before[-_ROUNDS_BEFORE:]) if before else 0.0
    slow = [view.duration_s for view in after[:_ROUNDS_AFTER] if view.duration_s > _SLOW * median_s]
    back_s = _back_s(log, next_life, after)
    away = [view for view in after if view.committed and (back_s is None or view.end_s < back_s)]
    return Kill(
        peer=log,
        at_s=at_s,
        step=before[-1].step if before else 0,
        delay_s=sum(duration_s - median_s for duration_s in slow),
        median_s=median_s,
        n_failed=sum(not view.committed for view in after[:_ROUNDS_AFTER]),
        n_missed=sum(view.part_of(log)[0] is not Part.CONTRIBUTED for view in away),
        back_after_s=None if back_s is None else back_s - at_s,
        resync=next((event for _, event in next_life.told(Resynced)), None) if next_life else None,
    )


def _back_s(log: PeerLog, life: Incarnation | None, after: list[RoundView]) -> float | None:
    if life is None:
        return None
    back = (view.end_s for view in after if view.end_s >= life.start_s and view.part_of(log)[0] is Part.CONTRIBUTED)
    return next(back, None)
