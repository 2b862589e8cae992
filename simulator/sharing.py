"""Who gets how much of the bandwidth: exact max-min fairness, recomputed only where something changed.

An allocation is max-min fair exactly when every flow has a *bottleneck*: a link on its way that is full, and on which
no other flow is faster. So after a change only the flows that were held back by a touched link are filled anew; then
the bottlenecks of all flows on the links that these use are checked, and where one no longer holds, that link's flows
are filled too, until all hold.
"""

from __future__ import annotations

import math

import numpy as np

from .draining import drop_end, go_on, settle
from .filling import capacity, fill
from .rows import ENDS, LINKS_MAX, ORDER, STAMP, TOUCHED, Rows, compiled

_TOLERANCE = 1e-9


@compiled
def begin(
    links: Rows,
    flows: Rows,
    entries: Rows,
    counts: Rows,
    now_s: float,
    flow: int,
    n_bytes: float,
    a: int,
    b: int,
    c: int,
    d: int,
    e: int,
) -> None:
    """Start a flow of `n_bytes` over up to LINKS_MAX links; -1: none."""
    row = flows[flow]
    row.rate, row.drain_rate, row.left_bytes, row.next_bytes = 0.0, 0.0, n_bytes, 0.0
    row.bottleneck, row.place, row.filled = -1, -1, 0
    row.since_s, row.ends_at_s = now_s, math.inf
    row.order = counts[ORDER]
    counts[ORDER] += 1
    _put_on(links, entries, counts, LINKS_MAX * flow, a)
    _put_on(links, entries, counts, LINKS_MAX * flow + 1, b)
    _put_on(links, entries, counts, LINKS_MAX * flow + 2, c)
    _put_on(links, entries, counts, LINKS_MAX * flow + 3, d)
    _put_on(links, entries, counts, LINKS_MAX * flow + 4, e)


@compiled
def begin_and_reshare(
    links: Rows,
    flows: Rows,
    entries: Rows,
    counts: Rows,
    now_s: float,
    flow: int,
    n_bytes: float,
    a: int,
    b: int,
    c: int,
    d: int,
    e: int,
) -> float:
    """`begin` and `reshare` for the price of one call from Python."""
    begin(links, flows, entries, counts, now_s, flow, n_bytes, a, b, c, d, e)
    return reshare(links, flows, entries, counts, now_s)


@compiled
def stop(links: Rows, flows: Rows, entries: Rows, counts: Rows, flow: int) -> None:
    """Take a flow off its links."""
    if flows[flow].place >= 0:
        drop_end(flows, counts, flow)
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


@compiled
def touch(links: Rows, counts: Rows, link: int) -> None:
    """Share a link out anew at the next `reshare`: its speed, or what runs over it, has changed."""
    if links[link].touched == 0:
        links[link].touched = 1
        links[counts[TOUCHED]].touched_list = link
        counts[TOUCHED] += 1


@compiled
def finish_and_reshare(links: Rows, flows: Rows, entries: Rows, counts: Rows, now_s: float) -> tuple[int, float]:
    """Stop the flows that have ended, but those that go on: how many have, and when the next does, as `reshare`. Their
    numbers are in `ended_list`, each once: what they go on with is not over in the same instant, however short."""
    n, next_instant_s = 0, np.nextafter(now_s, math.inf)
    while counts[ENDS] and flows[flows[0].ends_list].ends_at_s <= now_s:
        flow = flows[0].ends_list
        if flows[flow].next_bytes > 0:
            go_on(flows, counts, flow, flows[flow].ends_at_s, next_instant_s)
        else:
            stop(links, flows, entries, counts, flow)
        flows[n].ended_list = flow
        n += 1
    return n, reshare(links, flows, entries, counts, now_s)


@compiled
def skip(flows: Rows, counts: Rows, flow: int, now_s: float) -> None:
    """Give up what is left, and go on with what comes next."""
    go_on(flows, counts, flow, now_s, now_s)


@compiled
def reshare(links: Rows, flows: Rows, entries: Rows, counts: Rows, now_s: float) -> float:
    """Make all rates max-min fair after what has changed; when the next flow ends, inf if none does."""
    stamp = counts[STAMP] + 1
    counts[STAMP] = stamp
    n_used, n_filled, n_seen = _gather_touched(links, flows, entries, counts, stamp)
    while True:
        for index in range(n_seen, n_filled):
            n_used = _use_links_of(links, entries, flows[index].filled_list, stamp, n_used)
        n_seen = n_filled
        fill(links, flows, entries, n_used, n_filled, stamp)
        for index in range(n_used):
            link = links[index].used_list
            if _unfair(links, flows, entries, link):
                n_filled = _add_flows_of(links, flows, entries, link, stamp, n_filled)
        if n_filled == n_seen:
            break
    for index in range(n_filled):
        flow = flows[index].filled_list
        if flows[flow].rate != flows[flow].drain_rate:
            settle(flows, counts, flow, now_s)
    return flows[flows[0].ends_list].ends_at_s if counts[ENDS] else math.inf


@compiled
def _put_on(links: Rows, entries: Rows, counts: Rows, entry: int, link: int) -> None:
    entries[entry].link = link
    if link < 0:
        return
    first = links[link].first
    entries[entry].next, entries[entry].previous = first, -1
    if first >= 0:
        entries[first].previous = entry
    links[link].first = entry
    touch(links, counts, link)


@compiled
def _gather_touched(links: Rows, flows: Rows, entries: Rows, counts: Rows, stamp: int) -> tuple[int, int, int]:
    n_touched, n_filled = counts[TOUCHED], 0
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
    counts[TOUCHED] = 0
    return n_touched, n_filled, 0


@compiled
def _use_links_of(links: Rows, entries: Rows, flow: int, stamp: int, n_used: int) -> int:
    for entry in range(LINKS_MAX * flow, LINKS_MAX * flow + LINKS_MAX):
        link = entries[entry].link
        if link >= 0 and links[link].used != stamp:
            links[link].used = stamp
            links[n_used].used_list = link
            n_used += 1
    return n_used


@compiled
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


@compiled
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
    together = capacity(links, link, n_flows)
    if together == math.inf:
        return slowest_held < math.inf
    slack = together * _TOLERANCE
    if total > together + slack:
        return True
    return slowest_held < math.inf and (total < together - slack or slowest_held < fastest * (1 - _TOLERANCE))
