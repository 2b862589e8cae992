"""A process with a real network of its own.

python network_process.py hang    print the libp2p daemon's process id and wait to be killed
python network_process.py exit    open two networks, call once, close, leave
"""

from __future__ import annotations

import asyncio
import math
import sys

from gossamer.tests.peer.network.fleet import Fleet, echo


async def hang() -> None:
    async with Fleet() as fleet:
        network = await fleet.open()
        print((await network.health()).p2pd_pid, flush=True)
        await asyncio.Event().wait()


async def leave() -> None:
    # asyncio's debug mode reports steps above .1 s, which on a busy machine says nothing about this code.
    asyncio.get_running_loop().slow_callback_duration = math.inf
    async with Fleet() as fleet:
        a, b = await fleet.pair()
        b.serve("echo", echo)
        await a.call(b.peer_id, "echo", b"", timeout_s=10)


if __name__ == "__main__":
    asyncio.run(hang() if sys.argv[1] == "hang" else leave())
