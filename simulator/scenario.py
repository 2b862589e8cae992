"""A scenario: what is trained, by which fleet, what goes wrong, for how long, and what must hold. Read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import BaseModel, Field, ValidationError, model_validator

from ..protocol.errors import UsageError, unknown_name
from .aiming import check_numbers, check_times
from .faults import Fault
from .grains import check_grain
from .tables import SECONDS_MAX, DeviceCrowd, Expectation, Internet, Population, Stages, Table, Training
from .unused import check_used

Tables = dict[str, Any]


class Scenario(Table):
    """A whole scenario. Read it with `load_scenario`."""

    name: str = Field(min_length=1, max_length=80)
    story: str = Field(default="", max_length=2000)
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    duration_s: float = Field(default=600.0, gt=0, le=SECONDS_MAX)
    """Virtual; it ends sooner when the run does."""
    shuffle: bool = False
    """Permute what is ready at one instant, to find code that relies on its order."""
    record_deliveries: bool = False
    """Write every delivery to deliveries.txt."""
    run: Training = Field(default_factory=Training)
    pipeline: Stages = Field(default_factory=Stages)
    fleet: Population = Field(default_factory=Population)
    devices: DeviceCrowd = Field(default_factory=DeviceCrowd)
    network: Internet = Field(default_factory=Internet)
    faults: list[Fault] = Field(default_factory=list, max_length=1000)
    expect: Expectation = Field(default_factory=Expectation)

    @model_validator(mode="after")
    def _is_used(self) -> Scenario:
        check_used(self)
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Scenario:
        if self.fleet.kind == "trace" and self.fleet.trace is None:
            raise ValueError('fleet.kind = "trace" needs fleet.trace = FILE')
        if self.devices.n and self.fleet.kind != "trace" and self.devices.gateways > self.fleet.peers:
            raise ValueError(f"devices.gateways = {self.devices.gateways}: there are {self.fleet.peers} machines")
        if self.fleet.one_machine and self.fleet.costs is None:
            raise ValueError("fleet.one_machine needs fleet.costs = FILE, which says how many cores there are")
        if self.run.compute == "analytic" and self.pipeline.stages > self.run.sizes.n_layers:
            raise ValueError(f"pipeline.stages = {self.pipeline.stages}: set run.sizes.n_layers to as many or more")
        if self.run.compute == "analytic":
            check_grain(self)
        if self.pipeline.stages > 1 and self.devices.n:
            raise ValueError("pipeline.stages: a pipeline's run has no devices")
        return self

    @model_validator(mode="after")
    def _faults_can_strike(self) -> Scenario:
        """As far as tables tell: a trace's machines and the steps of `run.like` are in files."""
        steps = None if self.run.like is not None else self.run.steps
        check_times(self.faults, duration_s=self.duration_s, steps=steps)
        if self.fleet.kind != "trace":
            check_numbers(self.faults, self.fleet.peers)
        return self


def load_scenario(path: Path, settings: Iterable[str] = ()) -> Scenario:
    """A scenario from its file.

    Args: settings: KEY=VALUE with dotted keys and TOML values, e.g. run.steps=20 or faults.0.at_s=5.
    Raises: UsageError, UnknownName.
    """
    try:
        tables = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise UsageError(f"cannot read the scenario {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    for setting in settings:
        _set(tables, setting)
    scenario = scenario_of(tables)
    fleet, run = scenario.fleet, scenario.run
    fleet = fleet.model_copy(
        update={"trace": _beside(path, fleet.trace), "costs": _beside(path, fleet.costs)},
    )
    run = run.model_copy(update={"like": _beside(path, run.like)})
    return scenario.model_copy(update={"fleet": fleet, "run": run})


def _beside(scenario: Path, named: Path | None) -> Path | None:
    return None if named is None else scenario.parent / named


def scenario_of(tables: Mapping[str, Any]) -> Scenario:
    """Check tables of plain values. Raises UsageError, UnknownName."""
    try:
        return Scenario.model_validate(dict(tables))
    except ValidationError as error:
        raise _refusal(error, tables) from None


def _set(tables: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {setting!r}: write KEY=VALUE, for example run.steps=20")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.split(".")
    at: Any = tables
    for name in parents:
        if isinstance(at, list):
            if not name.isdecimal() or int(name) >= len(at):
                raise UsageError(f"--set {setting!r}: there is no entry {name} among {len(at)}")
            at = at[int(name)]
        elif isinstance(at, dict):
            at = at.setdefault(name, {})
    if not isinstance(at, dict):
        raise UsageError(f"--set {setting!r}: {'.'.join(parents)} is no table")
    at[last] = value


def _refusal(error: ValidationError, tables: Mapping[str, Any]) -> UsageError:
    """The first complaint, unknown keys before all others, as one line."""
    details = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")[0]
    place = list(details["loc"])
    if place[:1] == ["faults"] and len(place) > 2:
        del place[2]  # the kind, which pydantic puts between index and key
    where = ".".join(map(str, place))
    if details["type"] == "extra_forbidden":
        return unknown_name(
            f"key of the scenario's {where.rpartition('.')[0] or 'head'}", str(place[-1]), _keys(place[:-1], tables)
        )
    if details["type"] == "literal_error":
        return UsageError(f"the scenario's {where} = {details['input']!r}: expected {details['ctx']['expected']}")
    if details["type"] == "union_tag_invalid":
        known = [kind.model_fields["kind"].default for kind in _fault_kinds()]
        return unknown_name(f"kind of the scenario's {where}", str(details["ctx"]["tag"]), known)
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return UsageError(f"the scenario's {where or 'tables'}: {message}")


def _keys(place: list[int | str], tables: Mapping[str, Any]) -> list[str]:
    """The keys that are known there."""
    if place[:1] == ["faults"]:
        kind = tables["faults"][place[1]].get("kind")
        found = [model for model in _fault_kinds() if model.model_fields["kind"].default == kind]
        return list(found[0].model_fields) if found else []
    model: Any = Scenario
    for key in place:
        model = model.model_fields[key].annotation
    return list(model.model_fields)


def _fault_kinds() -> tuple[type[BaseModel], ...]:
    kinds: tuple[type[BaseModel], ...] = get_args(get_args(Fault)[0])
    return kinds


def toml_of(scenario: Scenario) -> str:
    """A scenario's file: only what is not as it would be anyway."""
    return tomli_w.dumps(tables_of(scenario))


def tables_of(scenario: Scenario) -> Tables:
    """Plain values, of which `scenario_of` makes the same; files by their whole paths."""
    tables: Tables = scenario.model_dump(mode="json", exclude_defaults=True, exclude={"faults"})
    for table, name in (("run", "like"), ("fleet", "trace"), ("fleet", "costs")):
        if tables.get(table, {}).get(name):
            tables[table][name] = str(Path(tables[table][name]).resolve())
    tables["faults"] = [
        {"kind": fault.kind, **fault.model_dump(mode="json", exclude_defaults=True)} for fault in scenario.faults
    ]
    return tables
