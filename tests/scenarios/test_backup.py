"""Backup workers: one of five peers is ten times slower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossamer.peer.event_kinds import Evaluated, short_id
from gossamer.peer.events import read_events
from gossamer.simulator.world import Simulation

from .swarm import SimulatedSwarm, digits, identity

pytestmark = pytest.mark.scenario

SLOW = 4
LIVING = range(4)


def _with_a_slow_peer(
    root: Path, method: str, group: dict[str, Any], steps: int, lr: float = 0.005, **options: Any
) -> SimulatedSwarm:
    sim = Simulation(seed=1)
    swarm = digits(
        root,
        sim=sim,
        method={"name": method, "options": options},
        run={"steps": steps},
        schedule={"lr": lr},
        group={"start_peers": 5, **group},
        limits={"eval_every_steps": 5},
    )

    async def main() -> None:
        swarm.start(5, flops_per_s=1e6)
        swarm.hosts[SLOW].flops_per_s = 1e5
        results = await swarm.finish(LIVING)
        assert {result.step for result in results} == {steps}
        assert len({result.digest for result in results}) == 1

    swarm.run(main())
    swarm.check_one_result()
    return swarm


def _seconds_to(loss: float, swarm: SimulatedSwarm) -> float:
    """Virtual time of the first evaluation that is as good."""
    entries = [entry for number in LIVING for entry in read_events(swarm.root / str(number) / "events.jsonl")]
    return min(
        entry.t_s
        for entry in entries
        if isinstance(entry.event, Evaluated) and entry.event.loss is not None and entry.event.loss <= loss
    )


@pytest.fixture(
    scope="module", params=[("demo", 0.005, 2.0, 21), ("allreduce", 0.01, 0.7, 31)], ids=["demo", "allreduce"]
)
def waiting_for_all(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """(method, learning rate, loss, steps, virtual seconds in which strict rounds reach it).

    Dense rounds need more of them, since each leader must first see who is slow.
    """
    method, lr, loss, steps = request.param
    swarm = _with_a_slow_peer(tmp_path_factory.mktemp("strict"), method, {"strict": True}, steps, lr)
    return method, lr, loss, steps, _seconds_to(loss, swarm)


@pytest.mark.parametrize("group", [{"backup": "fixed", "n_backup": 1}, {"backup": "dynamic"}], ids=["fixed", "dynamic"])
def test_backup_reaches_a_loss_in_less_than_half_the_time_of_waiting_for_all(
    tmp_path: Path, waiting_for_all: tuple[str, float, float, int, float], group: dict[str, Any]
) -> None:
    method, lr, loss, steps, seconds_of_strict = waiting_for_all

    swarm = _with_a_slow_peer(tmp_path, method, group, steps, lr)

    assert _seconds_to(loss, swarm) < seconds_of_strict / 2
    late = {peer for event in swarm.rounds(0) for peer in event.excluded}
    assert short_id(identity(0, SLOW).peer_id) in late


def test_a_coded_round_ends_as_soon_as_it_can_be_decoded(tmp_path: Path) -> None:
    swarm = _with_a_slow_peer(tmp_path, "coded", {"backup": "fixed", "n_backup": 1}, 8)

    # Two subgroups, one of two members: never both of them late.
    assert any(len(event.contributors) < 5 for event in swarm.rounds(0))
    assert all(event.outcome == "committed" for event in swarm.rounds(0))


def test_a_robust_rule_gets_as_many_contributions_as_it_needs(tmp_path: Path) -> None:
    swarm = _with_a_slow_peer(tmp_path, "allreduce", {"backup": "fixed", "n_backup": 2}, 4, aggregate="krum")

    # One liar: five contributions, however slow the fifth.
    assert [len(event.contributors) for event in swarm.rounds(0)] == [5] * 4
    assert all(len(event.dropped) == 4 for event in swarm.rounds(0))
