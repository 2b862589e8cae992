"""The `gossamer` command. Each subcommand's code is imported when it is called."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from .protocol.errors import GossamerError, MissingExtra, UsageError, disk_error

PEER_EXTRA = ("torch", "hivemind", "typer", "rich", "pydantic", "scipy", "safetensors", "plotly", "tomli_w", "psutil")
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def main() -> None:
    """Console entry point: one line on stderr and an exit code for whatever is wrong with what we were given."""
    try:
        code = _run()
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in PEER_EXTRA:
            raise
        _fail(MissingExtra(f"{library} is not installed: pip install 'gossamer[peer]'"))
    except GossamerError as error:
        _fail(error)
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise  # not the disk's, but a mistake of ours
        _fail(disk_error(error, "cannot go on"))
    if code == INTERRUPTED:
        print("gossamer: interrupted", file=sys.stderr)
    if code:
        raise SystemExit(code)


def _run() -> object:
    """The exit code, or what the command returned (None)."""
    if sys.argv[1:2] == ["edge"]:
        return _run_edge(sys.argv[2:])
    import typer

    from .peer.commands.app import app
    from .simulator.commands.app import add_to

    add_to(app)
    try:
        return app(prog_name="gossamer", standalone_mode=False)
    except typer.TyperException as error:
        if not error.format_message():
            return error.exit_code  # it has shown the help instead
        context = getattr(error, "ctx", None)
        where = f" ({context.command_path} --help)" if context is not None else ""
        raise UsageError(f"{error.format_message()}{where}") from None


def _run_edge(arguments: list[str]) -> object:
    """A device: nothing of a peer's may be imported, and numpy reads these once. One thread is enough for it."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from .edge.commands.app import main as edge

    edge(arguments)
    return None


def _fail(error: GossamerError) -> NoReturn:
    message = " ".join(str(error).split())
    print(f"gossamer: {error.code}: {message}", file=sys.stderr)
    raise SystemExit(error.exit_code)


if __name__ == "__main__":
    main()
