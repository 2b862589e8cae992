"""`gossamer doctor`: why a peer does not start or is not found, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console

from ...protocol.errors import GossamerError, NetworkError
from ...protocol.identity import Identity
from ..network.addresses import check_port_free
from ..network.config import NetworkConfig
from ..network.real import RealNetwork

DISK_FREE_MIN_BYTES = 1 << 30
CLOCK_SKEW_MAX_S = 3.0
STARTUP_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    detail: str
    remedy: str = ""


def doctor(join: tuple[str, ...], folder: Path, p2p_port: int, grpc_port: int, *, json_output: bool) -> None:
    """Look at everything, telling what is found at once; exit code 1 if something is wrong."""
    findings = asyncio.run(_examine(join, folder, p2p_port, grpc_port, quiet=json_output))
    if json_output:
        print(json.dumps([asdict(finding) for finding in findings]))
    n_bad = sum(not finding.good for finding in findings)
    if n_bad:
        raise SystemExit(1)


async def _examine(join: tuple[str, ...], folder: Path, p2p_port: int, grpc_port: int, *, quiet: bool) -> list[Finding]:
    findings = [_disk(folder), _clock(), _port("--p2p-port", p2p_port), _port("--grpc-port", grpc_port)]
    if not quiet:
        for finding in findings:
            _tell(finding)
    with Console(stderr=True).status("starting a libp2p daemon ..." if not join else "asking the others ..."):
        async for finding in _network(join):
            findings.append(finding)
            if not quiet:
                _tell(finding)
    return findings


def _tell(finding: Finding) -> None:
    console = Console(soft_wrap=True, highlight=False)
    mark = "[green]ok[/]  " if finding.good else "[red]BAD[/] "
    console.print(mark, end="")
    console.print(f"{finding.what}: {finding.detail}", markup=False)
    if not finding.good:
        console.print(f"     -> {finding.remedy}", markup=False)


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
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now_s))
    return Finding(
        what="clock",
        good=now_s > 1.7e9 and since_boot_s > 0,
        detail=f"it says {now} UTC (others refuse a difference of more than {CLOCK_SKEW_MAX_S:.0f} s)",
        remedy="set the clock, best by NTP",
    )


def _port(option: str, port: int) -> Finding:
    if port == 0:
        return Finding(what=option, good=True, detail="not given, so any free port will be taken")
    try:
        check_port_free("0.0.0.0", port, option=option)
    except NetworkError as error:
        detail, _, remedy = str(error).partition("; ")
        return Finding(what=option, good=False, detail=detail, remedy=remedy)
    return Finding(what=option, good=True, detail=f"{port} is free")


async def _network(join: tuple[str, ...]) -> AsyncIterator[Finding]:
    """Start a real network for a moment: alone, then with each of the addresses."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        identity = Identity.generate()
        identity.save(key)
        yield await _try(
            "libp2p daemon", lambda: _open(identity, key, ()), "reinstall hivemind: its p2pd does not run here"
        )
        for address in join:
            yield await _reach(identity, key, address)


async def _reach(identity: Identity, key: Path, address: str) -> Finding:
    remedy = (
        "is that peer running, its port open in its firewall, and the address complete (/ip4/.../tcp/.../p2p/12D3...)?"
    )
    return await _try(f"--join {address}", lambda: _open(identity, key, (address,)), remedy)


async def _open(identity: Identity, key: Path, bootstrap: tuple[str, ...]) -> str:
    config = NetworkConfig(run_id="doctor", identity_path=key, bootstrap=bootstrap, startup_timeout_s=STARTUP_TIMEOUT_S)
    begun_s = time.monotonic()
    network = await RealNetwork.open(identity, config)
    try:
        seconds = time.monotonic() - begun_s
        neighbours = (await network.health()).dht_neighbours
        return f"answers, with {neighbours} DHT neighbours, after {seconds:.1f} s" if bootstrap else "starts"
    finally:
        await network.close()


async def _try(what: str, attempt: Callable[[], Awaitable[str]], remedy: str) -> Finding:
    try:
        return Finding(what=what, good=True, detail=await attempt())
    except GossamerError as error:
        reason = str(error)
        inner = reason.partition("(")[2].rpartition(")")[0] if "bootstrap addresses answered" in reason else ""
        return Finding(what=what, good=False, detail=inner.rpartition(": ")[2] or reason, remedy=remedy)
