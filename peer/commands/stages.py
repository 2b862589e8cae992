"""Pipelines on the command line: what is asked for, checked before anything is started, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...protocol.errors import InvalidManifest, UsageError
from ...protocol.manifest import Manifest
from ...tasks import Staged, Task
from ..event_kinds import Joined, Settled, StepPassed, short_id
from ..pipeline.models import stage_model
from ..rounds.roster import NO_STAGE, WHOLE
from .swarm import Child


def check_pipeline(manifest: Manifest, task: Task) -> None:
    """See that this task and method can be trained in these stages. Raises InvalidManifest, UsageError."""
    n_stages, n_peers = manifest.pipeline.stages, manifest.group.start_peers
    if n_stages == 1:
        return
    if n_peers < n_stages:
        raise UsageError(f"{n_stages} stages need at least as many peers, not {n_peers}: fewer stages, or more peers")
    if not isinstance(task, Staged):
        raise InvalidManifest(f"task {task.name!r} cannot be cut: make it a Staged task, or use one stage")
    stage_model(task, manifest, bytes(32)).settle(n_stages - 1)


def check_only_train(n_only_train: int, n_stages: int, n_peers: int) -> None:
    """See that enough peers are left to serve. Raises UsageError."""
    if n_only_train and n_stages == 1:
        raise UsageError("--only-train: a whole model is trained by all; leave it out, or cut the model (--stages)")
    if n_only_train and n_peers - n_only_train < n_stages:
        raise UsageError(
            f"--only-train {n_only_train} of --peers {n_peers} leave {n_peers - n_only_train} for {n_stages} stages: "
            f"have {n_stages + n_only_train} peers or more, or fewer that only train"
        )


def parse_stage(text: str | None, manifest: Manifest) -> int:
    """What `--stage` says: WHOLE for auto, NO_STAGE for none. Raises UsageError."""
    if text is None or text == "auto":
        return WHOLE
    n_stages = manifest.pipeline.stages
    if n_stages == 1:
        raise UsageError("--stage: this run's model is not cut; leave --stage out")
    if text == "none":
        return NO_STAGE
    if not text.isdecimal() or int(text) >= n_stages:
        raise UsageError(f"--stage {text!r}: write auto, none to train only, or a stage from 0 to {n_stages - 1}")
    return int(text)


def summarise_stages(children: Sequence[Child]) -> dict[str, Any]:
    """What the logs of a pipeline's daemons tell; empty for whole models."""
    passed = [e.event for child in children for e in child.entries if isinstance(e.event, StepPassed)]
    rosters = sorted(
        (e.event.round, e.event.stages) for child in children for e in child.entries if isinstance(e.event, Joined)
    )
    if not passed or not rosters or not rosters[-1][1]:
        return {}
    counted = {event.step: event.counted for event in passed}
    n_stages = max(stage for _, stages in rosters for stage in stages if stage is not None) + 1
    return {
        "stages": n_stages,
        "replicas_per_stage": [rosters[-1][1].count(stage) for stage in range(n_stages)],
        "only_train": rosters[-1][1].count(None),
        "microbatches_counted": sum(counted.values()),
        "microbatches_expected": max(counted) * passed[0].expected,
        "rerouted": sum(event.rerouted + event.mended for event in passed),
        "duplicates_refused": sum(event.duplicates_refused for event in passed),
        "discarded": sum(event.discarded for event in passed),
        "idle_fraction_per_peer": {short_id(child.peer_id): idle for child in children if (idle := _idle(child))},
        "state_digests_by_stage": _digests(children),
    }


def _idle(child: Child) -> float | None:
    """The part of its rounds in which a daemon computed nothing; None for one that only trains."""
    passed = [entry.event for entry in child.entries if isinstance(entry.event, StepPassed)]
    events = [event for event in passed if event.stage is not None]
    duration_s = sum(event.duration_s for event in events)
    return round(max(0.0, 1 - sum(event.busy_s for event in events) / duration_s), 4) if duration_s else None


def _digests(children: Sequence[Child]) -> dict[str, list[str]]:
    """The different final states of each stage's replicas: one, if all went well."""
    found: dict[str, dict[str, None]] = {}
    for child in children:
        stages = [entry.event.stage for entry in child.entries if isinstance(entry.event, StepPassed | Settled)]
        if child.ended and stages and stages[-1] is not None:
            found.setdefault(str(stages[-1]), {})[child.ended.digest] = None
    return {stage: list(found[stage]) for stage in sorted(found, key=int)}
