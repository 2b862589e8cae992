"""One peer of hivemind's side of `bench_rounds.py`, obeying orders from its standard input. Not meant for hands.

A process of its own and not one of `multiprocessing`: hivemind starts its DHT and its averager as children by the
default method, which in a spawned child is "spawn", and its objects cannot be pickled for that. (The peer that gives
the others their bootstrap address died of it, and the others said "failed to connect to bootstrap peers".)

    orders, one JSON object a line      {"round": 3}        average once
                                        {"end": true}       leave
    answers                             {"addresses": [...]} when ready
                                        {"step_s": 1.2, "allreduce_s": 0.9, "error": 1e-7}

`step_s` is `DecentralizedAverager.step`: finding the group, then averaging. For `allreduce_s` the group was found
beforehand (`require_trigger`), so it is averaging alone. `error` is the largest difference from the true mean in
either: nothing is counted that was not really averaged.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import hivemind
import torch


def main() -> None:
    number, n_peers, n_params = (int(text) for text in sys.argv[1:4])
    torch.set_num_threads(1)
    dht = hivemind.DHT(initial_peers=sys.argv[4:], start=True)
    averager = hivemind.DecentralizedAverager(
        averaged_tensors=[torch.zeros(n_params)],
        dht=dht,
        prefix="bench",
        target_group_size=n_peers,
        min_group_size=n_peers,
        min_matchmaking_time=1.0,
        start=True,
    )
    tell(addresses=[str(address) for address in dht.get_visible_maddrs()])
    ramp = torch.linspace(-1.0, 1.0, n_params)
    for line in sys.stdin:
        order = json.loads(line)
        if "end" in order:
            break
        tell(**average(averager, ramp, number, n_peers, order["round"]))
    averager.shutdown()
    dht.shutdown()


def average(averager: Any, ramp: torch.Tensor, number: int, n_peers: int, index: int) -> dict[str, float]:
    """Two averagings of values that differ among peers and rounds, and how far they are from the mean."""
    mean = ramp * (index + (n_peers - 1) / 2)
    errors = []

    fill(averager, ramp * (index + number))
    begun_s = time.perf_counter()
    averager.step(timeout=60)
    step_s = time.perf_counter() - begun_s
    errors.append(distance(averager, mean))

    fill(averager, ramp * (index + number))
    control = averager.step(wait=False, require_trigger=True, timeout=60)
    while control.stage is not hivemind.averaging.control.AveragingStage.AWAITING_TRIGGER:
        time.sleep(0.005)
    tell(matched=True)
    sys.stdin.readline()  # all are matched
    begun_s = time.perf_counter()
    control.allow_allreduce()
    control.result(timeout=60)
    allreduce_s = time.perf_counter() - begun_s
    errors.append(distance(averager, mean))
    return {"step_s": step_s, "allreduce_s": allreduce_s, "error": max(errors)}


def fill(averager: Any, values: torch.Tensor) -> None:
    with averager.get_tensors() as (tensor,):
        tensor.copy_(values)


def distance(averager: Any, mean: torch.Tensor) -> float:
    with averager.get_tensors() as (tensor,):
        return float((tensor - mean).abs().max())


def tell(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
