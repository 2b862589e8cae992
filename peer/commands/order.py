"""From command-line words to a manifest: task, method and options, checked before anything is started."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...algorithms import METHODS, NoSuchMethod, OptionError, check_members, check_options, method_class
from ...algorithms.fixedpoint import FixedPoint
from ...algorithms.forward.fixedpoint import VotingOptions
from ...algorithms.options import read_options
from ...protocol.errors import UsageError, unknown_name
from ...protocol.manifest import Manifest, manifest_of
from ...tasks import TASKS, Task, TaskError, build_task, is_users_own


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a person asked to have trained."""

    task: str
    method: str
    steps: int
    seed: int = 0
    batch: int = 8
    lr: float | None = None
    data: Path | None = None
    strict: bool = False
    stages: int = 1
    """That the model is cut into."""
    activations: str = "int8"
    """How tensors travel between stages."""
    options: tuple[str, ...] = ()
    """TABLE.KEY=VALUE."""


def build(name: str, options: dict[str, Any], data: Path | None) -> Task:
    """The task, or a UsageError that says what is wrong with it."""
    if name not in TASKS and not is_users_own(name):
        raise unknown_name("task", name, [*TASKS, "module:attribute"])
    try:
        return build_task(name, options, data=data)
    except (TaskError, ValueError) as error:
        raise UsageError(str(error)) from None


def for_devices(task: str) -> dict[str, Any]:
    """The options that suit devices best; users' own tasks choose for themselves."""
    return dict(TASKS[task].for_devices) if task in TASKS else {}


def manifest_for(order: Order, *, created: str, start_peers: int, policy: str) -> tuple[Manifest, Task]:
    """Raises UsageError for whatever does not exist or does not fit."""
    if order.method not in METHODS and ":" not in order.method:
        raise unknown_name("method", order.method, [*METHODS, "module:attribute"])
    tables = _overrides(order.options)
    task_options, method_options = tables.pop("task", {}), tables.pop("method", {})
    try:
        check_options(order.method, method_options)
        check_members(order.method, method_options, start_peers)
    except (OptionError, NoSuchMethod) as error:
        raise UsageError(str(error)) from None
    method = method_class(order.method)
    if method.for_devices:
        task_options = {**for_devices(order.task), **task_options}
    task = build(order.task, task_options, order.data)
    if method is FixedPoint:
        n_rounds = tables.get("run", {}).get("steps", order.steps)
        method_options |= _calibrated(task, method_options, seed=order.seed, n_rounds=n_rounds)
    rate = order.lr if order.lr is not None else method.default_rate(method_options)
    defaults: dict[str, dict[str, Any]] = {
        "run": {"name": order.task.replace(":", "."), "seed": order.seed, "steps": order.steps, "created": created},
        "task": {"name": order.task, "fingerprint": task.fingerprint(), "options": task_options},
        "method": {"name": order.method, "options": method_options},
        "schedule": {"lr": rate, "kind": method.default_schedule},
        "data": {"batch_size": order.batch},
        "group": {"start_peers": start_peers, "strict": order.strict},
        "admission": {"policy": policy},
        "pipeline": {"stages": order.stages, "microbatches": start_peers, "activations": order.activations},
    }
    for name, table in tables.items():
        defaults.setdefault(name, {}).update(table)
    manifest = manifest_of(defaults)
    if manifest.pipeline.stages > 1:
        from .stages import check_pipeline  # needs torch's weight, which other runs are ordered without

        check_pipeline(manifest, task)
    return manifest, task


def _calibrated(task: Task, options: dict[str, Any], *, seed: int, n_rounds: int) -> dict[str, Any]:
    """The constants of a fixed-point run: made here, once, in float, and signed with the manifest."""
    from ..gateway.integers import calibrated_options

    chosen = read_options(VotingOptions, options, owner="method 'fixedpoint'")
    return calibrated_options(task, task.build_model(seed), chosen, n_rounds=n_rounds)


def now_text() -> str:
    """When a run is created."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _overrides(settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        table, dot, name = key.partition(".")
        if not equals or not dot:
            raise UsageError(f"--set {setting!r}: write TABLE.KEY=VALUE, for example method.k=128")
        tables.setdefault(table, {})[name] = _value(text)
    return tables


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return _number(text)


def _number(text: str) -> float | str:
    """What TOML refuses and people write, such as .03."""
    try:
        return float(text)
    except ValueError:
        return text
