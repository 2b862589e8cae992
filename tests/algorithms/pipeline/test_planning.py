"""Plans."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from gossamer.algorithms.pipeline.planning import NoPlan, plan
from gossamer.algorithms.pipeline.workload import LayerLoad, Machine, Workload

STRONG = Machine(
    name="m", flops_per_s=120.0, memory_bytes=1e12, up_bytes_per_s=1e12, down_bytes_per_s=1e12, latency_s=0.0
)


def test_equal_layers_on_equal_machines_are_cut_evenly() -> None:
    # Three stages: the middle one does 4 passes, the first as well, the last only 3.
    made = plan(_workload([1.0] * 6), [STRONG] * 3, n_stages=3)

    assert made.starts == (0, 2, 4)
    assert [stage.samples_per_s for stage in made.stages] == pytest.approx([15.0, 15.0, 20.0])
    assert (made.bottleneck, made.slowest) == ("compute", 0)
    assert made.flow_s == pytest.approx(64 / 15)


def test_a_dear_stage_gets_more_replicas() -> None:
    made = plan(_workload([1.0, 6.0, 1.0]), [STRONG] * 8, n_stages=3)

    assert [len(stage.machines) for stage in made.stages] == [1, 6, 1]


@pytest.mark.parametrize("alike", [True, False])
def test_small_fleets_get_the_best_plan_or_nearly(alike: bool) -> None:
    draw = random.Random(5)
    shares = []
    for _ in range(30):
        workload = _workload([float(draw.randint(1, 9)) for _ in range(4)])
        machines = [replace(STRONG, flops_per_s=60.0 if alike else draw.uniform(20, 200)) for _ in range(5)]
        n_stages = draw.randint(1, 3)

        made = plan(workload, machines, n_stages=n_stages)

        found = min(stage.samples_per_s for stage in made.stages)
        shares.append(found / _best_rate(workload, machines, n_stages))
    assert min(shares) >= (1 - 1e-9 if alike else 0.85)
    assert sum(shares) / len(shares) >= (1 - 1e-9 if alike else 0.97)
    assert max(shares) <= 1 + 1e-9


def test_memory_caps_are_obeyed() -> None:
    # 100 parameters a layer, 20 bytes each: two layers fit into 4,500 bytes, three don't.
    workload = _workload([1.0] * 6, parameters=100)
    small = replace(STRONG, memory_bytes=4500.0)

    made = plan(workload, [small] * 4)

    assert len(made.stages) >= 3
    assert all(stage.memory_bytes <= 4500.0 for stage in made.stages)


def test_a_machine_that_fits_no_stage_is_left_out() -> None:
    workload = _workload([1.0] * 2, parameters=100)

    made = plan(workload, [STRONG, replace(STRONG, memory_bytes=10.0), STRONG], n_stages=2)

    assert made.unused == (1,)


def test_tied_layers_in_one_stage_need_memory_once() -> None:
    shared = tuple(LayerLoad(name=n, flops=1.0, output_bytes=0.0, parameters={"w": 100}) for n in "ab")

    made = plan(replace(_workload([1.0]), layers=shared), [STRONG], n_stages=1)

    assert made.stages[0].memory_bytes == 2000.0


def test_what_cannot_fit_is_said_with_what_would() -> None:
    small = replace(STRONG, name="tiny", memory_bytes=1000.0)

    with pytest.raises(NoPlan, match=r"layer '0' alone needs .* largest machine 'tiny'"):
        plan(_workload([1.0] * 3, parameters=100), [small] * 3)
    with pytest.raises(NoPlan, match="use more stages, add machines"):
        plan(_workload([1.0] * 6, parameters=100), [replace(small, memory_bytes=2500.0)] * 4)
    with pytest.raises(NoPlan, match="4 stages need as many layers"):
        plan(_workload([1.0] * 3), [small] * 9, n_stages=4)


@pytest.mark.parametrize(
    ("change", "bottleneck"),
    [
        ({"up_bytes_per_s": 10.0}, "uplink"),
        ({"down_bytes_per_s": 10.0}, "downlink"),
        ({"latency_s": 100.0}, "latency"),
        ({"flops_per_s": 1.0}, "compute"),
    ],
)
def test_the_bottleneck_is_named(change: dict[str, float], bottleneck: str) -> None:
    workload = _workload([1.0] * 4, output_bytes=100.0)
    machines = [Machine(**{**vars(STRONG), **change}) for _ in range(2)]

    assert plan(workload, machines, n_stages=2).bottleneck == bottleneck


def test_slow_exchange_is_a_bottleneck_where_a_stage_has_replicas() -> None:
    workload = _workload([1.0] * 2, parameters=10**6)
    machines = [replace(STRONG, up_bytes_per_s=1e5)] * 2

    one, two = plan(workload, machines, n_stages=1), plan(workload, machines, n_stages=2)

    # 2e6 parameters of 4 bytes, half of them twice (reduced, then gathered) over 1e5 bytes/s.
    assert (one.bottleneck, two.exchange_s) == ("exchange", 0.0)
    assert one.exchange_s == pytest.approx(2e6 * 4 / 1e5)


def test_sparse_payloads_and_local_steps_make_exchange_cheap() -> None:
    workload = replace(_workload([1.0] * 2, parameters=10**6), payload_bytes_per_parameter=0.02, gathers=True)
    machines = [replace(STRONG, up_bytes_per_s=1e5)] * 5

    gathered = plan(workload, machines, n_stages=1)
    rarely = plan(replace(workload, exchange_every_steps=10), machines, n_stages=1)

    assert gathered.exchange_s == pytest.approx(2e6 * 0.02 * 4 / 1e5)
    assert rarely.exchange_s == pytest.approx(gathered.exchange_s / 10)


def test_slow_lines_are_spared_by_fewer_stages_when_the_number_is_free() -> None:
    workload = _workload([1.0] * 4, output_bytes=1e3, parameters=1)
    slow_line = [replace(STRONG, up_bytes_per_s=1e3, down_bytes_per_s=1e3)] * 4

    made = plan(workload, slow_line)

    assert len(made.stages) == 1


def test_a_plan_tells_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []

    plan(_workload([1.0] * 3), [STRONG] * 4, tell=lambda n_done, n_all: told.append((n_done, n_all)))

    assert told == [(0, 3), (1, 3), (2, 3)]


def test_what_trainers_must_carry_is_what_stages_receive_and_send() -> None:
    # The first stage gets the input twice and a gradient back; the last one its input and the targets.
    made = plan(_workload([1.0] * 2, output_bytes=100.0), [STRONG] * 2, n_stages=2)

    assert made.trainer_up_bytes_per_s == pytest.approx(made.samples_per_s * (2 * 8 + 100 + 100 + 8))
    assert made.trainer_down_bytes_per_s == pytest.approx(made.samples_per_s * (100 + 100))


def test_machines_that_only_train_serve_no_stage_and_carry_their_share() -> None:
    workload = _workload([1.0] * 2, output_bytes=100.0)
    home = replace(STRONG, up_bytes_per_s=1e4)
    made = plan(workload, [STRONG, STRONG, replace(home, serves=False), replace(home, serves=False)], n_stages=2)

    assert [stage.machines for stage in made.stages] == [(0,), (1,)]
    assert made.trainers == (0, 1, 2, 3)
    # A quarter of 2 * 8 + 100 to the first stage and 100 + 8 to the last one.
    assert made.line is None
    slow = [replace(machine, up_bytes_per_s=1e2) for machine in (home, home)]
    held = plan(workload, [STRONG, STRONG, *(replace(machine, serves=False) for machine in slow)], n_stages=2)
    assert held.line is not None
    assert (held.line.machine, held.line.direction, held.bottleneck) == (2, "uplink", "uplink")
    assert held.line.samples_per_s == pytest.approx(1e2 / (224 / 4))
    assert held.flow_s == pytest.approx(64 / held.line.samples_per_s)


def test_who_does_not_train_or_does_not_serve_has_no_part_in_a_whole_model() -> None:
    machines = [STRONG, replace(STRONG, serves=False), replace(STRONG, trains=False)]

    made = plan(_workload([1.0] * 2), machines, n_stages=1)

    assert ([stage.machines for stage in made.stages], made.trainers, made.unused) == ([(0,)], (0,), (1, 2))
    assert (made.trainer_up_bytes_per_s, made.line) == (0.0, None)


def test_somebody_must_train_and_somebody_serve() -> None:
    with pytest.raises(NoPlan, match="no machine trains"):
        plan(_workload([1.0] * 2), [replace(STRONG, trains=False)] * 3)
    with pytest.raises(NoPlan, match="no machine serves"):
        plan(_workload([1.0] * 2), [replace(STRONG, serves=False)] * 3)
    parted = [replace(STRONG, trains=False), replace(STRONG, serves=False)]
    with pytest.raises(NoPlan, match="trained where it is"):
        plan(_workload([1.0] * 2), parted)
    with pytest.raises(NoPlan, match="trained where it is"):
        plan(_workload([1.0] * 2), [*parted, parted[0]], n_stages=1)
    small = replace(STRONG, serves=False, memory_bytes=10.0)
    with pytest.raises(NoPlan, match="that a daemon needs"):
        plan(
            replace(_workload([1.0] * 2), overhead_bytes=100.0),
            [replace(STRONG, trains=False)] * 2 + [small],
            n_stages=2,
        )


def test_a_trainer_whose_line_would_hold_up_all_others_is_left_out() -> None:
    workload = _workload([1.0] * 2, output_bytes=100.0)
    modem = replace(STRONG, up_bytes_per_s=1.0, serves=False)

    without, with_it = (plan(workload, [STRONG] * 2 + more, n_stages=2) for more in ([], [modem]))

    assert (with_it.trainers, with_it.unused) == ((0, 1), (2,))
    assert with_it.samples_per_s == pytest.approx(without.samples_per_s)


def test_costly_exchange_makes_stages_that_have_as_many_replicas_each() -> None:
    # By their rates alone seven layers would go to six replicas, each of which sends the others seven layers' payload.
    workload = replace(_workload([1.0] * 8, parameters=10**6), payload_bytes_per_parameter=1.0, gathers=True)
    machines = [replace(STRONG, up_bytes_per_s=1e5)] * 8

    made = plan(workload, machines, n_stages=2)

    assert made.starts == (0, 4)
    assert made.exchange_s <= 4 * 4e6 / 1e5


def test_of_plans_that_are_nearly_as_good_the_one_wins_that_can_lose_a_replica() -> None:
    made = plan(_workload([1.0] * 8), [STRONG] * 8, n_stages=4)

    assert [len(stage.machines) for stage in made.stages] == [2, 2, 2, 2]


def _workload(flops: list[float], *, output_bytes: float = 0.0, parameters: int = 0) -> Workload:
    layers = tuple(
        LayerLoad(name=str(i), flops=value, output_bytes=output_bytes, parameters={str(i): parameters})
        for i, value in enumerate(flops)
    )
    return Workload(layers=layers, input_bytes=8.0, batch_samples=64, microbatch_samples=1, overhead_bytes=0.0)


def _best_rate(workload: Workload, machines: list[Machine], n_stages: int) -> float:
    """By trying every cut and every assignment."""
    n = len(workload.layers)
    best = 0.0
    for rest in itertools.combinations(range(1, n), n_stages - 1):
        bounds = (0, *rest, n)
        flops = [
            (3 if j == n else 4) * sum(layer.flops for layer in workload.layers[i:j])
            for i, j in itertools.pairwise(bounds)
        ]
        for assigned in itertools.product(range(n_stages), repeat=len(machines)):
            speeds = [0.0] * n_stages
            for machine, stage in zip(machines, assigned, strict=True):
                speeds[stage] += machine.flops_per_s
            best = max(best, min(speed / need for speed, need in zip(speeds, flops, strict=True)))
    return best
