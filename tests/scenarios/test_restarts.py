"""When everybody dies: whoever comes back goes on from the best checkpoint that came back, all with one state."""

from __future__ import annotations

import asyncio
import functools
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from gossamer.peer.checkpoints import list_checkpoints
from gossamer.peer.daemon import Daemon, Result
from gossamer.peer.event_kinds import Resynced
from gossamer.peer.events import read_events
from gossamer.simulator.world import Simulation

from .swarm import SimulatedSwarm, digits

pytestmark = pytest.mark.scenario

EVERY = 5
STEPS = 30


@dataclass
class Crash:
    """What was on the disks when everybody was dead, and how many rounds each had told of."""

    steps: list[int]
    """Of each peer's newest checkpoint; 0 without one."""
    n_rounds: list[int]


def crash(swarm: SimulatedSwarm) -> Crash:
    """Kill everybody who lives, at once."""
    for host, life in zip(swarm.hosts, swarm.lives, strict=True):
        if not life.done():
            host.kill()
    numbers = range(len(swarm.hosts))
    return Crash(
        steps=[_newest_step(swarm.root / str(number)) for number in numbers],
        n_rounds=[len(swarm.rounds(number)) for number in numbers],
    )


def _newest_step(folder: Path) -> int:
    paths = list_checkpoints(folder)
    return int(paths[0].name.split(".")[0]) if paths else 0


def check_nothing_was_lost(swarm: SimulatedSwarm, before: Crash, back: Sequence[int]) -> None:
    """Every step after the crash is later than the best checkpoint that came back, and all came to the same state."""
    best = max(before.steps[number] for number in back)
    seen: dict[int, str] = {}
    for number in back:
        for event in swarm.rounds(number)[before.n_rounds[number] :]:
            assert event.step > best, f"peer {number} trained step {event.step} again, the best checkpoint had {best}"
            assert seen.setdefault(event.step, event.digest) == event.digest
    assert max(seen) == STEPS


def test_who_comes_back_when_the_run_is_over_gets_the_final_state_from_those_that_hold_it(tmp_path: Path) -> None:
    sim = Simulation(seed=23)
    swarm = digits(tmp_path, sim=sim, run={"steps": 200})
    swarm.make_daemon = functools.partial(Daemon, seed_for_s=60.0)

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(100)
        swarm.hosts[3].kill()
        await swarm.reach(200)
        await asyncio.sleep(20.0)  # of virtual time: the others have ended
        swarm.restart(3)
        results = await swarm.finish(range(4), timeout_s=150.0)
        assert {(result.outcome, result.step) for result in results} == {("finished", 200)}
        assert len({result.digest for result in results}) == 1

    swarm.run(main())


def test_who_starts_again_after_the_end_has_nothing_left_to_do(tmp_path: Path) -> None:
    swarm = digits(tmp_path, sim=Simulation(seed=24), run={"steps": 20})

    async def main() -> None:
        swarm.start(4)
        ended = await swarm.finish(range(4))
        swarm.restart(3)
        (again,) = await swarm.finish([3], timeout_s=10.0)
        assert (again.outcome, again.digest) == ("finished", ended[3].digest)

    swarm.run(main())


@pytest.mark.parametrize("behind", [0, 3], ids=["the owner", "a member"])
@pytest.mark.parametrize("method", ["demo", "allreduce"])
def test_those_with_older_checkpoints_take_over_the_newest(tmp_path: Path, method: str, behind: int) -> None:
    sim = Simulation(seed=21)
    limits = {"checkpoint_every_steps": EVERY}
    swarm = digits(tmp_path, sim=sim, method={"name": method}, limits=limits, run={"steps": STEPS})

    async def main() -> Crash:
        swarm.start(4)
        await swarm.reach(EVERY + 2)
        swarm.hosts[behind].kill()
        await swarm.reach(2 * EVERY + 2)
        before = crash(swarm)
        assert sorted(before.steps) == [EVERY, 2 * EVERY, 2 * EVERY, 2 * EVERY]
        await asyncio.sleep(70.0)
        for number in range(4):
            swarm.restart(number)
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {STEPS}
        assert len({result.digest for result in results}) == 1
        return before

    before = swarm.run(main())

    check_nothing_was_lost(swarm, before, range(4))


def test_newest_checkpoint_of_a_single_peer_is_enough(tmp_path: Path) -> None:
    sim = Simulation(seed=22)
    swarm = digits(tmp_path, sim=sim, limits={"checkpoint_every_steps": EVERY}, run={"steps": STEPS})

    async def main() -> Crash:
        swarm.start(4)
        await swarm.reach(3 * EVERY + 1)
        crash(swarm)
        for number in (0, 1, 3):
            shutil.rmtree(list_checkpoints(tmp_path / str(number))[0])
        before = crash(swarm)
        assert before.steps == [2 * EVERY, 2 * EVERY, 3 * EVERY, 2 * EVERY]
        await asyncio.sleep(70.0)
        for number in range(4):
            swarm.restart(number)
        results = await swarm.finish(range(4))
        assert len({result.digest for result in results}) == 1
        return before

    before = swarm.run(main())

    check_nothing_was_lost(swarm, before, range(4))


