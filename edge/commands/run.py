"""`gossamer edge run`: the daemon, from command line to exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ...protocol.errors import UsageError
from ...protocol.lock import held
from ..daemon import Device
from ..data import DeviceData, load_data
from ..engines import NUMPY, ONNX, Choice, Engines, usable
from ..folder import DeviceFolder
from ..memory import give_back
from ..network.client import EdgeNetwork
from ..rules import load_rules
from ..sensors import LinuxSensors

REST_S = 1.0


def run(
    folder: Path, *, data: str | None, engine: str | None, backprop: bool, json_output: bool, lifeline: bool
) -> None:
    """Until the run is finished, or a signal asks to stop. Raises GossamerError.

    Args:
        engine: None: what `gossamer edge bench --keep` found, or numpy.
        backprop: with torch, in federated runs.
        lifeline: stop when standard input ends, as it does when whoever started this is gone.
    """
    home = DeviceFolder(folder)
    with held(home.path):
        status = asyncio.run(_run(home, _data(home, data), _engines(home, engine, backprop=backprop), lifeline))
    if json_output:
        print(json.dumps(status))
    else:
        print(f"{status['state']}: {status['rounds_counted']} rounds counted, step {status['step']}", file=sys.stderr)


async def _run(folder: DeviceFolder, data: DeviceData, engines: Engines, lifeline: bool) -> dict[str, Any]:
    gateway, identity = folder.gateway(), folder.identity()
    client = EdgeNetwork(identity, gateway, on_rotated=folder.keep_gateway)
    device = Device(
        client=client,
        identity=identity,
        gateway=gateway.peer,
        run_id=gateway.run_id,
        folder=folder,
        data=data,
        rules=load_rules(folder.rules),
        sensors=LinuxSensors(_minute_of_day),
        entropy=random.Random(),
        engines=engines,
        secret=lambda: os.urandom(32),
        on_idle=_Rest(),
        tell=lambda text: print(text, file=sys.stderr, flush=True),
    )
    work = asyncio.create_task(device.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, work.cancel)
    if lifeline:
        loop.add_reader(sys.stdin.fileno(), work.cancel)  # nothing is ever written there: readable means ended
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
        return device.status()
    finally:
        await client.close()


def _engines(folder: DeviceFolder, name: str | None, *, backprop: bool) -> Engines:
    """What the owner says, or what was the quickest when it was measured. Raises UsageError."""
    if backprop:
        try:
            from ..gradients import use_one_thread
        except ImportError:
            raise UsageError("--backprop needs torch: pip install torch") from None
        use_one_thread()
    if name is not None:
        choice = Choice(floats=name, integers=NUMPY if name == NUMPY else ONNX)
        if usable(choice) != choice:
            raise UsageError(f"--engine {name} needs onnxruntime: pip install gossamer[edge]")
        return Engines(choice, backpropagates=backprop)
    choice = folder.choice()
    if usable(choice) != choice:
        print("onnxruntime is not installed any more: using numpy", file=sys.stderr)
    return Engines(usable(choice), backpropagates=backprop)


def _data(folder: DeviceFolder, source: str | None) -> DeviceData:
    if source is not None:
        return load_data(source)
    for path in (folder.path / "data", folder.path / "data.npz"):
        if path.exists():
            return load_data(str(path))
    raise UsageError(f"no samples: put inputs.npy and labels.npy into {folder.path / 'data'}, or name them with --data")


class _Rest:
    """Gives memory back once there has been nothing to do for a moment: not between quick rounds."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(REST_S, give_back)


def _minute_of_day() -> int:
    now = time.localtime()
    return 60 * now.tm_hour + now.tm_min
