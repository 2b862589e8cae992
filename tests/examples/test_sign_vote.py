"""The example of a user's own method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gossamer.algorithms import BadPayload, NoSuchMethod, Schedule, Slots, build_method, method_class
from gossamer.simulator.world import Simulation

from ..scenarios.swarm import digits

EXAMPLES = Path(__file__).parents[2] / "examples"
OURS = "sign_vote:SignVote"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_the_majority_decides_each_coordinate() -> None:
    members = [build_method(OURS, {"p": torch.zeros(3)}, {"beta": 0.0}, Schedule(lr=1.0)) for _ in range(3)]
    watched = {"p": torch.zeros(3)}
    watching = build_method(OURS, watched, {}, Schedule(lr=1.0))
    for member, gradient in zip(members, ([1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]), strict=True):
        member.accumulate({"p": torch.tensor(gradient)}, 1)

    payloads = [member.encode(member.agree()) for member in members]
    watching.combine(payloads, mine=None, step=0, slots=Slots.everybody(3))

    assert watched["p"].tolist() == [-1.0, 1.0, 1.0]


def test_daemons_train_with_it(tmp_path: Path) -> None:
    swarm = digits(
        tmp_path,
        sim=Simulation(seed=1),
        method={"name": OURS},
        run={"steps": 40},
        group={"start_peers": 3},
        schedule={"lr": 5e-3},
    )

    async def main() -> None:
        swarm.start(3)
        results = await swarm.finish(range(3))
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    told = sorted(told for daemon in swarm.daemons for told in daemon.trainer.tally.evaluations)
    assert told[-1][0] == 40
    assert told[-1][1] < 0.7 * told[0][1]


def test_a_payload_of_another_length_is_refused() -> None:
    method = build_method(OURS, {"p": torch.zeros(9)}, {}, Schedule(lr=1.0))

    with pytest.raises(BadPayload, match="expected 2"):
        method.check(b"\0")


@pytest.mark.parametrize("name", ["sign_vote:Nobody", "sign_vote:torch", "no_such_module:Method"])
def test_what_is_no_method_is_refused(name: str) -> None:
    with pytest.raises(NoSuchMethod):
        method_class(name)
