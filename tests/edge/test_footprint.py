"""What an idle device costs: measured on the daemon itself, attending at a gateway that asks for nothing."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import gossamer
from gossamer.algorithms.forward import BaffleOptions, mlp
from gossamer.edge.folder import DeviceFolder
from gossamer.edge.network import Gateway
from gossamer.peer.network.front import Front
from gossamer.protocol import devices
from gossamer.protocol.edge_pb2 import Downlink, RunCard
from gossamer.protocol.identity import Identity, PeerId

RUN_ID = "0" * 32
IDLE_MB_MAX = 60.0
"""Measured here: 61 right after it has connected, 46 after a second of rest."""
ONNX_IDLE_MB_MAX = 80.0
"""Measured here: 55, and 86 before the rest."""
IMPORT_S_MAX = 0.15
OVER_LIBRARIES = 1.5
"""On a busy machine even the libraries alone take longer than the limit: then this many times what they take."""
HEAVY = ("torch", "hivemind", "pydantic", "typer", "rich", "scipy", "numba", "sklearn", "onnxruntime")
LIBRARIES = (
    "numpy, grpc.aio, google.protobuf.message, cryptography.x509, cryptography.hazmat.primitives.asymmetric.ed25519"
)


PYTHON = (sys.executable, "-S")
"""Without the .pth files of a development environment, which load tools that no device has."""


def environment() -> dict[str, str]:
    """As on a device: what was installed, and the room that we are in."""
    path = os.pathsep.join([str(Path(gossamer.__path__[0]).parent), sysconfig.get_paths()["purelib"]])
    room = Path(gossamer.__path__[0]) / ".as"
    path = os.pathsep.join([str(room), path]) if room.is_dir() else path
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def cpu_seconds(modules: str, tmp_path: Path) -> float:
    """Processor time of an import in a fresh interpreter, with compiled modules at hand after the first time."""
    code = f"import time; a = time.process_time(); import {modules}; print(time.process_time() - a)"
    env = {**environment(), "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    run = subprocess.run([*PYTHON, "-c", code], capture_output=True, text=True, timeout=50, env=env, check=True)
    return float(run.stdout)


def test_daemon_imports_quickly(tmp_path: Path) -> None:
    # In turns, since a shared machine is faster now and slower then.
    pairs = [(cpu_seconds(LIBRARIES, tmp_path), cpu_seconds("gossamer.edge.commands.run", tmp_path)) for _ in range(6)]

    quick = [ours <= max(IMPORT_S_MAX, OVER_LIBRARIES * libraries) for libraries, ours in pairs]
    assert any(quick), f"seconds of the libraries alone, and of all: {pairs}"


def test_daemon_loads_nothing_of_a_peers() -> None:
    code = f"import sys, gossamer.cli, gossamer.edge.commands.run; print(*[m for m in {HEAVY!r} if m in sys.modules])"

    done = subprocess.run(
        [*PYTHON, "-c", code], capture_output=True, text=True, timeout=50, env=environment(), check=True
    )

    assert done.stdout.split() == []


async def test_idle_daemon_takes_little_memory(tmp_path: Path) -> None:
    gateway, device = Identity(b"gateway".ljust(32)), Identity(b"device".ljust(32))
    front = await Front.open(gateway, run_id=RUN_ID, folder=tmp_path / "gateway", host="127.0.0.1", port=0)
    card = RunCard(
        run_id=RUN_ID,
        task="digits",
        network=json.dumps(mlp(64, 32, 10).to_dict()),
        options=json.dumps(asdict(BaffleOptions())),
        steps=10,
        heartbeat_s=60.0,
    )
    here = asyncio.Event()

    async def hand_card(peer: PeerId, request: bytes) -> bytes:
        return devices.sign_card(gateway, card)

    async def attend(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for _ in chunks:
            yield Downlink(heartbeat=True).SerializeToString()
            here.set()

    front.serve(devices.CARD, hand_card)
    front.serve_stream(devices.ATTEND, attend)
    front.set_gate(lambda peer: peer == device.peer_id)
    folder = DeviceFolder(tmp_path / "device")
    device.save(folder.key)
    folder.keep_gateway(
        Gateway(
            peer=gateway.peer_id,
            run_id=RUN_ID,
            host="127.0.0.1",
            port=front.port,
            certificate=front.certificate.der,
        )
    )
    (folder.path / "data").mkdir()
    np.save(folder.path / "data" / "inputs.npy", np.zeros((10, 64), np.float32))
    np.save(folder.path / "data" / "labels.npy", np.arange(10))

    process = await asyncio.create_subprocess_exec(
        *(*PYTHON, "-m", "gossamer.cli", "edge", "run", "--folder", str(folder.path)),
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(50):
            await here.wait()
        rss_mb = await settled_mb(process.pid)
    finally:
        process.terminate()
        code = await process.wait()
        await front.close()

    assert code == 0
    assert rss_mb <= IDLE_MB_MAX, f"{rss_mb:.1f} MB"


def test_at_rest_onnxruntime_takes_little_memory_too() -> None:
    """After a hundred evaluations, with all of the daemon loaded."""
    pytest.importorskip("onnxruntime")
    code = """
import numpy as np
import gossamer.edge.commands.run, gossamer.edge.daemon, grpc.aio
from gossamer.algorithms.forward import mlp
from gossamer.algorithms.forward.onnx_engine import OnnxEngine
from gossamer.edge.memory import give_back
engine = OnnxEngine(mlp(64, 32, 10))
for _ in range(100):
    engine.logits(np.zeros(2410, np.float32), np.zeros((32, 64), np.float32))
give_back()
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""

    done = subprocess.run(
        [*PYTHON, "-c", code], capture_output=True, text=True, timeout=50, env=environment(), check=True
    )

    assert float(done.stdout) <= ONNX_IDLE_MB_MAX, f"{done.stdout.strip()} MB"


async def settled_mb(pid: int) -> float:
    """The least of a few looks: after a moment of rest a daemon gives back what it needed to connect."""
    looks = []
    for _ in range(15):
        looks.append(resident_mb(pid))
        await asyncio.sleep(0.2)
    return min(looks)


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")
