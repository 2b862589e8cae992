"""Cuts a failing scenario down to the least that still fails in the same way, so that a person can see why.

Faults that were drawn (storms, victims that nobody named) are first written out as they struck; then faults are dropped
by halves and one by one (delta debugging: Zeller & Hildebrandt 2002), then peers, steps and times are cut. What is not
as short as it could be is still a failure: every scenario that is kept has been played.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ..protocol.errors import GossamerError, UsageError
from .faults import Fault
from .playing import Played, play
from .scenario import Scenario, scenario_of

PLAYS_MAX = 200
_LIVENESS = "liveness"
_TIMES = ("for_s", "back_after_s", "over_s", "at_s")
_PEERS_MIN = 2

Tables = dict[str, Any]
Tell = Callable[[int, Scenario], None]


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """The least failing scenario that was found."""

    scenario: Scenario
    violation: str
    plays: int


def shrink(scenario: Scenario, *, plays_max: int = PLAYS_MAX, tell: Tell = lambda plays, least: None) -> Shrunk:
    """Cut a failing scenario down.

    Args:
        plays_max: how often to play it at most.
        tell: is told how often it was played, and the least that failed so far.
    Raises: UsageError if it does not fail.
    """
    first = _played(scenario)
    if not first.violations:
        raise UsageError(f"{scenario.name} with seed {scenario.seed} violates nothing: there is nothing to shrink")
    search = _Search(scenario, first.violations[0], plays_max, tell)
    search.attempt(_with_faults(search.least, first.struck))
    before = None
    while before != search.least and not search.is_spent:
        before = search.least
        for cut in (_cut_faults, _cut_peers, _cut_steps, _cut_times):
            cut(search)
    return Shrunk(scenario=search.least, violation=search.violation, plays=search.plays)


def failure_of(violation: str) -> str:
    """What makes two failures the same: which property broke, or which exception came out."""
    kind, _, text = violation.partition(":")
    if kind != "crash":
        return kind
    last = [line for line in text.splitlines() if line.strip()][-1:]
    return f"crash {''.join(last).partition(':')[0].strip()}"


def toml_of(scenario: Scenario) -> str:
    """A scenario's file: only what is not as it would be anyway."""
    return tomli_w.dumps(_tables(scenario))


class _Search:
    """The least scenario so far, and how many plays are left."""

    def __init__(self, scenario: Scenario, violation: str, plays_max: int, tell: Tell) -> None:
        self.least = scenario
        self.violation = violation
        self.plays = 1
        self._failure = failure_of(violation)
        self._plays_max = plays_max
        self._tell = tell
        self._refused: list[Tables] = []
        """What did not fail, or cannot be."""

    @property
    def is_spent(self) -> bool:
        return self.plays >= self._plays_max

    @property
    def keeps_time(self) -> bool:
        """Whether less time would make it fail for want of time."""
        return self._failure == _LIVENESS

    def attempt(self, tables: Tables) -> bool:
        """Take these tables if they fail in the same way."""
        if self.is_spent or tables in self._refused or tables == _tables(self.least):
            return False
        try:
            scenario = scenario_of(tables)
        except UsageError:
            self._refused.append(tables)
            return False
        self.plays += 1
        alike = [text for text in _violations(scenario) if failure_of(text) == self._failure]
        if not alike:
            self._refused.append(tables)
            return False
        self.least, self.violation = scenario, alike[0]
        self._tell(self.plays, scenario)
        return True


# ------------------------------------------------------------------------------------------------------------- the cuts


def _cut_faults(search: _Search) -> None:
    size = len(search.least.faults)
    while size >= 1:
        start = 0
        while start < len(search.least.faults):
            faults = search.least.faults
            if not search.attempt(_with_faults(search.least, [*faults[:start], *faults[start + size :]])):
                start += size
        size //= 2


def _cut_peers(search: _Search) -> None:
    if search.least.fleet.kind == "trace" or search.least.run.like is not None:
        return
    for fewer in _smaller(search.least.fleet.peers, _PEERS_MIN):
        if search.attempt(_changed(search.least, "fleet", peers=fewer)):
            return


def _cut_steps(search: _Search) -> None:
    for fewer in _smaller(search.least.run.steps, 1):
        tables = _changed(search.least, "run", steps=fewer)
        if search.least.expect.steps_min > fewer:
            tables["expect"] = {**tables["expect"], "steps_min": fewer}
        if search.attempt(tables):
            return


def _cut_times(search: _Search) -> None:
    if not search.keeps_time:
        for shorter in _smaller(int(search.least.duration_s), 1):
            if search.attempt({**_tables(search.least), "duration_s": float(shorter)}):
                break
    for index in range(len(search.least.faults)):
        for name in _TIMES:
            value = getattr(search.least.faults[index], name, None)
            for shorter_s in (0.0, round((value or 0.0) / 2, 1), float(int(value or 0))):
                tables = _tables(search.least)
                if value and shorter_s < value:
                    tables["faults"][index][name] = shorter_s
                    if search.attempt(tables):
                        break


def _smaller(value: int, least: int) -> Iterator[int]:
    """The least first, then ever closer to the value."""
    last, step = value, value - least
    while step > 0:
        if value - step < last or step == value - least:
            last = value - step
            yield last
        step //= 2


# --------------------------------------------------------------------------------------------------- tables and playing


def _with_faults(scenario: Scenario, faults: Sequence[Fault]) -> Tables:
    return _tables(scenario.model_copy(update={"faults": list(faults)}))


def _changed(scenario: Scenario, table: str, **values: Any) -> Tables:
    tables = _tables(scenario)
    tables[table] = {**tables.get(table, {}), **values}
    return tables


def _tables(scenario: Scenario) -> Tables:
    tables: Tables = scenario.model_dump(mode="json", exclude_defaults=True, exclude={"faults"})
    for table, name in (("run", "like"), ("fleet", "trace"), ("fleet", "costs")):
        if tables.get(table, {}).get(name):
            tables[table][name] = str(Path(tables[table][name]).resolve())
    tables["faults"] = [
        {"kind": fault.kind, **fault.model_dump(mode="json", exclude_defaults=True)} for fault in scenario.faults
    ]
    return tables


def _violations(scenario: Scenario) -> tuple[str, ...]:
    try:
        return _played(scenario).violations
    except GossamerError:
        return ()  # what cannot begin does not fail


def _played(scenario: Scenario) -> Played:
    with tempfile.TemporaryDirectory(prefix="gossamer-shrink-") as folder:
        return play(scenario, Path(folder))
