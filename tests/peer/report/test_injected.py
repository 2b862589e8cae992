"""What a simulation did to its machines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gossamer.peer.report import write_report
from gossamer.peer.report.injected import injected_in
from gossamer.peer.report.run import load_run

from .synthetic import Story, write_run
from .test_page import Page

CUT = {"at_s": 30.0, "kind": "partition", "peers": [1, 3], "how": {"for_s": 12.5, "one_way": False}}
ROT = {"at_s": 20.0, "kind": "rot_disk", "peers": [0], "how": {}}


def _simulated(folder: Path, **told: Any) -> None:
    write_run(folder, Story(n_steps=100, killed=None))
    path = folder / "summary.json"
    simulated = {"trace_hash": "ab" * 32, "scenario": "cut", "seed": 17, "version": "1.2.3", "faults": [CUT, ROT]}
    path.write_text(json.dumps(json.loads(path.read_text()) | simulated | told))


def test_faults_stand_on_the_runs_own_axis_of_time(tmp_path: Path) -> None:
    _simulated(tmp_path, begun_s=5.0)

    rot, cut = injected_in(load_run(tmp_path))

    assert [(one.at_s, one.end_s, one.in_words) for one in (rot, cut)] == [
        (15.0, 15.0, "rot disk"),
        (25.0, 37.5, "partition: for_s = 12.5, one_way = false"),
    ]
    assert [log.number for log in cut.victims] == [1, 3]


def test_a_fault_belongs_to_who_lived_on_the_machine_by_then(tmp_path: Path) -> None:
    write_run(tmp_path, Story(n_steps=100, killed=None))
    later = tmp_path / "peers" / "1.1" / "events.jsonl"
    later.parent.mkdir()
    told = [json.loads(line) for line in (tmp_path / "peers" / "1" / "events.jsonl").read_text().splitlines()]
    moved = [{**event, "unix_s": event["unix_s"] + 25.0, "peer": "another"} for event in told]
    later.write_text("".join(json.dumps(event) + "\n" for event in moved))
    faults = [{**ROT, "peers": [1], "at_s": at_s} for at_s in (20.0, 30.0)]
    (tmp_path / "summary.json").write_text(json.dumps({"faults": faults}))

    found = injected_in(load_run(tmp_path))

    assert [log.label.partition(" ")[0] for one in found for log in one.victims] == ["1", "1.1"]


def test_the_report_says_what_was_simulated_and_which_faults_were_done(tmp_path: Path) -> None:
    _simulated(tmp_path)

    page = Page(write_report(tmp_path))

    words = " ".join(re.sub(r"<[^>]*>", " ", page.path.read_text()).split())
    assert "How it was simulated scenario cut seed 17 version 1.2.3 trace " + "ab" * 32 + " faults 2" in words
    assert "30.0 s partition 1 ·" in words
    assert "for_s = 12.5, one_way = false" in words
    marks = next(trace for trace in page.figures["timeline"]["data"] if trace.get("name") == "fault")
    assert marks["x"] == [20.0, 30.0, 30.0]
    assert [30.0, 42.5] in [trace["x"] for trace in page.figures["timeline"]["data"]]


def test_a_real_run_was_not_simulated(tmp_path: Path) -> None:
    write_run(tmp_path, Story(n_steps=4, killed=None))

    assert "How it was simulated" not in Page(write_report(tmp_path)).text


def test_lines_are_as_full_as_what_they_carry(tmp_path: Path) -> None:
    _simulated(tmp_path, up_bytes_per_s=[1e6, 1e6, 1e6, None])

    figures = Page(write_report(tmp_path)).figures

    bits, shares = (
        {trace["name"]: trace["y"][5] for trace in figures[name]["data"]} for name in ("link-use", "link-share")
    )
    assert shares["busiest peer"] == pytest.approx(bits["busiest peer"] / 8e6, rel=0.05)
