"""Flows drain at their rates; those that end next are kept in a binary heap."""

from __future__ import annotations

import math

from .rows import ENDS, Rows, compiled


@compiled
def settle(flows: Rows, counts: Rows, flow: int, now_s: float) -> None:
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
            row.place = counts[ENDS]
            flows[row.place].ends_list = flow
            counts[ENDS] += 1
        _sift_down(flows, counts[ENDS], _sift_up(flows, row.place))
    elif row.place >= 0:
        drop_end(flows, counts, flow)


@compiled
def go_on(flows: Rows, counts: Rows, flow: int, since_s: float, earliest_s: float) -> None:
    """From `since_s` on, what comes next drains at the same rate; it is not over before `earliest_s`."""
    row = flows[flow]
    row.left_bytes, row.next_bytes, row.since_s = row.next_bytes, 0.0, since_s
    if row.place >= 0:
        row.ends_at_s = max(earliest_s, since_s + row.left_bytes / row.drain_rate)
        _sift_down(flows, counts[ENDS], _sift_up(flows, row.place))


@compiled
def drop_end(flows: Rows, counts: Rows, flow: int) -> None:
    place = flows[flow].place
    flows[flow].place = -1
    counts[ENDS] -= 1
    last = flows[counts[ENDS]].ends_list
    if last != flow:
        flows[place].ends_list = last
        flows[last].place = place
        _sift_down(flows, counts[ENDS], _sift_up(flows, place))


@compiled
def _earlier(flows: Rows, a: int, b: int) -> bool:
    if flows[a].ends_at_s != flows[b].ends_at_s:
        return bool(flows[a].ends_at_s < flows[b].ends_at_s)
    return bool(flows[a].order < flows[b].order)


@compiled
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


@compiled
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
