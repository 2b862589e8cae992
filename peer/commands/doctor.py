"""`gossamer doctor`: why a peer does not start or is not found, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console

from ...protocol.errors import GossamerError
from ...protocol.identity import Identity
from ..network.config import NetworkConfig
from ..network.real import RealNetwork

DISK_FREE_MIN_BYTES = 1 << 30
CLOCK_SKEW_MAX_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    detail: str
    remedy: str = ""


def doctor(join: tuple[str, ...], folder: Path, p2p_port: int, grpc_port: int, *, json_output: bool) -> None:
    """Look at everything; exit code 1 if something is wrong."""
    logging.getLogger("hivemind").setLevel(logging.CRITICAL)
    findings = [_disk(folder), _clock(), _port("libp2p", p2p_port), _port("data plane", grpc_port)]
    findings += asyncio.run(_network(join))
    if json_output:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        console = Console()
        for finding in findings:
            mark = "[green]ok[/]  " if finding.good else "[red]BAD[/] "
            console.print(f"{mark} {finding.what}: {finding.detail}", highlight=False)
            if not finding.good:
                console.print(f"     -> {finding.remedy}", highlight=False)
    if not all(finding.good for finding in findings):
        raise SystemExit(1)


def _disk(folder: Path) -> Finding:
    place = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    free = shutil.disk_usage(place).free
    return Finding(
        what="disk",
        good=free >= DISK_FREE_MIN_BYTES,
        detail=f"{free / 1e9:.1f} GB free at {place}",
        remedy="free some space, or keep runs elsewhere with --dir",
    )


def _clock() -> Finding:
    """Peers refuse each other's records when their clocks differ by more than some seconds."""
    now_s = time.time()
    since_boot_s = now_s - psutil.boot_time()
    return Finding(
        what="clock",
        good=now_s > 1.7e9 and since_boot_s > 0,
        detail=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s)),
        remedy=f"set the clock by NTP: peers refuse a difference of more than {CLOCK_SKEW_MAX_S:.0f} s",
    )


def _port(name: str, port: int) -> Finding:
    if port == 0:
        return Finding(what=f"{name} port", good=True, detail="any free one will be taken")
    try:
        with socket.socket() as probe:
            probe.bind(("0.0.0.0", port))
    except OSError as error:
        remedy = f"end the process that holds port {port}, or choose another"
        return Finding(what=f"{name} port", good=False, detail=f"{port}: {error.strerror}", remedy=remedy)
    return Finding(what=f"{name} port", good=True, detail=f"{port} is free")


async def _network(join: tuple[str, ...]) -> list[Finding]:
    """Start a real network for a moment."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        identity = Identity.generate()
        identity.save(key)
        alone = await _try(
            "p2p daemon", lambda: _open(identity, key, ()), "reinstall hivemind: its p2pd does not run here"
        )
        return [alone, *[await _reach(identity, key, address) for address in join]]


async def _reach(identity: Identity, key: Path, address: str) -> Finding:
    remedy = (
        "is that peer running, its port open in its firewall, and the address complete (/ip4/.../tcp/.../p2p/12D3...)?"
    )
    return await _try(f"bootstrap {address}", lambda: _open(identity, key, (address,)), remedy)


async def _open(identity: Identity, key: Path, bootstrap: tuple[str, ...]) -> str:
    config = NetworkConfig(run_id="doctor", identity_path=key, bootstrap=bootstrap, startup_timeout_s=10.0)
    network = await RealNetwork.open(identity, config)
    try:
        health = await network.health()
        return f"started; {health.dht_neighbours} DHT neighbours" if bootstrap else "starts"
    finally:
        await network.close()


async def _try(what: str, attempt: Callable[[], Awaitable[str]], remedy: str) -> Finding:
    try:
        return Finding(what=what, good=True, detail=await attempt())
    except GossamerError as error:
        return Finding(what=what, good=False, detail=str(error), remedy=remedy)
