"""The kernels of `algorithms` beside straightforward code and beside floors, on one thread, both sides in one run.

    python -m benchmarks.bench_kernels [--rounds 15] [--only demo|terngrad|codecs]

Sides take turns. Times are the thread's CPU time, which other work on the machine disturbs least; medians, with the
fastest in brackets. Memory is shared all the same: on a busy machine look at the ratios.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch are imported

import numpy as np
import scipy.fft
import torch

from gossamer.algorithms import Method, Schedule, Slots, build_method, ternary
from gossamer.algorithms.payload import PayloadFormat
from gossamer.algorithms.tiles import Tiling
from gossamer.benchmarks.demo_reference import DemoReference
from gossamer.peer.codecs import CODECS

ROWS, COLUMNS = 4096, 2560
DIM = ROWS * COLUMNS


def alternate(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each side in each round; the sides take turns. The first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            started_s = time.thread_time()
            run()
            if turn > 0:
                seconds[name].append(time.thread_time() - started_s)
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
                "floor: scipy.fft.dctn of all tiles": lambda: scipy.fft.dctn(
                    tiles, axes=(2, 3), norm="ortho", overwrite_x=True
                ),
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
    _bench_demo_check(payloads, rounds)


def _bench_demo_check(payloads: Mapping[int, bytes], rounds: int) -> None:
    """What a daemon does to a payload as it comes in, beside decoding it and beside reading its bytes once."""
    for bits, payload in sorted(payloads.items()):
        form = PayloadFormat(Tiling([(ROWS, COLUMNS)], 64), size=64, k=32, value_bits=bits)
        times = show(
            alternate(
                {
                    f"{bits} bit: check of a payload of {len(payload) / 1e6:.2f} MB": functools.partial(
                        form.check, payload
                    ),
                    f"{bits} bit: decode": functools.partial(form.decode, payload),
                    f"{bits} bit: its SHA-256": functools.partial(lambda data: hashlib.sha256(data).digest(), payload),
                },
                rounds,
            )
        )
        check_s, decode_s, _ = times.values()
        print(f"  {bits} bit: checking takes {check_s / decode_s:.2f} of decoding")


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
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def bench_terngrad(rounds: int) -> None:
    """Encode one contribution of normal values, and add a decoded one to a sum."""
    print(f"TernGrad, {DIM / 1e6:.1f} M normal values")
    values = np.random.Generator(np.random.Philox(key=0)).standard_normal(DIM, dtype=np.float32)
    torch_values, buffer, total = torch.from_numpy(values), np.empty_like(values), np.zeros_like(values)
    scaler, bound = ternary.scaler_of(values)
    payloads: dict[str, bytes] = {}

    def encode(packing: str) -> None:
        payloads[packing] = ternary.encode(values, bound=bound, scaler=scaler, packing=packing, key=(1, 2), stream=3)

    def decode(packing: str) -> None:
        ternary.add(total, [np.frombuffer(payloads[packing], np.uint8)], scaler=scaler, packing=packing)

    def plain_encode() -> None:
        clipped = torch_values.clamp(-bound, bound)
        kept = torch.rand(DIM) < clipped.abs() / scaler
        codes = torch.where(kept, clipped.sign(), 0).to(torch.uint8).view(-1, 4) & 3
        payloads["plain"] = (codes * torch.tensor([1, 4, 16, 64], dtype=torch.uint8)).sum(1).byte().numpy().tobytes()

    def plain_decode() -> None:
        packed = torch.frombuffer(bytearray(payloads["plain"]), dtype=torch.uint8)
        codes = (packed.unsqueeze(1) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8)) & 3
        torch.from_numpy(total).add_(torch.where(codes == 3, -1.0, codes.float()).view(-1), alpha=scaler)

    times = show(
        alternate(
            {
                "floor: memcpy of the values": lambda: np.copyto(buffer, values),
                "scaler and bound (2.5 rms, largest magnitude)": lambda: ternary.scaler_of(values),
                "encode, 2 bit": lambda: encode("2bit"),
                "encode, base 3": lambda: encode("base3"),
                "decode and add, 2 bit": lambda: decode("2bit"),
                "decode and add, base 3": lambda: decode("base3"),
                "plain torch: encode, 2 bit": plain_encode,
                "plain torch: decode and add": plain_decode,
            },
            rounds,
        )
    )
    copy = times["floor: memcpy of the values"]
    scaling = times["scaler and bound (2.5 rms, largest magnitude)"]
    speeds = {name: copy / seconds for name, seconds in times.items() if name.startswith(("encode", "decode"))}
    speeds["scaler + encode, base 3"] = copy / (scaling + times["encode, base 3"])
    print("  fraction of memcpy's speed: " + ", ".join(f"{name} {speed:.2f}" for name, speed in speeds.items()))
    magnitudes = np.minimum(np.abs(values), bound) / scaler
    density = float(magnitudes.mean())
    # Zero or not, and a sign for each that is not.
    entropy = (-density * math.log2(density) - (1 - density) * math.log2(1 - density) + density) / 8
    sizes = ", ".join(f"{name} {len(payload) / DIM:.3f}" for name, payload in payloads.items() if name != "plain")
    print(f"  bytes per parameter: {sizes}; entropy of the codes {entropy:.3f} ({density:.0%} are not zero)")


def bench_codecs(rounds: int) -> None:
    """Speed of every codec beside memcpy, and its error on normal values beside the rate-distortion bound."""
    print(f"Codecs, {DIM / 1e6:.1f} M normal values, GB/s of float32")
    values = np.random.Generator(np.random.Philox(key=0)).standard_normal(DIM, dtype=np.float32)
    buffer = np.empty_like(values)
    payloads: dict[str, bytes] = {}
    decoded: dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}

    def encode(name: str) -> None:
        payloads[name] = CODECS[name].encode(values)

    def decode(name: str) -> None:
        decoded[name] = CODECS[name].decode(payloads[name], DIM)

    sides: dict[str, Callable[[], object]] = {"memcpy": lambda: np.copyto(buffer, values)}
    for name in CODECS:
        sides[f"{name}: encode"] = functools.partial(encode, name)
        sides[f"{name}: decode"] = functools.partial(decode, name)
    medians = {name: statistics.median(times) for name, times in alternate(sides, rounds).items()}
    print(f"  memcpy {values.nbytes / medians['memcpy'] / 1e9:.1f}")
    for name in CODECS:
        speeds = [values.nbytes / medians[f"{name}: {way}"] / 1e9 for way in ("encode", "decode")]
        error = float(np.sqrt(((decoded[name] - values).astype(np.float64) ** 2).mean()))
        # No code of fewer bits reaches this error on normal values.
        bound = f"at least {-math.log2(error) / 8:.3f} for this error" if error > 0 else "exact"
        print(
            f"  {name:<9} encode {speeds[0]:5.2f}  decode {speeds[1]:5.2f}  rms error {error:.1e}  "
            f"bytes per parameter {len(payloads[name]) / DIM:.3f} ({bound})"
        )


BENCHES: dict[str, Callable[[int], None]] = {
    "demo": bench_demo,
    "terngrad": bench_terngrad,
    "codecs": bench_codecs,
}


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
