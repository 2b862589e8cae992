"""Built-in fleets, lifetimes, and traces from files."""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path

import pytest

from gossamer.protocol.errors import GossamerError
from gossamer.simulator.fleets import FLEETS, build_fleet, read_trace
from gossamer.simulator.fleets.fleet import HOUR_S
from gossamer.simulator.fleets.lifetimes import SHARE_ON_BY_HOUR, by_hour, log_normal, preemptible


@pytest.mark.parametrize("kind", sorted(FLEETS))
def test_fleets_follow_from_their_seed_and_stay_within_reason(kind: str) -> None:
    fleet, again, other = (build_fleet(kind, 50, seed=seed, duration_s=6 * HOUR_S) for seed in (1, 1, 2))

    assert fleet == again
    assert kind == "cloud" or fleet != other
    assert fleet.machines[0].is_relay
    assert fleet.machines[0].sessions[0].end_s == math.inf
    for a, b in zip(fleet.machines, fleet.machines[1:], strict=False):
        assert 0 < fleet.path(a, b).latency_s < 0.2
        assert a.up_bytes_per_s <= a.down_bytes_per_s


def test_unknown_fleet_names_the_nearest() -> None:
    with pytest.raises(GossamerError, match="did you mean 'homes'"):
        build_fleet("home", 3, seed=1, duration_s=1.0)


def test_preemptible_uptimes_have_their_median_and_mean() -> None:
    mu, sigma = log_normal(1.0, 6.1)
    choose = random.Random(1)
    drawn = [choose.lognormvariate(mu, sigma) for _ in range(200_000)]

    assert statistics.median(drawn) == pytest.approx(1.0, rel=0.03)
    assert statistics.fmean(drawn) == pytest.approx(6.1, rel=0.1)


def test_later_uptimes_are_mostly_short_and_some_very_long() -> None:
    choose = random.Random(2)
    ups = [
        session.end_s - session.start_s
        for _ in range(300)
        for session in preemptible(choose, duration_s=100 * HOUR_S)[1:]
    ]

    assert statistics.median(ups) == pytest.approx(HOUR_S, rel=0.15)
    assert max(ups) > 50 * HOUR_S


@pytest.mark.parametrize("hour", [4, 12, 20])
def test_share_of_volunteers_that_are_on_follows_the_hour(hour: int) -> None:
    choose = random.Random(3)
    lives = [by_hour(choose, duration_s=48 * HOUR_S, start_hour=0.0) for _ in range(600)]
    at_s = (24 + hour + 0.9) * HOUR_S

    on = sum(any(session.start_s <= at_s < session.end_s for session in life) for life in lives)

    assert on / len(lives) == pytest.approx(SHARE_ON_BY_HOUR[hour], abs=0.12)


def test_traces_are_read_from_csv_and_json_alike(tmp_path: Path) -> None:
    text = (
        "machine,start_s,end_s,up_mbit_s,memory_gb,nat,region\n"
        "a,0,100,8,,cone,us-east\nb,0,,16,2,,\na,200,300,8,,cone,us-east\n"
    )
    (tmp_path / "fleet.csv").write_text(text)
    rows = [
        {"machine": "a", "start_s": 0, "end_s": 100, "up_mbit_s": 8, "nat": "cone", "region": "us-east"},
        {"machine": "b", "up_mbit_s": 16, "memory_gb": 2},
        {"machine": "a", "start_s": 200, "end_s": 300, "up_mbit_s": 8, "nat": "cone", "region": "us-east"},
    ]
    (tmp_path / "fleet.json").write_text(json.dumps(rows))

    fleet = read_trace(tmp_path / "fleet.csv")

    assert fleet == read_trace(tmp_path / "fleet.json")
    assert [(session.start_s, session.end_s) for session in fleet.machines[0].sessions] == [(0, 100), (200, 300)]
    assert fleet.machines[1].up_bytes_per_s == 2e6
    assert [machine.memory_bytes for machine in fleet.machines] == [16e9, 2e9]


def test_machines_of_a_trace_may_relay(tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text("machine,nat,relay\na,open,1\nb,,true\nc,symmetric,\nd,cone,false\n")
    rows = [{"machine": "a", "relay": True}, {"machine": "b", "relay": False}, {"machine": "c"}]
    (tmp_path / "fleet.json").write_text(json.dumps(rows))

    fleets = [read_trace(tmp_path / name) for name in ("fleet.csv", "fleet.json")]

    assert [[machine.is_relay for machine in fleet.machines] for fleet in fleets] == [
        [True, True, False, False],
        [True, False, False],
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("machine,upp_mbit_s\na,1\n", "did you mean 'up_mbit_s'"),
        ("machine,up_mbit_s\na,fast\n", "no number"),
        ("machine,start_s,end_s\na,5,1\n", "session"),
        ("machine,start_s,end_s\na,0,10\na,5,20\n", "overlap"),
        ("machine,nat\na,conic\n", "did you mean 'cone'"),
        ("machine,relay\na,maybe\n", "relay = 'maybe': write true or false"),
        ("machine,nat,relay\na,cone,1\n", "a relay must be one that can be dialled"),
        ("", "no machines"),
    ],
)
def test_bad_traces_are_refused_with_the_reason(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "fleet.csv").write_text(text)

    with pytest.raises(GossamerError, match=complaint):
        read_trace(tmp_path / "fleet.csv")
