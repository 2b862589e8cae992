"""The few figures that say how a run went."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from ..events import Evaluated, Joined, PrivacySpent, RoundEnded
from . import wording
from .learning import sent_by_purpose
from .participation import RoundView, final_digests
from .run import Run

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the summary says or, where it is silent, what the logs add up to."""

    title: str
    run_id: str
    task: str
    method: str
    n_peers: int
    n_devices: int
    n_params: int
    steps: int
    wall_s: float
    is_evaluated: bool
    loss_start: float | None
    loss_end: float | None
    sent_bytes_per_step: float
    """By each peer, everything included."""
    dense_bytes_per_step: float
    """What each peer would send in a step of dense float32 all-reduce (reduce-scatter and all-gather)."""
    payload_bytes: float
    """One contribution, once."""
    rounds_ok: int
    rounds_failed: int
    overhead_s: float | None
    """Median over the committed rounds."""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A figure with its name and a remark."""

    name: str
    value: str
    remark: str = ""
    tone: str = ""
    """ "good", "bad" or nothing in particular."""


def facts_of(run: Run, rounds: list[RoundView]) -> Facts:
    """The facts of a run."""
    told, started = run.summary, run.started
    committed = [view for view in rounds if view.committed]
    losses = [event.loss for _, _, event in run.learnt(Evaluated)]
    steps = _either(told.steps, max([view.step for view in committed], default=0))
    n_peers = _either(told.n_peers, _n_peers(run))
    n_params = _either(told.n_params, started.n_params if started else 0)
    sent = sum(sum(sent_by_purpose(log).values()) for log in run.peers) / run.n_machines
    payloads = [event.payload_bytes for _, _, event in run.told(RoundEnded) if event.payload_bytes]
    task = _either(told.task, started.task if started else "?")
    method = _either(told.method, started.method if started else "?")
    return Facts(
        title=_title(run, n_params) if told.is_sized else f"{task} with {method}",
        run_id=_either(told.run_id, started.run_id if started else ""),
        task=task,
        method=method,
        n_peers=n_peers,
        n_devices=told.n_devices or 0,
        n_params=n_params,
        steps=steps,
        wall_s=_either(told.wall_s, run.end_s),
        is_evaluated=bool(losses) or told.eval_loss is not None,
        loss_start=_either(told.eval_loss_start, losses[0] if losses else None),
        loss_end=_either(told.eval_loss, losses[-1] if losses else None),
        sent_bytes_per_step=_either(told.bytes_sent_per_peer_per_step, sent / max(1, steps)),
        dense_bytes_per_step=_either(
            told.dense_bytes_per_peer_per_step, 8 * n_params * (n_peers - 1) / max(1, n_peers)
        ),
        payload_bytes=_either(told.payload_bytes_per_step, median(payloads) if payloads else 0),
        rounds_ok=_either(told.rounds_ok, len(committed)),
        rounds_failed=_either(told.rounds_failed, len(rounds) - len(committed)),
        overhead_s=_either(told.round_overhead_s_p50, median(v.overhead_s for v in committed) if committed else None),
    )


def _title(run: Run, n_params: int) -> str:
    """Of a run by sizes and costs, whose task and method are the simulator's own."""
    return f"{run.summary.scenario or 'Simulation'}: {wording.count(n_params)} parameters, by sizes and costs"


def headlines_of(run: Run, facts: Facts) -> list[Headline]:
    """What stands in large type at the head of the page."""
    if facts.n_devices:  # the head of the page tells the model's size
        figures = [_loss(facts), _accuracy(run), _device_bytes(run), _rounds(facts), _time(facts), _replicas(run)]
    else:
        first = _throughput(run, facts) if run.summary.is_sized else _loss(facts)
        figures = [first, _bytes(facts), _rounds(facts), _time(facts), _replicas(run), _model(facts)]
    return [*figures, *_privacy(run)]


def _loss(facts: Facts) -> Headline:
    if not facts.is_evaluated:
        return Headline(name="Held-out loss", value="unknown", remark="nobody has evaluated the model", tone="bad")
    value = f"{wording.loss(facts.loss_start)} → {wording.loss(facts.loss_end)}"
    fell = facts.loss_start is not None and facts.loss_end is not None and facts.loss_end < facts.loss_start
    return Headline(
        name="Held-out loss", value=value, remark=f"in {facts.steps:,} steps", tone="good" if fell else "bad"
    )


