"""What `gossamer plan` expects, beside what daemons make of the same run."""

from __future__ import annotations

import pytest

from gossamer.benchmarks.planned import CASES, planned, simulated


@pytest.mark.parametrize(
    ("name", "bottleneck"),
    [
        ("compute, 8 microbatches", "compute"),
        ("uplinks, 2 of 8 only train", "uplink"),
        ("exchange", "exchange"),
        ("latency", "latency"),
    ],
)
def test_daemons_do_what_the_plan_expects_within_a_fifth(name: str, bottleneck: str) -> None:
    made = planned(CASES[name])

    assert made.bottleneck == bottleneck
    assert simulated(CASES[name], made.starts, n_steps=4) == pytest.approx(made.samples_per_s, rel=0.2)
