"""One request between two networks: a call, or a stream in both directions.

Each end has a `Port`. Messages from port to port are transferred one after the other, share the hosts' lines with
everything else, and arrive in order. A sender is at most `window.WINDOW_BYTES` ahead of what the other end has read.
"""

from __future__ import annotations

from ..protocol.errors import PeerUnreachable
from .fabric import Endpoint, Fabric
from .paths import Route, Standing
from .port import Port


def dial(fabric: Fabric, caller: Endpoint, target: Endpoint, method: str) -> Port:
    """The caller's port of a new session. Nothing is sent yet. Raises PeerUnreachable if there is no way."""
    there, back = None, None
    if caller.host != target.host:
        there = fabric.wires.route(caller.host, target.host)
        back = fabric.wires.route(target.host, caller.host)
        if there.is_blocked:
            raise PeerUnreachable(
                f"{target.peer_id} is behind NAT, as we are; no hole can be punched and there is no relay"
            )
    near = Port(fabric, caller.host, method, route=there, is_caller=True)
    far = Port(fabric, target.host, method, route=back, is_caller=False)
    near.peer, far.peer = target.peer_id, caller.peer_id
    near.far, far.far = far, near
    near.attach(caller)
    if there is not None and back is not None and there.connect_s:
        near.not_before(_standing(there, back, (caller.life, target.life), fabric.loop.now_s).since_s)
    return near


def _standing(there: Route, back: Route, lives: tuple[int, int], now_s: float) -> Standing:
    """The connection of two processes, whoever dialled it; made now if there is none."""
    lives = min(lives), max(lives)
    if there.stands is None or there.stands.lives != lives:
        there.stands = back.stands = Standing(lives, now_s + there.connect_s + there.path.latency_s)
    return there.stands
