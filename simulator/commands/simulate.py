"""`gossamer simulate`: one seed with its files, the same seed twice, or many seeds."""

from __future__ import annotations

import json
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...peer.progress import bar
from ...peer.report import write_report
from ...protocol.atomic import write_atomically
from ...protocol.errors import GossamerError, UsageError, disk_error
from ...protocol.lock import held
from ..playing import play
from ..scenario import Scenario, load_scenario, toml_of
from ..shrinking import PLAYS_MAX, shrink
from ..sweep import Verdict, sweep

SEEDS_MAX = 1_000_000
SHOW_EVERY_S = 0.1
AMISS_MAX = 5
"""Lines about faults that did not strike."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a person asked for."""

    scenario: Path
    seed: int | None = None
    settings: tuple[str, ...] = ()
    out: Path | None = None
    verify: bool = False
    shuffle: bool = False
    seeds: str | None = None
    jobs: int = 1
    shrink: bool = False
    plays: int = PLAYS_MAX


class Violated(GossamerError):
    """A property did not hold in a simulation."""

    code = "violated"


class NotDeterministic(GossamerError):
    """Two runs of one seed differ."""

    code = "not-deterministic"


def simulate(order: Order, *, json_output: bool) -> dict[str, Any]:
    """Raises UsageError for what cannot begin, Violated if a property did not hold."""
    _check_fit(order)
    scenario = load_scenario(order.scenario, order.settings)
    if order.seed is not None:
        scenario = scenario.model_copy(update={"seed": order.seed})
    if order.shuffle:
        scenario = scenario.model_copy(update={"shuffle": True})
    if order.shrink:
        return _least(order, scenario, json_output)
    if order.seeds is not None:
        return _many(order, scenario, json_output)
    return _one(order, scenario, json_output)


def _check_fit(order: Order) -> None:
    """Raises UsageError for options that have no meaning together."""
    if order.shrink and (order.verify or order.seeds is not None):
        raise UsageError("--shrink goes with neither --verify nor --seeds: name the one seed that fails")
    if order.seeds is not None and (order.verify or order.out is not None or order.seed is not None):
        raise UsageError(
            "--seeds goes with none of --verify, --out and --seed: replay the seed that you want to look at"
        )
    if order.jobs != 1 and order.seeds is None:
        raise UsageError(f"--jobs {order.jobs} is for --seeds A..B: one seed is one process")
    if order.plays != PLAYS_MAX and not order.shrink:
        raise UsageError(f"--plays {order.plays} is for --shrink")


def _one(order: Order, scenario: Scenario, json_output: bool) -> dict[str, Any]:
    out = order.out or Path(tempfile.mkdtemp(prefix="gossamer-simulate-"))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, f"cannot write {out}") from None
    with held(out):
        with _shown(scenario) as show:
            played = play(scenario, out, progress=show)
        if order.verify:
            _verify(scenario, played.trace_hash)
        report = write_report(out) if any((out / "peers").glob("*/events.jsonl")) else None
    summary = {**played.summary, "out": str(out), "report": str(report) if report else None}
    if order.verify:
        summary["verified"] = True
    if json_output:
        print(json.dumps(summary))
    else:
        _tell(scenario, summary)
    if played.violations:
        raise Violated(f"{played.violations[0]}; replay: {_command(order, scenario.seed, scenario.shuffle)}")
    return summary


def _verify(scenario: Scenario, trace_hash: str) -> None:
    with tempfile.TemporaryDirectory(prefix="gossamer-simulate-") as folder, _shown(scenario) as show:
        again = play(scenario, Path(folder), progress=show)
    if again.trace_hash != trace_hash:
        raise NotDeterministic(
            f"seed {scenario.seed} gave trace {trace_hash[:12]} and then {again.trace_hash[:12]}: something draws "
            "entropy or looks at a clock of its own"
        )


def _tell(scenario: Scenario, summary: dict[str, Any]) -> None:
    loss = summary["eval_loss"]
    print(f"{scenario.name}, seed {scenario.seed}: {summary['steps']} updates in {summary['wall_s']:.1f} virtual s")
    print(f"  {summary['samples']:,} samples, {summary['samples_per_s']:.4g} a second")
    if summary["compute"] == "analytic":
        print("  by sizes and costs only: nothing was learnt")
    else:
        print(f"  held-out loss {loss:.4f}" if loss is not None else "  no evaluation")
    print(
        f"  rounds: {summary['rounds_ok']} committed, {summary['rounds_failed']} failed; {summary['resyncs']} resyncs"
    )
    print(f"  sent {summary['bytes_sent'] / 1e6:.2f} MB in {summary['n_deliveries']} messages")
    amiss = summary["faults_amiss"]
    for line in amiss[:AMISS_MAX]:
        print(f"  {line}")
    if len(amiss) > AMISS_MAX:
        print(f"  and {len(amiss) - AMISS_MAX} more under faults_amiss in summary.json")
    print(f"  {summary['finished']} of {summary['n_peers']} peers finished, {len(summary['state_digests'])} state(s)")
    if (why := _why_unfinished(scenario, summary)) is not None:
        print(f"  {why}")
    again = ", and the same when it was played again" if summary.get("verified") else ""
    print(f"  trace {summary['trace_hash'][:16]}{again}, {summary['cpu_s']:.1f} s of computing")
    print(f"  {summary['report'] or summary['out']}")


