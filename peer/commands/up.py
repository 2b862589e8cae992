"""`gossamer up`: a real swarm on this machine. The daemons are those of `gossamer peer`, as child processes."""

from __future__ import annotations

import hashlib
import json
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ...algorithms import METHODS
from ...protocol.admission import Ticket, issue_ticket
from ...protocol.atomic import write_atomically
from ...protocol.errors import GossamerError, UsageError
from ...protocol.identity import Identity
from ...protocol.manifest import SignedManifest, compose, parse
from ..event_kinds import Evaluated
from ..folder import PeerFolder
from ..gateway.replica import check_devices_can_follow
from ..pipeline.memory import check_memory, parse_bytes
from ..report import write_report
from . import order as orders
from .account import tell
from .fleet import Fleet, settle_devices, summarise_devices
from .stages import check_only_train, summarise_stages
from .summary import summarise
from .swarm import Child, Kill, Place, Swarm, parse_kill

TICKET_LIFETIME_S = 365 * 86400.0
POLL_S = 0.2
RESTART_AFTER_S = 1.0
LATE_S = 30.0
STALLED_S = 120.0
"""Once a daemon has failed, the others have so long for each further step: they may be unable to go on without it."""
COMMAND = "command.txt"
"""What was typed, of a run that may be resumed."""
CREATED = "2026-01-01T00:00:00Z"
"""Runs of `up` are named by their settings: the same order is the same run."""


@dataclass(frozen=True, kw_only=True)
class Order(orders.Order):
    """What to train, with how many daemons, and which of them to kill."""

    peers: int
    """Daemons that backpropagate."""
    gateways: int = 0
    devices: int = 0
    backprop: int = 0
    """So many of the devices backpropagate, in a federated run."""
    audit: float = 0.0
    """Share of the devices' submissions that gateways recompute."""
    kills: tuple[str, ...] = ()
    stop_at: int | None = None
    max_memory: str | None = None
    """Of each daemon, such as 600MB."""
    only_train: int = 0
    """So many of the daemons, the last, serve no stage of a pipeline."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A folder in which everything is ready for the daemons, and what shall be done to them."""

    folder: Path
    manifest: SignedManifest
    children: list[Child]
    kills: list[Kill]
    total: int
    """Updates after which the daemons end."""


def up(
    order: Order, *, out: Path | None, resume: Path | None, json_output: bool, places: Sequence[Place] = ()
) -> dict[str, Any]:
    """Start daemons, watch them to the end, report. Raises GossamerError if any of them failed.

    Args:
        places: where the daemons run, in order; those without one run on this machine as it is.
    """
    plan = _reopen(order, resume) if resume is not None else _prepare(order, out)
    for child, place in zip(plan.children, places, strict=False):
        child.place = place
    for child in plan.children[len(plan.children) - order.only_train :]:
        child.extra += ["--stage", "none"]
    extra = ["--data", str(order.data)] if order.data is not None else []
    extra += ["--stop-at", str(order.stop_at)] if order.stop_at is not None else []
    extra += ["--max-memory", order.max_memory] if order.max_memory is not None else []
    swarm = _swarm(order, plan, extra)
    begun_s, began_unix_s = time.monotonic(), time.time()
    with _interruptible():
        try:
            swarm.start()
            _watch(swarm, plan.kills, plan.total)
        except KeyboardInterrupt:
            swarm.stop()
            remedy = f"gossamer up --resume {plan.folder}"
            raise GossamerError(f"interrupted; every daemon kept a checkpoint: {remedy}") from None
        finally:
            swarm.stop()
            swarm.close()
    return _finish(swarm, plan.folder, began_unix_s, time.monotonic() - begun_s, json_output)


def _swarm(order: Order, plan: Plan, extra: list[str]) -> Swarm:
    manifest, key = plan.folder / "manifest.toml", plan.folder / "owner.key"
    if not order.devices:
        return Swarm(plan.children, manifest, extra, key)
    fleet = Fleet(plan.children, manifest, extra, key)
    settle_devices(
        fleet,
        plan.folder,
        n_devices=order.devices,
        n_gateways=order.gateways,
        task=plan.manifest.manifest.task.name,
        options=plan.manifest.manifest.task.options,
        data=order.data,
        seed=order.seed,
        in_bytes=plan.manifest.manifest.method.name == "fixedpoint",
        audit=order.audit,
        n_backprop=order.backprop,
    )
    return fleet


