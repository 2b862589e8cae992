"""The `gossamer` command. Each subcommand's code is imported when it is called."""

from __future__ import annotations

import sys

from .protocol.errors import GossamerError, MissingExtra

PEER_EXTRA = ("torch", "hivemind", "typer", "rich", "pydantic", "scipy", "safetensors", "plotly", "tomli_w", "psutil")


def main() -> None:
    """Console entry point: one line on stderr and an exit code for every error that we raise on purpose."""
    try:
        _run()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in PEER_EXTRA:
            raise
        missing = MissingExtra(f"{error.name} is not installed: pip install 'gossamer[peer]'")
        _fail(missing)
    except GossamerError as error:
        _fail(error)


def _run() -> None:
    from .peer.commands.app import app

    app(prog_name="gossamer")


def _fail(error: GossamerError) -> None:
    message = " ".join(str(error).split())
    print(f"gossamer: {error.code}: {message}", file=sys.stderr)
    raise SystemExit(error.exit_code)


if __name__ == "__main__":
    main()
