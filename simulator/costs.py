"""What a machine and its transport cost: the figures that `gossamer calibrate` measures and writes as TOML.

Scenarios name such a file (`fleet.costs`). Without one a message costs its bytes and no processor time, and heavy maths
takes what the daemons' own estimates say.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..protocol.atomic import write_atomically
from ..protocol.errors import UsageError, unknown_name
from ..protocol.network import Cost

Share = Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[float, Field(ge=0, le=3600)]
Speed = Annotated[float, Field(gt=0, le=1e18)]
Factor = Annotated[float, Field(ge=0, le=1e6)]

WORK = (
    *("work", "encode", "apply", "evaluate", "reduce", "lend"),
    *("stage forward", "stage backward", "stage evaluate", "stage weights"),
)
"""Names of the daemons' heavy maths (`Cost.what`)."""
OFFERS = ("round/offer", "round/offer-stream")
"""Requests with whose content daemons have much to do."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Wire(_Table):
    """Bytes on the wire besides those that daemons count (see docs/design/0007-truth.md for where they come from)."""

    message_bytes: float = Field(default=250.0, ge=0, le=1e6)
    """Of each message: HTTP/2 frames, TLS records, TCP and IP headers of its packets, and of those that acknowledge."""
    byte_share: Share = 0.075
    """For each byte: headers of full packets (66 of 1,514), TLS and HTTP/2 framing, and acknowledgements on the way
    back, which compete with what travels there."""
    contention: float = Field(default=0.0, ge=0, le=10)
    """What TCP loses where transfers share a line: n of them at once get 1 / (1 + contention * (n - 1)) of it together.
    0: they share it exactly, none of it is lost."""


class Handling(_Table):
    """Processor time of a daemon's event loop, which does one thing at a time."""

    message_s: Seconds = 0.0
    """Of each message, at each end: its transport."""
    chunk_s: Seconds | None = None
    """The same of a message within a stream, a chunk or its end, for which nothing is opened. None: as of any."""
    bookkeeping_s: Seconds = 0.0
    """Of each message besides, at each end: what daemons do to agree on rounds, on average."""
    byte_s: Seconds = 0.0
    """Of each byte, at each end: copies, TLS, hashing."""
    request_s: dict[str, Seconds] = Field(default_factory=dict)
    """Method -> of each request more, where it comes in: what a daemon does with its content, if that is much."""


class Maths(_Table):
    """How long heavy maths takes."""

    flops_per_s: Speed | None = None
    """One core's, at the task's steps. None: the fleet's."""
    memory_bytes_per_s: Speed | None = None
    factor: dict[str, Factor] = Field(default_factory=dict)
    """Work's name (`Cost.what`) -> measured seconds for each estimated one."""


class CostModel(_Table):
    """A whole cost model."""

    machine: str = ""
    """What it was measured on and with, for people."""
    cores: int | None = Field(default=None, ge=1, le=4096)
    """Of that machine. Shared by all peers if the fleet says that they run on one machine."""
    wire: Wire = Field(default_factory=Wire)
    handling: Handling = Field(default_factory=Handling)
    maths: Maths = Field(default_factory=Maths)

    def handling_s(self, n_bytes: int, *, is_chunk: bool = False) -> float:
        """Of one message at one of its ends.

        Args: is_chunk: within a stream.
        """
        costs = self.handling
        fixed_s = costs.chunk_s if is_chunk and costs.chunk_s is not None else costs.message_s
        return fixed_s + costs.bookkeeping_s + n_bytes * costs.byte_s

    def wire_bytes(self, n_bytes: float) -> float:
        """What a message of so many counted bytes occupies on a line."""
        return n_bytes * (1 + self.wire.byte_share) + self.wire.message_bytes

    def maths_s(self, cost: Cost, *, flops_per_s: float, memory_bytes_per_s: float) -> float:
        """Of a piece of heavy maths on one core of the given speed."""
        estimated = cost.flops / flops_per_s + cost.memory_bytes / memory_bytes_per_s
        return estimated * self.maths.factor.get(cost.what, 1.0)


NOTHING = CostModel(wire=Wire(message_bytes=0.0, byte_share=0.0))
"""Messages weigh what daemons count, and cost no processor time."""


def rounded(figure: float) -> float:
    """To four digits: there is no truth in more."""
    return float(f"{figure:.4g}")


def save_costs(costs: CostModel, path: Path) -> None:
    """Write it as TOML. Raises DiskFull, StateError."""
    tables = costs.model_dump(exclude_none=True)
    write_atomically(path, tomli_w.dumps(tables).encode())


def load_costs(path: Path) -> CostModel:
    """Raises UsageError, UnknownName."""
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_bytes().decode())
        costs = CostModel.model_validate(tables)
    except OSError as error:
        raise UsageError(
            f"cannot read the cost model {path}: {error.strerror}; gossamer calibrate writes one"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"the cost model {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for kind, names, known in (
        ("maths.factor", costs.maths.factor, WORK),
        ("handling.request_s", costs.handling.request_s, OFFERS),
    ):
        for name in names:
            if name not in known:
                raise unknown_name(f"name in {kind} of the cost model {path}", name, known)
    return costs
