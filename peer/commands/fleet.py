"""Devices as child processes of `gossamer up`: real `gossamer edge` daemons, enrolled over TLS with real tokens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...protocol.errors import GossamerError
from ...protocol.identity import Identity
from ..event_kinds import Evaluated
from ..folder import PeerFolder
from .gateway import HOME, deal_out, new_token
from .swarm import Child, Kill, Swarm

ADDRESS_TIMEOUT_S = 90.0
ENROL_TIMEOUT_S = 120.0
LAST_WORDS_S = 15.0
HEARTBEAT_S = 10.0
TOKEN_LIFETIME_S = 86400.0
STREAMS = ("edge/attend", "edge/long-answer")
SNAPSHOT = "edge/snapshot"


@dataclass
class DeviceChild:
    """One device's process."""

    number: int
    folder: Path
    data: Path
    gateway: Child
    backprop: bool = False
    killed: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        return self.folder / "device.log"

    def status(self) -> dict[str, Any]:
        path = self.folder / "status.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}


class Fleet(Swarm):
    """The daemons of one `gossamer up --devices`: gateways, peers, and devices."""

    def __init__(self, children: list[Child], manifest: Path, extra: list[str], owner_key: Path) -> None:
        super().__init__(children, manifest, extra, owner_key)
        self.devices: list[DeviceChild] = []
        self.audited = False
        """Whether gateways get what their devices were dealt, to recompute what they submit."""

    def start(self) -> None:
        super().start()
        for child in {id(device.gateway): device.gateway for device in self.devices}.values():
            self._wait_until_it_serves(child)
        for device in self.devices:
            self._spawn_device(device, self._enrolment(device))
        deadline_s = time.monotonic() + ENROL_TIMEOUT_S
        for device in self.devices:
            assert device.process is not None
            try:
                code = device.process.wait(timeout=max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                code = None
            if code != 0:
                raise GossamerError(f"device {device.number} was not enrolled: {_last_line(device.log)}")
        for device in self.devices:
            if self.audited:
                self._show_samples(device)
            self.start_device(device)

    def strike(self, kill: Kill) -> tuple[str, Callable[[], None]]:
        if not kill.of_device or kill.peer is None:
            return super().strike(kill)
        device = self.devices[kill.peer]
        if device.process is not None and device.running:
            device.killed += 1
            device.process.kill()
            device.process.wait(timeout=10)
        return f"device {device.number}", lambda: self.start_device(device)

    def start_device(self, device: DeviceChild) -> None:
        extra = ["--backprop"] if device.backprop else []
        self._spawn_device(device, ["run", "--data", str(device.data), "--lifeline", *extra])

    def stop(self) -> None:
        """Devices end with their run; those that don't are made to, after the daemons."""
        deadline_s = time.monotonic() + LAST_WORDS_S
        while any(device.running for device in self.devices) and time.monotonic() < deadline_s:
            if any(child.busy for child in self.children):
                break  # interrupted
            time.sleep(0.05)
        super().stop()
        living = [device.process for device in self.devices if device.process is not None and device.running]
        for process in living:
            process.send_signal(signal.SIGINT)
        for process in living:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)

    def _enrolment(self, device: DeviceChild) -> list[str]:
        home = PeerFolder(device.gateway.folder)
        line = new_token(home, expires_at_s=time.time() + TOKEN_LIFETIME_S)
        address = (home.path / HOME / "address").read_text().strip()
        return ["enroll", "--gateway", address, "--token", line, "--no-bench"]

    def _spawn_device(self, device: DeviceChild, arguments: list[str]) -> None:
        device.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "gossamer.cli", "edge", *arguments, "--folder", str(device.folder)]
        with device.log.open("ab") as log:
            device.process = subprocess.Popen(
                command, stdin=self._lifeline, stdout=log, stderr=log, env={**os.environ}, process_group=0
            )

    def _show_samples(self, device: DeviceChild) -> None:
        """Give a gateway what the device was dealt."""
        home = device.gateway.folder / HOME / "audit"
        home.mkdir(exist_ok=True)
        shutil.copyfile(device.data, home / f"{Identity.load(device.folder / 'identity.key').peer_id}.npz")

    def _wait_until_it_serves(self, child: Child) -> None:
        path = child.folder / HOME / "address"
        deadline_s = time.monotonic() + ADDRESS_TIMEOUT_S
        while not path.exists():
            if not child.running or time.monotonic() > deadline_s:
                raise self._did_not_start(child)
            time.sleep(0.05)


