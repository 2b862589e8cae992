"""The table of docs/pipelines.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.algorithms.pipeline.workload import LayerLoad, Machine, Rates, Workload

TOKENS = 512
BYTES_EACH = 1 + 4 / 256
LINES_BYTES_PER_S = (20e6 / 8, 100e6 / 8, 1e9 / 8)
DOCUMENT = Path(__file__).parents[3] / "docs" / "pipelines.md"


@pytest.mark.parametrize("width", [256, 1024, 4096, 16384])
def test_the_documented_numbers_are_the_planners(width: int) -> None:
    assert row(width) in DOCUMENT.read_text()


def row(width: int) -> str:
    """One line of the table."""
    flops = 24.0 * width**2 * TOKENS + 4.0 * TOKENS**2 * width
    block = LayerLoad(name="block", flops=flops, output_bytes=TOKENS * width * BYTES_EACH, parameters={})
    workload = Workload(layers=(block,) * 3, input_bytes=0.0, batch_samples=1, microbatch_samples=1)
    rates = [Rates(workload, [_machine(up_bytes_per_s)]) for up_bytes_per_s in LINES_BYTES_PER_S]
    busy = [float(r.rate[0, 1, 2] / r.by_resource["compute"][0, 1, 2]) for r in rates]
    up_mb = float(rates[0].up[1, 2]) / 1e6
    shares = " | ".join(f"{share:.1%}" for share in busy)
    return f"| {width:,} | {float(rates[0].flops[1, 2]) / 1e9:,.0f} | {up_mb:.2f} | {shares} |"


def _machine(up_bytes_per_s: float) -> Machine:
    return Machine(
        name="m",
        flops_per_s=4e12,
        memory_bytes=1e12,
        up_bytes_per_s=up_bytes_per_s,
        down_bytes_per_s=10 * up_bytes_per_s,
        latency_s=0.0,
    )
