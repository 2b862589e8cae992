"""The kernels of `algorithms` beside straightforward code and beside floors, on one thread, both sides in one run.

    python benchmarks/bench_kernels.py [--rounds 15] [--only demo|terngrad|codecs]

Sides take turns, and medians are printed with the fastest in brackets: on a machine that does other work, look at the
ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch are imported

import numpy as np
import scipy.fft
import torch

from gossamer.algorithms import Method, Schedule, Slots, build_method
from gossamer.benchmarks.demo_reference import DemoReference

ROWS, COLUMNS = 4096, 2560
DIM = ROWS * COLUMNS


def alternate(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round; the sides take turns. The first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            started_s = time.perf_counter()
            run()
            if turn > 0:
                seconds[name].append(time.perf_counter() - started_s)
    return seconds


def show(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Print medians, and return them."""
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, times in seconds.items():
        print(f"  {name:<58}{1e3 * medians[name]:8.1f} ms  [{1e3 * min(times):.1f}]")
    return medians


def bench_demo(rounds: int) -> None:
    """Encode and decode of one contribution of a 4096 x 2560 tensor, k = 32, tile 64."""
    print(f"DeMo, {ROWS} x {COLUMNS}, k = 32, tile 64, one contributor")
    gradient = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    reference = DemoReference(torch.zeros(ROWS, COLUMNS), lr=1e-3, beta=0.999, k=32, chunk=64)
    methods = {bits: _demo(bits) for bits in (8, 32)}
    sent: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    payloads: dict[int, bytes] = {}

    def reference_encode() -> None:
        sent["mine"] = reference.encode(gradient)

    def encode(bits: int) -> None:
        methods[bits].accumulate({"p": gradient}, 1)
        payloads[bits] = methods[bits].encode(np.empty(0, np.float32))

    def decode(bits: int) -> None:
        methods[bits].combine([payloads[bits]], mine=0, step=0, slots=Slots.everybody(1))

    buffer, matrix = np.empty(DIM, np.float32), gradient.numpy()
    tiles = np.ascontiguousarray(matrix.reshape(64, 64, 40, 64).transpose(0, 2, 1, 3))
    times = show(
        alternate(
            {
                "reference: encode": reference_encode,
                "reference: decode": lambda: reference.decode([sent["mine"]]),
                "ours, 8 bit: accumulate + encode": lambda: encode(8),
                "ours, 8 bit: combine (decode, update, retire)": lambda: decode(8),
                "ours, 32 bit: accumulate + encode": lambda: encode(32),
                "ours, 32 bit: combine": lambda: decode(32),
                "floor: memcpy of the tensor": lambda: np.copyto(buffer, matrix.reshape(-1)),
                "floor: scipy.fft.dctn of all tiles": lambda: scipy.fft.dctn(tiles, axes=(2, 3), norm="ortho"),
            },
            rounds,
        )
    )
    values = list(times.values())
    theirs, floor_copy, floor_dct = values[0] + values[1], values[6], 2 * values[7]
    for name, ours in (("8 bit", values[2] + values[3]), ("32 bit", values[4] + values[5])):
        print(
            f"  {name}: {1e3 * ours:.1f} ms against {1e3 * theirs:.1f} ms: {theirs / ours:.1f}x faster; "
            f"{ours / floor_copy:.1f} memcpys, {ours / floor_dct:.2f} of the two scipy transforms alone"
        )
    _bytes_of_demo(payloads, sent["mine"])


def _demo(bits: int) -> Method:
    options = {"k": 32, "beta": 0.999, "clip": 0.0, "value_bits": bits}
    return build_method("demo", {"p": torch.zeros(ROWS, COLUMNS)}, options, Schedule(lr=1e-3))


def _bytes_of_demo(payloads: Mapping[int, bytes], sent: tuple[torch.Tensor, torch.Tensor]) -> None:
    theirs = sum(tensor.numel() * tensor.element_size() for tensor in sent) / DIM
    print(f"  bytes per parameter: reference {theirs:.4f}", end="")
    for bits, payload in sorted(payloads.items()):
        # Which 32 of 4096 takes log2 of their binomial; values as many bits as they have.
        choice = _log2_binomial(4096, 32)
        bound = (choice + 32 * bits) / 8 / 4096
        print(f"; {bits} bit {len(payload) / DIM:.4f} (index entropy + values {bound:.4f})", end="")
    print()


def _log2_binomial(n: int, k: int) -> float:
    from math import lgamma, log

    return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2)


BENCHES: dict[str, Callable[[int], None]] = {"demo": bench_demo}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=sorted(BENCHES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, bench in BENCHES.items():
        if arguments.only in (None, name):
            bench(arguments.rounds)


if __name__ == "__main__":
    main()
