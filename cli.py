"""The `gossamer` command. Each subcommand's code is imported when it is called."""

from __future__ import annotations

import os
import sys

from .protocol.errors import GossamerError, MissingExtra

PEER_EXTRA = ("torch", "hivemind", "typer", "rich", "pydantic", "scipy", "safetensors", "plotly", "tomli_w", "psutil")


def main() -> None:
    """Console entry point: one line on stderr and an exit code for every error that we raise on purpose."""
    try:
        _run(sys.argv[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in PEER_EXTRA:
            raise
        missing = MissingExtra(f"{error.name} is not installed: pip install 'gossamer[peer]'")
        _fail(missing)
    except GossamerError as error:
        _fail(error)


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["edge"]:
        # A device: nothing of a peer's may be imported, and numpy reads these once. One thread is enough for it.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")
        from .edge.commands.app import main as edge

        edge(arguments[1:])
        return
    from .peer.commands.app import app

    app(prog_name="gossamer")


def _fail(error: GossamerError) -> None:
    message = " ".join(str(error).split())
    print(f"gossamer: {error.code}: {message}", file=sys.stderr)
    raise SystemExit(error.exit_code)


if __name__ == "__main__":
    main()