# -- before ----------------------------------------------------------------------------------------


def _prepare(order: Order, out: Path | None) -> Plan:
    """Manifest, keys and tickets. Keys follow from the seed, so that the order of peers does too.

    Everything is checked before anything is written.
    """
    if out is not None:
        _check_new(out)
    n_daemons = order.peers + order.gateways
    _check_devices(order, n_daemons)
    check_only_train(order.only_train, order.stages, n_daemons)
    manifest, task = orders.manifest_for(order, created=CREATED, start_peers=n_daemons, policy="ticket")
    if order.max_memory is not None:
        check_memory(task, manifest, parse_bytes(order.max_memory))
    if order.devices:
        check_devices_can_follow(manifest)
    total = _total(order, manifest.run.steps)
    kills = [parse_kill(text, n_daemons, total, order.devices) for text in order.kills]
    owner = _derived(order.seed, 0)
    signed = parse(compose(manifest, owner))
    folder = out or Path(tempfile.mkdtemp(prefix="gossamer-up-"))
    folder.mkdir(parents=True, exist_ok=True)
    owner.save(folder / "owner.key")
    write_atomically(folder / "manifest.toml", signed.text.encode())
    write_atomically(folder / COMMAND, _typed().encode())
    children = [_settle(folder, number, signed, owner, order.seed) for number in range(n_daemons)]
    return Plan(folder=folder, manifest=signed, children=children, kills=kills, total=total)


def _typed() -> str:
    """This command line, for a shell."""
    return shlex.join(["gossamer", *sys.argv[1:]])


def _total(order: Order, n_steps: int) -> int:
    """Updates after which the daemons end. Raises UsageError."""
    if order.stop_at is not None and order.stop_at > n_steps:
        raise UsageError(f"--stop-at {order.stop_at}: the run ends at step {n_steps}; leave --stop-at out")
    return order.stop_at or n_steps


def _check_devices(order: Order, n_daemons: int) -> None:
    if not 1 <= n_daemons <= 64:
        raise UsageError(f"{n_daemons} daemons: start 1 to 64 (--peers, --gateways)")
    if order.gateways and not order.devices:
        raise UsageError(f"--gateways {order.gateways} without devices: add --devices N")
    if order.devices and order.method in METHODS and not METHODS[order.method].for_devices:
        fit = ", ".join(name for name, method in METHODS.items() if method.for_devices)
        raise UsageError(f"method {order.method!r} has no use for devices: choose one of {fit}")
    if order.backprop and order.method != "federated":
        raise UsageError(f"method {order.method!r} has no use for devices that backpropagate: --method federated")
    if order.backprop > order.devices:
        raise UsageError(f"--backprop {order.backprop} of --devices {order.devices}: there are not so many")
    if order.audit and order.method != "fixedpoint":
        raise UsageError("only answers of --method fixedpoint can be audited: they are the same bits on every machine")
    if 0 < order.devices < order.gateways:
        raise UsageError(f"{order.devices} devices for {order.gateways} gateways: every gateway needs one")


def _check_new(out: Path) -> None:
    """Logs and checkpoints of two runs must not mix."""
    if (out / "manifest.toml").exists():
        raise UsageError(f"{out} already holds a run: choose another --out, or go on with --resume {out}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder: choose another --out")


def _settle(folder: Path, number: int, signed: SignedManifest, owner: Identity, seed: int) -> Child:
    identity = _derived(seed, number)
    home = PeerFolder(folder / "peers" / str(number))
    identity.save(home.path / "identity.key")
    expires_at_s = time.time() + TICKET_LIFETIME_S
    ticket = Ticket(
        run_id=signed.run_id, peer=identity.peer_id, role="peer", expires_at_s=expires_at_s, serial=number + 1
    )
    home.keep_ticket(issue_ticket(owner, ticket))
    home.keep_manifest(signed)
    return Child(number=number, folder=home.path, peer_id=identity.peer_id)


def _derived(seed: int, number: int) -> Identity:
    """A key that anybody can derive: for swarms on one machine only."""
    return Identity(hashlib.sha256(f"gossamer up {seed} {number}".encode()).digest())


