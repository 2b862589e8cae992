"""Bugs in handlers of requests: callers survive them, and a simulation says where they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from gossamer.protocol.errors import GossamerError, RemoteFailure
from gossamer.protocol.identity import PeerId
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of
from gossamer.simulator.serving import Served, Services
from gossamer.simulator.world import Simulation


async def _fails(peer: PeerId, request: bytes) -> bytes:
    raise AssertionError("a bug of ours")


async def _refuses(peer: PeerId, request: bytes) -> bytes:
    raise GossamerError("not today")


def test_the_world_tells_of_bugs_and_not_of_refusals() -> None:
    sim = Simulation(seed=1)
    here, there = sim.host("here"), sim.host("there")
    there.network.set_gate(lambda peer: True)
    there.network.serve("buggy", _fails)
    there.network.serve("strict", _refuses)

    async def main() -> None:
        with pytest.raises(RemoteFailure):
            await here.network.call(there.peer_id, "buggy", b"", timeout_s=5)
        with pytest.raises(GossamerError, match="not today"):
            await here.network.call(there.peer_id, "strict", b"", timeout_s=5)

    sim.run(main())
    [failure] = sim.handler_failures
    assert (failure.method, failure.host) == ("buggy", "there")
    assert failure.text.endswith("AssertionError: a bug of ours")


@pytest.mark.scenario
def test_a_daemons_bug_that_its_group_survives_is_a_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_asked, add = 0, Services.add

    def add_buggy(services: Services, method: str, served: Served) -> None:
        handler = served.handler
        if method != "round/hold" or handler is None:
            return add(services, method, served)

        async def fails_now_and_then(peer: PeerId, request: bytes) -> bytes:
            nonlocal n_asked
            n_asked += 1
            return await (_fails if n_asked % 3 == 0 else handler)(peer, request)

        return add(services, method, dataclasses.replace(served, handler=fails_now_and_then))

    monkeypatch.setattr(Services, "add", add_buggy)
    tables: dict[str, Any] = {
        "name": "buggy",
        "run": {"compute": "analytic", "steps": 10, "batch": 1, "sizes": {"n_params": 1000, "flops_per_sample": 1e6}},
        "fleet": {"peers": 4, "flops_per_s": 1e7},
        "expect": {"finished_min": 4},
    }
    played = play(scenario_of(tables), tmp_path)
    assert n_asked >= 3
    assert [one for one in played.violations if not one.startswith("crash in round/hold: at p")] == []
    assert len(played.violations) >= 1
