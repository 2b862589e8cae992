"""A failing scenario is cut down to what makes it fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gossamer.protocol.errors import UsageError
from gossamer.simulator.commands.simulate import Order, simulate
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import load_scenario, scenario_of, toml_of
from gossamer.simulator.shrinking import failure_of, shrink

pytestmark = pytest.mark.scenario


def _tables(**tables: Any) -> dict[str, Any]:
    """Two of four crash for good, which stops a run whose manifest says pause; the other faults do no harm."""
    crash = {"kind": "crash", "at_s": 3.0, "peers": [1, 2]}
    harmless: list[dict[str, Any]] = [
        {"kind": "slow", "at_s": 1.0, "line_factor": 0.9, "for_s": 1.0},
        {"kind": "skew", "at_s": 2.0, "by_s": 0.1},
    ]
    sizes = {"n_params": 1000, "payload_bytes": 1000, "flops_per_sample": 1e6}
    run = {"compute": "analytic", "steps": 40, "batch": 1, "on_split": "pause", "sizes": sizes}
    return {
        "name": "halved",
        "duration_s": 60.0,
        "run": run,
        "fleet": {"peers": 4, "flops_per_s": 5e6},
        "faults": [harmless[0], crash, harmless[1]],
        "expect": {"finished_min": 1},
        **tables,
    }


def test_what_does_no_harm_is_dropped_and_the_rest_still_fails(tmp_path: Path) -> None:
    tried: set[int] = set()

    shrunk = shrink(scenario_of(_tables()), plays_max=13, tell=lambda plays, least: tried.add(least.run.steps))

    (tmp_path / "least.toml").write_text(toml_of(shrunk.scenario))
    least = load_scenario(tmp_path / "least.toml")
    assert least == shrunk.scenario
    assert [fault.kind for fault in least.faults] == ["crash"]
    assert any(1 < steps < 40 for steps in tried)
    assert failure_of(play(least, tmp_path / "again").violations[0]) == "liveness"


def test_what_was_drawn_is_written_out_as_it_struck(tmp_path: Path) -> None:
    drawn = {"kind": "crash", "at_s": 3.0, "n": 3}

    shrunk = shrink(scenario_of(_tables(faults=[drawn])), plays_max=4)

    (fault,) = shrunk.scenario.faults
    assert len(fault.peers) == 3
    assert fault.at_s == pytest.approx(3.0)


def test_the_command_writes_the_least_scenario_and_says_how_to_replay_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "halved.toml").write_text(toml_of(scenario_of(_tables())))

    simulate(Order(scenario=tmp_path / "halved.toml", out=tmp_path, shrink=True, plays=3), json_output=True)

    told = json.loads(capsys.readouterr().out)
    assert told["replay"] == f"gossamer simulate {tmp_path / 'halved.least.toml'}"
    assert told["scenario"] == (tmp_path / "halved.least.toml").read_text()
    assert told["plays"] <= 3


def test_a_scenario_that_holds_is_not_shrunk() -> None:
    with pytest.raises(UsageError, match="nothing to shrink"):
        shrink(scenario_of(_tables(faults=[], run={**_tables()["run"], "steps": 3})))


def test_fewer_peers_are_expected_to_finish_when_there_are_fewer() -> None:
    crash = {"kind": "crash", "at_s": 3.0, "peers": [1]}
    run = {**_tables()["run"], "on_split": "auto", "steps": 20}

    shrunk = shrink(scenario_of(_tables(faults=[crash], run=run, expect={"finished_min": 4})), plays_max=5)

    least = shrunk.scenario
    assert (least.fleet.peers, least.expect.finished_min) == (2, 2)
    assert [fault.kind for fault in least.faults] == ["crash"]


def test_what_is_not_learnt_because_of_liars_keeps_liars_steps_and_time() -> None:
    tables = {
        "name": "liars",
        "duration_s": 60.0,
        "run": {"batch": 32, "steps": 15, "evaluate_every": 15},
        "fleet": {"peers": 3},
        "faults": [{"kind": "lie", "peers": [1, 2]}],
        "expect": {"accuracy_min": 0.15},
    }

    least = shrink(scenario_of(tables), plays_max=4).scenario

    assert (len(least.faults), least.run.steps, least.duration_s) == (1, 15, 60.0)


def test_what_fails_without_any_fault_as_well_is_said_at_once() -> None:
    said: list[str] = []

    shrunk = shrink(scenario_of(_tables(duration_s=3.5)), plays_max=2, say=said.append)

    assert said == ["halved with seed 0 fails without any fault as well"]
    assert shrunk.scenario.faults == []


@pytest.mark.parametrize("kind", [AttributeError, KeyError])
def test_crashes_are_told_apart_by_the_innermost_exceptions(tmp_path: Path, kind: type[Exception]) -> None:
    def fail(now_s: float, step: int) -> None:
        raise ExceptionGroup("tasks", [ExceptionGroup("again", [kind("odd")]), TypeError("even")])

    played = play(scenario_of(_tables()), tmp_path, progress=fail)

    assert failure_of(played.violations[0]) == f"crash of {kind.__name__}, TypeError"
    assert "odd" in played.violations[0]


def test_other_failures_are_told_apart_by_their_property() -> None:
    assert failure_of("one result: round 3 ...") == "one result"
