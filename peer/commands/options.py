"""Options that several commands take, with their help."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; progress goes to stderr.")]
Data = Annotated[
    Path | None, typer.Option(help="The task's data: a text file (chars), a folder of IDX files (fashion).")
]
Method = Annotated[
    str | None,
    typer.Option(
        help="demo (default), allreduce (default with --stages), ...; for devices baffle, federated, fixedpoint."
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option as TABLE.KEY=VALUE, e.g. method.k=128 or schedule.warmup_steps=50."),
]
MaxMemory = Annotated[
    str | None, typer.Option(help="A daemon takes no more than this, such as 600MB: what does not fit is refused.")
]


class Activations(enum.Enum):
    """How tensors between stages travel."""

    INT8 = "int8"
    FP16 = "fp16"
    NONE = "none"


def default_method(stages: int) -> str:
    """Least traffic; in stages the mean, whose steps are the same whoever counted the microbatches."""
    return "demo" if stages == 1 else "allreduce"
