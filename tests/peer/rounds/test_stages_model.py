"""Walks every reachable state of a round whose members serve two stages: none is left that cannot apply the step."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gossamer.peer.pipeline.proposing import proposable
from gossamer.peer.pipeline.step_plan import StepPlan
from gossamer.peer.rounds.place import Report
from gossamer.peer.rounds.roster import Roster
from gossamer.tests.peer.rounds.consensus_model import Violation
from gossamer.tests.peer.rounds.stages_model import FAILED, STEP, Stages


def own_items_will_do(plan: StepPlan, roster: Roster, reports: Mapping[int, Report], live: list[int]) -> object:
    """Wrong on purpose: proposes what contributors alone hold."""
    return live if all(count.slot in reports[count.slot].items for count in plan.counts) else None


def my_stage_will_do(plan: StepPlan, roster: Roster, reports: Mapping[int, Report], live: list[int]) -> object:
    """Wrong on purpose: looks at the first stage only."""
    counts = tuple(count for count in plan.counts if roster.members[count.slot].stage == 0)
    return proposable(StepPlan(attempt=plan.attempt, counts=counts), roster, reports, live)


@pytest.mark.parametrize(
    ("stages", "n_ballots", "n_states"),
    [((0, 0, 1), 2, 6_244), ((0, 0, 1, 1), 1, 772), ((0, 0, 0, 1), 1, 3_960)],
)
def test_what_is_decided_every_living_stage_can_apply(stages: tuple[int, ...], n_ballots: int, n_states: int) -> None:
    model = Stages(stages, n_ballots=n_ballots)

    states = model.walk()

    assert len(states) == n_states  # all of them; another number means that the protocol or the model has changed
    assert any(model.is_chosen(state) for state in states)
    assert all(model.models[FAILED].can_go_on(state.round) for state in states)


def test_a_dead_stage_stops_the_step_and_the_others_can_still_decide_that_it_failed() -> None:
    model = Stages((0, 0, 1))

    dead = [state for state in model.walk() if model.living(state) == [0, 1]]
    before = [state for state in dead if not any(value == STEP for _, value in state.round.proposals)]

    assert before
    assert not any(model.may_propose(state) for state in before)
    assert {model.models[FAILED].later(state.round, (0, 1), 0) for state in before} == {FAILED, b"later"}
    assert not any(model.is_chosen(state) for state in before)


@pytest.mark.parametrize(
    "wrong",
    [
        Stages((0, 0, 1), rule=own_items_will_do),
        Stages((0, 0, 1, 1), n_ballots=1, rule=my_stage_will_do),
        Stages((0, 0, 1, 1), n_ballots=1, wrong_suspicions=True),
    ],
    ids=["items that nobody else holds", "one stage only", "a wrong suspicion and a death"],
)
def test_the_walk_finds_a_stage_that_is_left_behind(wrong: Stages) -> None:
    with pytest.raises(Violation, match="half applied"):
        wrong.walk()
