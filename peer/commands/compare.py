"""`gossamer compare`: several runs on one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..report import wording
from ..report.comparison import Course, told, write_comparison


def compare(folders: Sequence[Path], *, out: Path, json_output: bool) -> list[Course]:
    """Raises UsageError for too many runs, StateError for folders that hold none."""
    courses = write_comparison(folders, out)
    if json_output:
        print(json.dumps({**told(courses), "report": str(out)}))
        return courses
    table = Table()
    for head in ("run", "method", "peers", "steps", "time", "steps/s", "sent per peer", "loss"):
        table.add_column(head, justify="left" if head in ("run", "method") else "right")
    for course in courses:
        table.add_row(
            course.name,
            course.method,
            str(course.n_peers),
            str(course.steps),
            wording.duration(course.wall_s),
            f"{course.steps_per_s:.3g}",
            wording.size(course.sent_bytes_per_peer),
            "none" if course.is_sized else wording.loss(course.loss_end),
        )
    Console().print(table)
    print(out)
    return courses
