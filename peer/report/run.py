"""A run as its peers' logs tell it: who lived when, and what happened to whom, on one axis of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...protocol.errors import StateError
from ..event_kinds import Settled
from ..events import Ended, Entry, Event, Left, Started, lives_of, read_events

E = TypeVar("E", bound=Event)

_SUMMARY_BYTES_MAX = 16 << 20

Fate = Literal["finished", "stopped", "failed", "left", "broke off"]


class Struck(BaseModel):
    """A fault as a simulation did it."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    at_s: float
    kind: str
    peers: tuple[int, ...]
    """By the numbers of their folders."""
    how: dict[str, bool | int | float | str] = Field(default_factory=dict)


class Summary(BaseModel):
    """What `gossamer up` wrote at the end of a run. Where it is silent, the logs are asked."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    command: list[str] | str | None = None
    """The command line that started the run."""
    run_id: str | None = None
    task: str | None = None
    method: str | None = None
    n_peers: int | None = None
    n_params: int | None = None
    steps: int | None = None
    eval_loss_start: float | None = None
    eval_loss: float | None = None
    wall_s: float | None = None
    payload_bytes_per_step: float | None = None
    bytes_sent_per_peer_per_step: float | None = None
    dense_bytes_per_peer_per_step: float | None = None
    rounds_ok: int | None = None
    rounds_failed: int | None = None
    round_overhead_s_p50: float | None = None
    eval_accuracy: float | None = None
    n_devices: int | None = None
    n_devices_seen: int | None = None
    """That were on at any time (simulated)."""
    n_gateways: int | None = None
    uplink_bytes_per_device_per_round: float | None = None
    downlink_bytes_per_device_per_round: float | None = None
    uplink_bytes_per_device: float | None = None
    """In the whole run, like the next one (simulated)."""
    downlink_bytes_per_device: float | None = None
    energy_j_per_device: dict[str, float] | None = None
    """compute_j, bytes_j, wakeups_j, total_j (simulated)."""
    device_on_share: float | None = None
    device_peak_rss_mb: float | None = None
    device_rounds_counted: int | None = None
    rounds_late: int | None = None
    rounds_abandoned: int | None = None
    snapshots_fetched: int | None = None
    model_hashes: list[str] | None = None
    n_model_hashes_from: int | None = None
    shares: dict[str, float] | None = None
    """devices, peers -> share of the weight in the updates."""
    shares_by_gateway: dict[str, float] | None = None
    trace_hash: str | None = None
    """Of a simulated run, like the next ones."""
    scenario: str | None = None
    compute: str | None = None
    """real, or analytic: by sizes and costs only, with losses that mean nothing."""
    samples_per_s: float | None = None
    seed: int | None = None
    version: str | None = None
    begun_s: float = 0.0
    """Virtual time of the run's first event."""
    lives_begun_s: dict[str, list[float]] = Field(default_factory=dict)
    """Peer's folder -> virtual time at which each life in its log began: simulated machines' clocks may be far off."""
    faults: tuple[Struck, ...] = ()
    faults_amiss: tuple[str, ...] = ()
    """What did not come of the faults that were asked for."""
    up_bytes_per_s: tuple[float | None, ...] = ()
    """What each machine's line carries at most, by the numbers of their folders; None: whatever is sent."""

    @property
    def is_simulated(self) -> bool:
        return self.trace_hash is not None

    @property
    def is_sized(self) -> bool:
        """Whether nothing was computed but what it costs."""
        return self.compute == "analytic"


@dataclass(frozen=True, kw_only=True)
class Incarnation:
    """One life of a daemon, from its start to its end."""

    entries: list[Entry]
    """At least one."""
    start_s: float
    """Seconds since the run's first event."""

    @property
    def end_s(self) -> float:
        return self.start_s + max(entry.t_s for entry in self.entries)

    @property
    def fate(self) -> Fate:
        """How it ended; "broke off" if the log just stops: killed, crashed, or still running."""
        for entry in reversed(self.entries):
            if isinstance(entry.event, Ended):
                return entry.event.outcome
            if isinstance(entry.event, Left):
                return "left"
        return "broke off"

    def told(self, kind: type[E]) -> Iterator[tuple[float, E]]:
        """(seconds since the run's first event, event) of one kind, in order."""
        for entry in self.entries:
            if isinstance(entry.event, kind):
                yield self.start_s + entry.t_s, entry.event


