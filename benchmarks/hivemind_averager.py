"""One peer of hivemind's side of `bench_rounds.py`, which obeys orders from its standard input, one JSON a line.

    {"step": 3}         average once, finding the group first; answers {"seconds": ..., "error": ...}
    {"match": 3}        find the group and wait; answers {}
    {"allreduce": 3}    average now; answers as to "step"

`error` is the largest difference from the true mean: its return value alone says little. It leaves at the end of input.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import hivemind
import torch
from hivemind.averaging.control import AveragingStage

TIMEOUT_S = 60.0


class Peer:
    """An averager whose values are known: peer k holds ramp * (index + k) in round `index`."""

    def __init__(self, number: int, n_peers: int, n_params: int, bootstrap: list[str]) -> None:
        self._number, self._n_peers = number, n_peers
        self._ramp = torch.linspace(-1.0, 1.0, n_params)
        self._control: Any = None
        self._dht = hivemind.DHT(initial_peers=bootstrap, start=True)
        self._averager = hivemind.DecentralizedAverager(
            averaged_tensors=[torch.zeros(n_params)],
            dht=self._dht,
            prefix="bench",
            target_group_size=n_peers,
            min_group_size=n_peers,
            min_matchmaking_time=1.0,
            start=True,
        )

    @property
    def addresses(self) -> list[str]:
        return [str(address) for address in self._dht.get_visible_maddrs()]

    def step(self, index: int) -> dict[str, float]:
        self._fill(index)
        begun_s = time.perf_counter()
        self._averager.step(timeout=TIMEOUT_S)
        return {"seconds": time.perf_counter() - begun_s, "error": self._error(index)}

    def match(self, index: int) -> dict[str, float]:
        self._fill(index)
        self._control = self._averager.step(wait=False, require_trigger=True, timeout=TIMEOUT_S)
        deadline_s = time.perf_counter() + TIMEOUT_S
        while self._control.stage is not AveragingStage.AWAITING_TRIGGER and time.perf_counter() < deadline_s:
            time.sleep(0.005)
        return {}

    def allreduce(self, index: int) -> dict[str, float]:
        begun_s = time.perf_counter()
        self._control.allow_allreduce()
        self._control.result(timeout=TIMEOUT_S)
        return {"seconds": time.perf_counter() - begun_s, "error": self._error(index)}

    def close(self) -> None:
        self._averager.shutdown()
        self._dht.shutdown()

    def _fill(self, index: int) -> None:
        with self._averager.get_tensors() as (tensor,):
            torch.mul(self._ramp, index + self._number, out=tensor)

    def _error(self, index: int) -> float:
        mean = self._ramp * (index + (self._n_peers - 1) / 2)
        with self._averager.get_tensors() as (tensor,):
            return float((tensor - mean).abs().max())


def main() -> None:
    torch.set_num_threads(1)
    number, n_peers, n_params = (int(text) for text in sys.argv[1:4])
    peer = Peer(number, n_peers, n_params, sys.argv[4:])
    _tell({"addresses": peer.addresses})
    for line in sys.stdin:
        ((order, index),) = json.loads(line).items()
        _tell({"step": peer.step, "match": peer.match, "allreduce": peer.allreduce}[order](index))
    peer.close()


def _tell(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
