"""A process whose log finds no room for a while. Run by test_events.py: python event_process.py FILE BYTES_MAX."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from gossamer.peer.events import Entry, EventLog, Warned


def main(path: Path, bytes_max: int) -> None:
    told: list[Entry] = []
    with EventLog(path, peer="12D3KooWabcdefgh", clock=lambda: 0.0, unix=lambda: 0.0) as log:
        log.listen(told.append)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, limit[1]))
        for number in range(6):
            log.emit(Warned(message=f"number {number}"))
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        log.emit(Warned(message="there is room again"))
    for entry in told:
        print(entry.event)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
