"""Rounds of flwr's FedAvg whose clients return what they got plus 1. bench_dense_round runs it where flwr is installed.

ITS/bin/python benchmarks/flwr_round.py DEVICES PARAMS ROUNDS          prints one JSON object
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

import flwr
import numpy as np
from flwr.common import ndarrays_to_parameters


class Echo(flwr.client.NumPyClient):  # type: ignore[misc]  # flwr comes without types here
    """Computes nothing."""

    def fit(self, parameters: Any, config: Any) -> Any:
        return [part + np.float32(1) for part in parameters], 1, {}


class Timed(flwr.server.strategy.FedAvg):  # type: ignore[misc]  # likewise
    """FedAvg that notes when each round begins and has been averaged."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.began_s = 0.0
        self.seconds: list[float] = []

    def configure_fit(self, *arguments: Any, **named: Any) -> Any:
        self.began_s = time.perf_counter()
        return super().configure_fit(*arguments, **named)

    def aggregate_fit(self, *arguments: Any, **named: Any) -> Any:
        result = super().aggregate_fit(*arguments, **named)
        self.seconds.append(time.perf_counter() - self.began_s)
        return result


def serve(n_devices: int, n_params: int, n_rounds: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    children = [subprocess.Popen([sys.executable, __file__, "client", address]) for _ in range(n_devices)]
    strategy = Timed(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=n_devices,
        min_available_clients=n_devices,
        initial_parameters=ndarrays_to_parameters([np.zeros(n_params, np.float32)]),
    )
    config = flwr.server.ServerConfig(num_rounds=n_rounds + 1)
    try:
        flwr.server.start_server(server_address=address, config=config, strategy=strategy)
    finally:
        for child in children:
            child.terminate()
            child.wait(timeout=20)
    seconds = strategy.seconds[1:]
    print(json.dumps({"version": flwr.__version__, "median_s": statistics.median(seconds), "best_s": min(seconds)}))


if __name__ == "__main__":
    if sys.argv[1] == "client":
        flwr.client.start_client(server_address=sys.argv[2], client=Echo().to_client(), insecure=True)
    else:
        serve(*map(int, sys.argv[1:4]))
