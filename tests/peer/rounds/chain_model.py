"""Two rounds, of which the first decides the roster of the second, with every interleaving of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from gossamer.tests.peer.rounds.consensus_model import FRESH, Model, State, Steps, Vote, remember, walk

Life = tuple[str, int]
"""A peer and its incarnation."""
FIRST: tuple[Life, ...] = (("A", 1), ("B", 1), ("C", 1))
ROSTERS = {b"remove C": (("A", 1), ("B", 1)), b"renew C": (("A", 1), ("B", 1), ("C", 2))}


class History(NamedTuple):
    """Round 0, and what its possible decisions made of round 1."""

    first: State
    second: tuple[State, ...]
    """One for each entry of `ROSTERS`."""
    last_words: frozenset[Vote] | None = None
    """What C's first life had voted for in round 0 when it ended."""


@dataclass(frozen=True)
class Chain:
    """Two rounds of three peers; C may restart at any moment."""

    same_life: bool = False
    """Wrong on purpose: C comes back under its old incarnation and votes on in round 0, without its memory."""

    @cached_property
    def rounds(self) -> list[Model]:
        seconds = [Model(len(roster), (b"x", b"y"), deaths=False) for roster in ROSTERS.values()]
        return [Model(len(FIRST), tuple(ROSTERS), deaths=False), *seconds]

    def walk(self) -> list[History]:
        nobody = tuple(State(members=(None,) * len(roster)) for roster in ROSTERS.values())
        return walk(History(self.rounds[0].start(), nobody), self.steps, self.fault)

    def steps(self, history: History) -> Steps[History]:
        for label, first in self.rounds[0].steps(history.first):
            yield f"round 0: {label}", history._replace(first=first)
        for number, state in enumerate(history.second):
            for label, after in self.rounds[1 + number].steps(state):
                yield f"round 1: {label}", _put(history, number, after)
        for value in self.rounds[0].chosen(history.first):
            yield from self._learn(history, value)
        if history.last_words is None:
            yield "C restarts", self._restarted(history)

    def _learn(self, history: History, value: bytes) -> Steps[History]:
        """Somebody applies what round 0 decided, and is in round 1 if it is on the roster in its present life."""
        number, roster = list(ROSTERS).index(value), ROSTERS[value]
        for slot, (peer, _) in enumerate(FIRST):
            life = (peer, 2 if peer == "C" and history.last_words is not None else 1)
            gone_on = history._replace(first=remember(history.first, slot, None))
            if history.first.members[slot] is not None and life not in roster:
                yield f"{peer} learns {value!r} and is out", gone_on
            elif life in roster and all(state.members[slot : slot + 1] in ((), (None,)) for state in history.second):
                opened = remember(history.second[number], roster.index(life), FRESH)
                yield f"{peer} learns {value!r}", _put(gone_on, number, opened)

    def _restarted(self, history: History) -> History:
        """C's old life is over wherever it was; its new one has no memory."""
        slot = FIRST.index(("C", 1))
        first = remember(history.first, slot, FRESH if self.same_life else None)
        return history._replace(first=first, last_words=_votes_of(slot, history.first))

    def fault(self, history: History) -> str:
        """Two chains would be two decisions of round 0, or two of round 1 under whatever roster."""
        if history.last_words is not None and history.last_words != _votes_of(FIRST.index(("C", 1)), history.first):
            return "an old life voted"
        firsts = self.rounds[0].chosen(history.first)
        ends = [
            end for model, state in zip(self.rounds[1:], history.second, strict=True) for end in model.chosen(state)
        ]
        return "two chains" if len(firsts) > 1 or len(ends) > 1 else ""


def _votes_of(slot: int, state: State) -> frozenset[Vote]:
    return frozenset(vote for vote in state.votes if vote[1] == slot)


def _put(history: History, number: int, state: State) -> History:
    return history._replace(second=(*history.second[:number], state, *history.second[number + 1 :]))
