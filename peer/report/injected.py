"""The faults that a simulation did to its machines."""

from __future__ import annotations

from dataclasses import dataclass

from .run import PeerLog, Run, Struck


@dataclass(frozen=True, kw_only=True)
class Injected:
    """One fault, on the run's axis of time."""

    at_s: float
    end_s: float
    """The same, unless it went on for a while."""
    kind: str
    text: str
    """What is particular to it."""
    victims: list[PeerLog]
    """As far as they have logs: of each machine the one that lived there last by then."""

    @property
    def in_words(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


def injected_in(run: Run) -> list[Injected]:
    """All faults of a simulated run, by time."""
    found = [_injected(run, struck) for struck in run.summary.faults]
    return sorted(found, key=lambda one: one.at_s)


def _injected(run: Run, struck: Struck) -> Injected:
    at_s = struck.at_s - run.summary.begun_s
    lasted = struck.how.get("for_s")
    lasted_s = float(lasted) if isinstance(lasted, int | float) else 0.0
    return Injected(
        at_s=at_s,
        end_s=max(at_s, min(at_s + lasted_s, run.end_s)),
        kind=struck.kind.replace("_", " "),
        text=", ".join(f"{name} = {_shown(value)}" for name, value in struck.how.items()),
        victims=[log for number in struck.peers if (log := _log_of(run, number, at_s)) is not None],
    )


def _log_of(run: Run, number: int, at_s: float) -> PeerLog | None:
    logs = [log for log in run.peers if log.number == number]
    begun = [log for log in logs if log.lives[0].start_s <= at_s]
    return max(begun or logs, key=lambda log: log.lives[0].start_s, default=None)


def _shown(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
