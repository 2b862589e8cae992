"""What can be typed: arguments and their help. What is done stands in the module of each command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Activations, Data, Json, MaxMemory, Method, Options, default_method

app = typer.Typer(
    help="Decentralized training for machines that nobody owns together.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run_app = typer.Typer(help="Create, show and share a run.", no_args_is_help=True)
app.add_typer(run_app, name="run")
gateway_app = typer.Typer(help="Let devices in, and shut them out.", no_args_is_help=True)
app.add_typer(gateway_app, name="gateway")


@app.command()
def up(
    peers: Annotated[
        int | None, typer.Option(help="Daemons that backpropagate; default 4, none with --devices.", min=0, max=64)
    ] = None,
    devices: Annotated[int, typer.Option(help="Devices that only do forward passes.", min=0)] = 0,
    gateways: Annotated[int, typer.Option(help="Gateways that the devices are shared among.", min=1, max=16)] = 1,
    task: Annotated[str, typer.Option(help="chars, digits, fashion, fashion-rotated or module:attribute.")] = "chars",
    method: Method = None,
    steps: Annotated[int, typer.Option("--steps", "--rounds", help="Updates of the model.", min=1)] = 200,
    K: Annotated[  # noqa: N803 - the paper's letter
        int | None, typer.Option("--K", help="Perturbations of a device in a round (baffle).", min=1)
    ] = None,
    backprop: Annotated[int, typer.Option(help="So many of the devices backpropagate (federated).", min=0)] = 0,
    audit: Annotated[
        float, typer.Option(help="Share of the devices' answers that is recomputed (fixedpoint).", min=0, max=1)
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Initial weights, samples and the peers' keys follow from it.", min=0)] = 0,
    batch: Annotated[int, typer.Option(help="Samples per peer and step.", min=1)] = 8,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; default: the method's own.")] = None,
    kill: Annotated[
        list[str] | None,
        typer.Option(help="PEER@STEP[:restart]: kill -9 a daemon; PEER is a number, 'leader' or device:NUMBER."),
    ] = None,
    stop_at: Annotated[int | None, typer.Option(help="Stop after so many updates; resume later.", min=1)] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    strict: Annotated[
        bool, typer.Option(help="Wait for every living peer in every round: exactly repeatable.")
    ] = False,
    stages: Annotated[
        int, typer.Option(help="Cut the model into so many stages, each served by some peers.", min=1, max=64)
    ] = 1,
    activations: Annotated[Activations, typer.Option(help="How they travel between stages.")] = Activations.INT8,
    only_train: Annotated[
        int, typer.Option(help="So many of the peers, the last, serve no stage and only pass microbatches.", min=0)
    ] = 0,
    max_memory: MaxMemory = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="Folder for logs, checkpoints and report.")] = None,
    options: Options = None,
    json: Json = False,
) -> None:
    """Run a real swarm of daemons on this machine."""
    from . import up as command

    command.up(
        command.Order(
            peers=peers if peers is not None else 0 if devices else 4,
            devices=devices,
            gateways=gateways if devices or gateways > 1 else 0,
            task=task,
            method=method or default_method(stages),
            steps=steps,
            seed=seed,
            batch=batch,
            lr=lr,
            backprop=backprop,
            audit=audit,
            kills=tuple(kill or ()),
            stop_at=stop_at,
            strict=strict,
            stages=stages,
            activations=activations.value,
            only_train=only_train,
            max_memory=max_memory,
            data=data,
            options=(
                *([f"method.n_devices={devices}"] if method == "fixedpoint" and devices else []),
                *(options or ()),
                *([f"method.K={K}"] if K is not None else []),
            ),
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
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs, real or simulated.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("compare.html"),
    json: Json = False,
) -> None:
    """Put several runs on one page: loss against time, steps and bytes, throughput, a table."""
    from . import compare as command

    command.compare(folders, out=out, json_output=json)


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
    seed_for: Annotated[
        float, typer.Option(help="Seconds to hold the final state for latecomers, once the run has ended.", min=0)
    ] = 0.0,
    max_memory: MaxMemory = None,
    stage: Annotated[
        str | None, typer.Option(help="Of a pipeline: auto (default), the stage to serve, or none to train only.")
    ] = None,
    replica_only: Annotated[
        bool, typer.Option("--replica-only", help="Serve a stage, but pass no microbatches.")
    ] = False,
    gateway: Annotated[str | None, typer.Option(help="HOST:PORT to serve devices on.")] = None,
    devices_min: Annotated[int, typer.Option(help="A round waits for so many devices.", min=1)] = 1,
    devices_per_round: Annotated[int, typer.Option(help="So many answers end a round; 0: all's.", min=0)] = 0,
    backups: Annotated[int, typer.Option(help="So many more devices are asked.", min=0)] = 0,
    staleness: Annotated[int, typer.Option(help="An answer so many rounds late still counts.", min=0)] = 3,
    round_every: Annotated[float, typer.Option(help="Least seconds from one round of devices to the next.")] = 0.0,
    heartbeat: Annotated[float, typer.Option(help="Seconds between signs of life to idle devices.")] = 60.0,
    audit: Annotated[
        float, typer.Option(help="Share of the answers that is recomputed (fixedpoint).", min=0, max=1)
    ] = 0.0,
    json: Json = False,
) -> None:
    """Run the daemon of this machine."""
    from ..gateway.options import GatewayOptions
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
            seed_for_s=seed_for,
            stage=stage,
            max_memory=max_memory,
            trains=not replica_only,
            gateway=gateway,
            devices=GatewayOptions(
                devices_min=devices_min,
                devices_per_round=devices_per_round,
                backups=backups,
                staleness_max=staleness,
                round_every_s=round_every,
                heartbeat_s=heartbeat,
                audit_rate=audit,
            ),
        ),
        json_output=json,
    )


@app.command("edge", context_settings={"ignore_unknown_options": True, "help_option_names": []})
def edge(arguments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """The daemon of a small device: gossamer edge --help."""
    raise AssertionError("the command line hands this over before typer is loaded")


@gateway_app.command("token")
def gateway_token(
    folder: Annotated[Path, typer.Argument(help="The gateway's peer folder.")],
    days: Annotated[float, typer.Option(help="How long the token holds.", min=0.001)] = 7.0,
) -> None:
    """Print a line that enrols one device, once."""
    from . import gateway as command

    command.token(folder, days)


@gateway_app.command("devices")
def gateway_devices(
    folder: Annotated[Path, typer.Argument(help="The gateway's peer folder.")], json: Json = False
) -> None:
    """List the devices that are enrolled."""
    from . import gateway as command

    command.devices(folder, json_output=json)


@gateway_app.command("revoke")
def gateway_revoke(
    folder: Annotated[Path, typer.Argument(help="The gateway's peer folder.")],
    device: Annotated[str, typer.Argument(help="The device's id.")],
) -> None:
    """Shut a device out for good."""
    from . import gateway as command

    command.shut_out(folder, device)


@gateway_app.command("renew-certificate")
def gateway_renew(folder: Annotated[Path, typer.Argument(help="The gateway's peer folder.")]) -> None:
    """Make a new certificate; devices go over to it when the gateway is started again."""
    from . import gateway as command

    command.renew(folder)


@gateway_app.command("deal")
def gateway_deal(
    out: Annotated[Path, typer.Argument(help="Folder for the files, one a device.")],
    parts: Annotated[int, typer.Option(help="Devices.", min=1)] = 10,
    task: Annotated[str, typer.Option(help="digits or fashion.")] = "digits",
    alpha: Annotated[
        float | None, typer.Option(help="Of a Dirichlet distribution over classes; else alike mixtures.", min=0.001)
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    in_bytes: Annotated[bool, typer.Option("--bytes", help="As bytes, which fixed point takes.")] = False,
    data: Data = None,
) -> None:
    """Write a task's samples as files for devices, for a try-out."""
    from . import gateway as command

    command.deal_out(out, task, data, parts, alpha, seed, in_bytes=in_bytes)


