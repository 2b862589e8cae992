"""What can be typed: arguments and their help. What is done stands in the module of each command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Decentralized training for machines that nobody owns together.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run_app = typer.Typer(help="Create, show and share a run.", no_args_is_help=True)
app.add_typer(run_app, name="run")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; progress goes to stderr.")]
Data = Annotated[
    Path | None, typer.Option(help="The task's data: a text file (chars), a folder of IDX files (fashion).")
]
Options = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option as TABLE.KEY=VALUE, e.g. method.k=128 or schedule.warmup_steps=50."),
]


@app.command()
def up(
    peers: Annotated[int, typer.Option(help="Daemons to start.", min=1, max=64)] = 4,
    task: Annotated[str, typer.Option(help="chars, digits, fashion or module:attribute.")] = "chars",
    method: Annotated[str, typer.Option(help="demo or allreduce.")] = "demo",
    steps: Annotated[int, typer.Option(help="Updates of the model.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Initial weights, samples and the peers' keys follow from it.", min=0)] = 0,
    batch: Annotated[int, typer.Option(help="Samples per peer and step.", min=1)] = 8,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; default: the method's own.")] = None,
    kill: Annotated[
        list[str] | None, typer.Option(help="PEER@STEP[:restart]: kill -9 a daemon; PEER is a number or 'leader'.")
    ] = None,
    stop_at: Annotated[int | None, typer.Option(help="Stop after so many updates; resume later.", min=1)] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    strict: Annotated[
        bool, typer.Option(help="Wait for every living peer in every round: exactly repeatable.")
    ] = False,
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="Folder for logs, checkpoints and report.")] = None,
    options: Options = None,
    json: Json = False,
) -> None:
    """Run a real swarm of daemons on this machine."""
    from . import up as command

    command.up(
        command.Order(
            peers=peers,
            task=task,
            method=method,
            steps=steps,
            seed=seed,
            batch=batch,
            lr=lr,
            kills=tuple(kill or ()),
            stop_at=stop_at,
            strict=strict,
            data=data,
            options=tuple(options or ()),
        ),
        out=out,
        resume=resume,
        json_output=json,
    )


@app.command()
def demo(json: Json = False) -> None:
    """Train a small language model with four daemons, kill one on the way, and tell what happened."""
    from . import demo as command

    command.demo(json_output=json)


@app.command()
def peer(
    invite: Annotated[str | None, typer.Argument(help="The line that the run's owner sent you.")] = None,
    run: Annotated[Path | None, typer.Option(help="The run's manifest, if you have it.")] = None,
    join: Annotated[list[str] | None, typer.Option(help="Addresses of peers to join; none: the first peer.")] = None,
    identity: Annotated[Path | None, typer.Option(help="Key file; made if missing.")] = None,
    runs: Annotated[Path, typer.Option("--dir", help="Where runs are kept.")] = Path("runs"),
    folder: Annotated[Path | None, typer.Option(help="The exact folder, instead of DIR/RUN.")] = None,
    owner_key: Annotated[Path | None, typer.Option(help="The run's owner's key: lets others in.")] = None,
    data: Data = None,
    listen: Annotated[str, typer.Option(help="IP address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    announce: Annotated[str | None, typer.Option(help="Host that others dial, if it is another.")] = None,
    p2p_port: Annotated[int, typer.Option(help="Port of libp2p; 0: any.", min=0, max=65535)] = 0,
    grpc_port: Annotated[int, typer.Option(help="Port of the data plane; 0: any.", min=0, max=65535)] = 0,
    undialable: Annotated[bool, typer.Option(help="Behind NAT: only open connections, never listen.")] = False,
    stop_at: Annotated[int | None, typer.Option(help="Stop the run after so many updates.", min=1)] = None,
    lifeline: Annotated[bool, typer.Option("--lifeline", help="Leave when standard input (a pipe) ends.")] = False,
    json: Json = False,
) -> None:
    """Run the daemon of this machine."""
    from . import peer as command

    command.peer(
        command.Call(
            invite=invite,
            manifest=run,
            join=tuple(join or ()),
            identity=identity,
            runs=runs,
            folder=folder,
            owner_key=owner_key,
            data=data,
            listen=listen,
            announce=announce,
            p2p_port=p2p_port,
            grpc_port=grpc_port,
            dialable=not undialable,
            stop_at=stop_at,
            lifeline=lifeline,
        ),
        json_output=json,
    )


@run_app.command("new")
def run_new(
    out: Annotated[Path, typer.Argument(help="Folder for the manifest and the owner's key.")],
    task: Annotated[str, typer.Option()] = "chars",
    method: Annotated[str, typer.Option()] = "demo",
    steps: Annotated[int, typer.Option(min=1)] = 1000,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    lr: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    start_peers: Annotated[int, typer.Option(help="Peers that must be there before the first step.", min=1)] = 2,
    open_to_all: Annotated[bool, typer.Option("--open", help="Admit everybody, without tickets.")] = False,
    data: Data = None,
    options: Options = None,
) -> None:
    """Create a run: a signed manifest, and the key of its owner."""
    from . import run as command

    order = command.Order(
        task=task, method=method, steps=steps, batch=batch, lr=lr, seed=seed, data=data, options=tuple(options or ())
    )
    command.new(out, order, start_peers=start_peers, open_to_all=open_to_all)


@run_app.command("show")
def run_show(
    manifest: Annotated[Path, typer.Argument(help="manifest.toml of a run, or its folder.")], json: Json = False
) -> None:
    """Check a manifest's signature and say what it asks for."""
    from . import run as command

    command.show(manifest, json_output=json)


@run_app.command("invite")
def run_invite(
    folder: Annotated[Path, typer.Argument(help="The folder of the run, of its owner's peer, or of `gossamer up`.")],
    owner_key: Annotated[Path | None, typer.Option(help="The run's owner's key.")] = None,
    days: Annotated[float, typer.Option(help="How long the invite holds.", min=0.001)] = 7.0,
) -> None:
    """Print one line that is all a newcomer needs. It admits one peer, once."""
    from . import run as command

    command.invite(folder, owner_key, days)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="The folder of a peer, or of `gossamer up`.")],
    out: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
) -> None:
    """Write the trained model of the newest good checkpoint as safetensors."""
    from . import export as command

    command.export(folder, out)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="A peer's folder, or that of `gossamer up`.")] = Path("runs"),
    json: Json = False,
) -> None:
    """Say what the daemons of a folder are doing."""
    from . import status as command

    command.status(folder, json_output=json)


@app.command()
def doctor(
    join: Annotated[list[str] | None, typer.Option(help="Bootstrap addresses to try.")] = None,
    runs: Annotated[Path, typer.Option("--dir", help="Where runs are kept.")] = Path("runs"),
    p2p_port: Annotated[int, typer.Option(help="Port that libp2p shall listen on.", min=0, max=65535)] = 0,
    grpc_port: Annotated[int, typer.Option(help="Port that the data plane shall listen on.", min=0, max=65535)] = 0,
    json: Json = False,
) -> None:
    """Find out why a peer does not start or is not found, and say what to do."""
    from . import doctor as command

    command.doctor(tuple(join or ()), runs, p2p_port, grpc_port, json_output=json)
