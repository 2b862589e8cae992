"""Walks every reachable state of a few members that agree by the real `Acceptor` and `Proposer`."""

from __future__ import annotations

import pytest

from gossamer.peer.rounds.consensus import Acceptor, Proposer
from gossamer.tests.peer.rounds.chain_model import Chain
from gossamer.tests.peer.rounds.consensus_model import Model, Violation

WISHES = (b"a", b"b", b"c")


class ForgetsItsPromise(Acceptor):
    def prepare(self, ballot: int) -> bool:
        return not self.retired and ballot >= self.promised


class VotesForAnything(Acceptor):
    def accept(self, ballot: int, value: bytes) -> bool:
        if self.retired or ballot < self.promised:
            return False
        self.promised, self.accepted_ballot, self.accepted = ballot, ballot, value
        return True


class VotesWhenRetired(Acceptor):
    def accept(self, ballot: int, value: bytes) -> bool:
        self.retired = False
        return super().accept(ballot, value)


class NeverPromisesAgain(Acceptor):
    def prepare(self, ballot: int) -> bool:
        return self.accepted is None and super().prepare(ballot)


class IgnoresEarlierVotes(Proposer):
    @property
    def bound_value(self) -> bytes | None:
        return None


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("n_members", "n_ballots", "n_states"), [(2, 3, 243), (3, 3, 74_948), (4, 2, 10_395)])
def test_no_two_values_are_chosen_and_a_living_quorum_can_always_decide(
    n_members: int, n_ballots: int, n_states: int
) -> None:
    model = Model(n_members, WISHES[:n_ballots])

    states = model.walk()

    assert len(states) == n_states  # all of them; another number means that the protocol or the model has changed
    assert all(model.can_go_on(state) for state in states)


def test_members_vote_once_in_a_ballot_even_if_its_leader_proposes_twice() -> None:
    states = Model(3, WISHES[:2], double_tongued=True).walk()

    assert len(states) == 12_128


def test_retired_members_never_vote() -> None:
    states = Model(3, WISHES[:2], retirements=True).walk()

    assert len(states) == 6_260


@pytest.mark.timeout(240)
def test_two_rounds_with_a_changing_roster_make_one_chain() -> None:
    histories = Chain().walk()

    assert len(histories) == 53_872


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (Model(3, WISHES[:2], acceptor=ForgetsItsPromise), "two values were chosen"),
        (Model(3, WISHES[:2], proposer=IgnoresEarlierVotes), "two values were chosen"),
        (Model(3, WISHES[:2], forgetful_restarts=True), "two values were chosen"),
        (Model(3, WISHES[:2], acceptor=VotesForAnything, double_tongued=True), "voted twice"),
        (Model(3, WISHES[:2], acceptor=VotesWhenRetired, retirements=True), "after it had retired"),
        (Chain(same_life=True), "two chains|an old life voted"),
    ],
)
def test_the_walk_finds_what_is_wrong_on_purpose(wrong: Model | Chain, fault: str) -> None:
    with pytest.raises(Violation, match=fault):
        wrong.walk()


def test_the_walk_finds_members_that_cannot_go_on() -> None:
    model = Model(3, WISHES[:2], acceptor=NeverPromisesAgain)

    states = model.walk()

    assert not all(model.can_go_on(state) for state in states)
