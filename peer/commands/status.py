"""`gossamer status`: what the daemons of a folder are doing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from ...protocol.errors import UsageError

STALE_S = 15.0


def status(folder: Path, *, json_output: bool) -> None:
    """Read every status.json below a folder."""
    found = sorted({*folder.glob("status.json"), *folder.glob("*/status.json"), *folder.glob("peers/*/status.json")})
    if not found:
        raise UsageError(f"no daemon has run in {folder}: give the folder of a peer or of gossamer up")
    rows = [_read(path) for path in found]
    if json_output:
        print(json.dumps(rows))
        return
    table = Table("folder", "state", "peer", "step", "round", "roster", "sent MB", "received MB")
    for row in rows:
        roster, megabytes = len(row["roster"]), [f"{row[key] / 1e6:.2f}" for key in ("sent_bytes", "received_bytes")]
        table.add_row(
            row["folder"], row["state"], row["peer"][-8:], str(row["step"]), str(row["round"]), str(roster), *megabytes
        )
    Console().print(table)


def _read(path: Path) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}; is it a peer's folder?") from None
    alive = psutil.pid_exists(int(row.get("pid", 0)))
    fresh = time.time() - path.stat().st_mtime < STALE_S
    state = "gone" if not alive else "stalled" if not fresh else "training" if row["active"] else "waiting"
    return {"folder": str(path.parent), "state": state, **row}
