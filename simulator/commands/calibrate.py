"""`gossamer calibrate`: measures this machine and writes a cost model."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ...peer.commands import order as orders
from ...protocol.errors import GossamerError
from ...protocol.manifest import Manifest
from ...tasks import Task
from .. import calibrating
from ..costs import CostModel, save_costs
from ..likeness import likeness_of


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a person asked for."""

    out: Path
    task: str = "chars"
    method: str = "demo"
    batch: int = 8
    peers: int = 4
    settings: tuple[str, ...] = ()
    like: Path | None = None
    at_once: int = 1


def calibrate(order: Order, *, json_output: bool) -> CostModel:
    """Raises UsageError for what cannot be measured, GossamerError if the file cannot be written."""
    task, manifest, n_members = _what(order)
    if order.out.is_dir() or not os.access(order.out.parent, os.W_OK):
        raise GossamerError(f"cannot write {order.out}: name a file in a folder that is there and can be written to")
    costs = calibrating.calibrate(task, manifest, n_members=n_members, at_once=order.at_once, tell=_tell)
    save_costs(costs, order.out)
    if json_output:
        print(json.dumps({**costs.model_dump(), "out": str(order.out)}))
    else:
        print(_words(costs, order.out))
    return costs


def _what(order: Order) -> tuple[Task, Manifest, int]:
    if order.like is not None:
        like = likeness_of(order.like)
        return like.task(), like.manifest.manifest, len(like.identities)
    wanted = orders.Order(task=order.task, method=order.method, steps=1000, batch=order.batch, options=order.settings)
    manifest, task = orders.manifest_for(wanted, created="calibration", start_peers=order.peers, policy="open")
    return task, manifest, order.peers


def _tell(what: str) -> None:
    print(f"measuring {what} ...", file=sys.stderr)


def _words(costs: CostModel, out: Path) -> str:
    handling, maths = costs.handling, costs.maths
    chunk_s = handling.message_s if handling.chunk_s is None else handling.chunk_s
    factors = ", ".join(f"{name} {factor:.2g}" for name, factor in maths.factor.items())
    return (
        f"{costs.machine}\n"
        f"  one core       {(maths.flops_per_s or 0) / 1e9:.2f} GFLOP/s at the task's steps\n"
        f"  of estimates   {factors}\n"
        f"  a message      {handling.message_s * 1e6:.0f} us at each end, {chunk_s * 1e6:.0f} us within a stream, and "
        f"{handling.byte_s * 1e9:.2f} ns a byte\n"
        f"  its rounds     {handling.bookkeeping_s * 1e6:.0f} us more of each message\n"
        f"  on the wire    {costs.wire.message_bytes:.0f} bytes a message, {costs.wire.byte_share:.1%} of its bytes\n"
        f"  {out}: name it in a scenario as fleet.costs"
    )
