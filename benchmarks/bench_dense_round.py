"""A round of devices that get and send a whole model over TLS on loopback: through the daemons; flwr beside it.

    python -m gossamer.benchmarks.bench_dense_round [--devices 10] [--params 1000000] [--rounds 10] [--flwr PYTHON]

daemons    `gossamer up --method federated`: a gateway and `gossamer edge run --backprop` processes. A round, from one
           update to the next: the model goes to every device, each does one local step on one sample and puts its
           change on its disk; the changes go up and to the gateway's disk; they are averaged, applied and journalled.
transport  the same bytes over the same sessions and streams, without disk, digests, maths and daemons.
flwr       (optional, in an environment of its own, `--flwr ITS/bin/python`) FedAvg, gRPC without TLS, as many client
           processes that add 1 to what they got.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.edge.network import EdgeNetwork, Gateway
from gossamer.peer.network.front import Front
from gossamer.protocol.identity import Identity, PeerId
from gossamer.protocol.network import MAX_CHUNK_BYTES

F32 = npt.NDArray[np.float32]
METHOD = "bench/round"
RUN_ID = "0" * 32
TIMEOUT_S = 300.0


def identity(number: int) -> Identity:
    return Identity(hashlib.sha256(f"dense {number}".encode()).digest())


class Rounds:
    """The gateway's side: hands out the model, takes in a vector from each device."""

    def __init__(self, n_devices: int, n_params: int) -> None:
        self.model: F32 = np.zeros(n_params, np.float32)
        self.ready = asyncio.Event()
        self._n_devices = n_devices
        self._open: dict[PeerId, asyncio.Queue[bytes | None]] = {}
        self._answers: dict[PeerId, asyncio.Queue[F32]] = {}

    async def attend(self, peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        out = self._open[peer] = asyncio.Queue()
        self._answers[peer] = asyncio.Queue()
        reader = asyncio.create_task(self._read(peer, chunks))
        if len(self._open) == self._n_devices:
            self.ready.set()
        try:
            while (chunk := await out.get()) is not None:
                yield chunk
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def round(self) -> float:
        """Seconds of one round."""
        began_s = time.perf_counter()
        pieces = pieces_of(self.model)
        for out in self._open.values():
            for piece in pieces:
                out.put_nowait(piece)
        vectors = [await self._answers[peer].get() for peer in sorted(self._open)]
        total = np.zeros_like(self.model)
        for vector in vectors:
            total += vector
        self.model = total / np.float32(len(vectors))
        return time.perf_counter() - began_s

    def end(self) -> None:
        for out in self._open.values():
            out.put_nowait(None)

    async def _read(self, peer: PeerId, chunks: AsyncIterator[bytes]) -> None:
        held = bytearray()
        async for chunk in chunks:
            held += chunk
            if len(held) >= self.model.nbytes:
                self._answers[peer].put_nowait(np.frombuffer(bytes(held), np.float32))
                held = bytearray()


def pieces_of(vector: F32) -> list[bytes]:
    data = vector.tobytes()
    return [data[start : start + MAX_CHUNK_BYTES] for start in range(0, len(data), MAX_CHUNK_BYTES)]


async def measure(n_devices: int, n_params: int, n_rounds: int) -> dict[str, float]:
    gateway = identity(-1)
    with tempfile.TemporaryDirectory() as folder:
        front = await Front.open(gateway, run_id=RUN_ID, folder=Path(folder), host="127.0.0.1", port=0)
        rounds = Rounds(n_devices, n_params)
        front.serve_stream(METHOD, rounds.attend)
        front.set_gate(lambda peer: True)
        order = {"port": front.port, "certificate": front.certificate.der.hex(), "params": n_params}
        children = [await _start_device({**order, "number": number}) for number in range(n_devices)]
        async with asyncio.timeout(TIMEOUT_S):
            await rounds.ready.wait()
            await rounds.round()  # the first also warms up
            seconds = [await rounds.round() for _ in range(n_rounds)]
        rounds.end()
        for child in children:
            await child.wait()
        await front.close()
    expected = float(n_rounds + 1)  # every device adds 1
    if not np.all(rounds.model == expected):
        raise SystemExit(f"the model should hold {expected} everywhere, and holds {rounds.model[:4]}")
    return _told(seconds)


def measure_daemons(n_devices: int, n_params: int, n_rounds: int) -> dict[str, Any]:
    """Seconds from one update of the model to the next."""
    hidden = round((n_params - 10) / 75)  # of an MLP 64-hidden-10
    settings = [f"task.hidden={hidden}", "method.local_steps=1", "method.batch_size=1", "method.local_lr=0.001"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "gossamer.cli", "up", "--task", "digits", "--method", "federated", "--json"]
        command += ["--devices", str(n_devices), "--backprop", str(n_devices), "--rounds", str(n_rounds + 2)]
        command += ["--out", str(out), *(word for setting in settings for word in ("--set", setting))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        summary = json.loads(done.stdout)
        events = [json.loads(line) for line in (out / "peers" / "0" / "events.jsonl").read_text().splitlines()]
    if len(summary["model_hashes"]) != 1 or summary["rounds_failed"]:
        raise SystemExit(f"the rounds went wrong: {summary}")
    ends_s = [event["t_s"] for event in events if event["kind"] == "round_ended"][1:]  # the first waits for devices
    seconds = [later - earlier for earlier, later in itertools.pairwise(ends_s)]
    return {
        "params": summary["n_params"],
        **_told(seconds),
        "device_peak_rss_mb": round(summary["device_peak_rss_mb"]),
        "gateway_peak_rss_mb": round(summary["memory_bytes_max"] / 2**20),
    }


def _told(seconds: list[float]) -> dict[str, float]:
    told = {"median_s": statistics.median(seconds), "best_s": min(seconds), "worst_s": max(seconds)}
    return {name: round(value, 3) for name, value in told.items()}


async def _start_device(order: dict[str, Any]) -> asyncio.subprocess.Process:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gossamer.benchmarks.bench_dense_round", "--as-device"), stdin=subprocess.PIPE
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(order).encode() + b"\n")
    await child.stdin.drain()
    return child


async def be_device(order: dict[str, Any]) -> None:
    """Send back what comes, plus 1, until the gateway ends the stream."""
    gateway = Gateway(
        peer=identity(-1).peer_id,
        run_id=RUN_ID,
        host="127.0.0.1",
        port=int(order["port"]),
        certificate=bytes.fromhex(order["certificate"]),
    )
    client = EdgeNetwork(identity(int(order["number"])), gateway)
    words: asyncio.Queue[bytes] = asyncio.Queue()

    async def answers() -> AsyncIterator[bytes]:
        while True:
            yield await words.get()

    held = bytearray()
    async for chunk in client.stream(gateway.peer, METHOD, answers(), timeout_s=TIMEOUT_S):
        held += chunk
        if len(held) >= 4 * int(order["params"]):
            for piece in pieces_of(np.frombuffer(bytes(held), np.float32) + np.float32(1)):
                words.put_nowait(piece)
            held = bytearray()
    await client.close()


def measure_flwr(python: str, n_devices: int, n_params: int, n_rounds: int) -> dict[str, Any]:
    """The same with flwr, in its own interpreter."""
    command = [python, str(Path(__file__).with_name("flwr_round.py")), str(n_devices), str(n_params), str(n_rounds)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--flwr", metavar="PYTHON", help="interpreter of an environment that has flwr")
    parser.add_argument("--as-device", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.as_device:
        asyncio.run(be_device(json.loads(sys.stdin.readline())))
        return
    order = (chosen.devices, chosen.params, chosen.rounds)
    found: dict[str, Any] = {"devices": chosen.devices, "params": chosen.params}
    found |= {"daemons": measure_daemons(*order), "transport": asyncio.run(measure(*order))}
    if chosen.flwr:
        found["flwr"] = measure_flwr(chosen.flwr, *order)
    found["load_1min"] = os.getloadavg()[0]
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
