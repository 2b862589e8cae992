"""What can be typed: `gossamer simulate`. What is done stands in the module beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Let the house's command know of it."""
    app.command()(simulate)


def simulate(
    scenario: Annotated[Path, typer.Argument(help="A TOML file, such as those in examples/scenarios.")],
    seed: Annotated[int | None, typer.Option(help="Everything random follows from it.", min=0)] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE with dotted keys, e.g. run.steps=20.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for logs, summary and report.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Run twice and compare the traces.")] = False,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Permute what is ready at one instant, from the seed.")
    ] = False,
    seeds: Annotated[str | None, typer.Option(help="A..B: run all of them; keeps no files.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes for --seeds.", min=1, max=256)] = 1,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout; progress goes to stderr.")
    ] = False,
) -> None:
    """Run the daemons in a simulated world: hours of many machines in seconds, the same each time."""
    from . import simulate as command

    command.simulate(
        command.Order(
            scenario=scenario,
            seed=seed,
            settings=tuple(settings or ()),
            out=out,
            verify=verify,
            shuffle=shuffle,
            seeds=seeds,
            jobs=jobs,
        ),
        json_output=json,
    )
