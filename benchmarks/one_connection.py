"""How messages of one connection share it: one after the other, or all at once?

    sudo python -m benchmarks.one_connection [--mbit 10]

Two networks of our own (gRPC over TLS) in the namespaces of `shaped_links`. One sends several messages to the other at
once; printed is when each has arrived, in shares of the time until all have. Where they go one after the other these
are 1/n, 2/n, ..., 1; where all share the connection they are all 1. In the last rows a short message begins just after
a long one, in the same direction: in the same connection, and in the other that these two peers have. At last, how far
a stream's sender is ahead of the line: what it has been asked for when so much has arrived at the other end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks import meeting
from benchmarks.shaped_links import shaped_hosts, why_not
from gossamer.peer.network import RealNetwork
from gossamer.protocol.identity import PeerId

TURNS, TURNS_OF_STREAMS = 7, 3
CASES = ((6, 20_000), (6, 60_000), (6, 120_000), (6, 400_000))
LONG_BYTES, SHORT_BYTES, AFTER_S = 800_000, 1_000, 0.05
PAUSE_S, MOST_S = 0.5, 300.0
STREAMS = ((200, 10_000), (32, 64_000))
"""Chunks, and bytes of each."""


async def node(number: int, address: str, folder: Path) -> list[list[float]]:
    """One of the two; the first sends, and tells when what has arrived."""
    async with meeting.opened(number, address, folder, "connection") as network:
        network.serve("take", _arrived)
        network.serve("give", _short)
        network.serve_stream("sink", _sink)
        other = (await meeting.meet(network, number, 2, folder))[1 - number]
        await network.call(other, "take", b"", timeout_s=30)
        if number:
            network.serve("fetch", lambda peer, request: _fetch(network, other))
            meeting.write(folder / "serves", "")
            await meeting.read(folder / "done", within_s=MOST_S)
            return []
        await meeting.read(folder / "serves")
        rows = [_median([await _at_once(network, other, *case) for _ in range(TURNS)]) for case in CASES]
        for way in ("take", "fetch"):
            rows.append(_median([await _overtaking(network, other, way) for _ in range(TURNS)]))
        rows += [_median([await _ahead(network, other, *case) for _ in range(TURNS_OF_STREAMS)]) for case in STREAMS]
        meeting.write(folder / "done", "")
        return rows


async def _arrived(peer: PeerId, request: bytes) -> bytes:
    return str(time.time()).encode()


async def _short(peer: PeerId, request: bytes) -> bytes:
    return bytes(SHORT_BYTES)


async def _sink(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """When each of them has arrived."""
    arrivals = [time.time() async for _ in chunks]
    yield json.dumps(arrivals).encode()


async def _fetch(network: RealNetwork, peer: PeerId) -> bytes:
    """Ask for a short message: an answer in the connection that we have opened. Told is how long it took."""
    await asyncio.sleep(AFTER_S)
    asked_s = time.time()
    await network.call(peer, "give", b"", timeout_s=60)
    return str(time.time() - asked_s).encode()


async def _at_once(network: RealNetwork, other: PeerId, n: int, n_bytes: int) -> list[float]:
    await asyncio.sleep(PAUSE_S)
    begun_s = time.time()
    told = await asyncio.gather(*(network.call(other, "take", bytes(n_bytes), timeout_s=60) for _ in range(n)))
    return sorted(float(text) - begun_s for text in told)


async def _overtaking(network: RealNetwork, other: PeerId, way: str) -> list[float]:
    """Seconds of a short message that begins after a long one, and of the long one."""
    await asyncio.sleep(PAUSE_S)
    begun_s = time.time()
    fetched = asyncio.create_task(network.call(other, "fetch", b"", timeout_s=60)) if way == "fetch" else None
    long = asyncio.create_task(network.call(other, "take", bytes(LONG_BYTES), timeout_s=60))
    if fetched is not None:
        return [float(await fetched), float(await long) - begun_s]
    await asyncio.sleep(AFTER_S)
    asked_s = time.time()
    short = await network.call(other, "take", bytes(SHORT_BYTES), timeout_s=60)
    return [float(short) - asked_s, float(await long) - begun_s]


async def _ahead(network: RealNetwork, other: PeerId, n: int, n_bytes: int) -> list[float]:
    """Bytes that the sender had been asked for beyond those that had arrived, while the second half of them did: on
    average, and at most."""
    await asyncio.sleep(PAUSE_S)
    asked_s: list[float] = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(n):
            asked_s.append(time.time())
            yield bytes(n_bytes)

    answer = [chunk async for chunk in network.stream(other, "sink", chunks(), timeout_s=60)]
    arrivals = json.loads(b"".join(answer))
    ahead = [
        n_bytes * (sum(asked <= arrived for asked in asked_s) - number)
        for number, arrived in enumerate(arrivals[: n // 2], 1)
    ]
    return [statistics.mean(ahead), max(ahead)]


def _median(turns: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.median(column) for column in zip(*turns, strict=True)]


def measure(mbit: float) -> list[list[float]]:
    with tempfile.TemporaryDirectory() as folder, shaped_hosts(2, bits_per_s=mbit * 1e6) as hosts:
        words = [sys.executable, "-m", "benchmarks.one_connection", "--node"]
        processes = [
            subprocess.Popen(
                [*host.prefix, *words, str(number), host.address, folder],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for number, host in enumerate(hosts)
        ]
        try:
            told: list[list[float]] = json.loads(processes[0].communicate(timeout=MOST_S)[0])
        finally:
            for process in processes:
                process.kill()
                process.wait(timeout=10)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mbit", type=float, default=10.0)
    parser.add_argument("--node", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.node:
        warnings.simplefilter("ignore", DeprecationWarning)  # hivemind's use of importlib.resources
        number, address, folder = chosen.node
        print(json.dumps(asyncio.run(node(int(number), address, Path(folder)))))
        return
    reason = why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return
    rows = measure(chosen.mbit)
    speed = chosen.mbit * 1e6 / 8
    for (n, n_bytes), row in zip(CASES, rows, strict=False):
        shares = "  ".join(f"{seconds / row[-1]:.2f}" for seconds in row)
        print(f"{n} messages of {n_bytes:,} bytes: {row[-1]:.3f} s (line {n * n_bytes / speed:.3f} s); {shares}")
    for name, row in zip(("the same connection", "the other"), rows[len(CASES) :], strict=False):
        print(f"{SHORT_BYTES:,} bytes after {LONG_BYTES:,} in {name}: {row[0]:.3f} s, the long one {row[1]:.3f} s")
    for (n, n_bytes), row in zip(STREAMS, rows[-len(STREAMS) :], strict=True):
        print(f"{n} chunks of {n_bytes:,} bytes: the sender is {row[0]:,.0f} bytes ahead, at most {row[1]:,.0f}")


if __name__ == "__main__":
    main()
