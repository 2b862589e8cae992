"""Cuts a failing scenario down to the least that still fails in the same way, so that a person can see why.

Faults that were drawn (storms, victims that nobody named) are first written out as they struck; then faults are dropped
by halves and one by one (delta debugging: Zeller & Hildebrandt 2002), then peers, steps and times are cut. What is not
as short as it could be is still a failure: every scenario that is kept has been played.

A failure that faults brought about is no longer the same if it comes without them: a cut that leaves so little time, or
so few peers, that what is expected is out of reach is none. So of whatever is kept a run without any fault holds, which
is played once for all scenarios that differ in nothing else.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..protocol.errors import GossamerError, UsageError
from .faults import Fault
from .playing import Played, play
from .scenario import Scenario, Tables, scenario_of, tables_of

PLAYS_MAX = 200
_LIVENESS = "liveness"
_CONVERGENCE = "convergence"
_TIMES = ("for_s", "back_after_s", "over_s", "at_s")
_PEERS_MIN = 2

Tell = Callable[[int, Scenario], None]


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """The least failing scenario that was found."""

    scenario: Scenario
    violation: str
    plays: int


def shrink(
    scenario: Scenario,
    *,
    plays_max: int = PLAYS_MAX,
    tell: Tell = lambda plays, least: None,
    say: Callable[[str], None] = lambda words: None,
) -> Shrunk:
    """Cut a failing scenario down.

    Args:
        plays_max: how often to play it at most.
        tell: is told how often it was played, and the least that failed so far.
        say: is told at once what a person should know of it.
    Raises: UsageError if it does not fail.
    """
    first = _played(scenario)
    if not first.violations:
        raise UsageError(f"{scenario.name} with seed {scenario.seed} violates nothing: there is nothing to shrink")
    search = _Search(scenario, first.violations[0], plays_max, tell)
    if scenario.faults and search.drop_all_faults():
        say(f"{scenario.name} with seed {scenario.seed} fails without any fault as well")
    search.attempt(_with_faults(search.least, first.struck))
    before = None
    while before != search.least and not search.is_spent:
        before = search.least
        for cut in (_cut_faults, _cut_peers, _cut_steps, _cut_times):
            cut(search)
    return Shrunk(scenario=search.least, violation=search.violation, plays=search.plays)


def failure_of(violation: str) -> str:
    """What makes two failures the same: which property broke, or which exceptions came out."""
    return violation.partition(":")[0]


class _Search:
    """The least scenario so far, and how many plays are left."""

    def __init__(self, scenario: Scenario, violation: str, plays_max: int, tell: Tell) -> None:
        self.least = scenario
        self.violation = violation
        self.plays = 1
        self._failure = failure_of(violation)
        self._fails_by_itself = not scenario.faults
        self._plays_max = plays_max
        self._tell = tell
        self._refused: list[Tables] = []
        """What did not fail so, or cannot be."""
        self._sound: list[Tables] = []
        """Without faults; what did not fail so."""

    @property
    def is_spent(self) -> bool:
        return self.plays >= self._plays_max

    @property
    def keeps_time(self) -> bool:
        """Whether less time would make it fail for want of time."""
        return self._failure in (_LIVENESS, _CONVERGENCE)

    @property
    def keeps_steps(self) -> bool:
        """Whether fewer steps would make it fail for want of steps."""
        return self._failure == _CONVERGENCE

    def drop_all_faults(self) -> bool:
        """Take the scenario without faults if it fails in the same way: then faults are not what it fails by."""
        bare = _with_faults(self.least, ())
        violation = self._failure_in(bare)
        if violation is None:
            self._count_as_sound(bare)
            return False
        self._fails_by_itself = True
        self._keep(bare, violation)
        return True

    def attempt(self, tables: Tables) -> bool:
        """Take these tables if they fail in the same way, and by their faults if that is how the first ones fail."""
        if tables in self._refused or tables == tables_of(self.least):
            return False
        violation = self._failure_in(tables)
        if violation is None or not (self._fails_by_itself or self._is_sound({**tables, "faults": []})):
            self._refused.append(tables)
            return False
        self._keep(tables, violation)
        return True

    def _is_sound(self, bare: Tables) -> bool:
        if bare in self._sound:
            return True
        if self.is_spent or self._failure_in(bare) is not None:
            return False
        self._count_as_sound(bare)
        return True

    def _count_as_sound(self, bare: Tables) -> None:
        self._sound.append(bare)
        self._refused.append(bare)

    def _failure_in(self, tables: Tables) -> str | None:
        """Play it, if it can be: how it fails in the same way, if it does."""
        if self.is_spent:
            return None
        try:
            found = _violations(scenario_of(tables))
        except UsageError:
            return None
        self.plays += 1
        return next((text for text in found if failure_of(text) == self._failure), None)

    def _keep(self, tables: Tables, violation: str) -> None:
        self.least, self.violation = scenario_of(tables), violation
        self._tell(self.plays, self.least)


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

    def attempt(fewer: int) -> bool:
        least = search.least
        finished_min = max(0, least.expect.finished_min - (least.fleet.peers - fewer))
        return search.attempt(_with(least, fleet={"peers": fewer}, expect={"finished_min": finished_min}))

    _lower(search.least.fleet.peers, _PEERS_MIN, attempt)


def _cut_steps(search: _Search) -> None:
    if search.keeps_steps or search.least.run.like is not None:
        return

    def attempt(fewer: int) -> bool:
        steps_min = min(search.least.expect.steps_min, fewer)
        return search.attempt(_with(search.least, run={"steps": fewer}, expect={"steps_min": steps_min}))

    _lower(search.least.run.steps, 1, attempt)


def _cut_times(search: _Search) -> None:
    if not search.keeps_time:
        _lower(
            math.ceil(search.least.duration_s),
            1,
            lambda shorter: search.attempt({**tables_of(search.least), "duration_s": float(shorter)}),
        )
    for index in range(len(search.least.faults)):
        for name in _TIMES:
            _cut_time(search, index, name)


def _cut_time(search: _Search, index: int, name: str) -> None:
    value: float | None = getattr(search.least.faults[index], name, None)

    def attempt(shorter: int) -> bool:
        tables = tables_of(search.least)
        tables["faults"][index][name] = float(shorter)
        return search.attempt(tables)

    if value:
        _lower(math.ceil(min(value, search.least.duration_s)), 0, attempt)


def _lower(value: int, least: int, attempt: Callable[[int], bool]) -> None:
    """Halve towards the least that is taken, if none between is not; to an eighth, for finer is not worth its plays."""
    if value <= least or attempt(least):
        return
    while value - least > max(1, value // 8):
        middle = (least + value) // 2
        if attempt(middle):
            value = middle
        else:
            least = middle


# --------------------------------------------------------------------------------------------------- tables and playing


def _with_faults(scenario: Scenario, faults: Sequence[Fault]) -> Tables:
    return tables_of(scenario.model_copy(update={"faults": list(faults)}))


def _with(scenario: Scenario, **changes: dict[str, Any]) -> Tables:
    """Its tables, with other values in some of them."""
    changed = {table: getattr(scenario, table).model_copy(update=values) for table, values in changes.items()}
    return tables_of(scenario.model_copy(update=changed))


def _violations(scenario: Scenario) -> tuple[str, ...]:
    try:
        return _played(scenario).violations
    except GossamerError:
        return ()  # what cannot begin does not fail


def _played(scenario: Scenario) -> Played:
    with tempfile.TemporaryDirectory(prefix="gossamer-shrink-") as folder:
        return play(scenario, Path(folder))
