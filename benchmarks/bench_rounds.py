"""What a step costs without training: our daemons' rounds beside hivemind's averager, in one run.

    python benchmarks/bench_rounds.py [--rounds 20]

Ours: `gossamer up` with four real daemons on this machine, a task whose gradient costs nothing; a step's exchange is
the time from a peer's contribution being ready to the round being applied and hashed, so it holds more than averaging.
hivemind: `DecentralizedAverager.step` among four peers, each in a process of its own, the same number of floats.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path

from gossamer.peer.event_kinds import RoundEnded, Trained
from gossamer.peer.events import read_events

ROOT = Path(__file__).resolve().parent.parent
N_PEERS = 4


def ours(method: str, n_params: int, rounds: int) -> dict[str, float]:
    """Median exchange and overhead of our rounds, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "gossamer.cli", "up", "--peers", str(N_PEERS), "--method", method]
        command += ["--task", "benchmarks.weightless:Weightless", "--set", f"task.n_params={n_params}"]
        command += ["--steps", str(rounds + 5), "--out", folder + "/run", "--json"]
        command += ["--set", "limits.eval_every_steps=100000", "--set", "limits.checkpoint_every_steps=100000"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        summary = json.loads(done.stdout)
        exchanges = _exchanges(Path(folder) / "run" / "peers" / "1" / "events.jsonl")[5:]
    return {"exchange_s": statistics.median(exchanges), "overhead_s": summary["round_overhead_s_p50"]}


def _exchanges(path: Path) -> list[float]:
    ready_s, exchanges = 0.0, []
    for entry in read_events(path):
        if isinstance(entry.event, Trained):
            ready_s = entry.t_s
        elif isinstance(entry.event, RoundEnded):
            exchanges.append(entry.t_s - ready_s)
    return exchanges


def hivemind_averager(n_params: int, rounds: int) -> float:
    """Median seconds of one `DecentralizedAverager.step` among four peers."""
    context = multiprocessing.get_context("spawn")
    addresses: Queue[list[str]] = context.Queue()
    times: Queue[list[float]] = context.Queue()
    barrier = context.Barrier(N_PEERS)
    processes = [
        context.Process(target=_hivemind_peer, args=(number, n_params, rounds, addresses, times, barrier))
        for number in range(N_PEERS)
    ]
    for process in processes:
        process.start()
    try:
        taken = [times.get(timeout=600) for _ in processes]
    finally:
        for process in processes:
            process.join(timeout=30)
            if process.is_alive():
                process.kill()
    return statistics.median(statistics.median(peer) for peer in taken)


def _hivemind_peer(number, n_params, rounds, addresses, times, barrier):  # type: ignore[no-untyped-def]
    import hivemind
    import torch

    torch.set_num_threads(1)
    initial = addresses.get(timeout=120) if number else []
    dht = hivemind.DHT(initial_peers=initial, start=True)
    if number == 0:
        for _ in range(N_PEERS - 1):
            addresses.put([str(address) for address in dht.get_visible_maddrs()])
    averager = hivemind.DecentralizedAverager(
        averaged_tensors=[torch.randn(n_params)],
        dht=dht,
        prefix="bench",
        target_group_size=N_PEERS,
        min_group_size=N_PEERS,
        min_matchmaking_time=1.0,
        start=True,
    )
    taken = []
    for _ in range(rounds):
        barrier.wait(timeout=120)
        begun_s = time.perf_counter()
        if averager.step(timeout=60) is not None:
            taken.append(time.perf_counter() - begun_s)
    times.put(taken or [float("nan")])
    averager.shutdown()
    dht.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    demo = ours("demo", 1_000_000, rounds)
    print(
        f"demo, 1 M parameters, {N_PEERS} daemons: overhead {demo['overhead_s'] * 1e3:.0f} ms, "
        f"exchange and update {demo['exchange_s'] * 1e3:.0f} ms (median of {rounds})"
    )
    dense = ours("allreduce", 10_000_000, rounds)
    theirs = hivemind_averager(10_000_000, max(5, rounds // 2))
    print(
        f"dense, 10 M fp32, {N_PEERS} daemons: ours {dense['exchange_s']:.2f} s with AdamW and hash, "
        f"hivemind's averager {theirs:.2f} s: ratio {dense['exchange_s'] / theirs:.2f}"
    )


if __name__ == "__main__":
    main()
