"""Daemons as child processes on this machine: started, killed, started again, and never left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ...protocol.errors import GossamerError, UsageError
from ..event_kinds import Ended, RoundEnded
from ..events import Entry, read_events

START_TIMEOUT_S = 90.0
SEED_FOR_S = 60.0
"""Who has finished holds the final state for those that were killed and come back; all end when they have it."""
END_GRACE_S = 6.0

_KILL = re.compile(r"(?P<device>device:)?(?P<peer>leader|[0-9]{1,9})@(?P<step>[0-9]{1,9})(?P<restart>:restart)?")


@dataclass(frozen=True, kw_only=True)
class Kill:
    """PEER@STEP[:restart], or device:NUMBER@STEP[:restart]."""

    peer: int | None
    """None: whoever leads the round."""
    step: int
    restart: bool
    of_device: bool = False
    """The number is a device's."""


def parse_kill(text: str, n_peers: int, n_steps: int, n_devices: int = 0) -> Kill:
    """Raises UsageError."""
    match = _KILL.fullmatch(text)
    of_device = match is not None and match["device"] is not None
    n, who = n_devices if of_device else n_peers, match["peer"] if match is not None else ""
    if match is None or not (int(who) < n if who.isdigit() else not of_device):
        devices = f", or device:NUMBER, NUMBER 0..{n_devices - 1}" if n_devices else ""
        raise UsageError(f"--kill {text!r}: write PEER@STEP[:restart], PEER 0..{n_peers - 1} or 'leader'{devices}")
    if int(match["step"]) >= n_steps:
        raise UsageError(f"--kill {text!r}: the run ends at step {n_steps}; use a step before that")
    peer = int(who) if who.isdigit() else None
    return Kill(peer=peer, step=int(match["step"]), restart=match["restart"] is not None, of_device=of_device)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a daemon runs: on this machine as it is, or in a network of its own on it."""

    prefix: tuple[str, ...] = ()
    """What goes before its command, such as `ip netns exec NAME`."""
    listen: str = "127.0.0.1"


@dataclass
class Child:
    """One daemon's process and its log."""

    number: int
    folder: Path
    peer_id: str
    place: Place = Place()
    process: subprocess.Popen[bytes] | None = None
    extra: list[str] = field(default_factory=list)
    """Arguments of this daemon alone."""
    killed: int = 0
    killed_at_step: list[int] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    n_old: int = 0
    """How many entries were there when it was last started."""

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def read(self) -> None:
        path = self.folder / "events.jsonl"
        if path.exists():
            self.entries = read_events(path)

    @property
    def step(self) -> int:
        return max((entry.event.step for entry in self.entries if isinstance(entry.event, RoundEnded)), default=0)

    @property
    def ended(self) -> Ended | None:
        """How its present life ended; None while that goes on, and when it was killed."""
        return next((e.event for e in reversed(self.entries[self.n_old :]) if isinstance(e.event, Ended)), None)

    @property
    def failed(self) -> bool:
        """Whether it is gone without having ended, and nobody here has killed it."""
        return not self.running and self.ended is None and self.killed == 0

    @property
    def busy(self) -> bool:
        """Whether it runs and has not ended: who has ended may stay for latecomers."""
        return self.running and self.ended is None


class Swarm:
    """The daemons of one `gossamer up`.

    They run in sessions of their own, so that Ctrl-C reaches them through us, in order. So that they do not outlive us
    when we are killed, each has the reading end of a pipe that nobody but us holds open (`Departure` watches it).
    """

    def __init__(self, children: list[Child], manifest: Path, extra: list[str], owner_key: Path) -> None:
        self.children = children
        self._manifest = manifest
        self._extra = extra
        self._owner_key = owner_key
        self._lifeline, self._held = os.pipe()

    def start(self) -> None:
        """Start the first daemon, then, once it can be joined, all the others at once."""
        first, *others = self.children
        self._spawn(first, [])
        address = self._wait_for_address(first)
        for child in others:
            self._spawn(child, [address])

    def restart(self, child: Child) -> None:
        """Start a killed daemon again; it joins through one that lives."""
        living = next((other for other in self.children if other.running), None)
        self._spawn(child, [self._address(living)] if living is not None else [])

    def kill(self, child: Child) -> None:
        """kill -9, by pid."""
        if child.process is not None and child.running:
            child.killed += 1
            child.killed_at_step.append(max(other.step for other in self.children))
            os.kill(child.process.pid, signal.SIGKILL)
            child.process.wait(timeout=10)

    def strike(self, kill: Kill) -> tuple[str, Callable[[], None]]:
        """Carry a kill out; what was killed, and what starts it again."""
        child = self._victim(kill)
        self.kill(child)
        return f"daemon {child.number}", lambda: self.restart(child)

    def _victim(self, kill: Kill) -> Child:
        if kill.peer is not None:
            return self.children[kill.peer]
        rounds = [e for child in self.children for e in child.entries if isinstance(e.event, RoundEnded)]
        leaders = [e.event.leader for e in sorted(rounds, key=lambda e: e.unix_s) if isinstance(e.event, RoundEnded)]
        return next((child for child in self.children if child.peer_id.endswith(leaders[-1])), self.children[-1])

    def stop(self) -> None:
        """Ask all to leave; after some seconds make them."""
        living = [child.process for child in self.children if child.process is not None and child.running]
        for process in living:
            process.send_signal(signal.SIGINT)
        deadline_s = time.monotonic() + END_GRACE_S
        for process in living:
            try:
                process.wait(timeout=max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)

    def close(self) -> None:
        """Let go of the lifeline, once all have left."""
        os.close(self._lifeline)
        os.close(self._held)

    def _spawn(self, child: Child, join: list[str]) -> None:
        child.folder.mkdir(parents=True, exist_ok=True)
        child.read()
        child.n_old = len(child.entries)
        command = [*child.place.prefix, sys.executable, "-m", "gossamer.cli", "peer", "--run", str(self._manifest)]
        command += [
            "--folder",
            str(child.folder),
            "--listen",
            child.place.listen,
            "--lifeline",
            "--seed-for",
            str(SEED_FOR_S),
            *self._extra,
            *child.extra,
        ]
        for address in join:
            command += ["--join", address]
        if child.number == 0:
            command += ["--owner-key", str(self._owner_key)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (child.folder / "daemon.log").open("ab") as log:
            # Not the terminal's Ctrl-C, which is for us; but no session of its own, which Linux gives its own part of
            # each core (sched_autogroup): daemons would wait for each other's threads, for 20 ms at times.
            child.process = subprocess.Popen(
                command, stdin=self._lifeline, stdout=log, stderr=log, env=environment, process_group=0
            )

    def _wait_for_address(self, child: Child) -> str:
        path = child.folder / "addresses.json"
        before = path.stat().st_mtime_ns if path.exists() else 0
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if path.exists() and path.stat().st_mtime_ns != before:
                return self._address(child)
            if not child.running:
                raise self._did_not_start(child)
            time.sleep(0.05)
        raise self._did_not_start(child)

    def _address(self, child: Child) -> str:
        addresses: list[str] = json.loads((child.folder / "addresses.json").read_text())
        return addresses[0]

    def _did_not_start(self, child: Child) -> GossamerError:
        log = child.folder / "daemon.log"
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        reason = lines[-1] if lines else "it said nothing"
        return GossamerError(f"daemon {child.number} did not start: {reason} (all of it: {log})")
