"""Who gets how much of the bandwidth: exact max-min fairness, recomputed only where something changed.

An allocation is max-min fair exactly when every flow has a *bottleneck*: a link on its way that is full, and on which
no other flow is faster. So after a change only the flows that were held back by a touched link are filled anew; then
the bottlenecks of all flows on the links that these use are checked, and where one no longer holds, that link's flows
are filled too, until all hold.

Compiled, on four arrays that belong together. `entries[LINKS_MAX * flow + k]` is flow's place in the list of all flows
over its k-th link. Fields whose names end in `_list` have nothing to do with the row they stand in: they are lists
that are as long as there are rows. Flows drain at their rates; those that end next are kept in a binary heap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

F = TypeVar("F", bound=Callable[..., Any])
Rows = npt.NDArray[Any]

LINKS_MAX: Final = 5
"""Most links of one flow."""

LINK: Final = np.dtype(
    [
        ("bytes_per_s", "f8"),  # 0: stalled; inf: never a bottleneck
        ("contention", "f8"),  # what n flows get together: bytes_per_s / (1 + contention * (n - 1))
        ("first", "i8"),  # entry, or -1
        ("touched", "i8"),
        ("used", "i8"),
        ("spare", "f8"),
        ("waiting", "i8"),
        ("touched_list", "i8"),
        ("used_list", "i8"),
        ("level_list", "f8"),  # with the next, a heap of links by the rate that they could give
        ("level_link_list", "i8"),
    ]
)
FLOW: Final = np.dtype(
    [
        ("rate", "f8"),  # bytes per second that it may have; inf if no link limits it
        ("bottleneck", "i8"),  # link, or -1
        ("left_bytes", "f8"),  # true at since_s; since then it drains at drain_rate
        ("drain_rate", "f8"),
        ("since_s", "f8"),
        ("ends_at_s", "f8"),
        ("order", "i8"),  # flows that end at one instant end in the order in which they began
        ("place", "i8"),  # in ends_list, or -1
        ("filled", "i8"),
        ("filled_list", "i8"),
        ("ends_list", "i8"),
        ("ended_list", "i8"),
    ]
)
ENTRY: Final = np.dtype([("link", "i8"), ("next", "i8"), ("previous", "i8")])

N_COUNTS: Final = 5
_TOUCHED, _ENDS, _STAMP, _ORDER, _FILLED = range(N_COUNTS)
"""Lengths of the lists; and counters."""

_TOLERANCE = 1e-9


def _compiled(function: F) -> F:
    return cast(F, numba.njit(cache=True)(function))


# ------------------------------------------------------------------------------------------------ what may be called


@_compiled
def begin(
    links: Rows, flows: Rows, entries: Rows, counts: Rows, flow: int, n_bytes: float, now_s: float, a: int, b: int
) -> None:
    """Start a flow of `n_bytes` over links a and b (-1: none); `extend` gives it more."""
    row = flows[flow]
    row.rate, row.drain_rate, row.left_bytes = 0.0, 0.0, n_bytes
    row.bottleneck, row.place, row.filled = -1, -1, 0
    row.since_s, row.ends_at_s = now_s, math.inf
    row.order = counts[_ORDER]
    counts[_ORDER] += 1
    for k in range(LINKS_MAX):
        entries[LINKS_MAX * flow + k].link = -1
    extend(links, entries, counts, flow, 0, a)
    extend(links, entries, counts, flow, 1, b)


@_compiled
def extend(links: Rows, entries: Rows, counts: Rows, flow: int, k: int, link: int) -> None:
    """Let a flow that has just begun run over one more link, as its k-th."""
    if link < 0:
        return
    entry = LINKS_MAX * flow + k
    first = links[link].first
    entries[entry].link, entries[entry].next, entries[entry].previous = link, first, -1
    if first >= 0:
        entries[first].previous = entry
    links[link].first = entry
    touch(links, counts, link)


@_compiled
def stop(links: Rows, flows: Rows, entries: Rows, counts: Rows, flow: int) -> None:
    """Take a flow off its links."""
    if flows[flow].place >= 0:
        _drop_end(flows, counts, flow)
    for entry in range(LINKS_MAX * flow, LINKS_MAX * flow + LINKS_MAX):
        link = entries[entry].link
        if link < 0:
            continue
        after, before = entries[entry].next, entries[entry].previous
        if after >= 0:
            entries[after].previous = before
        if before >= 0:
            entries[before].next = after
        else:
            links[link].first = after
        entries[entry].link = -1
        touch(links, counts, link)


@_compiled
def touch(links: Rows, counts: Rows, link: int) -> None:
    """Share a link out anew at the next `reshare`: its speed, or what runs over it, has changed."""
    if links[link].touched == 0:
        links[link].touched = 1
        links[counts[_TOUCHED]].touched_list = link
        counts[_TOUCHED] += 1


@_compiled
def finish(links: Rows, flows: Rows, entries: Rows, counts: Rows, due_s: float) -> int:
    """Stop the flows that end before `due_s`; so many, their numbers are in `ended_list`."""
    n = 0
    while counts[_ENDS] and flows[flows[0].ends_list].ends_at_s < due_s:
        flow = flows[0].ends_list
        stop(links, flows, entries, counts, flow)
        flows[n].ended_list = flow
        n += 1
    return n


@_compiled
def reshare(links: Rows, flows: Rows, entries: Rows, counts: Rows, now_s: float) -> float:
    """Make all rates max-min fair after what has changed; when the next flow ends, inf if none does."""
    stamp = counts[_STAMP] + 1
    counts[_STAMP] = stamp
    n_used, n_filled, n_seen = _gather_touched(links, flows, entries, counts, stamp)
    while True:
        for index in range(n_seen, n_filled):
            n_used = _use_links_of(links, entries, flows[index].filled_list, stamp, n_used)
        n_seen = n_filled
        _fill(links, flows, entries, n_used, n_filled, stamp)
        for index in range(n_used):
            link = links[index].used_list
            if _unfair(links, flows, entries, link):
                n_filled = _add_flows_of(links, flows, entries, link, stamp, n_filled)
        if n_filled == n_seen:
            break
    counts[_FILLED] = n_filled
    for index in range(n_filled):
        flow = flows[index].filled_list
        if flows[flow].rate != flows[flow].drain_rate:
            _settle(flows, counts, flow, now_s)
    return flows[flows[0].ends_list].ends_at_s if counts[_ENDS] else math.inf


# ---------------------------------------------------------------------------------------------- which flows to fill


@_compiled
def _gather_touched(links: Rows, flows: Rows, entries: Rows, counts: Rows, stamp: int) -> tuple[int, int, int]:
    n_touched, n_filled = counts[_TOUCHED], 0
    for index in range(n_touched):
        link = links[index].touched_list
        links[link].used = stamp
        links[index].used_list = link
        entry = links[link].first
        while entry >= 0:
            flow = entry // LINKS_MAX
            bottleneck = flows[flow].bottleneck
            if flows[flow].filled != stamp and (bottleneck < 0 or links[bottleneck].touched == 1):
                flows[flow].filled = stamp
                flows[n_filled].filled_list = flow
                n_filled += 1
            entry = entries[entry].next
    for index in range(n_touched):
        links[links[index].touched_list].touched = 0
    counts[_TOUCHED] = 0
    return n_touched, n_filled, 0


@_compiled
def _use_links_of(links: Rows, entries: Rows, flow: int, stamp: int, n_used: int) -> int:
    for entry in range(LINKS_MAX * flow, LINKS_MAX * flow + LINKS_MAX):
        link = entries[entry].link
        if link >= 0 and links[link].used != stamp:
            links[link].used = stamp
            links[n_used].used_list = link
            n_used += 1
    return n_used


@_compiled
def _add_flows_of(links: Rows, flows: Rows, entries: Rows, link: int, stamp: int, n_filled: int) -> int:
    entry = links[link].first
    while entry >= 0:
        flow = entry // LINKS_MAX
        if flows[flow].filled != stamp:
            flows[flow].filled = stamp
            flows[n_filled].filled_list = flow
            n_filled += 1
        entry = entries[entry].next
    return n_filled


@_compiled
def _unfair(links: Rows, flows: Rows, entries: Rows, link: int) -> bool:
    """Whether a flow that this link is said to hold back could be faster, or the link carries more than it can."""
    total, slowest_held, fastest, n_flows = 0.0, math.inf, 0.0, 0
    entry = links[link].first
    while entry >= 0:
        flow = flows[entry // LINKS_MAX]
        total += flow.rate
        n_flows += 1
        fastest = max(fastest, flow.rate)
        if flow.bottleneck == link:
            slowest_held = min(slowest_held, flow.rate)
        entry = entries[entry].next
    capacity = _capacity(links, link, n_flows)
    if capacity == math.inf:
        return slowest_held < math.inf
    slack = capacity * _TOLERANCE
    if total > capacity + slack:
        return True
    return slowest_held < math.inf and (total < capacity - slack or slowest_held < fastest * (1 - _TOLERANCE))


# ------------------------------------------------------------------------------------------------ progressive filling


@_compiled
def _fill(links: Rows, flows: Rows, entries: Rows, n_used: int, n_filled: int, stamp: int) -> None:
    """Give these flows, in what the others leave of each link, the rates at which links fill up one after the other."""
    for index in range(n_filled):
        row = flows[flows[index].filled_list]
        row.rate, row.bottleneck = math.inf, -1
    n_levels = 0
    for index in range(n_used):
        link = links[index].used_list
        _measure(links, flows, entries, link, stamp)
        if links[link].waiting:
            n_levels = _push_level(links, n_levels, _level(links, link), link)
    while n_levels:
        known, link = links[0].level_list, links[0].level_link_list
        n_levels = _pop_level(links, n_levels)
        if links[link].waiting == 0:
            continue
        level = _level(links, link)
        if level > known:  # others have left it since
            n_levels = _push_level(links, n_levels, level, link)
        else:
            _freeze(links, flows, entries, link, level, stamp)


@_compiled
def _measure(links: Rows, flows: Rows, entries: Rows, link: int, stamp: int) -> None:
    row = links[link]
    row.waiting, row.spare = 0, row.bytes_per_s
    if row.bytes_per_s == math.inf:
        return
    entry, taken, n_flows = row.first, 0.0, 0
    while entry >= 0:
        flow = flows[entry // LINKS_MAX]
        if flow.filled == stamp:
            row.waiting += 1
        else:
            taken += flow.rate
        n_flows += 1
        entry = entries[entry].next
    row.spare = _capacity(links, link, n_flows) - taken


@_compiled
def _capacity(links: Rows, link: int, n_flows: int) -> float:
    """What so many flows get of a link together."""
    return float(links[link].bytes_per_s / (1.0 + links[link].contention * max(0, n_flows - 1)))


@_compiled
def _level(links: Rows, link: int) -> float:
    return float(max(links[link].spare, 0.0) / links[link].waiting)


@_compiled
def _freeze(links: Rows, flows: Rows, entries: Rows, link: int, level: float, stamp: int) -> None:
    """A link is full: its waiting flows have their rate."""
    entry = links[link].first
    while entry >= 0:
        flow = entry // LINKS_MAX
        if flows[flow].filled == stamp and flows[flow].bottleneck < 0:
            flows[flow].rate, flows[flow].bottleneck = level, link
            for other in range(LINKS_MAX * flow, LINKS_MAX * flow + LINKS_MAX):
                at = entries[other].link
                if at >= 0 and links[at].bytes_per_s < math.inf:
                    links[at].spare -= level
                    links[at].waiting -= 1
        entry = entries[entry].next


@_compiled
def _push_level(links: Rows, n: int, level: float, link: int) -> int:
    place = n
    while place > 0 and links[(place - 1) // 2].level_list > level:
        parent = (place - 1) // 2
        links[place].level_list = links[parent].level_list
        links[place].level_link_list = links[parent].level_link_list
        place = parent
    links[place].level_list, links[place].level_link_list = level, link
    return n + 1


@_compiled
def _pop_level(links: Rows, n: int) -> int:
    n -= 1
    level, link = links[n].level_list, links[n].level_link_list
    place = 0
    while 2 * place + 1 < n:
        child = 2 * place + 1
        if child + 1 < n and links[child + 1].level_list < links[child].level_list:
            child += 1
        if links[child].level_list >= level:
            break
        links[place].level_list = links[child].level_list
        links[place].level_link_list = links[child].level_link_list
        place = child
    links[place].level_list, links[place].level_link_list = level, link
    return n


# ---------------------------------------------------------------------------------------------- draining, and the end


@_compiled
def _settle(flows: Rows, counts: Rows, flow: int, now_s: float) -> None:
    """Count what has drained at the old rate, and go on at the new."""
    row = flows[flow]
    if row.drain_rate == math.inf:
        row.left_bytes = 0.0
    elif row.drain_rate > 0:
        row.left_bytes = max(0.0, row.left_bytes - row.drain_rate * (now_s - row.since_s))
    row.since_s, row.drain_rate = now_s, row.rate
    row.ends_at_s = now_s + row.left_bytes / row.rate if row.rate > 0 else math.inf
    if row.ends_at_s < math.inf:
        if row.place < 0:
            row.place = counts[_ENDS]
            flows[row.place].ends_list = flow
            counts[_ENDS] += 1
        _sift_down(flows, counts[_ENDS], _sift_up(flows, row.place))
    elif row.place >= 0:
        _drop_end(flows, counts, flow)


@_compiled
def _drop_end(flows: Rows, counts: Rows, flow: int) -> None:
    place = flows[flow].place
    flows[flow].place = -1
    counts[_ENDS] -= 1
    last = flows[counts[_ENDS]].ends_list
    if last != flow:
        flows[place].ends_list = last
        flows[last].place = place
        _sift_down(flows, counts[_ENDS], _sift_up(flows, place))


@_compiled
def _earlier(flows: Rows, a: int, b: int) -> bool:
    if flows[a].ends_at_s != flows[b].ends_at_s:
        return bool(flows[a].ends_at_s < flows[b].ends_at_s)
    return bool(flows[a].order < flows[b].order)


@_compiled
def _sift_up(flows: Rows, place: int) -> int:
    flow = flows[place].ends_list
    while place > 0:
        parent = (place - 1) // 2
        other = flows[parent].ends_list
        if not _earlier(flows, flow, other):
            break
        flows[place].ends_list = other
        flows[other].place = place
        place = parent
    flows[place].ends_list = flow
    flows[flow].place = place
    return place


@_compiled
def _sift_down(flows: Rows, n: int, place: int) -> int:
    flow = flows[place].ends_list
    while 2 * place + 1 < n:
        child = 2 * place + 1
        if child + 1 < n and _earlier(flows, flows[child + 1].ends_list, flows[child].ends_list):
            child += 1
        other = flows[child].ends_list
        if not _earlier(flows, other, flow):
            break
        flows[place].ends_list = other
        flows[other].place = place
        place = child
    flows[place].ends_list = flow
    flows[flow].place = place
    return place
