"""What the report of a simulated run says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gossamer.peer.report import write_report
from gossamer.peer.report.comparison import write_comparison
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of

pytestmark = pytest.mark.scenario

SIZES = {"n_params": 124_000_000, "payload_bytes": 11_700_000, "flops_per_sample": 1e9, "grain": 64}


def _tables(**tables: Any) -> dict[str, Any]:
    run = {"compute": "analytic", "steps": 6, "batch": 4, "evaluate_every": 2, "sizes": SIZES}
    return {"name": "sized", "duration_s": 600, "run": run, "fleet": {"peers": 3}, **tables}


def _page(folder: Path) -> tuple[str, set[str]]:
    """The words of a run's report, and its figures."""
    html = write_report(folder).read_text()
    words = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL)
    return " ".join(words.split()), set(re.findall(r'data-figure="([\w-]+)"', html))


def test_a_run_by_sizes_is_reported_by_what_it_stands_for(tmp_path: Path) -> None:
    played = play(scenario_of(_tables()), tmp_path)

    words, figures = _page(tmp_path)

    assert words.startswith("sized: 124 M parameters, by sizes and costs · Gossamer")
    assert "3 peers trained 124 M parameters for 6 steps" in words
    assert "dense all-reduce: 661 MB" in words
    assert "one contribution: 11.7 MB, 0.0944 B per parameter" in words
    assert f"{played.summary['samples_per_s']:,.4g} a second in 6 steps; nothing was learnt" in words
    assert not {name for name in figures if name.startswith("loss")}
    assert not re.search("held-out loss|analytic:", words, re.IGNORECASE)


def test_a_run_by_sizes_has_no_loss_to_compare(tmp_path: Path) -> None:
    play(scenario_of(_tables()), tmp_path / "a")

    (course,) = write_comparison([tmp_path / "a"], tmp_path / "compare.html")

    assert (course.points, course.loss_end, course.n_params) == ((), None, 124_000_000)
    assert "analytic:" not in (tmp_path / "compare.html").read_text().split("<script>")[0]


def test_the_summary_of_a_run_by_sizes_claims_no_loss(tmp_path: Path) -> None:
    play(scenario_of(_tables()), tmp_path)

    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["compute"], summary["n_params"], summary["eval_loss"]) == ("analytic", 124_000_000, None)


def test_a_run_in_which_nothing_happened_is_no_success_on_its_page(tmp_path: Path) -> None:
    late = [{"kind": "crash", "at_s": 0.004, "peers": [1]}, {"kind": "slow", "at_s": 0.003, "line_factor": 0.5}]
    run = {"task": "digits", "method": "demo", "steps": 6}
    play(
        scenario_of({"name": "short", "duration_s": 0.005, "run": run, "fleet": {"peers": 3}, "faults": late}), tmp_path
    )

    words, _ = _page(tmp_path)

    assert "nobody has evaluated the model" in words
    assert "none was over" in words
    assert "no step was made" in words


def test_what_would_replay_a_run_and_what_was_done_to_it_is_on_the_page(tmp_path: Path) -> None:
    faults = [
        {"kind": "partition", "at_s": 0.5, "peers": [1], "for_s": 0.25},
        {"kind": "storm", "at_s": 0.5, "mean_s": 0.2, "for_s": 2.0, "kinds": ["skew"]},
    ]
    played = play(scenario_of(_tables(faults=faults, seed=5)), tmp_path)

    words, figures = _page(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())

    assert f"scenario sized seed 5 version {summary['version']} trace {played.trace_hash} faults" in words
    assert "500 ms partition 1 · " in words
    assert "for_s = 0.25, one_way = false" in words
    assert summary["faults"][0] == {
        "at_s": 0.5,
        "kind": "partition",
        "peers": [1],
        "how": {"for_s": 0.25, "one_way": False},
    }
    assert {fault["kind"] for fault in summary["faults"]} == {"partition", "skew"}  # what a storm drew, not the storm
    assert "link-share" in figures