def _why_unfinished(scenario: Scenario, summary: dict[str, Any]) -> str | None:
    """What a person who expected an end of the run should look at; None if somebody has seen it."""
    if summary["finished"]:
        return None
    if summary["rounds_ok"]:
        return f"the run was not over when duration_s = {scenario.duration_s:g} was: give it more"
    first = scenario.run.start_peers
    awaited = f"run.start_peers = {first} were awaited" if first else "those awaited did not all come"
    return f"nobody made an update in {scenario.duration_s:g} s: {awaited}, or a step takes longer; see the report"


def _least(order: Order, scenario: Scenario, json_output: bool) -> dict[str, Any]:
    """Cut a failing scenario down, write the least that fails, and say how to replay it."""
    folder = order.out or Path()
    if not folder.is_dir():
        raise UsageError(f"--out {folder}: there is no such folder to write the least scenario into")
    with bar(f"{scenario.name}: plays", order.plays) as (progress, task):

        def show(plays: int, least: Scenario) -> None:
            size = f"{len(least.faults)} faults, {least.fleet.peers} peers, {least.run.steps} steps"
            progress.update(task, completed=plays, note=size)

        def say(words: str) -> None:
            progress.console.print(words, markup=False, soft_wrap=True)

        shrunk = shrink(scenario, plays_max=order.plays, tell=show, say=say)
    text = toml_of(shrunk.scenario)
    path = folder / f"{order.scenario.stem}.least.toml"
    write_atomically(path, text.encode())
    replay = shlex.join(["gossamer", "simulate", str(path)])
    summary = {"violation": shrunk.violation, "plays": shrunk.plays, "written": str(path), "replay": replay}
    if json_output:
        print(json.dumps({**summary, "scenario": text}))
    else:
        print(f"{text}\n{shrunk.violation}\nfound in {shrunk.plays} plays; replay: {replay}")
    return summary


# ---------------------------------------------------------------------------------------------------------- many seeds


def _many(order: Order, scenario: Scenario, json_output: bool) -> dict[str, Any]:
    numbers = _range(order.seeds or "")
    failed: list[Verdict] = []
    hashes: dict[int, str] = {}
    with bar(f"{scenario.name}: seeds", len(numbers)) as (progress, task):
        for verdict in sweep(scenario, numbers, jobs=order.jobs):
            hashes[verdict.seed] = verdict.trace_hash
            progress.advance(task)
            if verdict.violations:
                failed.append(verdict)
                progress.console.print(f"seed {verdict.seed}: {verdict.violations[0]}", markup=False, soft_wrap=True)
                progress.console.print(f"  replay: {_replay(order, verdict)}", markup=False, soft_wrap=True)
    summary = {
        "scenario": scenario.name,
        "seeds": len(numbers),
        "failed": [
            {
                "seed": verdict.seed,
                "violations": list(verdict.violations),
                "replay": _replay(order, verdict),
            }
            for verdict in sorted(failed, key=lambda verdict: verdict.seed)
        ],
        "trace_hashes": {str(seed): hashes[seed] for seed in sorted(hashes)},
    }
    if json_output:
        print(json.dumps(summary))
    else:
        print(f"{scenario.name}: {len(numbers)} seeds, {len(failed)} failed")
    if failed:
        raise Violated(f"{len(failed)} of {len(numbers)} seeds violated a property; the commands above replay them")
    return summary


def _range(text: str) -> range:
    first, dots, last = text.partition("..")
    if not dots or not first.isdecimal() or not last.isdecimal() or not 0 <= int(last) - int(first) < SEEDS_MAX:
        raise UsageError(f"--seeds {text!r}: write A..B, for example 0..99; at most {SEEDS_MAX} seeds")
    return range(int(first), int(last) + 1)


def _replay(order: Order, verdict: Verdict) -> str:
    return _command(order, verdict.seed, verdict.shuffled)


def _command(order: Order, seed: int, shuffle: bool) -> str:
    words = ["gossamer", "simulate", str(order.scenario), "--seed", str(seed)]
    for setting in order.settings:
        words += ["--set", setting]
    return shlex.join([*words, *(["--shuffle"] if shuffle else [])])


# ------------------------------------------------------------------------------------------------------------ progress


@contextmanager
def _shown(scenario: Scenario) -> Iterator[Callable[[float, int], None]]:
    with bar(scenario.name, scenario.duration_s) as (progress, task):
        last_s = 0.0

        def show(now_s: float, step: int) -> None:
            nonlocal last_s
            if time.monotonic() - last_s > SHOW_EVERY_S:
                last_s = time.monotonic()
                progress.update(task, completed=now_s, note=f"{now_s:,.0f} virtual s, update {step}")

        yield show
