"""Scenarios are read strictly, and complaints name the key and the nearest known one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.protocol.errors import UsageError
from gossamer.simulator.faults import Crash, Partition
from gossamer.simulator.scenario import Scenario, load_scenario, scenario_of

LIBRARY = sorted((Path(__file__).parents[2] / "examples" / "scenarios").glob("*.toml"))


def _file(folder: Path, text: str) -> Path:
    path = folder / "scenario.toml"
    path.write_text(f'name = "test"\n{text}')
    return path


def test_faults_are_read_by_their_kind(tmp_path: Path) -> None:
    text = '[[faults]]\nkind = "crash"\nat_s = 3\nsilent = true\n[[faults]]\nkind = "partition"\npeers = [1]\n'

    scenario = load_scenario(_file(tmp_path, text))

    assert scenario.faults == [Crash(at_s=3, silent=True), Partition(peers=(1,))]


def test_settings_reach_into_tables_and_lists(tmp_path: Path) -> None:
    path = _file(tmp_path, '[[faults]]\nkind = "crash"\n')

    scenario = load_scenario(
        path, ["run.steps=7", "fleet.kind=homes", "faults.0.at_s=2.5", 'run.task="spirals:Spirals"']
    )

    assert (scenario.run.steps, scenario.fleet.kind, scenario.run.task) == (7, "homes", "spirals:Spirals")
    assert scenario.faults[0].at_s == 2.5


def test_trace_is_looked_for_beside_the_scenario(tmp_path: Path) -> None:
    scenario = load_scenario(_file(tmp_path, '[fleet]\nkind = "trace"\ntrace = "my.csv"\n'))

    assert scenario.fleet.trace == tmp_path / "my.csv"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("durration_s = 3", "did you mean 'duration_s'"),
        ("[run]\nstep = 3", "key of the scenario's run 'step': did you mean 'steps'"),
        ("[run.sizes]\nparams = 3", "did you mean 'n_params'"),
        ('[[faults]]\nkind = "crsh"', "did you mean 'crash'"),
        ('[[faults]]\nkind = "crash"\nsilentt = true', "did you mean 'silent'"),
        ('[[faults]]\nkind = "crash"\nat_s = -1', "faults.0.at_s"),
        ('[[faults]]\nkind = "crash"\nat_s = 1\nafter_step = 1', "not both"),
        ('[[faults]]\nkind = "crash"\npeers = [4]', "names peer 4: peers are 0 to 3"),
        ('[[faults]]\nkind = "lie"\nattack = "claim"\nfactor = 0.5', "set factor to 1 or more"),
        ('[[faults]]\nkind = "lie"\nvalue = 3.0', "value is of constant only, not of sign_flip"),
        ('[[faults]]\nkind = "lie"\nattack = "brag"', "'claim' or 'garbage'"),
        ('[run]\ncompute = "guess"', "'real' or 'analytic'"),
        ('[run]\ncompute = "analytic"\nmethod = "demo"', "run.sizes describes the work, leave method out"),
        ('[run]\ncompute = "analytic"\ntask_options = {a = 1}', "leave task_options out"),
        ("[run.sizes]\nn_params = 1000", 'run.sizes .*: set run.compute = "analytic"'),
        ('[run]\nlike = "a"\nsteps = 3', "run.steps .*: run.like brings its own, leave steps out"),
        ('[run]\nlike = "a"\n[pipeline]\nstages = 2', "pipeline.stages .*: run.like brings its own, leave stages out"),
        ('[fleet]\nkind = "homes"\nup_mbit_s = 3', "fleet.up_mbit_s .*: it is of equal machines"),
        ('[fleet]\nkind = "trace"\ntrace = "a"\nround_trip_s = 3', "fleet.round_trip_s .*: it is of equal machines"),
        ('[fleet]\ntrace = "a"', 'fleet.trace .*: set fleet.kind = "trace"'),
        ("[fleet]\nother_threads = 2", "fleet.other_threads .*: set fleet.one_machine = true"),
        ("[devices]\nper_round = 3", "devices.per_round .*: set devices.n"),
        ('[fleet]\nkind = "trace"', "trace = FILE"),
        ("[fleet", "not TOML"),
    ],
)
def test_mistakes_are_refused_with_their_place_and_a_remedy(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint.replace("(", r"\(")):
        load_scenario(_file(tmp_path, text))


@pytest.mark.parametrize("setting", ["run.steps", "=3", "faults.3.at_s=1", "name.x=1", "name.x.y=1"])
def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        load_scenario(_file(tmp_path, '[[faults]]\nkind = "crash"\n'), [setting])


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.stem))
def test_library_tells_stories_under_their_files_names(path: Path) -> None:
    scenario = load_scenario(path)

    assert scenario.name == path.stem
    assert len(scenario.story) > 100


@pytest.mark.parametrize(
    ("name", "key", "seconds", "words"),
    [("storm", "for_s", 30, "Half a minute of bad luck"), ("preempted", "every_s", 60, "in a wave, every minute")],
)
def test_stories_say_how_long_faults_go_on_and_how_often(name: str, key: str, seconds: float, words: str) -> None:
    (scenario,) = (load_scenario(path) for path in LIBRARY if path.stem == name)

    assert getattr(scenario.faults[0], key) == seconds
    assert words in " ".join(scenario.story.split())


def test_tables_from_a_program_are_checked_alike() -> None:
    assert scenario_of({"name": "x"}) == Scenario(name="x")
    with pytest.raises(UsageError, match="name"):
        scenario_of({})
