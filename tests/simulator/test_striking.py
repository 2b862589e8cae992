"""Whom faults strike, when, and what is told of those that do nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gossamer.protocol.errors import UsageError
from gossamer.simulator.commands.simulate import Order, simulate
from gossamer.simulator.playing import Played, play
from gossamer.simulator.scenario import scenario_of, toml_of

pytestmark = pytest.mark.scenario

LASTING = {"steps": 100_000}
"""Longer than the scenario."""


def _tables(*faults: dict[str, Any], run: dict[str, Any] | None = None, **tables: Any) -> dict[str, Any]:
    """Args: run: by sizes and costs, unless it names a task."""
    sizes = {"n_params": 1000, "payload_bytes": 1000, "flops_per_sample": 1e6}
    kind = {} if run and "task" in run else {"compute": "analytic", "sizes": sizes}
    return {
        "name": "struck",
        "duration_s": 30,
        "run": {"steps": 20, "batch": 1, **kind, **(run or {})},
        "fleet": {"peers": 4, "flops_per_s": 5e6},
        "faults": list(faults),
        **tables,
    }


def _play(folder: Path, *faults: dict[str, Any], **tables: Any) -> Played:
    played = play(scenario_of(_tables(*faults, **tables)), folder)
    assert played.violations == ()
    return played


def _switched(folder: Path, peer: str) -> list[tuple[str, float]]:
    notes = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
    return [(note["what"], round(note["t_s"], 2)) for note in notes if note["peer"] == peer]


def _trace(folder: Path, *lines: str) -> dict[str, Any]:
    path = folder / "fleet.csv"
    path.write_text("\n".join(["machine,start_s,end_s,region", *lines]))
    return {"kind": "trace", "trace": str(path)}


# ------------------------------------------------------------------------------------------------------- whom and when


def test_a_storm_strikes_only_whom_it_names(tmp_path: Path) -> None:
    storm = {"kind": "storm", "at_s": 0.5, "peers": [1, 2], "n": 2, "mean_s": 0.2, "for_s": 2, "kinds": ["skew"]}

    played = _play(tmp_path, storm)

    assert {fault.peers for fault in played.struck} == {(1, 2)}


def test_a_storm_strikes_within_its_region(tmp_path: Path) -> None:
    fleet = _trace(tmp_path, "a,0,,north", "b,0,,south", "c,0,,south")
    storm = {"kind": "storm", "at_s": 0.5, "region": "south", "mean_s": 0.2, "for_s": 2, "kinds": ["skew"]}

    played = _play(tmp_path / "out", storm, fleet=fleet)

    assert {fault.peers for fault in played.struck} == {(1,), (2,)}


def test_faults_at_the_beginning_find_machines_on(tmp_path: Path) -> None:
    played = _play(tmp_path, {"kind": "slow", "compute_factor": 0.5, "n": 4, "for_s": 1}, shuffle=True)

    assert [fault.peers for fault in played.struck] == [(0, 1, 2, 3)]


def test_who_crashed_for_good_does_not_come_back_with_another_crash(tmp_path: Path) -> None:
    soon = {"kind": "crash", "at_s": 1, "peers": [3], "back_after_s": 2}

    played = _play(tmp_path, soon, {"kind": "crash", "at_s": 2, "peers": [3]})

    assert _switched(tmp_path, "p3") == [("on", 0.0), ("crash", 1.0), ("crash", 2.0)]
    assert played.summary["faults_amiss"] == ["faults.1: crash at 2 s: p3 was down already"]


def test_a_crash_is_over_while_the_fleet_has_its_machine_off(tmp_path: Path) -> None:
    fleet = _trace(tmp_path, "a,0,,", "b,0,,", "c,0,4,", "c,9,,")

    _play(
        tmp_path, {"kind": "crash", "at_s": 3, "peers": [2], "back_after_s": 3}, fleet=fleet, duration_s=12, run=LASTING
    )

    assert _switched(tmp_path, "p2") == [("on", 0.0), ("crash", 3.0), ("off", 4.0), ("on", 9.0)]


@pytest.mark.parametrize("kind", ["stall", "partition", "flip_bits"])
def test_a_gateways_devices_feel_what_happens_to_its_machine(tmp_path: Path, kind: str) -> None:
    run = {"task": "digits", "method": "baffle", "method_options": {"K": 2}, "steps": 100}
    devices = {"n": 2, "kind": "equal", "samples": 4, "heartbeat_s": 0.5}
    tables: dict[str, Any] = {"fleet": {"peers": 1}, "devices": devices, "duration_s": 2, "run": run}
    fault = {"kind": kind, "at_s": 0.5, "for_s": 1, "peers": [0], **({"rate": 0.5} if kind == "flip_bits" else {})}

    struck, quiet = (_play(tmp_path, *faults, **tables) for faults in ([fault], []))

    assert struck.summary["downlink_bytes_per_device"] != quiet.summary["downlink_bytes_per_device"]


# ----------------------------------------------------------------------------------------------------- told beforehand


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"kind": "crash", "at_s": 30}, r"faults\.0\.at_s = 30: duration_s is 30"),
        ({"kind": "crash", "after_step": 21}, r"faults\.0\.after_step = 21: run\.steps is 20"),
        ({"kind": "crash", "peers": [1, -4]}, r"faults\.0\.peers names peer -4: peers are 0 to 3"),
        ({"kind": "crash", "n": 5}, r"faults\.0\.n = 5: there are 4 peers"),
        ({"kind": "crash", "n": 2, "share": 0.5}, "n or share, not both"),
        ({"kind": "crash", "peers": [1], "region": "eu-west"}, "leave n, share and region out"),
        ({"kind": "stall", "peers": [1, 1]}, "names somebody twice"),
        ({"kind": "slow"}, "nothing is slowed"),
    ],
)
def test_faults_that_cannot_strike_are_refused(fault: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        scenario_of(_tables(fault))


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"kind": "crash", "region": "nroth"}, "region of the scenario's faults.0 'nroth': did you mean 'north'"),
        ({"kind": "crash", "peers": [-1]}, "names peer -1: peers are 0 to 1"),
        ({"kind": "crash", "peers": [2]}, "names peer 2: peers are 0 to 1"),
    ],
)
def test_a_traces_machines_are_asked_before_anything_runs(
    tmp_path: Path, fault: dict[str, Any], complaint: str
) -> None:
    scenario = scenario_of(_tables(fault, fleet=_trace(tmp_path, "a,0,,north", "b,0,,south")))

    with pytest.raises(UsageError, match=complaint):
        play(scenario, tmp_path / "out")


# ----------------------------------------------------------------------------------------------------- told afterwards


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"kind": "skew", "at_s": 29, "peers": [1]}, "skew never struck: the run was over at 8.5 s, after 20 updates"),
        ({"kind": "rot_disk", "peers": [1]}, "rot_disk at 0 s: p1 had no checkpoint"),
        ({"kind": "slow", "at_s": 2, "peers": [3], "line_factor": 0.5}, "slow at 2 s: p3 was off all the while"),
        ({"kind": "lie", "at_s": 2, "peers": [3]}, "lie at 2 s: p3 was off all the while"),
        ({"kind": "preempt", "at_s": 2, "n": 4, "over_s": 0}, "preempt at 2 s: 3 of 4 machines were on to be struck"),
        (
            {"kind": "partition", "at_s": 2, "peers": [0, 1, 2, 3], "for_s": 1},
            "partition at 2 s: p0 is cut off from nobody: all are on its side",
        ),
    ],
)
def test_what_did_not_come_of_a_fault_is_told(tmp_path: Path, fault: dict[str, Any], told: str) -> None:
    crash = {"kind": "crash", "at_s": 1, "peers": [3]}

    summary = play(scenario_of(_tables(crash, fault)), tmp_path).summary

    assert summary["faults_amiss"][0] == f"faults.1: {told}"


def test_only_what_was_done_is_listed(tmp_path: Path) -> None:
    crash = {"kind": "crash", "at_s": 1, "peers": [3]}
    stall = {"kind": "stall", "at_s": 2, "peers": [2, 3], "for_s": 0.5}

    played = _play(tmp_path, crash, stall, {"kind": "lie", "at_s": 2, "peers": [3]})

    assert [(fault["kind"], fault["peers"]) for fault in played.summary["faults"]] == [("crash", [3]), ("stall", [2])]
    assert [fault.peers for fault in played.struck] == [(3,), (2,)]


def test_the_owners_machine_is_said_to_keep_its_disk(tmp_path: Path) -> None:
    lost = {"kind": "crash", "at_s": 1, "peers": [0], "back_after_s": 1, "disk": "lost"}

    played = _play(tmp_path, lost)

    assert played.summary["faults_amiss"] == [
        "faults.0: crash at 1 s: p0 keeps its disk and key, which are the owner's"
    ]


def test_the_terminal_tells_of_faults_that_did_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(toml_of(scenario_of(_tables({"kind": "rot_disk", "peers": [1]}))))

    simulate(Order(scenario=path, out=tmp_path / "out"), json_output=False)

    assert "\n  faults.0: rot_disk at 0 s: p1 had no checkpoint\n" in capsys.readouterr().out
