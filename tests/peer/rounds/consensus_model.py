"""A round of a few members as a graph of states: the real `Acceptor` and `Proposer`, on a network that may do all.

A message, once sent, stays in a set and may be delivered at any later time, again and again, or never. Any minority may
die at any point; a leader that dies between its own vote and its sends is one that dies while its sends are lost.
One step is reduced: a leader hears a choice of the promises at the moment when it proposes, because hearing one earlier
changes nothing that others see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import NamedTuple, TypeVar

from gossamer.peer.rounds.consensus import Acceptor, Proposer

Memory = tuple[int, int, bytes | None, bool]
"""An acceptor's: promised, accepted ballot, accepted value, retired."""
Promise = tuple[int, int, int, bytes | None]
"""(ballot, slot, accepted ballot, accepted value)."""
Vote = tuple[int, int, bytes]
"""(ballot, slot, value)."""
FRESH: Memory = (0, -1, None, False)


class State(NamedTuple):
    """A round: what its members remember, and every message that was ever sent."""

    members: tuple[Memory | None, ...]
    """None: does not take part (has not come so far yet, has gone on, or is dead)."""
    begun: frozenset[int] = frozenset()
    """Ballots whose leader has asked for promises."""
    promises: frozenset[Promise] = frozenset()
    proposals: frozenset[tuple[int, bytes]] = frozenset()
    votes: frozenset[Vote] = frozenset()


S = TypeVar("S")
Steps = Iterator[tuple[str, S]]


class Violation(AssertionError):
    """A reachable state in which a promise is broken."""


def walk(start: S, steps: Callable[[S], Steps[S]], check: Callable[[S], str]) -> list[S]:
    """All states that can be reached, breadth first. Raises Violation, with the shortest way there."""
    ways: dict[S, tuple[str, S] | None] = {start: None}
    frontier = [start]
    for state in frontier:
        fault = check(state)
        if fault:
            raise Violation(f"{fault}: {'; '.join(_way_to(state, ways))}")
        for label, after in steps(state):
            if after not in ways:
                ways[after] = (label, state)
                frontier.append(after)
    return frontier


def _way_to(state: S, ways: dict[S, tuple[str, S] | None]) -> list[str]:
    labels = []
    while (last := ways[state]) is not None:
        labels.append(last[0])
        state = last[1]
    return labels[::-1]


