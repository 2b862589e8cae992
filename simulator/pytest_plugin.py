"""A fixture for tests of one's own tasks and methods in the simulated world.

In conftest.py:

    pytest_plugins = ["gossamer.simulator.pytest_plugin"]

and then:

    def test_my_task_survives_a_crash(simulate):
        simulate({"name": "mine", "run": {"task": "spirals:Spirals", "steps": 30},
                  "fleet": {"peers": 4}, "faults": [{"kind": "crash", "after_step": 10}],
                  "expect": {"steps_min": 30}})
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .playing import Played


class Simulate:
    """Plays scenarios in a test's own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Holds a folder `seed-N` for each seed, as `gossamer simulate --out` fills it."""

    def __call__(self, tables: Mapping[str, Any], *, seeds: Iterable[int] = (0,)) -> list[Played]:
        """Play a scenario, given as in TOML, once for each seed. What breaks a property fails the test, and the failure
        names the command that replays it.

        Returns: what came of each seed.
        Raises: UsageError, UnknownName for tables that are no scenario.
        """
        from .playing import play  # torch's weight, which other tests of the session may not need
        from .scenario import scenario_of, toml_of

        played = []
        for seed in seeds:
            scenario = scenario_of({**tables, "seed": seed})
            one = play(scenario, self.folder / f"seed-{seed}")
            played.append(one)
            if one.violations:
                path = self.folder / f"seed-{seed}.toml"
                path.write_text(toml_of(scenario))
                pytest.fail(f"{one.violations[0]}\nreplay: gossamer simulate {path}", pytrace=False)
        return played


@pytest.fixture
def simulate(tmp_path: Path) -> Simulate:
    """Plays scenarios with the daemons' own code on virtual time."""
    return Simulate(tmp_path)
