"""What can be typed: `gossamer simulate`, `calibrate`. What is done stands in the modules beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Let the house's command know of it."""
    app.command()(simulate)
    app.command()(calibrate)


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
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Cut a failing scenario down; writes SCENARIO.least.toml into --out.")
    ] = False,
    plays: Annotated[int, typer.Option(help="For --shrink: play it so often at most.", min=1)] = 200,
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
            shrink=shrink,
            plays=plays,
        ),
        json_output=json,
    )


def calibrate(
    out: Annotated[Path, typer.Argument(help="The cost model to write, a TOML file that scenarios name.")],
    task: Annotated[str, typer.Option(help="What is trained.")] = "chars",
    method: Annotated[str, typer.Option(help="By which method.")] = "demo",
    batch: Annotated[int, typer.Option(help="Samples of a local step.", min=1)] = 8,
    peers: Annotated[int, typer.Option(help="Contributions of an update.", min=1, max=1024)] = 4,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="TABLE.KEY=VALUE of the run's manifest, e.g. task.d_model=64.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="A folder of gossamer up: its task, method and peers in place of the above.")
    ] = None,
    at_once: Annotated[
        int, typer.Option(help="Peers that compute on this machine at the same time.", min=1, max=64)
    ] = 1,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout; progress goes to stderr.")
    ] = False,
) -> None:
    """Measure this machine for the simulator: mathematics, messages, bookkeeping. Half a minute."""
    from . import calibrate as command

    command.calibrate(
        command.Order(
            out=out,
            task=task,
            method=method,
            batch=batch,
            peers=peers,
            settings=tuple(settings or ()),
            like=like,
            at_once=at_once,
        ),
        json_output=json,
    )
