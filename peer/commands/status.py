"""`gossamer status`: what the daemons of a folder are doing, or how they ended."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from ...protocol.errors import StateError, UsageError
from ..folder import PeerFolder
from .places import peer_folders

STALE_S = 15.0
TAIL_BYTES = 64 << 10
HEADINGS = ("FOLDER", "PEER", "STATE", "STEP", "ROUND", "GROUP OF", "SENT MB", "RECEIVED MB")


class _Told(BaseModel):
    """What must be in status.json; see `whereabouts.Whereabouts.keep_file`."""

    model_config = ConfigDict(extra="allow", strict=True)

    pid: int
    peer: str
    active: bool
    step: int
    round: int
    roster: list[str]
    sent_bytes: int
    received_bytes: int


def _why(error: Exception) -> str:
    """In a line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    return str(error)


def status(folder: Path, *, json_output: bool) -> None:
    """Read what every daemon in or below a folder has last told of itself."""
    rows = [row for path in peer_folders(folder) if (row := daemon_status(path)) is not None]
    if not rows:
        raise UsageError(f"no daemon in {folder} has told its status yet: try again in a second")
    if json_output:
        print(json.dumps(rows))
        return
    lines = [HEADINGS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in rows:
        if row["message"]:
            print(f"{row['folder']}: {row['message']}")
        if row.get("privacy"):
            print(f"{row['folder']}: {privacy_words(row['privacy'])}")


def privacy_words(told: dict[str, Any]) -> str:
    """What devices have spent, in a line."""
    spent = "unknown: pip install gossamer[privacy]" if told["epsilon"] is None else f"{told['epsilon']:.2f}"
    where = "in the sums alone" if told["sums_only"] else "in every answer"
    return (
        f"a device in all {told['rounds']} rounds has spent epsilon {spent} at delta {told['delta']:g} "
        f"(noise {told['noise_multiplier']:g} times the clipping norm, {where})"
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    steps = f"{row['step']} of {row['steps']}" if row["steps"] else str(row["step"])
    group = str(len(row["roster"])) if row["roster"] else "-"
    sent, received = (f"{row[key] / 1e6:.2f}" for key in ("sent_bytes", "received_bytes"))
    return row["folder"], row["peer"][-8:], row["state"], steps, str(row["round"]), group, sent, received


def daemon_status(folder: Path) -> dict[str, Any] | None:
    """What the daemon of a folder last told of itself, and its `state`; None if it has told nothing yet."""
    path = folder / "status.json"
    if not path.exists():
        return None
    try:
        row = _Told.model_validate_json(path.read_bytes()).model_dump()
    except (OSError, ValueError) as error:
        raise StateError(f"{path} cannot be read: {_why(error)}; is it a peer's folder?") from None
    manifest = PeerFolder(folder).manifest()
    steps = manifest.manifest.run.steps if manifest is not None else None
    row = {"folder": str(folder), "state": _state(path, row), "steps": steps, "message": "", **row}
    end = _last_event(folder / "events.jsonl")
    if end.get("kind") == "ended":
        row |= {"state": end["outcome"], "step": end["step"], "round": end["round"], "message": end["message"]}
        row |= {"active": False, "roster": []}
    return row


def _state(path: Path, row: dict[str, Any]) -> str:
    if not psutil.pid_exists(int(row.get("pid", 0))):
        return "killed"  # whoever leaves says so in the log
    fresh = time.time() - path.stat().st_mtime < STALE_S
    return "stalled" if not fresh else "training" if row["active"] else "waiting"


def _last_event(path: Path) -> dict[str, Any]:
    """The last whole line of a log; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
        event = json.loads(lines[-1]) if lines else {}
    except (OSError, ValueError):
        return {}
    return event if isinstance(event, dict) else {}