@run_app.command("new")
def run_new(
    out: Annotated[Path, typer.Argument(help="Folder for the manifest and the owner's key.")],
    task: Annotated[str, typer.Option()] = "chars",
    method: Method = None,
    steps: Annotated[int, typer.Option(min=1)] = 1000,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    lr: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    start_peers: Annotated[int, typer.Option(help="Peers that must be there before the first step.", min=1)] = 2,
    open_to_all: Annotated[bool, typer.Option("--open", help="Admit everybody, without tickets.")] = False,
    stages: Annotated[int, typer.Option(help="Cut the model into so many stages.", min=1, max=64)] = 1,
    activations: Annotated[Activations, typer.Option(help="How they travel between stages.")] = Activations.INT8,
    data: Data = None,
    options: Options = None,
) -> None:
    """Create a run: a signed manifest, and the key of its owner."""
    from . import run as command

    order = command.Order(
        task=task,
        method=method or default_method(stages),
        steps=steps,
        batch=batch,
        lr=lr,
        seed=seed,
        stages=stages,
        activations=activations.value,
        data=data,
        options=tuple(options or ()),
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
    days: Annotated[float, typer.Option(help="How long the invite holds.", min=0.001, max=3650)] = 7.0,
) -> None:
    """Print one line that is all a newcomer needs. It admits one peer, once."""
    from . import run as command

    command.invite(folder, owner_key, days)


@app.command()
def plan(
    run: Annotated[Path, typer.Option(help="manifest.toml of a run, or its folder.")],
    fleet: Annotated[Path, typer.Option(help="The machines, in TOML; docs/pipelines.md shows one.")],
    stages: Annotated[int | None, typer.Option(help="So many stages; default: as many as are best.", min=1)] = None,
    microbatch: Annotated[int | None, typer.Option(help="Its samples; default: the run's batch size.", min=1)] = None,
    activations: Annotated[
        Activations | None, typer.Option(help="How they travel between stages; default: as in the run.")
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Time the layers on this machine.")] = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Say where to cut a model, how many replicas each stage needs, and what will be the bottleneck."""
    from . import plan as command

    question = command.Question(
        run=run,
        fleet=fleet,
        data=data,
        stages=stages,
        microbatch=microbatch,
        activations=activations.value if activations is not None else None,
        measure=measure,
    )
    command.answer(question, json_output=json)


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
