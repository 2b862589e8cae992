"""The scenarios that come with the house, in short form, and those with faults under a few seeds of many."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gossamer.simulator.playing import play
from gossamer.simulator.scenario import load_scenario
from gossamer.simulator.sweep import judge

pytestmark = pytest.mark.scenario

LIBRARY = Path(__file__).parents[2] / "examples" / "scenarios"

SHORT = {
    "billion-demo": ("run.steps=1", "expect.steps_min=1", "run.batch=1", "run.sizes.payload_bytes=6_400_000"),
    "billion-diloco": (
        *("run.steps=2", "expect.steps_min=2", "run.sizes.local_steps=2", "run.batch=1"),
        "run.sizes.payload_bytes=25_600_000",
    ),
    "billion-pipeline": (
        *("run.steps=1", "expect.steps_min=1", "run.sizes.activation_elements=16_384", "pipeline.microbatches=8"),
        *("run.sizes.flops_per_sample=1e11", "run.sizes.payload_bytes=4_000_000", "run.sizes.grain=1"),
    ),
    "bad-leader": ("run.steps=40", "expect.steps_min=40"),
    "half-of-europe": (
        *("run.steps=10", "expect.steps_min=10", "fleet.peers=6", "expect.finished_min=6"),
        *("faults.0.at_s=25", "faults.0.for_s=30"),
    ),
    "homes-demo": ("run.steps=3", "expect.steps_min=3", "run.sizes.payload_bytes=235_000"),
    "homes-dense": ("run.steps=1", "expect.steps_min=1", "run.sizes.payload_bytes=4_000_000"),
    "liars": ("run.steps=20", "expect.steps_min=20"),
    "phones": (
        *("run.steps=6", "expect.steps_min=6", "expect.accuracy_min=0", "run.method_options.K=8"),
        *("devices.n=30", "devices.per_round=6", "devices.backups=1", "devices.round_every_s=60"),
    ),
    "preemptible-t4s": ("duration_s=1200", "expect.steps_min=8"),
    "preempted-stages": (
        *("duration_s=240", "expect.steps_min=2", "fleet.peers=9", "pipeline.stages=3", "pipeline.microbatches=16"),
        *("run.sizes.flops_per_sample=1e12", "run.sizes.grain=1024"),
    ),
    "preempted": ("run.steps=60", "expect.steps_min=60", "faults.0.times=1"),
    "volunteers": ("run.steps=12", "expect.steps_min=12", "fleet.peers=8"),
}

SWEEP = {
    "storm": (range(100, 104), ("run.steps=40", "expect.steps_min=40")),
    "tempest": (range(100, 106), ("run.steps=40", "expect.steps_min=40")),
    "stages": (range(100, 102), ("run.steps=16", "expect.steps_min=16")),
    "preempted": (range(100, 102), SHORT["preempted"]),
    "liars": (range(100, 102), SHORT["liars"]),
    "bad-leader": (range(100, 102), SHORT["bad-leader"]),
    "half-of-europe": (range(100, 102), SHORT["half-of-europe"]),
}
"""Scenarios with faults: seeds and settings. A minute of them inside the suite; `make storms` plays a thousand each."""

STORMS_THAT_FOUND_SOMETHING = {
    # The run splits, the halves meet, and the last to finish must wait for those who replay what they missed.
    22: ("expect.finished_min=3",),
    # The last two members left part by a death: who followed them kept their lineage alive by answering for it, and the
    # fork took in who had asked the old one for a place.
    236: ("expect.finished_min=4",),
    # Who was cut off asks a peer that was restarted meanwhile, and so keeps no rounds: the others still do.
    756: ("expect.finished_min=3",),
}
"""Seeds of the whole storm that once told of a fault."""

STAGES_THAT_FOUND_SOMETHING = {
    16: "who had waited for the last evaluation stayed two minutes more",
    85: "a step in which nothing came went on for ever",
    107: "the same",
    137: "who reported within a step and died since counted for the quorum of the next, which was lost so",
    151: "the same",
}
"""Seeds of whole pipelines that once told of a fault."""


@pytest.mark.parametrize("name", sorted(SHORT))
def test_story_of_the_library_comes_true(tmp_path: Path, name: str) -> None:
    scenario = load_scenario(LIBRARY / f"{name}.toml", SHORT[name])

    played = play(scenario, tmp_path)

    assert played.violations == ()


def test_every_scenario_of_the_library_is_run() -> None:
    assert {path.stem for path in LIBRARY.glob("*.toml")} == {*SHORT, *SWEEP}


def _check(name: str, seed: int, settings: Sequence[str] = ()) -> None:
    verdict = judge(load_scenario(LIBRARY / f"{name}.toml", settings), seed)

    replay = f"gossamer simulate examples/scenarios/{name}.toml --seed {seed}" + " --shuffle" * verdict.shuffled
    assert verdict.violations == (), " --set ".join((f"replay: {replay}", *settings))


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name, (seeds, _) in SWEEP.items() for seed in seeds])
def test_faults_break_no_property(name: str, seed: int) -> None:
    _check(name, seed, SWEEP[name][1])


def test_every_scenario_with_faults_is_swept() -> None:
    with_faults = {path.stem for path in LIBRARY.glob("*.toml") if load_scenario(path).faults}
    nightly = re.search(r"^FAULTS := (.*)$", (LIBRARY.parents[1] / "Makefile").read_text(), re.MULTILINE)

    assert nightly is not None
    assert with_faults == {*SWEEP} == {*nightly[1].split()}


@pytest.mark.parametrize(("seed", "settings"), STORMS_THAT_FOUND_SOMETHING.items())
def test_mended_storm_stays_mended(seed: int, settings: tuple[str, ...]) -> None:
    _check("storm", seed, settings)


@pytest.mark.parametrize("seed", STAGES_THAT_FOUND_SOMETHING)
def test_mended_pipeline_stays_mended(seed: int) -> None:
    _check("stages", seed)


def test_a_cut_of_ones_own_trains_the_model_of_one_process() -> None:
    _check("stages", 101, ["pipeline.starts=[0, 1, 4]", "run.steps=8", "expect.steps_min=8", "faults.1.after_step=5"])


def test_machines_taken_from_a_pipeline_whose_trainers_do_not_wait_break_no_property() -> None:
    # Late gradients make another model than one process does; that every microbatch counts is asked all the same.
    _check(
        "stages", 100, ["pipeline.mode=stash", "run.steps=16", "expect.steps_min=16", "expect.one_process_within=10"]
    )


def test_command_verifies_a_seed_and_writes_a_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gossamer.cli", "simulate", str(LIBRARY / "homes-demo.toml"), "--verify", "--json"]
    command += ["--set", "run.steps=2", "--set", "expect.steps_min=2", "--set", "run.sizes.payload_bytes=20_000"]

    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=55, check=False)

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["verified"]
    assert (tmp_path / "report.html").stat().st_size > 100_000
    assert summary["violations"] == []
