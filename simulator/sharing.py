"""Who gets how much of the bandwidth: exact max-min fairness, recomputed only where something changed.

An allocation is max-min fair exactly when every flow has a *bottleneck*: a link on its way that is full, and on which
no other flow is faster. So after a change only the flows that were held back by a touched link are filled anew; then
the bottlenecks of all flows on the links that these use are checked, and where one no longer holds, that link's flows
are filled too, until all hold.
"""

from __future__ import annotations

import math
from asyncio import Future
from collections.abc import Iterable
from dataclasses import dataclass, field

_TOLERANCE = 1e-9


@dataclass(eq=False, kw_only=True)
class Link:
    """One direction of a host's access line."""

    name: str
    bytes_per_s: float
    """0: stalled; inf: never a bottleneck."""
    flows: dict[Flow, None] = field(default_factory=dict)


@dataclass(eq=False, kw_only=True)
class Flow:
    """A transfer under way."""

    links: tuple[Link, ...]
    """Not empty."""
    left_bytes: float
    done: Future[None]
    rate: float = 0.0
    """Bytes per second that it may have; inf if no link limits it."""
    bottleneck: Link | None = None
    drain_rate: float = 0.0
    """Bytes per second at which it has drained since `since_s`, when `left_bytes` was true."""
    since_s: float = 0.0
    ends_at_s: float = math.inf


def reshare(touched: Iterable[Link]) -> list[Flow]:
    """Make all rates max-min fair again after flows began or ended on, or speeds changed of, these links.

    Returns: every flow whose rate may have changed.
    """
    links = dict.fromkeys(touched)
    filled = {f: None for link in links for f in link.flows if f.bottleneck is None or f.bottleneck in links}
    while True:
        _fill(filled)
        used = dict.fromkeys([*links, *(link for flow in filled for link in flow.links)])
        grown = {f: None for link in used if _unfair(link) for f in link.flows if f not in filled}
        if not grown:
            return list(filled)
        filled.update(grown)


def _fill(flows: dict[Flow, None]) -> None:
    """Progressive filling of these flows, in what the others leave of each link."""
    spare, waiting = _spare(flows)
    for flow in flows:
        flow.rate, flow.bottleneck = math.inf, None
    while spare:
        link = min(spare, key=lambda link: spare[link] / len(waiting[link]))
        level = max(spare[link], 0.0) / len(waiting[link])
        for flow in list(waiting[link]):
            flow.rate, flow.bottleneck = level, link
            for other in flow.links:
                if other in spare:
                    _take(other, flow, spare, waiting)


def _spare(flows: dict[Flow, None]) -> tuple[dict[Link, float], dict[Link, dict[Flow, None]]]:
    waiting: dict[Link, dict[Flow, None]] = {}
    for flow in flows:
        for link in flow.links:
            if link.bytes_per_s < math.inf:
                waiting.setdefault(link, {})[flow] = None
    spare = {link: link.bytes_per_s - sum(f.rate for f in link.flows if f not in flows) for link in waiting}
    return spare, waiting


def _take(link: Link, flow: Flow, spare: dict[Link, float], waiting: dict[Link, dict[Flow, None]]) -> None:
    spare[link] -= flow.rate
    del waiting[link][flow]
    if not waiting[link]:
        del spare[link], waiting[link]


def _unfair(link: Link) -> bool:
    """Whether a flow that this link is said to hold back could be faster, or the link carries more than it can."""
    if link.bytes_per_s == math.inf:
        return any(flow.bottleneck is link for flow in link.flows)
    total = sum(flow.rate for flow in link.flows)
    slack = link.bytes_per_s * _TOLERANCE
    if total > link.bytes_per_s + slack:
        return True
    held = [flow.rate for flow in link.flows if flow.bottleneck is link]
    if not held:
        return False
    fastest = max(flow.rate for flow in link.flows)
    return total < link.bytes_per_s - slack or min(held) < fastest * (1 - _TOLERANCE)
