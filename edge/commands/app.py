"""What can be typed after `gossamer edge`. argparse, since a device has no typer."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> None:
    """Raises GossamerError, and SystemExit for wrong usage."""
    chosen = _parser().parse_args(arguments)
    match chosen.command:
        case "enroll":
            from .enroll import enroll

            enroll(chosen.folder, gateway=chosen.gateway, line=chosen.token, measure=not chosen.no_bench)
        case "run":
            from .run import run

            run(
                chosen.folder,
                data=chosen.data,
                engine=chosen.engine,
                backprop=chosen.backprop,
                json_output=chosen.json,
                lifeline=chosen.lifeline,
            )
        case "status":
            from .status import status

            status(chosen.folder, json_output=chosen.json)
        case "rotate":
            from .enroll import rotate

            rotate(chosen.folder)
        case "bench":
            from .bench import bench

            bench(
                chosen.folder,
                chosen.network,
                batch=chosen.batch,
                seconds=chosen.seconds,
                keep=chosen.keep,
                json_output=chosen.json,
            )
        case "install":
            from .install import install

            install(chosen.folder, data=chosen.data, root=chosen.root, user=chosen.user)
        case "uninstall":
            from .install import uninstall

            uninstall(chosen.folder, root=chosen.root, user=chosen.user, keep_data=chosen.keep_data)


def default_folder() -> Path:
    """Where a device keeps its key and state, unless it is told."""
    share = os.environ.get("XDG_DATA_HOME")
    return (Path(share) if share else Path.home() / ".local" / "share") / "gossamer-edge"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gossamer edge", description="Train with forward passes on a small device.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    enroll = _command(commands, "enroll", "get a place at a gateway, once, with the token that its owner gave you")
    enroll.add_argument("--gateway", required=True, metavar="HOST:PORT")
    enroll.add_argument("--token", required=True, metavar="LINE", help="the line that starts with gossamer-edge1:")
    enroll.add_argument("--no-bench", action="store_true", help="use numpy; do not look for the quickest engine")
    run = _command(commands, "run", "take part until the run ends, within the rules of rules.toml")
    run.add_argument("--data", metavar="FOLDER|FILE.npz|MODULE:FUNCTION", help="else data or data.npz in FOLDER")
    run.add_argument("--engine", choices=("numpy", "onnx-inputs", "onnx-constants"), help="default: what bench kept")
    run.add_argument("--backprop", action="store_true", help="backpropagate with torch where the run has a use for it")
    run.add_argument("--lifeline", action="store_true", help=argparse.SUPPRESS)
    _command(commands, "status", "say what the daemon of this device is doing")
    _command(commands, "rotate", "replace this device's key by a new one (while the daemon is stopped)")
    bench = _command(commands, "bench", "measure this device's forward passes")
    bench.add_argument("--network", help="lenet, or widths of an MLP such as 64-32-10; default: that of the run")
    bench.add_argument("--keep", action="store_true", help="let the daemon use the quickest engine from now on")
    bench.add_argument("--batch", type=int, default=32)
    bench.add_argument("--seconds", type=float, default=1.0, help="for each engine")
    install = _command(commands, "install", "write a systemd unit that runs this device's daemon")
    install.add_argument("--data", metavar="FOLDER|FILE.npz|MODULE:FUNCTION")
    uninstall = _command(commands, "uninstall", "remove the unit, and all that this device keeps")
    uninstall.add_argument("--keep-data", action="store_true", help="leave the folder with key and state")
    for command in (install, uninstall):
        command.add_argument("--user", action="store_true", help="a unit of this user instead of the system's")
        command.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
    command.add_argument("--folder", type=Path, default=default_folder(), help="default: %(default)s")
    command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return command
