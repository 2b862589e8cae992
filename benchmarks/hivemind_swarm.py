"""hivemind's side of `bench_rounds.py`: as many averagers as peers, each a process, moved in step.

Each is a process of its own and not one of `multiprocessing`: hivemind starts its DHT and its averager as children by
the default method, which in a spawned child is "spawn", and its objects cannot be pickled for that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

PEER = Path(__file__).resolve().with_name("hivemind_averager.py")
ERROR_MAX = 1e-3
"""Values are up to 100: that is the rounding of a float32 and no more."""


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """One round: from all having started until the last of them was done."""

    step_s: float
    allreduce_s: float


class HivemindSwarm:
    """`DecentralizedAverager`s, whose averages are checked."""

    def __init__(self, n_peers: int, n_params: int) -> None:
        self._peers: list[subprocess.Popen[str]] = []
        self._n_peers, self._n_params = n_peers, n_params
        self.n_wrong = 0
        """Rounds that reported success although their average is none."""

    def __enter__(self) -> HivemindSwarm:
        first = self._start([])
        for _ in range(self._n_peers - 1):
            self._start(first["addresses"])
        return self

    def _start(self, bootstrap: list[str]) -> dict[str, Any]:
        settings = [str(len(self._peers)), str(self._n_peers), str(self._n_params)]
        peer = subprocess.Popen(
            [sys.executable, str(PEER), *settings, *bootstrap],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._peers.append(peer)
        return self._hear(peer)

    def averagings(self, n_rounds: int) -> list[Averaging]:
        """So many rounds of each kind after one that does not count, without those whose average is wrong."""
        self._average(0)
        self.n_wrong = 0
        return [averaging for index in range(1, n_rounds + 1) if (averaging := self._average(index)) is not None]

    def _average(self, index: int) -> Averaging | None:
        """None if the result is not the mean."""
        step = self._all({"step": index})
        self._all({"match": index})
        allreduce = self._all({"allreduce": index})
        error = max(answer["error"] for answer in step + allreduce)
        if not error < ERROR_MAX:
            print(f"hivemind reports success, but its average is wrong by {error:g}", file=sys.stderr)
            self.n_wrong += 1
            return None
        return Averaging(
            step_s=max(answer["seconds"] for answer in step),
            allreduce_s=max(answer["seconds"] for answer in allreduce),
        )

    def _all(self, order: dict[str, int]) -> list[dict[str, Any]]:
        for peer in self._peers:
            pipe: IO[str] | None = peer.stdin
            assert pipe is not None
            pipe.write(json.dumps(order) + "\n")
            pipe.flush()
        return [self._hear(peer) for peer in self._peers]

    def _hear(self, peer: subprocess.Popen[str]) -> dict[str, Any]:
        assert peer.stdout is not None
        line = peer.stdout.readline()
        if not line:
            raise SystemExit("a peer of hivemind's side died: run benchmarks/hivemind_averager.py 0 1 1000 to see why")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for peer in self._peers:
            if peer.stdin is not None:
                peer.stdin.close()
        for peer in self._peers:
            try:
                peer.wait(timeout=20)
            except subprocess.TimeoutExpired:
                peer.kill()
                peer.wait()