def test_run_goes_on_when_its_owner_comes_back_last(tmp_path: Path) -> None:
    sim = Simulation(seed=23)
    swarm = digits(tmp_path, sim=sim, limits={"checkpoint_every_steps": EVERY}, run={"steps": STEPS})

    async def main() -> Crash:
        swarm.start(4)
        await swarm.reach(2 * EVERY + 1)
        before = crash(swarm)
        for number in (3, 1, 2):
            await asyncio.sleep(30.0)
            swarm.restart(number)
        await asyncio.sleep(300.0)
        assert all(daemon.group is None for daemon in swarm.daemons[1:])
        swarm.restart(0)
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {STEPS}
        assert len({result.digest for result in results}) == 1
        return before

    before = swarm.run(main())

    check_nothing_was_lost(swarm, before, range(4))


@pytest.mark.parametrize("bare", [0, 2], ids=["the owner", "a member"])
def test_peer_that_lost_its_disk_gets_the_state_from_the_others(tmp_path: Path, bare: int) -> None:
    sim = Simulation(seed=24)
    swarm = digits(tmp_path, sim=sim, limits={"checkpoint_every_steps": EVERY}, run={"steps": STEPS})

    async def main() -> Crash:
        swarm.start(4)
        await swarm.reach(2 * EVERY + 1)
        before = crash(swarm)
        await asyncio.sleep(70.0)
        _wipe(tmp_path / str(bare))
        for number in range(4):
            swarm.restart(number)
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {STEPS}
        assert len({result.digest for result in results}) == 1
        return Crash(steps=before.steps, n_rounds=[0 if n == bare else k for n, k in enumerate(before.n_rounds)])

    before = swarm.run(main())

    check_nothing_was_lost(swarm, before, range(4))


def test_member_that_lost_its_disk_joins_the_group_that_went_on_without_it(tmp_path: Path) -> None:
    sim = Simulation(seed=25)
    swarm = digits(tmp_path, sim=sim, limits={"checkpoint_every_steps": EVERY}, run={"steps": 200})

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(2)
        swarm.hosts[2].kill()
        _wipe(tmp_path / "2")
        swarm.restart(2)
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {200}
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    swarm.check_one_result()
    assert len(swarm.rounds(0)[-1].contributors) == 4


@pytest.mark.parametrize(
    ("codec", "method", "share"), [("int8", "allreduce", 3.4), ("dynamic8", "diloco", 3.4), ("bf16", "demo", 1.8)]
)
def test_newcomer_downloads_a_rounded_state_to_which_the_others_round_theirs(
    tmp_path: Path, codec: str, method: str, share: float
) -> None:
    sim = Simulation(seed=26)
    options = {"h": 2} if method == "diloco" else {}
    swarm = digits(
        tmp_path,
        sim=sim,
        method={"name": method, "options": options},
        limits={"checkpoint_every_steps": 500},
        run={"steps": 400},
        group={"snapshot_codec": codec},
    )

    async def main() -> list[Result]:
        swarm.start(4)
        await swarm.reach(150)  # by then nobody keeps the log from the start on
        swarm.hosts[2].kill()
        _wipe(tmp_path / "2")
        swarm.restart(2)
        return await swarm.finish(range(4))

    results = swarm.run(main())

    assert {result.step for result in results} == {400}
    assert len({result.digest for result in results}) == 1
    swarm.check_one_result()
    (download,) = _resyncs(tmp_path / "2")
    assert download.bytes < swarm.daemons[0].replica.snapshot_bytes() / share


def _resyncs(folder: Path) -> list[Resynced]:
    events = [entry.event for entry in read_events(folder / "events.jsonl")]
    return [event for event in events if isinstance(event, Resynced) and event.bytes]


def _wipe(folder: Path) -> None:
    """Lose everything but the key, which scenarios keep elsewhere."""
    shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(30, 42))
def test_any_crash_of_everybody_goes_on_from_the_best_checkpoint_that_came_back(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    sim = Simulation(seed=seed)
    method = choose.choice(["demo", "allreduce"])
    swarm = digits(
        tmp_path,
        sim=sim,
        seed=seed,
        method={"name": method},
        limits={"checkpoint_every_steps": EVERY},
        run={"steps": STEPS},
        group={"start_peers": 3},
    )
    early, order = choose.randrange(4), choose.sample(range(4), 4)
    wiped = choose.choice([None, *range(4)])

    async def main() -> Crash:
        swarm.start(4)
        await swarm.reach(choose.randrange(1, 8))
        swarm.hosts[early].kill()
        await swarm.reach(choose.randrange(8, 20))
        await asyncio.sleep(choose.uniform(0.0, 0.5))
        before = crash(swarm)
        if wiped is not None:
            _wipe(tmp_path / str(wiped))
            before.steps[wiped] = before.n_rounds[wiped] = 0
        await asyncio.sleep(choose.choice([1.0, 70.0]))
        for number in order:
            swarm.restart(number)
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {STEPS}
        assert len({result.digest for result in results}) == 1
        return before

    before = swarm.run(main())

    check_nothing_was_lost(swarm, before, range(4))
