"""Fleets that come and go, the best that could be made of them, and the rebalancing rule alone on such a fleet.

A pipeline's throughput is that of its slowest stage. `play` is a model, not the daemons: speeds are known exactly, a
stage is as fast as its replicas together, a joining or moved replica serves after `SYNC_S`, a death is noticed after
`NOTICE_S`, and a lost stage is served again by whoever joins it. The rule is that of
`algorithms.pipeline.rebalancing`, as the daemons use it.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gossamer.algorithms.pipeline.rebalancing import Fleet, Proposed, Serving, balancing_move, urgent_move
from gossamer.peer.pipeline.changes import URGENT_EVERY_S
from gossamer.simulator.fleets.fleet import Session
from gossamer.simulator.fleets.lifetimes import log_normal, preemptible

SYNC_S, NOTICE_S = 30.0, 5.0
LOOK_S = 20.0
"""Between two looks for a move: the daemons look with each decision."""
NOTICED, ENDS, BEGINS, LOOK = range(4)
"""What happens, in this order at one instant."""
ANY, NEEDIEST = "any stage", "the neediest"


@dataclass(frozen=True)
class Peer:
    name: str
    speed: float
    """Samples/s at any one stage."""
    sessions: tuple[Session, ...]

    def life(self, now_s: float) -> Session | None:
        return next((one for one in self.sessions if one.start_s <= now_s < one.end_s), None)


@dataclass(frozen=True)
class Span:
    """A stretch of time in which nothing changes."""

    start_s: float
    end_s: float
    rate: float
    """Of the pipeline."""
    whole: float
    """Of whole machines spread well at no cost: fastest first, each to the slowest stage."""
    bound: float
    """If machines could be divided between stages."""


def heavy_churn(
    n_peers: int, duration_s: float, seed: int, *, median_s: float, mean_s: float, gap_s: float, sigma: float
) -> list[Peer]:
    """Log-normal lives and speeds, exponential gaps. The first peer is always on: it holds the owner's key."""
    choose = random.Random(f"churn {seed}")
    mu, spread = log_normal(median_s, mean_s)
    peers = []
    for number in range(n_peers):
        now_s, sessions = 0.0, []
        while now_s < duration_s:
            end_s = math.inf if number == 0 else now_s + max(1.0, choose.lognormvariate(mu, spread))
            sessions.append(Session(start_s=now_s, end_s=end_s))
            now_s = end_s + 1.0 + choose.expovariate(1 / gap_s)
        peers.append(Peer(f"{number:03d}", choose.lognormvariate(0.0, sigma), tuple(sessions)))
    return peers


def preempted(n_peers: int, duration_s: float, seed: int) -> list[Peer]:
    """Equal machines with the lives of the fleet `preemptible`."""
    choose = random.Random(f"preempted {seed}")
    share_off = 0.04  # 15 minutes of each 6.35 hours
    return [
        Peer(f"{n:03d}", 1.0, preemptible(choose, duration_s=duration_s, first_on=choose.random() > share_off))
        for n in range(n_peers)
    ]


def best(speeds: Sequence[float], n_stages: int, work: Sequence[float] | None = None) -> tuple[float, float]:
    """(whole, bound) as in `Span`.

    Args:
        work: of a sample at each stage; None: 1 at all of them.
    """
    work = work or (1.0,) * n_stages
    rates = [(0.0, stage) for stage in range(n_stages)]
    for speed in sorted(speeds, reverse=True):
        rate, stage = rates[0]
        heapq.heapreplace(rates, (rate + speed / work[stage], stage))
    return rates[0][0], sum(speeds) / sum(work)


@dataclass
class _Seat:
    stage: int
    serves_s: float
    life: Session
    moved_s: float = -math.inf


@dataclass
class _Model:
    n_stages: int
    every_s: float
    joins: str
    choose: random.Random
    speeds: dict[str, float]
    seats: dict[str, _Seat] = field(default_factory=dict)
    moved_s: float = 0.0

    def fleet(self, now_s: float) -> Fleet:
        """As the peers know it."""
        return Fleet(
            [
                Serving(
                    name=name,
                    stage=seat.stage,
                    samples_per_s=self.speeds[name],
                    rested_s=now_s - seat.moved_s,
                    may_move=seat.serves_s <= now_s,
                )
                for name, seat in self.seats.items()
            ],
            self.n_stages,
        )

    def arrive(self, name: str, life: Session, now_s: float) -> None:
        self.seats.pop(name, None)
        anywhere = self.joins == ANY and now_s > 0  # every run begins with its peers spread
        stage = self.choose.randrange(self.n_stages) if anywhere else self.fleet(now_s).neediest()
        self.seats[name] = _Seat(stage, now_s + (SYNC_S if now_s else 0.0), life)

    def move(self, now_s: float) -> None:
        since_s = now_s - self.moved_s
        if not self.every_s or since_s < min(URGENT_EVERY_S, self.every_s):
            return
        fleet = self.fleet(now_s)
        move: Proposed | None = urgent_move(fleet)
        if move is None and since_s >= self.every_s:
            move = balancing_move(fleet, rest_s=2 * self.every_s)
        if move is None:
            return
        self.moved_s = now_s
        self.seats[move.name] = _Seat(move.to_stage, now_s + SYNC_S, self.seats[move.name].life, now_s)

    def rate(self, now_s: float) -> float:
        rates = [0.0] * self.n_stages
        for name, seat in self.seats.items():
            if seat.serves_s <= now_s < seat.life.end_s:
                rates[seat.stage] += self.speeds[name]
        return min(rates)


def play(
    peers: Sequence[Peer], n_stages: int, duration_s: float, *, every_s: float, joins: str, seed: int
) -> Iterator[Span]:
    """The rule on a fleet, from 0 to `duration_s`, beginning well spread.

    Args:
        every_s: between moves; 0: none.
        joins: where who comes later goes: ANY or NEEDIEST.
    """
    speeds = {peer.name: peer.speed for peer in peers}
    model = _Model(n_stages, every_s, joins, random.Random(f"joins {seed}"), speeds)
    agenda: list[tuple[float, int, str, Session | None]] = []
    for peer in peers:
        for life in peer.sessions:
            agenda.append((life.start_s, BEGINS, peer.name, life))
            if life.end_s < duration_s:
                agenda += [(life.end_s, ENDS, peer.name, life), (life.end_s + NOTICE_S, NOTICED, peer.name, life)]
    agenda += [(LOOK_S * number, LOOK, "", None) for number in range(1, math.ceil(duration_s / LOOK_S))]
    alive: dict[str, float] = {}
    optimum, now_s = (0.0, 0.0), 0.0
    for then_s, what, name, of_life in sorted(agenda, key=lambda one: one[:3]):
        if then_s > now_s:
            until_s = min(then_s, duration_s)
            yield Span(now_s, until_s, model.rate(now_s), *optimum)
            now_s = until_s
        if now_s >= duration_s:
            return
        if what == BEGINS and of_life is not None:
            alive[name] = speeds[name]
            model.arrive(name, of_life, now_s)
        elif what == ENDS:
            del alive[name]
        elif what == NOTICED and name in model.seats and model.seats[name].life == of_life:
            del model.seats[name]
        elif what == LOOK:
            model.move(now_s)
        if what in (BEGINS, ENDS):
            optimum = best(list(alive.values()), n_stages)
    yield Span(now_s, duration_s, model.rate(now_s), *optimum)