@dataclass(frozen=True, kw_only=True)
class PeerLog:
    """All lives of one peer."""

    label: str
    """What the report calls it: its folder's name and its short id."""
    peer: str
    """Short id."""
    lives: list[Incarnation]
    """At least one, in order."""
    number: int | None = None
    """Of its folder, where that is a number; machines that came in its place have the same."""

    def told(self, kind: type[E]) -> Iterator[tuple[float, E]]:
        """As `Incarnation.told`, of all lives."""
        for life in self.lives:
            yield from life.told(kind)

    @cached_property
    def only_trains(self) -> bool:
        """Whether it serves no stage of a pipeline."""
        settled = [event.stage for _, event in self.told(Settled)]
        return bool(settled) and settled[-1] is None

    def lived_at(self, at_s: float) -> bool:
        """Whether its log goes on around this moment."""
        return any(life.start_s <= at_s <= life.end_s for life in self.lives)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a report is made from."""

    peers: list[PeerLog]
    """In the order of their folders' names."""
    summary: Summary

    def told(self, kind: type[E]) -> list[tuple[float, PeerLog, E]]:
        """Events of one kind of all peers, by time."""
        found = [(at_s, peer, event) for peer in self.peers for at_s, event in peer.told(kind)]
        return sorted(found, key=lambda one: one[0])

    def learnt(self, kind: type[E]) -> list[tuple[float, PeerLog, E]]:
        """As `told`, of losses; none of a run by sizes and costs, whose losses are made up."""
        return [] if self.summary.is_sized else self.told(kind)

    @property
    def n_machines(self) -> int:
        """Peers that came in each other's place on one machine count once."""
        return len({log.label if log.number is None else log.number for log in self.peers})

    @property
    def started(self) -> Started | None:
        """What the run is, in the words of the first daemon that started."""
        return next((event for _, _, event in self.told(Started)), None)

    @property
    def end_s(self) -> float:
        return max(life.end_s for peer in self.peers for life in peer.lives)


def load_run(folder: Path) -> Run:
    """Read the logs of a run's folder: those of all peers in it, or of the single daemon that it belongs to.

    Raises: StateError when there is no log with an event in it, or something cannot be read.
    """
    paths = sorted(folder.glob("peers/*/events.jsonl"), key=lambda path: _natural(path.parent.name))
    own = folder / "events.jsonl"
    if not paths and own.is_file():
        paths = [own]
    logs = [(path, entries) for path in paths if (entries := read_events(path))]
    if not logs:
        raise StateError(f"there is no log in {folder}: give the folder of a run, or of one of its daemons")
    summary = _read_summary(folder / "summary.json")
    zero_s = min(entries[0].unix_s - entries[0].t_s for _, entries in logs)
    peers = [
        _peer_log(entries, folder=path.parent.name if path != own else "", zero_s=zero_s, summary=summary)
        for path, entries in logs
    ]
    return Run(peers=peers, summary=summary)


def _peer_log(entries: list[Entry], *, folder: str, zero_s: float, summary: Summary) -> PeerLog:
    peer = entries[-1].peer
    label = f"{folder} · {peer}" if folder and folder != peer else peer
    lives = lives_of(entries)
    starts_s = [life[0].unix_s - life[0].t_s - zero_s for life in lives]
    virtual_s = summary.lives_begun_s.get(folder, [])
    if len(virtual_s) == len(lives):
        starts_s = [start_s - summary.begun_s for start_s in virtual_s]
    number = folder.partition(".")[0]
    return PeerLog(
        label=label,
        peer=peer,
        lives=[Incarnation(entries=life, start_s=at_s) for life, at_s in zip(lives, starts_s, strict=True)],
        number=int(number) if number.isdecimal() and number.isascii() else None,
    )


def _natural(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() and name.isascii() else 1 << 62, name)


def _read_summary(path: Path) -> Summary:
    if not path.is_file():
        return Summary()
    try:
        with path.open("rb") as file:
            return Summary.model_validate_json(file.read(_SUMMARY_BYTES_MAX))
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}; check its permissions") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise StateError(f"cannot use {path}: {where[:60]}: {first['msg'].lower()}; remove that file") from None
