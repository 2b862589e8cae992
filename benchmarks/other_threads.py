"""How many threads of other programs want a core of this machine: what a measurement was disturbed by."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SAMPLE_EVERY_S = 0.05
KTHREADD = 2
"""Parent of the kernel's own threads, which mostly carry our packets: that is counted with the messages."""


@contextlib.contextmanager
def others_sampled() -> Iterator[list[float]]:
    """Samples of how many threads want a core that are not our daemons'."""
    samples: list[float] = []
    over = threading.Event()
    watcher = threading.Thread(target=_sample, args=(samples, over), daemon=True)
    watcher.start()
    try:
        yield samples
    finally:
        over.set()
        watcher.join()


def _sample(samples: list[float], over: threading.Event) -> None:
    while not over.wait(SAMPLE_EVERY_S):
        samples.append(_others_running())


def _others_running() -> float:
    """Threads that run or wait for a core and are neither ours, nor a descendant's, nor the kernel's, weighted by
    niceness as Linux does: a step is worth a factor of 1.25."""
    parents, wanting = {}, Counter[int]()
    weights: dict[int, float] = {}
    for path in _stats():
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        pid = int(path.parts[2])
        parents[pid], weights[pid] = int(fields[1]), 1.25 ** -int(fields[16])
        wanting[pid] += fields[0] == "R"
    return sum(
        n * weights[pid] for pid, n in wanting.items() if parents[pid] != KTHREADD and not _descends(pid, parents)
    )


def _stats() -> list[Path]:
    """Of all threads."""
    found: list[Path] = []
    for folder in Path("/proc").glob("[0-9]*/task"):
        with contextlib.suppress(OSError):  # it has just ended
            found += [task / "stat" for task in folder.iterdir()]
    return found


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != os.getpid():
        pid = parents[pid]
    return pid == os.getpid()
