"""DeMo in a training loop of one's own: several ranks, plain torch, no daemon of ours.

    torchrun --standalone --nproc-per-node 2 examples/demo_optimizer.py

Each rank sees its own half of the points of two interleaved spirals. Nothing but DeMo's payloads is exchanged, and at
the end all ranks hold the same parameters, bit for bit. Without torchrun, give --rank, --ranks and --rendezvous.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from gossamer.algorithms import DeMo
from gossamer.examples.spirals import make_spirals

LR = 1e-2


def train(rank: int, n_ranks: int, steps: int) -> tuple[float, float, str, int]:
    """The loss over all points before and after, a hash of the parameters, and the bytes that this rank sent."""
    torch.manual_seed(0)  # noqa: TID251 - a program of its own; the ranks begin with the same parameters
    model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    points, labels = make_spirals(noise=0.02)
    optimizer = DeMo(model.parameters(), lr=LR, compression_decay=0.9, compression_topk=128, value_bits=8)
    generator = torch.Generator().manual_seed(rank)
    before, sent = _loss(model, points, labels), 0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = LR * (1 - step / steps)
        batch = torch.randint(len(labels) // n_ranks, (64,), generator=generator) * n_ranks + rank
        optimizer.zero_grad()
        F.cross_entropy(model(points[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        sent += optimizer.data_transmit
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()
    return before, _loss(model, points, labels), digest, sent


@torch.no_grad()
def _loss(model: nn.Module, points: torch.Tensor, labels: torch.Tensor) -> float:
    return float(F.cross_entropy(model(points), labels))


def main() -> None:
    """Join the others, train, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=int(os.environ.get("RANK", "0")))
    parser.add_argument("--ranks", type=int, default=int(os.environ.get("WORLD_SIZE", "1")))
    parser.add_argument("--rendezvous", default="env://", help="e.g. file:///tmp/a-new-file")
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    if arguments.ranks > 1:
        dist.init_process_group(
            "gloo",
            init_method=arguments.rendezvous,
            rank=arguments.rank,
            world_size=arguments.ranks,
            timeout=timedelta(seconds=60),
        )
    before, after, digest, sent = train(arguments.rank, arguments.ranks, arguments.steps)
    print(f"rank {arguments.rank}: loss {before:.3f} -> {after:.3f}, sent {sent} bytes, parameters {digest}")
    if arguments.ranks > 1:
        dist.barrier()  # else one may close while another still reads
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
