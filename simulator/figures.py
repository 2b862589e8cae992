"""The figures of a simulated run, by the names that the house's report knows; all times virtual."""

from __future__ import annotations

import math
import statistics
from typing import Any

from ..peer.event_kinds import Evaluated, Event, Resynced, RoundEnded, Started
from ..peer.events import Entry
from .faults import Fault
from .lives import n_finished
from .scenario import Scenario
from .struck import faults_amiss, faults_done
from .swarm import Swarm
from .virtual_times import last_update_s


def figures_of(logs: dict[str, list[Entry]], swarm: Swarm) -> dict[str, Any]:
    """What came of it, for `summary.json`.

    `samples_per_s` is of the time from the first daemon's start to the last update: who waits for those that do not
    come back trains no more.
    """
    events = [entry.event for entries in logs.values() for entry in entries]
    rounds = [event for event in events if isinstance(event, RoundEnded) and event.outcome != "unknown"]
    started = next((event for event in events if isinstance(event, Started)), None)
    told = sorted((e.step, e.loss) for e in events if isinstance(e, Evaluated) and e.loss is not None)
    sent, samples = swarm.remains.sent, swarm.remains.samples
    steps = max((event.step for event in rounds if event.outcome == "committed"), default=0)
    starts = swarm.remains.starts
    begun_s = min((starts_s[0] for starts_s in starts.values()), default=0.0)
    trained_s = last_update_s(logs, starts) - begun_s
    digests = {end.result.digest for end in swarm.ends if end.result is not None and end.is_finish}
    return {
        "run_id": swarm.manifest.run_id,
        "task": started.task if started else None,
        "method": started.method if started else None,
        "n_params": started.n_params if started else None,
        "compute": "real",
        "n_peers": len(swarm.seats),
        "steps": steps,
        "samples": samples,
        "samples_per_s": samples / trained_s if steps else 0.0,
        "wall_s": round(swarm.sim.now_s, 6),
        "eval_loss_start": told[0][1] if told else None,
        "eval_loss": told[-1][1] if told else None,
        "rounds_ok": len({event.round for event in rounds if event.outcome == "committed"}),
        "rounds_failed": len({event.round for event in rounds if event.outcome == "failed"}),
        "round_s_p50": statistics.median(event.duration_s for event in rounds) if rounds else None,
        "round_overhead_s_p50": statistics.median(event.overhead_s for event in rounds) if rounds else None,
        "resyncs": sum(isinstance(event, Resynced) for event in events),
        "bytes_sent": sum(sent.values()),
        "wire_bytes": round(swarm.sim.wire_bytes),
        "bytes_sent_by_purpose": dict(sorted(sent.items())),
        "bytes_sent_per_peer_per_step": sum(sent.values()) / len(swarm.seats) / max(1, steps),
        "finished": n_finished(swarm.ends),
        "state_digests": sorted(digest.hex() for digest in digests),
        "begun_s": round(begun_s, 6),
        "lives_begun_s": starts,
        "faults": [_fault_figures(fault) for fault in faults_done(swarm.struck)],
        "faults_amiss": list(
            faults_amiss(swarm.scenario.faults, swarm.struck, over_s=swarm.sim.now_s, step=swarm.remains.step)
        ),
        "up_bytes_per_s": [_finite(machine.up_bytes_per_s) for machine in swarm.fleet.machines],
        **_device_figures(events, swarm),
        **_described_figures(swarm.scenario),
        "daemon_errors": sorted({end.error for end in swarm.ends if end.error}),
    }


def _device_figures(events: list[Event], swarm: Swarm) -> dict[str, Any]:
    told = [(event.step, event.accuracy) for event in events if isinstance(event, Evaluated)]
    accuracy = {"eval_accuracy": max(told)[1]} if told and max(told)[1] is not None else {}
    return {**accuracy, **(swarm.crowd.figures() if swarm.crowd is not None else {})}


def _described_figures(scenario: Scenario) -> dict[str, Any]:
    """Of a run by sizes and costs: what is described, in place of the little that is held. Its loss is made up."""
    run = scenario.run
    if run.compute == "real" or run.like is not None:
        return {}
    return {
        "compute": run.compute,
        "n_params": run.sizes.n_params,
        "payload_bytes_per_step": run.sizes.payload_bytes / scenario.pipeline.stages,
        "eval_loss_start": None,
        "eval_loss": None,
    }


def _fault_figures(fault: Fault) -> dict[str, Any]:
    """A fault as it was done: when, what, whom, and what is particular to its kind."""
    own = {name for name in type(fault).__annotations__ if name != "kind"}
    return {
        "at_s": fault.at_s,
        "kind": fault.kind,
        "peers": list(fault.peers),
        "how": fault.model_dump(mode="json", include=own, exclude_none=True),
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