def _reopen(order: Order, folder: Path) -> Plan:
    path = folder / "manifest.toml"
    homes = [home for home in (folder / "peers").glob("*") if home.name.isdecimal()] if path.exists() else []
    if not homes:
        raise UsageError(f"{folder} holds no run of gossamer up to resume: start one with gossamer up --out {folder}")
    children = [
        Child(number=int(home.name), folder=home, peer_id=Identity.load(home / "identity.key").peer_id)
        for home in sorted(homes, key=lambda home: int(home.name))
    ]
    manifest = parse(path.read_bytes().decode())
    check_only_train(order.only_train, manifest.manifest.pipeline.stages, len(children))
    total = _total(order, manifest.manifest.run.steps)
    kills = [parse_kill(text, len(children), total, order.devices) for text in order.kills]
    return Plan(folder=folder, manifest=manifest, children=children, kills=kills, total=total)


# -- meanwhile -------------------------------------------------------------------------------------


def _watch(swarm: Swarm, kills: list[Kill], total: int) -> None:
    """Until every daemon has ended; kills and restarts on the way. Raises GossamerError if a daemon fails, and the
    others don't get on."""
    waiting, restarts = list(kills), list[tuple[float, str, Callable[[], None]]]()
    newest_step, progressed_s = 0, time.monotonic()
    with _progress(total) as (progress, bar):
        while any(child.busy for child in swarm.children) or restarts:
            for child in swarm.children:
                child.read()
            step = max(child.step for child in swarm.children)
            progress.update(bar, completed=step, note=_note(swarm))
            if step > newest_step:
                newest_step, progressed_s = step, time.monotonic()
            failed = [child for child in swarm.children if child.failed]
            if failed and time.monotonic() - progressed_s > STALLED_S:
                raise _failure(failed[0])
            for kill in [kill for kill in waiting if kill.step <= step]:
                waiting.remove(kill)
                name, restart = swarm.strike(kill)
                progress.console.print(f"killed {name} with -9 at step {step}")
                if kill.restart:
                    restarts.append((time.monotonic() + RESTART_AFTER_S, name, restart))
            for due in [due for due in restarts if due[0] <= time.monotonic()]:
                restarts.remove(due)
                due[2]()
                progress.console.print(f"started {due[1]} again")
            if not restarts and _only_latecomers(swarm):
                break
            time.sleep(POLL_S)
    for child in swarm.children:
        child.read()


def _only_latecomers(swarm: Swarm) -> bool:
    """The run is finished, and whoever is still busy was killed on the way and finds no place in it."""
    ends = [child.entries[-1].unix_s for child in swarm.children if child.ended and child.ended.outcome == "finished"]
    late = [child for child in swarm.children if child.busy]
    return bool(ends) and all(child.killed for child in late) and time.time() - max(ends) > LATE_S


@contextmanager
def _progress(total: int) -> Iterator[tuple[Progress, Any]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console, refresh_per_second=4) as progress:
        yield progress, progress.add_task("training", total=total, note="")


def _note(swarm: Swarm) -> str:
    entries = [entry for child in swarm.children for entry in child.entries]
    losses = [
        (e.event.step, e.event.loss) for e in entries if isinstance(e.event, Evaluated) and e.event.loss is not None
    ]
    living = sum(child.running for child in swarm.children)
    loss = f"held-out loss {max(losses)[1]:.3f} at step {max(losses)[0]}, " if losses else ""
    return f"{loss}{living} daemon{'' if living == 1 else 's'} running"


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does, and so does SIGINT where the shell that started us has it ignored."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- after -----------------------------------------------------------------------------------------


def _failure(child: Child) -> GossamerError:
    """Why a daemon has failed, by its last word."""
    log = child.folder / "daemon.log"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return GossamerError(f"daemon {child.number} failed: {lines[-1] if lines else 'no word'} (all of it: {log})")


def _finish(swarm: Swarm, folder: Path, began_unix_s: float, wall_s: float, json_output: bool) -> dict[str, Any]:
    failed = [child for child in swarm.children if child.failed]
    if failed:
        raise _failure(failed[0])
    summary = summarise(swarm.children, began_unix_s=began_unix_s, wall_s=wall_s) | summarise_stages(swarm.children)
    if isinstance(swarm, Fleet):
        summary |= summarise_devices(swarm, summary["rounds_ok"])
    summary["command"] = (folder / COMMAND).read_text() if (folder / COMMAND).exists() else _typed()
    (folder / "summary.json").write_text(json.dumps(summary, indent=1))
    summary["report"] = str(write_report(folder))
    if json_output:
        print(json.dumps(summary))
    else:
        tell(summary)
    return summary
