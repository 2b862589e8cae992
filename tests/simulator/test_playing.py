"""Scenarios with the daemons' own code: what faults do, what is written down, and that a seed is the whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from gossamer.peer.event_kinds import Event, Forked, PeerRefused, Resynced, RoundEnded, Warned
from gossamer.peer.events import read_events
from gossamer.peer.report.injected import injected_in
from gossamer.peer.report.run import load_run
from gossamer.protocol.errors import UsageError
from gossamer.simulator.costs import Wire
from gossamer.simulator.faults import StormKind
from gossamer.simulator.playing import Played, play
from gossamer.simulator.scenario import load_scenario, scenario_of

pytestmark = pytest.mark.scenario

LIBRARY = Path(__file__).parents[2] / "examples" / "scenarios"
STEP_S = 0.3
PAYLOAD_BYTES = 20_000


def _tables(*faults: dict[str, Any], steps: int = 16, **tables: Any) -> dict[str, Any]:
    """Four equal machines that need STEP_S for a step, by sizes and costs only."""
    n_params = 1000
    sizes = {"n_params": n_params, "payload_bytes": PAYLOAD_BYTES, "flops_per_sample": 1e6}
    run = {"compute": "analytic", "steps": steps, "batch": 1, "checkpoint_every": 3, "evaluate_every": 1000}
    run |= {"sizes": sizes} | tables.pop("run", {})
    if run["compute"] == "real":
        del run["sizes"]
    return {
        "name": "test",
        "duration_s": 900,
        "run": run,
        "fleet": {"peers": 4, "flops_per_s": 1e6 / STEP_S, **tables.pop("fleet", {})},
        "faults": list(faults),
        "expect": {"steps_min": steps, "finished_min": 1},
        **tables,
    }


def _play(folder: Path, *faults: dict[str, Any], seed: int = 1, **tables: Any) -> Played:
    played = play(scenario_of({**_tables(*faults, **tables), "seed": seed}), folder)
    assert played.violations == ()
    return played


def _told(folder: Path, kind: type[Event], peer: int | str | None = None) -> list[Any]:
    paths = sorted(folder.glob(f"peers/{'*' if peer is None else peer}/events.jsonl"))
    return [entry.event for path in paths for entry in read_events(path) if isinstance(entry.event, kind)]


def _notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------------------ sizes and costs


def test_analytic_rounds_move_the_bytes_and_take_the_time_that_sizes_say(tmp_path: Path) -> None:
    played = _play(tmp_path, steps=10, run={"sizes": {"payload_bytes": 1_000_000, "flops_per_sample": 1e6}})

    summary = played.summary
    sent = summary["bytes_sent"] / 10 / 4
    assert summary["finished"] == 4
    assert len(summary["state_digests"]) == 1
    assert sent == pytest.approx(3 * 1_000_000, rel=0.1)
    least_s = STEP_S + 3 * 1_000_000 * (1 + Wire().byte_share) / 12.5e6
    assert least_s < summary["round_s_p50"] < 1.25 * least_s  # and some round trips of 40 ms


def test_dense_exchange_moves_its_vector_twice(tmp_path: Path) -> None:
    sizes = {"payload_bytes": 1_000_000, "flops_per_sample": 1e6, "exchange": "reduce"}

    played = _play(tmp_path, steps=6, run={"sizes": sizes})

    assert played.summary["bytes_sent"] / 6 / 4 == pytest.approx(2 * 0.75 * 1_000_000, rel=0.1)


def test_peers_of_a_real_run_are_not_wiped_away_and_those_of_a_simulation_are(tmp_path: Path) -> None:
    precious = tmp_path / "peers" / "0" / "checkpoints"
    precious.mkdir(parents=True)
    with pytest.raises(UsageError, match="choose another --out"):
        _play(tmp_path, steps=2)
    assert precious.exists()

    for steps in (3, 2):
        _play(tmp_path / "simulated", steps=steps)
    assert load_scenario(tmp_path / "simulated" / "scenario.toml").run.steps == 2
    assert max(event.step for event in _told(tmp_path / "simulated", RoundEnded)) == 2


def test_what_happened_is_written_down(tmp_path: Path) -> None:
    tables = _tables({"kind": "crash", "at_s": 2, "peers": [3], "back_after_s": 2}, record_deliveries=True)

    played = play(scenario_of(tables), tmp_path)

    summary = json.loads((tmp_path / "summary.json").read_text())
    notes = [(note["what"], note["peer"]) for note in _notes(tmp_path)]
    assert summary == played.summary
    assert {"seed", "version", "trace_hash", "scenario"} <= summary.keys()
    assert notes.count(("on", "p3")) == 2
    assert ("crash", "p3") in notes
    assert len((tmp_path / "deliveries.txt").read_text().splitlines()) == summary["n_deliveries"]


def test_samples_a_second_are_of_the_time_in_which_there_was_training(tmp_path: Path) -> None:
    cut_off = {"kind": "partition", "after_step": 10, "peers": [3], "for_s": 800}

    whole, cut = (_play(tmp_path / str(len(faults)), *faults).summary for faults in ((), (cut_off,)))

    assert (whole["finished"], cut["finished"]) == (4, 3)
    assert cut["wall_s"] > whole["wall_s"] + 100
    assert cut["samples_per_s"] > 0.2 * whole["samples_per_s"]


def test_wrong_clocks_do_not_move_the_beginning(tmp_path: Path) -> None:
    faults = [
        {"kind": "skew", "at_s": 0.5, "by_s": -5000, "peers": [1]},
        {"kind": "crash", "at_s": 1, "peers": [1], "disk": "lost", "back_after_s": 1},
    ]

    summary = _play(tmp_path, *faults).summary

    run = load_run(tmp_path)
    assert summary["begun_s"] == 0
    assert summary["lives_begun_s"]["1.1"] == [2.0]
    assert run.end_s < summary["wall_s"] + 1
    assert [fault.at_s for fault in injected_in(run)] == [0.5, 1.0]


# -------------------------------------------------------------------------------------------------------------- faults


def test_a_storm_names_no_victim_and_what_it_draws_does(tmp_path: Path) -> None:
    _play(tmp_path, {"kind": "storm", "at_s": 1, "mean_s": 0.5, "for_s": 4, "kinds": ["skew"]})

    victims = {(note["what"], note["peer"] != "") for note in _notes(tmp_path)}
    assert {("storm", False), ("skew", True)} <= victims
    assert ("storm", True) not in victims


def test_crashed_machine_comes_back_with_its_disk(tmp_path: Path) -> None:
    _play(tmp_path, {"kind": "crash", "at_s": 2, "peers": [3], "silent": True, "back_after_s": 3}, steps=30)

    assert _told(tmp_path, Resynced, 3)
    assert len(_told(tmp_path, RoundEnded, 0)[-1].contributors) == 4


def test_machine_that_lost_its_disk_is_a_newcomer(tmp_path: Path) -> None:
    _play(tmp_path, {"kind": "crash", "after_step": 3, "peers": [3], "back_after_s": 1, "disk": "lost"}, steps=30)

    rounds = _told(tmp_path, RoundEnded, 0)
    assert _told(tmp_path, Resynced, "3.1")
    assert len({*rounds[0].contributors, *rounds[-1].contributors}) == 5


def test_wave_of_preemptions_takes_its_share_and_gives_it_back(tmp_path: Path) -> None:
    fault = {"kind": "preempt", "at_s": 2, "share": 0.4, "over_s": 2, "back_after_s": 2}
    _play(tmp_path, fault, steps=40, fleet={"peers": 5})

    notes = _notes(tmp_path)
    assert sum(note["what"] == "preempt" for note in notes) == 2
    assert sum(note["what"] == "on" for note in notes) == 7


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "partition", "for_s": 8},
        {"kind": "partition", "for_s": 8, "one_way": True},
        {"kind": "flap", "cut_s": 1, "whole_s": 2, "for_s": 8},
        {"kind": "stall", "for_s": 60},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_one_that_is_cut_off_does_not_hold_up_the_rest(tmp_path: Path, fault: dict[str, Any]) -> None:
    _play(tmp_path, {**fault, "after_step": 6, "peers": [2]}, steps=60)

    rounds = _told(tmp_path, RoundEnded, 0)
    assert any(len(event.contributors) == 3 for event in rounds)
    assert not _told(tmp_path, Forked)


def test_slow_processor_is_left_out_rather_than_waited_for(tmp_path: Path) -> None:
    _play(tmp_path, {"kind": "slow", "compute_factor": 0.02, "at_s": 3, "peers": [1], "for_s": 20}, steps=30)

    reasons = {reason for event in _told(tmp_path, RoundEnded, 0) for reason in event.excluded.values()}
    assert reasons & {"late", "dead"}


def test_wrong_clocks_do_no_harm(tmp_path: Path) -> None:
    played = _play(tmp_path, {"kind": "skew", "at_s": 1, "peers": [2], "by_s": 2.0})

    assert played.summary["finished"] == 4


def test_full_disk_costs_checkpoints_only(tmp_path: Path) -> None:
    played = _play(tmp_path, {"kind": "full_disk", "at_s": 1, "peers": [2], "for_s": 4}, steps=20)

    assert played.summary["finished"] == 4
    assert any("checkpoint" in event.message for event in _told(tmp_path, Warned, 2))
    assert not any("no checkpoint" in event.message for event in _told(tmp_path, Warned, 1))


def test_rotten_checkpoint_is_not_used(tmp_path: Path) -> None:
    rot = {"kind": "rot_disk", "at_s": 4, "peers": [2]}
    crash = {"kind": "crash", "at_s": 4.01, "peers": [2], "back_after_s": 1}
    _play(tmp_path, rot, crash, steps=30)

    assert any("is not used" in event.message for event in _told(tmp_path, Warned, 2))


def test_flipped_bits_are_noticed_and_change_nothing(tmp_path: Path) -> None:
    _play(tmp_path, {"kind": "flip_bits", "at_s": 1, "peers": [2], "rate": 0.2, "for_s": 4}, steps=20)

    assert any(event.message.startswith("refused") for event in _told(tmp_path, Warned))


def test_ballots_of_a_leader_that_talks_nonsense_pass_to_the_next(tmp_path: Path) -> None:
    _play(tmp_path, {"kind": "bad_leader", "after_step": 6, "peers": [2]}, steps=24)

    assert max(event.ballots for event in _told(tmp_path, RoundEnded, 0)) > 1


@pytest.mark.parametrize("seed", [0, 2])
def test_a_leader_whose_proposals_are_garbled_is_not_voted_for(tmp_path: Path, seed: int) -> None:
    garbled = {"kind": "bad_leader", "how": "garbled", "after_step": 8, "peers": [2], "for_s": 30}
    _play(tmp_path, garbled, steps=40, seed=seed)

    warnings = [event.message for event in _told(tmp_path, Warned)]
    assert any("is not signed by" in message for message in warnings)
    assert not any("nobody holds" in message for message in warnings)


def test_what_a_garbled_leader_wasted_is_not_held_against_the_next(tmp_path: Path) -> None:
    garbled = {"kind": "bad_leader", "how": "garbled", "after_step": 8, "peers": [2], "for_s": 1e5}
    sizes = {"exchange": "reduce", "payload_bytes": PAYLOAD_BYTES, "flops_per_sample": 1e6}
    played = _play(tmp_path, garbled, steps=30, run={"sizes": sizes})

    assert max(event.ballots for event in _told(tmp_path, RoundEnded, 0)) > 1
    assert played.summary["rounds_failed"] <= 1


def test_newcomer_finds_another_donor_than_the_broken_one(tmp_path: Path) -> None:
    donor = {"kind": "bad_donor", "at_s": 1, "peers": [1, 2]}
    crash = {"kind": "crash", "at_s": 2, "peers": [3], "back_after_s": 1, "disk": "lost"}
    _play(tmp_path, donor, crash, steps=40)

    assert _told(tmp_path, Resynced, "3.1")


@pytest.mark.parametrize("kind", get_args(StormKind))
def test_storms_draw_what_they_are_asked_for(tmp_path: Path, kind: str) -> None:
    storm = {"kind": "storm", "after_step": 3, "mean_s": 1.0, "for_s": 6, "kinds": [kind]}

    played = _play(tmp_path, storm, steps=30)

    assert {fault.kind for fault in played.struck} == {kind}


def test_nonsense_is_refused_by_name(tmp_path: Path) -> None:
    fault = {"kind": "lie", "attack": "garbage", "at_s": 1, "peers": [3]}
    run = {"compute": "real", "task": "digits", "method": "demo", "batch": 8}
    _play(tmp_path, fault, steps=12, run=run, fleet={"flops_per_s": 1e6})

    assert _told(tmp_path, PeerRefused, 0)


def test_who_claims_to_be_many_replicas_is_left_out(tmp_path: Path) -> None:
    fault = {"kind": "lie", "attack": "claim", "factor": 1024, "after_step": 3, "peers": [3]}
    run = {"compute": "real", "task": "digits", "method": "local", "method_options": {"h": 2}, "batch": 8}
    _play(tmp_path, fault, steps=24, run=run, fleet={"flops_per_s": 1e6})

    assert len(_told(tmp_path, RoundEnded, 0)[-1].contributors) == 3
    assert "it counts 1024, expected an integer in [1, 1]" in str(_told(tmp_path, PeerRefused))


def test_liar_that_is_restarted_lies_on(tmp_path: Path) -> None:
    fault = {"kind": "lie", "attack": "garbage", "at_s": 1, "peers": [3]}
    crash = {"kind": "crash", "after_step": 10, "peers": [3], "back_after_s": 1}
    run = {"compute": "real", "task": "digits", "method": "demo", "batch": 8}
    _play(tmp_path, fault, crash, steps=60, run=run, fleet={"flops_per_s": 1e6})

    came_back_s = max(note["t_s"] for note in _notes(tmp_path) if note["what"] == "on")
    entries = read_events(tmp_path / "peers" / "0" / "events.jsonl")
    refused_s = [entry.t_s for entry in entries if isinstance(entry.event, PeerRefused)]
    assert min(refused_s) < came_back_s - 1
    assert max(refused_s) > came_back_s


def test_liar_in_a_pipeline_makes_another_model(tmp_path: Path) -> None:
    settings = ["fleet.peers=3", "run.steps=4", "expect.steps_min=4", 'faults=[{kind="lie", peers=[1]}]']

    played = play(load_scenario(LIBRARY / "stages.toml", settings), tmp_path)

    assert {violation.partition(":")[0] for violation in played.violations} == {"one process"}
