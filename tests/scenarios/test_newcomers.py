"""What newcomers ask of a group whose rounds are long."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.peer.event_kinds import Joined
from gossamer.peer.events import read_events
from gossamer.peer.rounds.catchup import FOLLOW_RETRY_S
from gossamer.protocol.rounds_pb2 import JoinRequest, Member
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of

pytestmark = pytest.mark.scenario

STEP_S, N_MEMBERS = 30.0, 4


def test_a_newcomer_asks_each_member_for_a_place_once_in_a_round_and_now_and_then_again(tmp_path: Path) -> None:
    lives = [(f"m{number}", 0.0) for number in range(N_MEMBERS)] + [("newcomer", 40.0)]
    rows = [f"{name},{start_s},inf,{1e6 / STEP_S / 1e12}" for name, start_s in lives]
    (tmp_path / "fleet.csv").write_text("\n".join(["machine,start_s,end_s,tflop_s", *rows]) + "\n")
    tables = {
        "name": "newcomer",
        "duration_s": 400,
        "run": {
            "compute": "analytic",
            "sizes": {"n_params": 1000, "payload_bytes": 1000, "flops_per_sample": 1e6},
            "batch": 1,
            "steps": 6,
        },
        "fleet": {"kind": "trace", "trace": tmp_path / "fleet.csv"},
        "expect": {"steps_min": 6, "finished_min": N_MEMBERS + 1},
    }

    played = play(scenario_of(tables), tmp_path / "out")

    assert played.violations == ()
    log = read_events(tmp_path / "out" / "peers" / "4" / "events.jsonl")
    joined_s = next(entry.t_s for entry in log if isinstance(entry.event, Joined))
    assert joined_s > STEP_S / 2  # it was there for most of a round, and looked for news every half second
    request = JoinRequest(member=Member(peer="x" * 52, incarnation=1 << 30), lineage=bytes(32), round=1, base=bytes(32))
    n_asked = played.summary["bytes_sent_by_purpose"]["group/join"] / N_MEMBERS / request.ByteSize()
    assert n_asked < joined_s / FOLLOW_RETRY_S / 4