def _throughput(run: Run, facts: Facts) -> Headline:
    """In place of the loss, where there is none."""
    rate = run.summary.samples_per_s
    value = "unknown" if rate is None else f"{rate:,.4g} a second"
    return Headline(name="Samples", value=value, remark=f"in {facts.steps:,} steps; nothing was learnt")


def _bytes(facts: Facts) -> Headline:
    dense, sent = facts.dense_bytes_per_step, facts.sent_bytes_per_step
    if not facts.steps:
        return Headline(name="Sent per peer", value=wording.size(sent), remark="no step was made")
    remark = f"dense all-reduce: {wording.size(dense)}"
    if sent and dense:
        remark += f", {wording.ratio(dense / sent)} times as much" if dense >= sent else ""
    return Headline(name="Sent per peer and step", value=wording.size(sent), remark=remark)


def _accuracy(run: Run) -> Headline:
    value = run.summary.eval_accuracy
    return Headline(
        name="Accuracy", value=f"{value:.1%}" if value is not None else "unknown", remark="held-out samples"
    )


def _device_bytes(run: Run) -> Headline:
    told = run.summary
    up, down = told.uplink_bytes_per_device_per_round, told.downlink_bytes_per_device_per_round
    value = f"↑ {wording.size(up)}  ↓ {wording.size(down)}" if up is not None and down is not None else "unknown"
    return Headline(name="A device in a round", value=value, remark="whatever the model's size; snapshots excepted")


def _rounds(facts: Facts) -> Headline:
    failed = f"{facts.rounds_failed:,} not committed" if facts.rounds_failed else "all committed"
    if not facts.rounds_ok and not facts.rounds_failed:
        failed = "none was over"
    return Headline(
        name="Rounds",
        value=f"{facts.rounds_ok:,}",
        remark=failed,
        tone="bad" if 10 * facts.rounds_failed > facts.rounds_ok else "",
    )


def _time(facts: Facts) -> Headline:
    rest = f"overhead {wording.duration(facts.overhead_s)} per round (median)" if facts.overhead_s is not None else ""
    return Headline(name="Wall time", value=wording.duration(facts.wall_s), remark=rest)


def _replicas(run: Run) -> Headline:
    last = final_digests(run)
    newest = [digest for _, at, digest in last if at == max(one for _, one, _ in last)]
    if not newest:
        return Headline(name="Replicas", value="unknown", remark="no digest is recorded")
    if len(set(newest)) > 1:
        return Headline(name="Replicas", value="differ", remark=f"{len(set(newest))} digests in one round", tone="bad")
    remark = f"{wording.plural(len(newest), 'peer')} ended at digest {newest[0][:8]}"
    return Headline(name="Replicas", value="identical", remark=remark, tone="good")


def _model(facts: Facts) -> Headline:
    remark = f"one contribution: {wording.size(facts.payload_bytes)}"
    if facts.n_params:
        remark += f", {facts.payload_bytes / facts.n_params:.3g} B per parameter"
    return Headline(name="Parameters", value=wording.count(facts.n_params), remark=remark)


def _privacy(run: Run) -> list[Headline]:
    """What devices have spent at most, where a run has differential privacy."""
    told = [event for _, _, event in run.told(PrivacySpent)]
    if not told:
        return []
    last = max(told, key=lambda event: event.rounds)
    spent = "unknown" if last.epsilon is None else f"ε = {last.epsilon:.3g}"
    where = "the sums alone" if last.sums_only else "every answer"
    remark = f"δ = {last.delta:g}, for a device in all {last.rounds:,} rounds; the noise is in {where}"
    return [Headline(name="Privacy spent", value=spent, remark=remark)]


def _n_peers(run: Run) -> int:
    """The largest roster that anybody saw; a single daemon's folder shows only itself."""
    rosters = [len(event.roster) for _, _, event in run.told(Joined)]
    return max([run.n_machines, *rosters])


def _either(told: T | None, found: T) -> T:
    return found if told is None else told
