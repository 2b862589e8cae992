"""Plans of dense rounds: parts tile the vector, and a mended plan moves only what was lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.peer.rounds.decision import PARTS_MAX
from gossamer.peer.rounds.plan import Plan
from gossamer.protocol import rounds_pb2 as pb
from gossamer.protocol.errors import InvalidMessage


def test_lost_reducers_part_is_shared_out_and_the_others_stay() -> None:
    plan = Plan.of(0, [0, 1, 2, 3], 120)

    mended = plan.mended(1, [0, 1, 3])

    assert plan.parts == ((0, 0, 30), (1, 30, 60), (2, 60, 90), (3, 90, 120))
    assert mended.contributors == (0, 1, 3)
    assert mended.parts == ((0, 0, 30), (1, 30, 60), (0, 60, 70), (1, 70, 80), (3, 80, 90), (3, 90, 120))


@given(st.integers(1, 500), st.lists(st.sets(st.integers(0, 31), min_size=1), min_size=1, max_size=6))
def test_any_chain_of_plans_tiles_the_vector_and_survives_the_wire(length: int, groups: list[set[int]]) -> None:
    plan = Plan.of(0, sorted(groups[0]), length)

    for attempt, group in enumerate(groups[1:], start=1):
        plan = plan.mended(attempt, sorted(group))

    assert len(plan.parts) <= PARTS_MAX
    assert {reducer for reducer, _, _ in plan.parts} <= set(plan.contributors)
    assert Plan.from_wire(plan.to_wire(bytes(16), 7), 32, length) == plan


@pytest.mark.parametrize(
    ("contributors", "parts"),
    [
        ((0, 1), ((0, 0, 4), (1, 5, 10))),  # a gap
        ((0, 1), ((0, 0, 6), (1, 5, 10))),  # an overlap
        ((0, 1), ((0, 0, 5), (1, 5, 9))),  # too short
        ((1, 0), ((0, 0, 10),)),  # not in order
        ((0, 4), ((0, 0, 10),)),  # not in the roster
        ((), ((0, 0, 10),)),
    ],
)
def test_plan_that_does_not_tile_or_fit_the_roster_is_refused(
    contributors: tuple[int, ...], parts: tuple[tuple[int, int, int], ...]
) -> None:
    message = pb.Plan(contributors=contributors, parts=[pb.Part(reducer=r, start=a, stop=b) for r, a, b in parts])

    with pytest.raises(InvalidMessage):
        Plan.from_wire(message, 4, 10)
