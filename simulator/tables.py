"""The tables of a scenario, each with its keys, their bounds and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SECONDS_MAX = 1e8
Seconds = Annotated[float, Field(ge=0, le=SECONDS_MAX)]
Option = bool | int | float | str


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Sizes(Table):
    """What `compute = "analytic"` stands for."""

    n_params: int = Field(default=1_000_000, ge=1, le=10**12)
    flops_per_sample: float = Field(default=0.0, ge=0)
    """0: 6 per parameter."""
    payload_bytes: int = Field(default=94_000, ge=8, le=1 << 40)
    """Of a contribution for the whole model; that of a stage is its share."""
    exchange: Literal["gather", "reduce"] = "gather"
    local_steps: int = Field(default=1, ge=1, le=10**6)
    n_layers: int = Field(default=1, ge=1, le=1024)
    """Where the model may be cut into stages."""
    activation_elements: int = Field(default=1, ge=1, le=1 << 32)
    """Of one sample between two layers: positions times width."""
    grain: int = Field(default=1, ge=1, le=1 << 16)
    """Bytes on the lines for each that is held in memory; see `simulator.analytic`. `simulator.grains` says which are
    too coarse."""

    @model_validator(mode="after")
    def _can_be_held(self) -> Sizes:
        if self.payload_bytes / self.grain > 1 << 30:
            raise ValueError(f"payloads of {self.payload_bytes} bytes cannot be held: set run.sizes.grain above 1")
        return self


class Training(Table):
    """What is trained, and how."""

    compute: Literal["real", "analytic"] = "real"
    """real: torch, true losses. analytic: sizes and costs only; task and method are those of `sizes`."""
    like: Path | None = None
    """A folder of `gossamer up`: its manifest, names and keys, in place of the rest of this table. Relative to the
    scenario's file."""
    task: str = "digits"
    method: str = "demo"
    task_options: dict[str, Option] = Field(default_factory=dict)
    method_options: dict[str, Option] = Field(default_factory=dict)
    sizes: Sizes = Field(default_factory=Sizes)
    steps: int = Field(default=50, ge=1, le=10**9)
    batch: int = Field(default=8, ge=1, le=1 << 20)
    lr: float | None = Field(default=None, gt=0)
    start_peers: int | None = Field(default=None, ge=1)
    """Awaited before the first step; default: all machines that are on at the beginning."""
    strict: bool = False
    on_split: Literal["auto", "pause", "fork"] = "auto"
    checkpoint_every: int = Field(default=50, ge=1)
    evaluate_every: int = Field(default=50, ge=1)


class Stages(Table):
    """How the model is cut (`[pipeline]` of a manifest); one stage: it is not."""

    stages: int = Field(default=1, ge=1, le=64)
    starts: list[int] = Field(default_factory=list, max_length=64)
    """The first layer of each stage; default: cut by cost."""
    only_train: int = Field(default=0, ge=0, le=63)
    """So many machines, the last, serve no stage and only pass microbatches. Not of a manifest: machines choose."""
    microbatches: int = Field(default=8, ge=1, le=4096)
    activations: Literal["int8", "fp16", "none"] = "int8"
    schedule: Literal["credit", "gpipe", "1f1b", "zero-bubble"] = "credit"
    mode: Literal["synchronous", "stash", "compensate", "predict", "compensate-predict"] = "synchronous"
    rebalance_every_s: float = Field(default=300.0, ge=0, le=86400)
    restore_after_s: float = Field(default=60.0, ge=0, le=86400)


class Population(Table):
    """Who takes part: a built-in fleet, a trace, or equal machines."""

    kind: str = "equal"
    """equal, or a name of `simulator.fleets.FLEETS`, or trace."""
    peers: int = Field(default=4, ge=1, le=10_000)
    trace: Path | None = None
    """CSV or JSON, for kind = "trace"; relative to the scenario's file."""
    flops_per_s: float = Field(default=5e10, gt=0)
    """Of equal machines, likewise the next four."""
    memory_bytes_per_s: float = Field(default=1e10, gt=0)
    up_mbit_s: float = Field(default=100.0, gt=0)
    down_mbit_s: float = Field(default=100.0, gt=0)
    round_trip_s: float = Field(default=0.04, ge=0, le=60)
    costs: Path | None = None
    """What `gossamer calibrate` wrote, relative to the scenario's file: costs of messages, and of heavy maths on equal
    machines. Default: messages weigh on the wire what they do in truth, and cost no processor time."""
    one_machine: bool = False
    """All peers are processes on one machine and share its cores; how many, say the costs."""
    other_threads: float = Field(default=0.0, ge=0, le=1000)
    """Mean number of threads of other programs that want a core of that one machine."""


class DeviceCrowd(Table):
    """Devices that only do forward passes, and how the gateways treat them (`peer.gateway.options`)."""

    n: int = Field(default=0, ge=0, le=20_000)
    """0: none."""
    kind: str = "phones"
    """equal, or a name of `simulator.fleets.FLEETS`."""
    gateways: int = Field(default=1, ge=1, le=16)
    """The first so many machines of the fleet serve like shares of the devices."""
    samples: int = Field(default=32, ge=1, le=1 << 20)
    """Of each device: drawn from the task's training samples."""
    alpha: float | None = Field(default=None, gt=0, le=1e6)
    """Of a Dirichlet distribution over classes for each device; default: all classes alike."""
    per_round: int = Field(default=0, ge=0, le=4096)
    at_least: int = Field(default=1, ge=1, le=4096)
    """A round waits for so many."""
    backups: int = Field(default=0, ge=0, le=4096)
    staleness: int = Field(default=3, ge=0, le=15)
    round_every_s: float = Field(default=0.0, ge=0, le=86400)
    heartbeat_s: float = Field(default=60.0, ge=0.01, le=3600)
    patience_s: float = Field(default=60.0, ge=2, le=3600)
    """Of the first rounds."""


class Internet(Table):
    """What is between them."""

    loss: float | None = Field(default=None, ge=0, lt=1)
    """Of packets; default: the fleet's."""
    spread_s: Seconds = 0.1
    """Mean time until a DHT record is seen by others."""
    stale: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a search of the DHT finds the version before the newest."""


class Expectation(Table):
    """What must hold, besides what always must: one result for each round, no crash of our own."""

    steps_min: int = Field(default=0, ge=0)
    """Updates that some peer has applied in the end."""
    finished_min: int = Field(default=0, ge=0)
    """Peers that ended with the run finished."""
    accuracy_min: float = Field(default=0.0, ge=0, le=1)
    """On held-out samples, in the end."""
    empty_stage_s_max: float | None = Field(default=None, ge=0)
    """A stage is without a living replica for so long at most, while another has two or more."""
    one_process_within: float | None = Field(default=None, gt=0)
    """The finished pipeline's parameters differ by so much at most from those that one process makes of the same
    samples, and every step counts all its microbatches. For methods and activations that are exact, such as plain sgd
    and none."""
