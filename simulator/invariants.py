"""What must hold in every run, whatever went wrong in it; told from the daemons' own logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..peer.event_kinds import Evaluated, Forked, Joined, Resynced, RoundEnded, StepPassed
from ..peer.events import Entry, read_events
from .lives import End, n_finished
from .tables import Expectation

Told = tuple[tuple[str, ...], str]
"""(contributors, digest) of a committed round."""


def violations(logs: dict[str, list[Entry]], ends: Sequence[End], expect: Expectation) -> list[str]:
    """Every property that did not hold, in words."""
    found = [*_one_result(logs), *_once(logs), *_one_end(ends), *_expected(logs, ends, expect)]
    return [*found, *_whole_steps(logs)]


def read_logs(root: Path) -> dict[str, list[Entry]]:
    """Peer's folder -> its log."""
    return {path.parent.name: read_events(path) for path in sorted(root.glob("*/events.jsonl"))}


def rounds_of(entries: Sequence[Entry]) -> Iterator[tuple[str, RoundEnded]]:
    """(lineage, what this peer says of a round that it applied), in order."""
    lineage = ""
    for entry in entries:
        event = entry.event
        if isinstance(event, Joined | Resynced):
            lineage = event.lineage
        elif isinstance(event, Forked):
            lineage = event.to_lineage
        elif isinstance(event, RoundEnded) and event.outcome == "committed":
            yield lineage, event


def _one_result(logs: dict[str, list[Entry]]) -> Iterator[str]:
    seen: dict[tuple[str, int], tuple[str, Told]] = {}
    for peer, entries in logs.items():
        for lineage, event in rounds_of(entries):
            told = (event.contributors, event.digest)
            first, known = seen.setdefault((lineage, event.round), (peer, told))
            if known != told:
                yield (
                    f"one result: round {event.round} of lineage {lineage[:8]} is {_short(known)} for {first} and "
                    f"{_short(told)} for {peer}"
                )


def _once(logs: dict[str, list[Entry]]) -> Iterator[str]:
    for peer, entries in logs.items():
        for _, event in rounds_of(entries):
            if len(set(event.contributors)) != len(event.contributors):
                yield f"exactly once: {peer} counts somebody twice in round {event.round}: {event.contributors}"


def _whole_steps(logs: dict[str, list[Entry]]) -> Iterator[str]:
    """A pipeline's step counts as many microbatches for everybody, and never more than there are."""
    seen: dict[tuple[str, int], tuple[str, int]] = {}
    for peer, entries in logs.items():
        lineage = ""
        for entry in entries:
            event = entry.event
            if isinstance(event, Joined | Resynced):
                lineage = event.lineage
            if not isinstance(event, StepPassed):
                continue
            first, counted = seen.setdefault((lineage, event.round), (peer, event.counted))
            if counted != event.counted or not 0 < event.counted <= event.expected:
                yield (
                    f"microbatches: round {event.round} counts {counted} of {event.expected} for {first} and "
                    f"{event.counted} for {peer}"
                )


def _one_end(ends: Sequence[End]) -> Iterator[str]:
    states: dict[tuple[int, int, int], tuple[str, bytes]] = {}
    for end in ends:
        peer, result = end.peer, end.result
        if result is None or result.outcome != "finished":
            continue
        key = (result.round_index, result.samples, end.stage)
        first, digest = states.setdefault(key, (peer, result.digest))
        if digest != result.digest:
            yield f"one state: {first} and {peer} finished at step {result.step} with different digests"


def _expected(logs: dict[str, list[Entry]], ends: Sequence[End], expect: Expectation) -> Iterator[str]:
    step = max((event.step for entries in logs.values() for _, event in rounds_of(entries)), default=0)
    if step < expect.steps_min:
        yield f"liveness: {step} updates were applied, at least {expect.steps_min} were expected"
    if n_finished(ends) < expect.finished_min:
        yield f"liveness: {n_finished(ends)} peers finished, at least {expect.finished_min} were expected"
    told = [event for entries in logs.values() for entry in entries if isinstance(event := entry.event, Evaluated)]
    accuracy = max(((event.step, event.accuracy or 0.0) for event in told), default=(0, 0.0))[1]
    if accuracy < expect.accuracy_min:
        yield f"convergence: accuracy {accuracy:.3f} was reached, at least {expect.accuracy_min} was expected"


def _short(told: Told) -> str:
    return f"{told[1][:8]} of {', '.join(told[0])}"
