"""The built-in fleets. Every number has its source, or the word *assumed*.

FLOP/s are what training sustains: a share of the float32 peak. GPUs' peaks are the vendors'.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ...protocol.errors import unknown_name
from ..nat import Nat
from . import lifetimes, regions
from .fleet import HOUR_S, MBIT, Fleet, Machine, Session

T = TypeVar("T", bound=tuple[Any, ...])

GPU_SHARE: Final = 0.35
"""Of the peak; *assumed*: published utilisations of small models lie between 20 and 50 %."""
CPU_SHARE: Final = 0.5
"""Of the peak; *assumed*."""

T4: Final = (8.1e12 * GPU_SHARE, 320e9, 16e9)
"""(FLOP/s sustained, memory bytes/s, memory bytes): NVIDIA's data sheet, 8.1 TFLOP/s, 320 GB/s, 16 GB."""
A100: Final = (19.5e12 * GPU_SHARE, 1555e9, 40e9)
"""NVIDIA's data sheet of the 40 GB model, float32 without tensor cores."""
RTX_3060: Final = (12.7e12 * GPU_SHARE, 360e9, 12e9)
"""NVIDIA's specification, 12 GB model."""
RTX_4070: Final = (29.1e12 * GPU_SHARE, 504e9, 12e9)
"""NVIDIA's specification."""
DESKTOP_CPU: Final = (0.6e12 * CPU_SHARE, 40e9, 16e9)
"""8 cores with AVX2 at 3 to 4 GHz; *assumed*."""
PHONE: Final = (30e9, 15e9, 2e9)
"""A middle-class phone's CPU, of which an app may use a part; *assumed*."""

HOME_PLANS: Final = (
    (0.25, 100 * MBIT, 20 * MBIT, 0.008),
    (0.30, 250 * MBIT, 40 * MBIT, 0.008),
    (0.15, 50 * MBIT, 10 * MBIT, 0.012),
    (0.20, 500 * MBIT, 500 * MBIT, 0.003),
    (0.10, 16 * MBIT, 2.4 * MBIT, 0.015),
)
"""(share, down, up, one-way access latency): cable, VDSL, fibre and ADSL plans. Speeds are common tariffs; the mix and
the latencies are *assumed*."""

HOME_NATS: Final = ((0.15, Nat.OPEN), (0.65, Nat.CONE), (0.20, Nat.SYMMETRIC))
"""*Assumed*: few have a forwarded port, most routers map independently of the destination, carrier-grade NAT is the
rest."""

PHONE_PLANS: Final = ((0.7, 40 * MBIT, 8 * MBIT, 0.020), (0.3, 150 * MBIT, 25 * MBIT, 0.012))
"""(share, down, up, latency) of 4G and 5G in use; *assumed*."""

PHONE_NAT: Final = Nat.SYMMETRIC
"""Of every phone, behind its carrier's; *assumed*: the worst case, since some carriers' NAT is like that of homes."""
PHONE_STAY_S: Final = 0.5 * HOUR_S
"""For which a phone is there in the mean; *assumed*."""
PHONE_START_HOUR: Final = 20.0
"""Local time at the beginning; *assumed*: an evening, when most are on."""

RENTED_BYTES_PER_S: Final = 10_000 * MBIT
"""Of rented machines, up and down: 10 Gbit/s, *assumed*."""

LOSS: Final = 0.001
"""Of packets to and from homes and phones; *assumed*."""
LOSS_RENTED: Final = 0.0
"""Between rented machines; *assumed*."""

VOLUNTEERS_START: Final = (("eu-west", 18.0), ("eu-west", 18.0), ("us-east", 12.0))
"""(region, local time at the beginning) of every three volunteers; *assumed*: six time zones lie between the two."""


def homes(n: int, choose: random.Random, duration_s: float) -> list[Machine]:
    """Enthusiasts' machines on home broadband, always on."""
    return [_home(choose, *choose.choice((RTX_3060, RTX_4070, DESKTOP_CPU))) for _ in range(n)]


def cloud(n: int, choose: random.Random, duration_s: float) -> list[Machine]:
    """T4 instances spread over the regions one after the other."""
    names = regions.REGIONS
    return [_rented(names[number % len(names)]) for number in range(n)]


def preemptible(n: int, choose: random.Random, duration_s: float) -> list[Machine]:
    """T4 instances of one region that are taken away and come back."""
    return [_rented("us-east", lifetimes.preemptible(choose, duration_s=duration_s)) for _ in range(n)]


