"""What lines carry."""

from __future__ import annotations

import pytest

from gossamer.algorithms.pipeline.lines import Placed, carried_bytes, first_way_s, tightest_line
from gossamer.algorithms.pipeline.workload import Machine

MACHINES = [
    Machine(name=str(n), flops_per_s=10.0, memory_bytes=1.0, up_bytes_per_s=100.0, down_bytes_per_s=1e3, latency_s=0.0)
    for n in range(3)
]
STAGES = [
    Placed(flops=4.0, down_bytes=30.0, up_bytes=20.0, shares={0: 0.75, 1: 0.25}),
    Placed(flops=3.0, down_bytes=25.0, up_bytes=15.0, shares={2: 1.0}),
]


@pytest.mark.parametrize("trainers", [(0, 1, 2), (1,), (0, 2)])
def test_what_one_sends_another_receives(trainers: tuple[int, ...]) -> None:
    """By brute force: each trainer's share of each stage at each replica, over both lines unless they are one."""
    up, down = [0.0] * 3, [0.0] * 3
    for trainer in trainers:
        for stage in STAGES:
            for replica, share in stage.shares.items():
                if replica != trainer:
                    n = share / len(trainers)
                    up[trainer] += n * stage.down_bytes
                    down[replica] += n * stage.down_bytes
                    up[replica] += n * stage.up_bytes
                    down[trainer] += n * stage.up_bytes

    carried = [carried_bytes(machine, STAGES, trainers) for machine in range(3)]

    assert [sent for sent, _ in carried] == pytest.approx(up)
    assert [received for _, received in carried] == pytest.approx(down)


def test_the_tightest_line_is_the_one_that_allows_the_least() -> None:
    line = tightest_line(MACHINES, STAGES, (1,))

    # It sends 25 to the last stage, three quarters of 30 to its fellow, and serves nobody but itself.
    assert (line.machine, line.direction) == (1, "uplink")
    assert line.samples_per_s == pytest.approx(100.0 / (25 + 22.5))


def test_a_model_in_one_piece_sends_nothing() -> None:
    whole = Placed(flops=3.0, down_bytes=16.0, up_bytes=0.0, shares={0: 0.5, 1: 0.5})

    assert carried_bytes(0, [whole], (0, 1)) == (0.0, 0.0)
    assert tightest_line(MACHINES, [whole], (0, 1)).samples_per_s == float("inf")
    assert first_way_s(MACHINES, [whole], (0, 1), 2) == {"compute": pytest.approx(0.6), "uplink": 0, "downlink": 0}


def test_the_first_microbatch_is_sent_and_computed_stage_after_stage() -> None:
    spent_s = first_way_s(MACHINES, STAGES, (0,), 2)

    # Uplinks are slower than downlinks here.
    assert spent_s == pytest.approx({"compute": 2 * 7.0 / 10.0, "uplink": 2 * 90 / 100.0, "downlink": 0.0})
