"""Progressive filling: the rates at which links fill up one after the other, in what other flows leave of them."""

from __future__ import annotations

import math

from .rows import LINKS_MAX, Rows, compiled


@compiled
def fill(links: Rows, flows: Rows, entries: Rows, n_used: int, n_filled: int, stamp: int) -> None:
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


@compiled
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
    row.spare = capacity(links, link, n_flows) - taken


@compiled
def capacity(links: Rows, link: int, n_flows: int) -> float:
    """What so many flows get of a link together."""
    return float(links[link].bytes_per_s / (1.0 + links[link].contention * max(0, n_flows - 1)))


@compiled
def _level(links: Rows, link: int) -> float:
    return float(max(links[link].spare, 0.0) / links[link].waiting)


@compiled
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


@compiled
def _push_level(links: Rows, n: int, level: float, link: int) -> int:
    place = n
    while place > 0 and links[(place - 1) // 2].level_list > level:
        parent = (place - 1) // 2
        links[place].level_list = links[parent].level_list
        links[place].level_link_list = links[parent].level_link_list
        place = parent
    links[place].level_list, links[place].level_link_list = level, link
    return n + 1


@compiled
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