def volunteers(n: int, choose: random.Random, duration_s: float) -> list[Machine]:
    """PCs at home that are on when their owners are. Begins at 18:00 in Europe; a third live six hours west."""
    machines = []
    for number in range(n):
        region, hour = VOLUNTEERS_START[number % len(VOLUNTEERS_START)]
        sessions = lifetimes.by_hour(choose, duration_s=duration_s, start_hour=hour)
        machines.append(_home(choose, *choose.choice((DESKTOP_CPU, RTX_3060)), region=region, sessions=sessions))
    return machines


def phones(n: int, choose: random.Random, duration_s: float) -> list[Machine]:
    """Phones on mobile networks, behind carrier-grade NAT, each there for about half an hour."""
    machines = []
    for _ in range(n):
        _, down, up, latency_s = _drawn(choose, PHONE_PLANS)
        sessions = lifetimes.by_hour(choose, duration_s=duration_s, start_hour=PHONE_START_HOUR, stay_s=PHONE_STAY_S)
        machines.append(
            Machine(
                flops_per_s=PHONE[0],
                memory_bytes_per_s=PHONE[1],
                memory_bytes=PHONE[2],
                up_bytes_per_s=up,
                down_bytes_per_s=down,
                access_latency_s=latency_s,
                nat=PHONE_NAT,
                sessions=sessions,
                region="eu-west",
            )
        )
    return machines


Kind = Callable[[int, random.Random, float], list[Machine]]

FLEETS: Final[dict[str, Kind]] = {
    "cloud": cloud,
    "homes": homes,
    "phones": phones,
    "preemptible": preemptible,
    "volunteers": volunteers,
}


def build_fleet(kind: str, n: int, *, seed: int, duration_s: float) -> Fleet:
    """A fleet of n machines; machine 0 is always on and can be dialled, since the run's owner stays and relays.

    Args: duration_s: for so long lifetimes are drawn.
    Raises: UnknownName.
    """
    if kind not in FLEETS:
        raise unknown_name("fleet", kind, FLEETS)
    machines = FLEETS[kind](n, random.Random(f"fleet {kind} {seed}"), duration_s)
    first = machines[0]
    machines[0] = Machine(
        flops_per_s=first.flops_per_s,
        memory_bytes_per_s=first.memory_bytes_per_s,
        memory_bytes=first.memory_bytes,
        up_bytes_per_s=first.up_bytes_per_s,
        down_bytes_per_s=first.down_bytes_per_s,
        access_latency_s=first.access_latency_s,
        region=first.region,
        is_relay=True,
    )
    return Fleet(
        machines=tuple(machines),
        round_trip_s=regions.round_trips_s(),
        bytes_per_s=regions.speeds(),
        loss=LOSS_RENTED if kind in ("cloud", "preemptible") else LOSS,
    )


def _rented(region: str, sessions: tuple[Session, ...] | None = None) -> Machine:
    machine = Machine(
        flops_per_s=T4[0],
        memory_bytes_per_s=T4[1],
        memory_bytes=T4[2],
        up_bytes_per_s=RENTED_BYTES_PER_S,
        down_bytes_per_s=RENTED_BYTES_PER_S,
        region=region,
        sessions=sessions or (Session(start_s=0.0, end_s=math.inf),),
    )
    return machine


def _home(
    choose: random.Random,
    flops_per_s: float,
    memory_bytes_per_s: float,
    memory_bytes: float,
    *,
    region: str = "eu-west",
    sessions: tuple[Session, ...] | None = None,
) -> Machine:
    _, down, up, latency_s = _drawn(choose, HOME_PLANS)
    _, nat = _drawn(choose, HOME_NATS)
    return Machine(
        flops_per_s=flops_per_s,
        memory_bytes_per_s=memory_bytes_per_s,
        memory_bytes=memory_bytes,
        up_bytes_per_s=up,
        down_bytes_per_s=down,
        access_latency_s=latency_s,
        nat=nat,
        region=region,
        sessions=(Session(start_s=0.0, end_s=math.inf),) if sessions is None else sessions,
    )


def _drawn(choose: random.Random, options: tuple[T, ...]) -> T:
    weights = [float(option[0]) for option in options]
    return choose.choices(options, weights=weights)[0]
