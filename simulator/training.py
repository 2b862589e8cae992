"""What a scenario has trained: its task and a manifest of its own, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..algorithms import METHODS, NoSuchMethod, OptionError, check_members, check_options, method_class
from ..peer.pipeline.models import stage_model
from ..peer.replica import Replica
from ..peer.rounds.roster import PEERS_MAX
from ..protocol.errors import UsageError, unknown_name
from ..protocol.identity import Identity
from ..protocol.manifest import Manifest, SignedManifest, compose, manifest_of, parse
from ..tasks import TASKS, Staged, Task, TaskError, build_task, is_users_own
from . import analytic
from .fleets import Fleet
from .scenario import Scenario
from .tables import Training


def training_of(scenario: Scenario, fleet: Fleet, *, owner: Identity) -> tuple[Task, SignedManifest]:
    """The task, and a manifest that the owner signed.

    Raises: UsageError, UnknownName for a task, a method or an option that does not exist or fit.
    """
    run = scenario.run
    task_name, task_options, method, method_options = _names(run, scenario.pipeline.stages)
    n_first = _start_peers(scenario, fleet)
    check_method(method, method_options, n_first)
    if method_class(method).for_devices and task_name in TASKS:
        task_options = {**TASKS[task_name].for_devices, **task_options}
    task = build(task_name, task_options)
    tables: dict[str, dict[str, Any]] = {
        "run": {"name": "scenario", "seed": scenario.seed, "steps": run.steps, "created": "simulated"},
        "task": {"name": task_name, "fingerprint": task.fingerprint(), "options": task_options},
        "method": {"name": method, "options": method_options},
        "schedule": {
            "lr": run.lr if run.lr is not None else method_class(method).default_rate(method_options),
            "kind": method_class(method).default_schedule,
        },
        "data": {"batch_size": run.batch},
        "pipeline": scenario.pipeline.model_dump(exclude={"only_train"}),
        "group": {
            "start_peers": n_first,
            "strict": run.strict,
            "on_split": run.on_split,
            "peers_max": min(PEERS_MAX, max(32, len(fleet.machines))),
        },
        "admission": {"policy": "open"},
        "limits": {"checkpoint_every_steps": run.checkpoint_every, "eval_every_steps": run.evaluate_every},
    }
    manifest = manifest_of(tables)
    _check_fit(task, manifest)
    return task, parse(compose(manifest, owner))


def _check_fit(task: Task, manifest: Manifest) -> None:
    """See that a replica of this task takes this method, as it would otherwise say on each machine."""
    n_stages = manifest.pipeline.stages
    if n_stages > 1 and isinstance(task, Staged):
        stage_model(task, manifest, bytes(32)).settle(n_stages - 1)
        return
    if n_stages > 1:
        raise UsageError(f"task {task.name!r} cannot be cut: set pipeline.stages = 1, or make it a Staged task")
    try:
        Replica(task, manifest)
    except ValueError as error:
        raise UsageError(str(error)) from None


def build(name: str, options: Mapping[str, Any]) -> Task:
    """The task. Raises UsageError, UnknownName."""
    if name not in TASKS and not is_users_own(name):
        raise unknown_name("task", name, [*TASKS, "module:attribute"])
    try:
        return build_task(name, options)
    except (TaskError, ValueError) as error:
        raise UsageError(str(error)) from None


def check_method(name: str, options: Mapping[str, Any], n_first: int) -> None:
    """See that so many peers can begin with this method. Raises UsageError, UnknownName."""
    if name not in METHODS and ":" not in name:
        raise unknown_name("method", name, [*METHODS, "module:attribute"])
    try:
        check_options(name, options)
        check_members(name, options, n_first)
    except (OptionError, NoSuchMethod) as error:
        raise UsageError(str(error)) from None


def _start_peers(scenario: Scenario, fleet: Fleet) -> int:
    """How many are awaited before the first step."""
    n_serving, stages = len(fleet.machines) - scenario.pipeline.only_train, scenario.pipeline.stages
    if scenario.pipeline.only_train and not 1 < stages <= n_serving:
        raise UsageError(
            f"pipeline.only_train leaves {n_serving} machines for {stages} stages: set pipeline.stages to two or more, "
            f"and fleet.peers to {max(2, stages) + scenario.pipeline.only_train} or more"
        )
    n_start = sum(machine.sessions[0].start_s == 0 for machine in fleet.machines if machine.sessions)
    n_first = scenario.run.start_peers or max(1, n_start)
    if n_first > max(1, len(fleet.machines)):
        raise UsageError(f"run.start_peers = {n_first}: there are {len(fleet.machines)} machines")
    if n_first > PEERS_MAX:
        raise UsageError(
            f"a run begins with {n_first} peers, and a roster has {PEERS_MAX} at most: set run.start_peers"
        )
    return n_first


def _names(run: Training, n_stages: int) -> tuple[str, dict[str, Any], str, dict[str, Any]]:
    if run.compute == "real":
        return run.task, dict(run.task_options), run.method, dict(run.method_options)
    sizes, module = run.sizes, analytic.__name__
    method = "Gather" if sizes.exchange == "gather" else "Reduce"
    task_options = {
        "n_params": sizes.n_params,
        "flops_per_sample": sizes.flops_per_sample,
        "n_layers": sizes.n_layers,
        "activation_elements": max(1, sizes.activation_elements // sizes.grain),
    }
    payload_bytes = max(8, sizes.payload_bytes // sizes.grain // n_stages)
    method_options = {"payload_bytes": payload_bytes, "local_steps": sizes.local_steps}
    return f"{module}:Sized", task_options, f"{module}:{method}", method_options
