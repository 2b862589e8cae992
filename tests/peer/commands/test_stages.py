"""What `up` tells of a pipeline, from the logs of its daemons."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.peer.commands.stages import check_only_train, parse_stage, summarise_stages
from gossamer.peer.commands.swarm import Child
from gossamer.peer.event_kinds import Ended, Event, Joined, Settled, StepPassed, short_id
from gossamer.peer.events import Entry
from gossamer.peer.rounds.roster import NO_STAGE, WHOLE
from gossamer.protocol.errors import UsageError
from gossamer.protocol.manifest import Manifest, manifest_of


def test_who_comes_back_to_another_stage_is_told_of_with_that_one() -> None:
    joined = Joined(round=0, roster=("a", "b", "c"), lineage="", stages=(0, 1, 1))
    moved = Settled(stage=0, n_stages=2, step=1, how="the neediest")
    children = [
        child(0, joined, passed(0), ended("first")),
        child(1, joined, passed(1), ended("second")),
        child(2, joined, passed(1), moved, ended("first")),
    ]

    summary = summarise_stages(children)

    assert summary["state_digests_by_stage"] == {"0": ["first"], "1": ["second"]}


def test_replicas_that_disagree_are_told_of() -> None:
    joined = Joined(round=0, roster=("a", "b"), lineage="", stages=(0, 0))
    children = [child(0, joined, passed(0), ended("one")), child(1, joined, passed(0), ended("another"))]

    assert summarise_stages(children)["state_digests_by_stage"] == {"0": ["one", "another"]}


def test_who_only_trains_is_told_of_apart() -> None:
    joined = Joined(round=0, roster=("a", "b", "c"), lineage="", stages=(0, 1, None))
    children = [
        child(0, joined, passed(0), ended("first")),
        child(1, joined, passed(1), ended("second")),
        child(2, joined, passed(None), ended("none")),
    ]

    summary = summarise_stages(children)

    assert (summary["replicas_per_stage"], summary["only_train"]) == ([1, 1], 1)
    assert set(summary["idle_fraction_per_peer"]) == {short_id("peer 0"), short_id("peer 1")}
    assert summary["state_digests_by_stage"] == {"0": ["first"], "1": ["second"]}


@pytest.mark.parametrize(("n_only_train", "n_stages", "n_peers"), [(1, 1, 4), (2, 3, 4)])
def test_trainers_that_leave_nobody_to_serve_are_refused(n_only_train: int, n_stages: int, n_peers: int) -> None:
    with pytest.raises(UsageError, match="--only-train"):
        check_only_train(n_only_train, n_stages, n_peers)


def test_a_stage_may_be_named_or_chosen_or_none() -> None:
    manifest = two_stages()

    assert [parse_stage(text, manifest) for text in (None, "auto", "1", "none")] == [WHOLE, WHOLE, 1, NO_STAGE]
    with pytest.raises(UsageError, match="none to train only"):
        parse_stage("2", manifest)


def two_stages() -> Manifest:
    return manifest_of(
        {
            "run": {"name": "two", "seed": 0, "steps": 1, "created": "now"},
            "task": {"name": "digits", "fingerprint": "0" * 64, "options": {}},
            "method": {"name": "allreduce", "options": {}},
            "schedule": {"lr": 0.1},
            "data": {"batch_size": 8},
            "group": {"start_peers": 2},
            "admission": {"policy": "open"},
            "pipeline": {"stages": 2},
        }
    )


def child(number: int, *events: Event) -> Child:
    entries = [Entry(t_s=0.0, unix_s=0.0, peer=str(number), event=event) for event in events]
    return Child(number=number, folder=Path(), peer_id=f"peer {number}", entries=entries)


def ended(digest: str) -> Ended:
    return Ended(outcome="finished", step=1, round=1, digest=digest)


def passed(stage: int | None) -> StepPassed:
    counters = dict.fromkeys(("forward_passes", "backward_passes", "rerouted", "mended"), 0)
    counters |= dict.fromkeys(("n_waiting_max", "duplicates_refused", "discarded"), 0)
    return StepPassed(round=0, step=1, stage=stage, counted=2, expected=2, busy_s=0.5, duration_s=1.0, **counters)