@dataclass(frozen=True)
class Model:
    """Every step that a round can take. Ballot b is led by slot b mod n, and its leader wants `wishes[b]`."""

    n_members: int
    wishes: tuple[bytes, ...]
    acceptor: type[Acceptor] = Acceptor
    proposer: type[Proposer] = Proposer
    forgetful_restarts: bool = False
    """Wrong on purpose: a member comes back under its old name without its memory."""
    double_tongued: bool = False
    """Wrong on purpose: leaders propose a second value in their ballot."""
    retirements: bool = False
    deaths: bool = True

    @cached_property
    def quorum(self) -> int:
        return self.n_members // 2 + 1

    def start(self) -> State:
        return State(members=(FRESH,) * self.n_members)

    def walk(self) -> list[State]:
        return walk(self.start(), self.steps, self.fault)

    def wake(self, memory: Memory) -> Acceptor:
        promised, ballot, value, retired = memory
        return self.acceptor(promised=promised, accepted_ballot=ballot, accepted=value, retired=retired)

    # -- steps -----------------------------------------------------------------------------------

    def steps(self, state: State) -> Steps[State]:
        for ballot in range(len(self.wishes)):
            yield from self._prepare(state, ballot)
            yield from self._propose(state, ballot)
        for ballot, value in state.proposals:
            for slot in range(self.n_members):
                yield from self._accept(state, slot, ballot, value)
        for slot, memory in enumerate(state.members):
            if memory is not None and self.forgetful_restarts:
                yield f"{slot} forgets all", remember(state, slot, FRESH)
            if memory is not None and self.retirements:
                yield f"{slot} retires", remember(state, slot, (*memory[:3], True))
            if memory is not None and self.deaths and state.members.count(None) < self.n_members - self.quorum:
                yield f"{slot} dies", remember(state, slot, None)

    def _prepare(self, state: State, ballot: int) -> Steps[State]:
        """The leader begins by promising itself; then its request may reach anybody."""
        leader = ballot % self.n_members
        for slot in range(self.n_members) if ballot in state.begun else (leader,) if ballot else ():
            memory = state.members[slot]
            if memory is None:
                continue
            acceptor = self.wake(memory)
            if acceptor.prepare(ballot):
                promise = (ballot, slot, acceptor.accepted_ballot, acceptor.accepted)
                after = remember(state, slot, _memory(acceptor))
                after = after._replace(begun=state.begun | {ballot}, promises=state.promises | {promise})
                yield f"{slot} promises ballot {ballot}", after

    def _propose(self, state: State, ballot: int) -> Steps[State]:
        """The leader has heard some of the promises (its own among them) and votes first for what it proposes."""
        leader = ballot % self.n_members
        memory, made = state.members[leader], [value for number, value in state.proposals if number == ballot]
        if memory is None or len(made) > self.double_tongued:
            return
        for heard in _some([promise for promise in sorted(state.promises, key=repr) if promise[0] == ballot], leader):
            proposer = self.proposer(ballot, self.quorum)
            for _, slot, accepted_ballot, accepted in heard:
                proposer.promise(slot, accepted_ballot, accepted)
            if not proposer.may_propose:
                continue
            value = proposer.propose(self.wishes[ballot] + b"!" * len(made))
            acceptor = self.wake(memory)
            after = state._replace(proposals=state.proposals | {(ballot, value)})
            if acceptor.accept(ballot, value):
                after = after._replace(votes=state.votes | {(ballot, leader, value)})
                yield f"{leader} proposes {value!r} in ballot {ballot}", remember(after, leader, _memory(acceptor))
            elif self.double_tongued:
                yield f"{leader} also proposes {value!r} in ballot {ballot}", after

    def _accept(self, state: State, slot: int, ballot: int, value: bytes) -> Steps[State]:
        memory = state.members[slot]
        if memory is None:
            return
        acceptor = self.wake(memory)
        if acceptor.accept(ballot, value):
            if memory[3]:
                raise Violation(f"slot {slot} voted after it had retired")
            after = remember(state, slot, _memory(acceptor))
            yield (
                f"{slot} votes {value!r} in ballot {ballot}",
                after._replace(votes=state.votes | {(ballot, slot, value)}),
            )

    # -- promises to keep ------------------------------------------------------------------------

    def chosen(self, state: State) -> list[bytes]:
        """Values for which some ballot's leader could show a certificate."""
        values = []
        for ballot, value in sorted(state.proposals):
            proposer = Proposer(ballot, self.quorum, proposal=value)
            certified = [
                proposer.vote(slot) for number, slot, voted in state.votes if (number, voted) == (ballot, value)
            ]
            if any(certified) and value not in values:
                values.append(value)
        return values

    def fault(self, state: State) -> str:
        if len({(ballot, slot) for ballot, slot, _ in state.votes}) < len(state.votes):
            return "a member voted twice in a ballot"
        return "two values were chosen" if not self.double_tongued and len(self.chosen(state)) > 1 else ""

    def can_go_on(self, state: State) -> bool:
        """Whether any quorum of the living, led by any of its members, decides, and nothing but what was chosen."""
        alive = [slot for slot, memory in enumerate(state.members) if memory is not None]
        bound = self.chosen(state)
        results = [self.later(state, some, leader) for some in combinations(alive, self.quorum) for leader in some]
        return bool(results) and all(value is not None and value in (bound or [value]) for value in results)

    def later(self, state: State, alive: tuple[int, ...], leader: int) -> bytes | None:
        """What is decided if only `alive` are left and `leader`, one of them, leads an unused ballot undisturbed."""
        members = {slot: self.wake(memory) for slot in alive if (memory := state.members[slot]) is not None}
        proposer = self.proposer(self.n_members * len(self.wishes) + leader, self.quorum)
        for slot, acceptor in members.items():
            if acceptor.prepare(proposer.ballot):
                proposer.promise(slot, acceptor.accepted_ballot, acceptor.accepted)
        if not proposer.may_propose:
            return None
        value = proposer.propose(b"later")
        decided = [
            acceptor.accept(proposer.ballot, value) and proposer.vote(slot) for slot, acceptor in members.items()
        ]
        return value if any(decided) else None


def _memory(acceptor: Acceptor) -> Memory:
    return acceptor.promised, acceptor.accepted_ballot, acceptor.accepted, acceptor.retired


def remember(state: State, slot: int, memory: Memory | None) -> State:
    return state._replace(members=(*state.members[:slot], memory, *state.members[slot + 1 :]))


def _some(promises: list[Promise], leader: int) -> Iterator[tuple[Promise, ...]]:
    """Every choice of promises with the leader's own; none at all for a ballot that needs none."""
    for size in range(len(promises) + 1):
        for heard in combinations(promises, size):
            if size == 0 or any(promise[1] == leader for promise in heard):
                yield heard
