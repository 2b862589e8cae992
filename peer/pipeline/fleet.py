"""A fleet file: the machines that a plan may use, in TOML.

[[machines]]
name = "workstation"
count = 3                     # default 1
flops_per_s = 4e12            # sustained in training
memory_bytes = 12e9
up_bytes_per_s = 5e6
down_bytes_per_s = 3e7
latency_s = 0.02              # one way; default 0.02
role = "both"                 # or "serves" (a stage; `--replica-only`), or "trains" (`--stage none`); default both
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...algorithms.pipeline.workload import Machine
from ...protocol.errors import UsageError

FILE_BYTES_MAX = 1 << 20
MACHINES_MAX = 256

Positive = Annotated[float, Field(gt=0, le=1e18)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Machines(_Table):
    name: str = Field(min_length=1, max_length=64)
    count: int = Field(default=1, ge=1, le=MACHINES_MAX)
    flops_per_s: Positive
    memory_bytes: Positive
    up_bytes_per_s: Positive
    down_bytes_per_s: Positive
    latency_s: float = Field(default=0.02, ge=0, le=60)
    role: Literal["both", "serves", "trains"] = "both"


class _Fleet(_Table):
    machines: list[_Machines] = Field(min_length=1, max_length=MACHINES_MAX)


def read_fleet(path: Path) -> tuple[Machine, ...]:
    """The machines of a file, those of one entry as name, or name-1, name-2, ...; at most MACHINES_MAX.

    Raises: UsageError.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read the fleet {path} ({error.strerror}): give the path of a TOML file") from None
    if len(content) > FILE_BYTES_MAX:
        raise UsageError(f"the fleet {path} has more than {FILE_BYTES_MAX} bytes: shorten it")
    try:
        fleet = _Fleet.model_validate(tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the fleet {path} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"the fleet {path}: {where}: {first['msg']}") from None
    machines = [machine for entry in fleet.machines for machine in _expanded(entry)]
    if len(machines) > MACHINES_MAX:
        raise UsageError(f"the fleet {path} has {len(machines)} machines: at most {MACHINES_MAX} can be planned for")
    return tuple(machines)


def _expanded(entry: _Machines) -> list[Machine]:
    names = [entry.name] if entry.count == 1 else [f"{entry.name}-{i + 1}" for i in range(entry.count)]
    facts = entry.model_dump(exclude={"name", "count", "role"})
    facts |= {"kind": entry.name, "serves": entry.role != "trains", "trains": entry.role != "serves"}
    return [Machine(name=name, **facts) for name in names]
