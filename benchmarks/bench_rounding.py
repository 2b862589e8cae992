"""What rounded state downloads save, and what they cost: a replica whose state is rounded every so many steps.

    python -m benchmarks.bench_rounding [--task chars] [--steps 300] [--every 25]

`[group] snapshot_codec` has all replicas round their state whenever a copy is taken for newcomers. One replica trains
alone here (the arithmetic is that of a group of one), rounded every `--every` steps, as if somebody joined so often.
Prints the held-out loss beside that without rounding, and the bytes of a download.
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table

from gossamer.algorithms import Exchange, Slots
from gossamer.peer.commands.order import Order, manifest_for
from gossamer.peer.replica import Replica

CODECS = ("fp32", "bf16", "fp16", "int8", "dynamic8")
METHODS = {"allreduce": 3e-3, "demo": 3e-3, "diloco": 3e-3}
SMALL = ("task.d_model=64", "task.n_layers=3", "task.context=64")


def train(task_name: str, method: str, codec: str, steps: int, every: int) -> tuple[float, int]:
    """Held-out loss at the end, and the bytes of a download."""
    options = (*(SMALL if task_name == "chars" else ()), f"group.snapshot_codec={codec}", "schedule.kind=cosine")
    options += ("method.h=5",) if method == "diloco" else ()
    order = Order(task=task_name, method=method, steps=steps, batch=16, lr=METHODS[method], options=options)
    manifest, task = manifest_for(order, created="now", start_peers=1, policy="open")
    replica, n_rounds, rounded_at = Replica(task, manifest), 0, 0
    while replica.step < steps:
        work = replica.work(n_rounds, 1, 0)
        payload = replica.encode(work.floats)
        if replica.exchange is Exchange.REDUCE:
            payload = replica.reduce([torch.frombuffer(bytearray(payload), dtype=torch.uint8).numpy()], 0).tobytes()
        replica.apply([payload], 0, Slots.everybody(1))
        n_rounds += 1
        if replica.rounding is not None and replica.step - rounded_at >= every:
            replica.round_off()
            rounded_at = replica.step
    lengths = replica.download_bytes()
    return replica.evaluate().loss, lengths.get(True, lengths[False])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["chars", "digits", "fashion"], default="chars")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=25)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title=f"{chosen.task}: held-out loss after {chosen.steps} steps, rounded every {chosen.every}")
    for heading in ("method", "codec", "loss", "above exact", "download, MB", "of exact"):
        table.add_column(heading, justify="left" if heading in ("method", "codec") else "right")
    for method in METHODS:
        exact_loss, exact_bytes = train(chosen.task, method, "fp32", chosen.steps, chosen.every)
        for codec in CODECS:
            loss, length = train(chosen.task, method, codec, chosen.steps, chosen.every)
            above, share = f"{loss - exact_loss:+.4f}", f"{length / exact_bytes:.2f}"
            table.add_row(method, codec, f"{loss:.4f}", above, f"{length / 1e6:.2f}", share)
    Console().print(table)


if __name__ == "__main__":
    main()