def settle_devices(
    fleet: Fleet,
    folder: Path,
    *,
    n_devices: int,
    n_gateways: int,
    task: str,
    options: Mapping[str, Any],
    data: Path | None,
    seed: int,
    in_bytes: bool = False,
    audit: float = 0.0,
    n_backprop: int = 0,
) -> None:
    """Deal out samples, and make the first `n_gateways` daemons gateways with like shares of the devices."""
    deal_out(folder / "data", task, data, n_devices, None, seed, options, in_bytes=in_bytes)
    fleet.audited = audit > 0
    for number in range(n_devices):
        gateway = fleet.children[number % n_gateways]
        home, samples = folder / "devices" / str(number), folder / "data" / f"{number}.npz"
        fleet.devices.append(
            DeviceChild(number=number, folder=home, data=samples, gateway=gateway, backprop=number < n_backprop)
        )
    for child in fleet.children[:n_gateways]:
        n_own = sum(device.gateway is child for device in fleet.devices)
        child.extra += ["--gateway", "127.0.0.1:0", "--devices-min", str(n_own), "--heartbeat", str(HEARTBEAT_S)]
        child.extra += ["--audit", str(audit)] if audit else []


def summarise_devices(fleet: Fleet, rounds_ok: int) -> dict[str, Any]:
    """What the devices' and gateways' last words say."""
    statuses = [device.status() for device in fleet.devices]
    rounds = max(1, rounds_ok)
    gateways = [json.loads(path.read_text()) for child in fleet.children if (path := _final(child)).exists()]
    accuracies = [
        (entry.event.step, entry.event.accuracy)
        for child in fleet.children
        for entry in child.entries
        if isinstance(entry.event, Evaluated) and entry.event.accuracy is not None
    ]
    return {
        "n_devices": len(statuses),
        "killed_devices": {str(device.number): device.killed for device in fleet.devices if device.killed},
        "n_gateways": len({id(device.gateway) for device in fleet.devices}),
        "eval_accuracy": max(accuracies)[1] if accuracies else None,
        "uplink_bytes_per_device_per_round": _mean(statuses, "sent_bytes", rounds),
        "downlink_bytes_per_device_per_round": _mean(statuses, "received_bytes", rounds),
        "model_hashes": sorted({str(one["weights"]) for one in [*gateways, *statuses] if one}),
        "n_model_hashes_from": len(gateways) + sum(bool(status) for status in statuses),
        "rounds_counted_by_device": [status.get("rounds_counted", 0) for status in statuses],
        "rounds_late": sum(status.get("rounds_late", 0) for status in statuses),
        "rounds_abandoned": sum(status.get("rounds_abandoned", 0) for status in statuses),
        "device_rounds_counted": sum(status.get("rounds_counted", 0) for status in statuses),
        "snapshots_fetched": sum(status.get("resyncs", 0) for status in statuses),
        "device_peak_rss_mb": max((status.get("peak_rss_bytes", 0) / 2**20 for status in statuses), default=0.0),
        "shares": _shares(gateways),
        "shares_by_gateway": _shares_by_gateway(fleet, statuses),
        "privacy": next((one["privacy"] for one in gateways if "privacy" in one), None),
        "submissions_audited": sum(one.get("audited", 0) for one in gateways),
    }


def _mean(statuses: list[dict[str, Any]], key: str, rounds: int) -> float:
    """Greetings, assignments, updates, submissions, receipts, heartbeats, and whole models where they travel.

    Without the state that each device began with, which is not a round's.
    """
    totals = [_bytes_of_rounds(status.get(key, {}), status.get("resyncs", 0)) for status in statuses]
    return statistics.fmean(totals) / rounds if totals else 0.0


def _bytes_of_rounds(traffic: dict[str, int], n_snapshots: int) -> float:
    again = traffic.get(SNAPSHOT, 0) * (1 - 1 / n_snapshots) if n_snapshots else 0.0
    return again + sum(traffic.get(stream, 0) for stream in STREAMS)


def _shares(gateways: list[dict[str, Any]]) -> dict[str, float]:
    """Each kind's weight in the updates, as the gateway saw them that saw most: one that was killed saw fewer."""
    seen = max(gateways, key=lambda one: int(one.get("updates_seen", 0)), default={})
    return dict(seen.get("shares", {}))


def _shares_by_gateway(fleet: Fleet, statuses: list[dict[str, Any]]) -> dict[str, float]:
    """Of the contributions that devices were told to be counted."""
    counted: Counter[str] = Counter()
    for device, status in zip(fleet.devices, statuses, strict=True):
        counted[str(device.gateway.number)] += int(status.get("rounds_counted", 0))
    total = max(1, counted.total())
    return {name: n / total for name, n in sorted(counted.items())}


def _final(child: Child) -> Path:
    return child.folder / HOME / "final.json"


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()] if path.exists() else []
    return f"{lines[-1] if lines else 'it said nothing'} (all of it: {path})"
