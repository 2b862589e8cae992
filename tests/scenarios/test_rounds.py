"""The five properties of rounds, with the daemons' own code on virtual time."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from gossamer.peer.event_kinds import Checkpointed, Ended, Forked, PeerRefused, Resynced, short_id
from gossamer.peer.events import read_events
from gossamer.peer.folder import PeerFolder
from gossamer.protocol.errors import GossamerError
from gossamer.simulator.world import Simulation

from .swarm import digits

pytestmark = pytest.mark.scenario

METHODS: dict[str, dict[str, Any]] = {
    "demo": {"name": "demo"},
    "allreduce": {"name": "allreduce"},
    "local": {"name": "local", "options": {"h": 3, "optimizer": "sgd"}},
    "diloco-overlapped": {"name": "diloco", "options": {"h": 2, "overlap": True}},
}


@pytest.mark.parametrize("method", METHODS)
def test_undisturbed_daemons_end_with_one_state(tmp_path: Path, method: str) -> None:
    sim = Simulation(seed=1)
    swarm = digits(tmp_path, sim=sim, method=METHODS[method])

    async def main() -> None:
        swarm.start(4)
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {12}
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    swarm.check_one_result()
    assert all(len(event.contributors) == 4 for event in swarm.rounds(1))


@pytest.mark.parametrize("method", METHODS)
def test_killed_peer_comes_back_and_contributes_again(tmp_path: Path, method: str) -> None:
    sim = Simulation(seed=2)
    swarm = digits(tmp_path, sim=sim, method=METHODS[method], run={"steps": 150})

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(10)
        swarm.hosts[2].kill()
        await asyncio.sleep(3.0)
        swarm.restart(2)
        results = await swarm.finish(range(4))
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    swarm.check_one_result()
    told = [entry.event for entry in read_events(tmp_path / "2" / "events.jsonl")]
    assert any(isinstance(event, Resynced) for event in told)
    assert len(swarm.rounds(1)[-1].contributors) == 4
    # At steps 50, 100 and 150, and as it ends: replayed rounds are no reason to keep more.
    assert sum(isinstance(event, Checkpointed) for event in told) <= 4


def test_silent_death_of_the_leader_costs_a_deadline_and_no_more(tmp_path: Path) -> None:
    sim = Simulation(seed=3)
    swarm = digits(tmp_path, sim=sim)

    async def main() -> list[int]:
        swarm.start(4)
        await swarm.reach(5)
        round_ = swarm.daemons[0].group.round if swarm.daemons[0].group else None
        assert round_ is not None
        leader = round_.place.roster.members[round_.leader].peer
        number = next(n for n, daemon in enumerate(swarm.daemons) if daemon.identity.peer_id == leader)
        swarm.hosts[number].kill(silent=True)
        living = [n for n in range(4) if n != number]
        results = await swarm.finish(living)
        assert len({result.digest for result in results}) == 1
        return living

    living = swarm.run(main())

    swarm.check_one_result()
    assert max(event.duration_s for event in swarm.rounds(living[0])) < 60


@pytest.mark.parametrize("block", range(10))
def test_kill_at_random_instants_never_breaks_a_property(tmp_path: Path, block: int) -> None:
    for seed in range(20 * block, 20 * block + 20):
        _kill_at_random(tmp_path / str(seed), seed)


def _kill_at_random(root: Path, seed: int) -> None:
    choose = random.Random(seed)
    sim = Simulation(seed=seed)
    method = choose.choice(["demo", "allreduce"])
    swarm = digits(root, sim=sim, seed=seed, method={"name": method}, run={"steps": 8})
    victim, back, silent = choose.randrange(4), choose.random() < 0.5, choose.random() < 0.3

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(1)
        await asyncio.sleep(choose.uniform(0.0, 0.6))
        done = swarm.lives[victim].done()
        if not done:
            swarm.hosts[victim].kill(silent=silent)
            if back:
                await asyncio.sleep(choose.uniform(0.0, 2.0))
                swarm.restart(victim)
        living = [number for number in range(4) if number != victim]
        results = await swarm.finish(living)
        assert {result.step for result in results} == {8}
        assert len({result.digest for result in results}) == 1

    try:
        swarm.run(main())
        swarm.check_one_result()
    except BaseException as error:
        error.add_note(f"replay with seed {seed}: _kill_at_random(path, {seed})")
        raise


def test_minority_of_a_partition_pauses_and_heals(tmp_path: Path) -> None:
    sim = Simulation(seed=5)
    swarm = digits(tmp_path, sim=sim, run={"steps": 600})

    async def main() -> None:
        swarm.start(5)
        await swarm.reach(5)
        sim.partition(["p3", "p4"], ["p0", "p1", "p2"])
        await asyncio.sleep(30.0)
        assert swarm.daemons[3].replica.step < swarm.daemons[0].replica.step
        sim.heal()
        results = await swarm.finish(range(5))
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    swarm.check_one_result()


def test_survivor_of_two_goes_on_alone(tmp_path: Path) -> None:
    sim = Simulation(seed=6)
    swarm = digits(tmp_path, sim=sim, group={"start_peers": 2})

    async def main() -> None:
        swarm.start(2)
        await swarm.reach(4)
        swarm.hosts[1].kill()
        (result,) = await swarm.finish([0])
        assert result.step == 12

    swarm.run(main())

    assert any(isinstance(entry.event, Forked) for entry in read_events(tmp_path / "0" / "events.jsonl"))


def test_two_lineages_that_meet_become_one(tmp_path: Path) -> None:
    sim = Simulation(seed=7)
    swarm = digits(tmp_path, sim=sim, group={"start_peers": 2}, run={"steps": 800})

    async def main() -> None:
        swarm.start(2, flops_per_s=1e6)
        await swarm.reach(4)
        sim.partition(["p0"], ["p1"])
        await asyncio.sleep(40.0)
        assert all(daemon.group is not None and len(daemon.group.roster) == 1 for daemon in swarm.daemons)
        sim.heal()
        results = await swarm.finish(range(2))
        assert len({result.digest for result in results}) == 1

    swarm.run(main())


@pytest.mark.parametrize("method", METHODS)
def test_resumed_run_equals_an_undisturbed_one(tmp_path: Path, method: str) -> None:
    def run(root: Path, seed: int, stop_at: int | None) -> bytes:
        sim = Simulation(seed=seed)
        swarm = digits(root, sim=sim, stop_at=stop_at, method=METHODS[method], group={"strict": True})

        async def main() -> bytes:
            swarm.start(4)
            results = await swarm.finish(range(4))
            assert len({result.digest for result in results}) == 1
            return results[0].digest

        return swarm.run(main())

    whole = run(tmp_path / "whole", 8, None)
    run(tmp_path / "parts", 9, 6)
    resumed = run(tmp_path / "parts", 10, None)

    assert resumed == whole


def test_all_killed_at_once_start_anew_from_their_checkpoints(tmp_path: Path) -> None:
    sim = Simulation(seed=11)
    swarm = digits(tmp_path, sim=sim, limits={"checkpoint_every_steps": 5}, run={"steps": 20})

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(11)
        for host in swarm.hosts:
            host.kill()
        await asyncio.sleep(70.0)
        for number in range(4):
            swarm.restart(number)
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {20}
        assert len({result.digest for result in results}) == 1

    swarm.run(main())


def test_peer_that_leaves_is_taken_off_the_roster(tmp_path: Path) -> None:
    sim = Simulation(seed=12)
    swarm = digits(tmp_path, sim=sim, run={"steps": 20})

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(5)
        swarm.daemons[3].leave()
        left = await swarm.lives[3]
        assert left.outcome == "stopped"
        results = await swarm.finish(range(3))
        assert {result.step for result in results} == {20}

    swarm.run(main())

    assert len(swarm.rounds(0)[-1].contributors) == 3
    assert max(event.duration_s for event in swarm.rounds(0)[1:]) < 10


def test_peer_without_a_quorum_leaves_within_seconds_and_keeps_a_checkpoint(tmp_path: Path) -> None:
    sim = Simulation(seed=14)
    swarm = digits(tmp_path, sim=sim, run={"steps": 600}, group={"on_split": "pause"})

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(5)
        sim.partition(["p3"], ["p0", "p1", "p2"])
        await asyncio.sleep(20.0)
        asked_s = asyncio.get_running_loop().time()
        swarm.daemons[3].leave()
        left = await swarm.lives[3]
        assert left.outcome == "stopped"
        assert asyncio.get_running_loop().time() - asked_s < 5.0

    swarm.run(main())

    told = [entry.event for entry in read_events(tmp_path / "3" / "events.jsonl")]
    assert isinstance(told[-1], Ended)
    loaded = PeerFolder(tmp_path / "3").newest_checkpoint()
    assert loaded is not None
    assert loaded.checkpoint.step == told[-1].step > 0


def test_slow_peer_is_left_out_and_its_work_counts_later(tmp_path: Path) -> None:
    sim = Simulation(seed=13)
    swarm = digits(tmp_path, sim=sim, run={"steps": 300})

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(10)
        sim.hosts["p3"].flops_per_s /= 1e6
        await swarm.reach(15)
        sim.hosts["p3"].flops_per_s *= 1e6
        results = await swarm.finish(range(4))
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    swarm.check_one_result()
    assert {"late"} == {reason for event in swarm.rounds(0) for reason in event.excluded.values()} - {"dead"}
    assert len(swarm.rounds(0)[-1].contributors) == 4


def test_peer_that_applies_rounds_later_than_others_asks_nobody_for_what_it_has(tmp_path: Path) -> None:
    sim = Simulation(seed=16)
    swarm = digits(tmp_path, sim=sim, run={"steps": 30}, group={"strict": True})

    async def main() -> None:
        swarm.start(4)
        swarm.hosts[3].memory_bytes_per_s /= 1e3
        await swarm.finish(range(4))

    swarm.run(main())

    # The others are in the next round while it still updates its model, and say so.
    assert swarm.rounds(3)[-1].update_s > 10 * swarm.rounds(0)[-1].update_s
    assert sum(host.network.traffic.sent["round/log"] for host in swarm.hosts) == 0


@pytest.mark.parametrize("garbage", ["truncated", "flipped", "not finite"])
@pytest.mark.parametrize("method", ["demo", "allreduce", "allreduce-int8"])
def test_garbage_is_refused_by_name_and_the_run_goes_on(tmp_path: Path, method: str, garbage: str) -> None:
    sim = Simulation(seed=14)
    name, _, codec = method.partition("-")
    table = {"name": name, "options": {"codec": codec} if codec else {}}
    swarm = digits(tmp_path, sim=sim, method=table, run={"steps": 10})

    def spoilt(payload: bytes) -> bytes:
        if garbage == "truncated" and method == "demo":
            return payload[:-3]
        if garbage == "flipped" and method == "demo":
            return bytes(byte ^ 0xFF for byte in payload)
        return b"\xff" * len(payload)  # NaN as floats

    async def main() -> None:
        swarm.start(4)
        await asyncio.sleep(0.5)
        method_of_liar = swarm.daemons[3].replica.method
        honest = method_of_liar.encode
        method_of_liar.encode = lambda agreed: spoilt(honest(agreed))  # type: ignore[method-assign]
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {10}
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    swarm.check_one_result()
    liar = short_id(swarm.daemons[3].identity.peer_id)
    told = [e.event for n in range(3) for e in read_events(tmp_path / str(n) / "events.jsonl")]
    assert liar in {event.refused for event in told if isinstance(event, PeerRefused)}
    assert all(liar not in event.contributors for event in swarm.rounds(0)[1:])


def test_nonsense_from_outside_the_roster_changes_nothing(tmp_path: Path) -> None:
    sim = Simulation(seed=15)
    swarm = digits(tmp_path, sim=sim, run={"steps": 30}, group={"start_peers": 3})
    choose = random.Random(15)

    async def main() -> None:
        swarm.start(3)
        swarm.hosts.append(sim.host("stranger"))
        stranger, refused = swarm.hosts[3].network, 0
        await swarm.reach(3)
        victim = swarm.daemons[0].identity.peer_id
        await stranger.call(victim, "member/hello", b"", timeout_s=5.0)
        for name in ("offer", "hold", "prepare", "accept", "commit", "plan", "part", "log"):
            for length in (0, 3, 300, 100_000):
                try:
                    await stranger.call(victim, f"round/{name}", choose.randbytes(length), timeout_s=5.0)
                except GossamerError:
                    refused += 1
        assert refused >= 24
        results = await swarm.finish(range(3))
        assert len({result.digest for result in results}) == 1

    swarm.run(main())
