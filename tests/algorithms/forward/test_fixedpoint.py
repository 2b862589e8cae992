"""Fixed-point forward gradients against the vectors of their specification, and engine against engine."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer.algorithms.forward.fixedpoint as package
from gossamer.algorithms.errors import BadPayload
from gossamer.algorithms.forward import BadPlan, Network, NumpyEngine, PerturbationStream, lenet_b, mlp
from gossamer.algorithms.forward.fixedpoint import (
    FixedPointOptions,
    IntegerBatch,
    IntegerEngine,
    IntegerReplica,
    Kernel,
    NumpyKernel,
    OnnxKernel,
    Plan,
    VotePart,
    VoteReplay,
    cast_votes,
    decode_votes,
    encode_votes,
    pixels_to_activations,
)
from gossamer.algorithms.forward.fixedpoint.arithmetic import (
    WEIGHT_MAX,
    average,
    clamp,
    displacement,
    requantise,
    split,
    to_logits,
)
from gossamer.algorithms.forward.fixedpoint.calibrate import multiplier_and_shift
from gossamer.algorithms.forward.fixedpoint.loss import cross_entropies
from gossamer.algorithms.forward.fixedpoint.tables import SHA256, tables
from gossamer.algorithms.forward.fixedpoint.training import perturb
from gossamer.algorithms.forward.network import Conv, Flatten, Hardswish, Linear

from .devices import RUN_ID, seed_of
from .fixedpoint_cases import CONV, MLP, POOLED, calibrated, integer_batch, vote_round

I16 = npt.NDArray[np.int16]
NETWORKS = [MLP, CONV, POOLED]
OPTIONS = FixedPointOptions(n_rounds=50)


def test_the_tables_are_the_specified_ones() -> None:
    assert tables().digest() == SHA256


@pytest.mark.parametrize(
    ("logits", "label", "loss"),
    [([4096, 0, -4096], 0, 26_712), ([40_960, -40_960, 0], 1, 1_310_723), ([0, 0, 0], 2, 71_999)],
)
def test_loss_vectors(logits: list[int], label: int, loss: int) -> None:
    assert cross_entropies(np.array([logits]), np.array([label])).tolist() == [loss]


@given(st.lists(st.integers(-(2**17), 2**17), min_size=2, max_size=12), st.data())
def test_the_integer_loss_is_within_4e_5_nats(logits: list[int], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(logits) - 1))

    found = int(cross_entropies(np.array([logits]), np.array([label]))[0]) / 2**16

    z = [logit / 2**12 for logit in logits]
    exact = max(z) + math.log(math.fsum(math.exp(value - max(z)) for value in z)) - z[label]
    assert abs(found - exact) <= 4e-5


def test_split_and_requantise_vectors() -> None:
    weights = np.array([300, -200, 32_639], np.int16)

    high, low = split(weights)
    activations = np.array([[127, 3, 127]], np.uint8)
    sums = [NumpyKernel().multiply(activations, half[:, None]) for half in (high, low)]
    accumulator = 256 * sums[0] + sums[1]

    assert high.tolist() == [1, -1, 127]
    assert low.tolist() == [44, 56, 127]
    assert accumulator.tolist() == [[4_182_653]]
    assert requantise(accumulator, 18_118, 32).tolist() == [[18]]


@given(st.integers(-WEIGHT_MAX, WEIGHT_MAX))
def test_two_signed_bytes_hold_every_weight(weight: int) -> None:
    high, low = split(np.array([weight], np.int16))

    assert 256 * int(high[0]) + int(low[0]) == weight
    assert -127 <= high[0] <= 127


@pytest.mark.parametrize(
    ("update", "total", "moved"), [(5993, 7, 164), (5993, -7, -164), (4, 31, 0), (4, 32, 1), (4, -32, 0), (4, -33, -1)]
)
def test_update_vectors(update: int, total: int, moved: int) -> None:
    assert displacement(update, np.array([total])).tolist() == [moved]


def test_negative_sums_are_cut_and_logits_shift_arithmetically() -> None:
    sums = np.array([-(2**40), -3, 0, 2**40], np.int64)

    assert requantise(sums, 2**14, 15).tolist() == [0, 0, 0, 127]
    assert to_logits(sums, 2**14, 15).tolist() == [-(2**17), -1, 0, 2**17]


def test_pixels_become_activations_of_seven_bits() -> None:
    assert pixels_to_activations(np.array([0, 1, 2, 127, 128, 254, 255], np.uint8)).tolist() == [
        0,
        1,
        1,
        64,
        64,
        127,
        127,
    ]


def test_averages_round_half_up() -> None:
    images = np.array([[[[1], [2]]], [[[1], [1]]], [[[127], [127]]]], np.uint8)

    assert average(images).tolist() == [[2], [1], [127]]


def _accumulate_naively(weights: list[list[int]], x: list[int]) -> list[int]:
    return [sum(w * a for w, a in zip(row, [*x, 127], strict=True)) for row in weights]


def test_an_mlp_equals_python_integers() -> None:
    plan, weights = calibrated(MLP, OPTIONS)
    batch = integer_batch(MLP, 3)

    logits = IntegerEngine(plan, NumpyKernel()).logits(weights, batch.inputs)

    matrices = [weights[m.start : m.stop].reshape(m.shape).tolist() for m in plan.matrices()]
    for sample, found in zip(batch.inputs.tolist(), logits.tolist(), strict=True):
        first, last = plan.layers
        hidden = [
            min(127, (max(acc, 0) * first.multiplier + 2 ** (first.shift - 1)) >> first.shift)
            for acc in _accumulate_naively(matrices[0], sample)
        ]
        expected = [
            max(-(2**17), min(2**17, (acc * last.multiplier + 2 ** (last.shift - 1)) >> last.shift))
            for acc in _accumulate_naively(matrices[1], hidden)
        ]
        assert found == expected


@pytest.mark.parametrize("network", NETWORKS)
def test_integer_logits_follow_the_float_network(network: Network) -> None:
    plan, weights = calibrated(network, OPTIONS)
    batch = integer_batch(network, 20)

    logits = IntegerEngine(plan, NumpyKernel()).logits(weights, batch.inputs) / 2**12

    floats = NumpyEngine(network).logits(_float_weights(plan, weights), (batch.inputs * np.float32(2 / 255)))
    assert np.corrcoef(logits.reshape(-1), floats.reshape(-1))[0, 1] > 0.995


@pytest.mark.parametrize("network", NETWORKS)
def test_numpy_and_onnxruntime_agree_bit_for_bit(network: Network) -> None:
    pytest.importorskip("onnxruntime")
    plan, calibrated_weights = calibrated(network, OPTIONS)
    rng = np.random.default_rng(0)
    extreme = rng.choice(np.array([-WEIGHT_MAX, WEIGHT_MAX, -128, 127, 0], np.int16), plan.n_weights)
    loud = IntegerBatch(inputs=np.full((4, *network.input_shape), 127, np.uint8), labels=np.zeros(4, np.int64))
    kernels: list[Kernel] = [NumpyKernel(), OnnxKernel()]

    for weights in (calibrated_weights, extreme, np.full(plan.n_weights, WEIGHT_MAX, np.int16)):
        for batch in (integer_batch(network, 7), loud):
            by_numpy, by_onnx = (IntegerEngine(plan, kernel).logits(weights, batch.inputs) for kernel in kernels)
            assert by_numpy.tobytes() == by_onnx.tobytes()


@pytest.mark.parametrize("columns", [1, 3, 64])
@pytest.mark.parametrize("n", [1, 2, 197, 4097])
def test_kernels_do_not_saturate(n: int, columns: int) -> None:
    pytest.importorskip("onnxruntime")
    activations = np.full((3, n), 127, np.uint8)
    weights = np.full((n, columns), -127, np.int8)

    for kernel in (NumpyKernel(), OnnxKernel()):
        assert np.unique(kernel.multiply(activations, weights)).tolist() == [-127 * 127 * n]


@pytest.mark.parametrize("network", [MLP, CONV])
def test_both_engines_train_to_the_same_bytes(network: Network) -> None:
    pytest.importorskip("onnxruntime")
    plan, start = calibrated(network, OPTIONS)
    parts = [integer_batch(network, 4, seed) for seed in range(3)]
    digests = []

    for kernel in (NumpyKernel(), OnnxKernel()):
        replica, engine = IntegerReplica(start, plan, RUN_ID), IntegerEngine(plan, kernel)
        for _ in range(12):
            vote_round(engine, replica, parts)
        digests.append(replica.digest())

    assert digests[0] == digests[1] != IntegerReplica(start, plan, RUN_ID).digest()


def test_devices_that_replay_votes_hold_the_gateways_weights() -> None:
    plan, start = calibrated(MLP, OPTIONS)
    gateway, device = IntegerReplica(start, plan, RUN_ID), IntegerReplica(start, plan, RUN_ID)
    engine, parts = IntegerEngine(plan, NumpyKernel()), [integer_batch(MLP, 4, seed) for seed in range(3)]

    for _ in range(20):
        device.apply(VoteReplay.from_bytes(vote_round(engine, gateway, parts).to_bytes(), n_votes=3))

    assert device.digest() == gateway.digest()
    with pytest.raises(BadPayload, match="cannot follow"):
        device.apply(VoteReplay(step=3, parts=()))


def test_a_submission_is_audited_by_recomputing_it() -> None:
    plan, weights = calibrated(MLP, OPTIONS)
    batch, engine = integer_batch(MLP, 8), IntegerEngine(plan, NumpyKernel())
    stream = PerturbationStream(seed_of(4), RUN_ID)

    votes = cast_votes(engine, weights, batch, stream.at(round_index=4, slot=1, n=plan.n_weights))

    n_forwards = engine.n_forwards
    again = cast_votes(engine, weights, batch, stream.at(round_index=4, slot=1, n=plan.n_weights))
    other = [
        cast_votes(engine, weights, batch, stream.at(round_index=5 + i, slot=1, n=plan.n_weights)) for i in range(6)
    ]
    assert n_forwards == 2 * plan.n_votes
    assert votes.tobytes() == again.tobytes()
    assert any(votes.tobytes() != row.tobytes() for row in other)


def test_a_vote_follows_the_sign_of_the_loss_difference() -> None:
    plan, weights = calibrated(MLP, OPTIONS)
    batch, engine = integer_batch(MLP, 8), IntegerEngine(plan, NumpyKernel())
    directions = PerturbationStream(seed_of(0), RUN_ID).at(round_index=0, slot=0, n=plan.n_weights)

    votes = cast_votes(engine, weights, batch, directions)

    for vote, z in zip(votes, directions.signs(range(3)), strict=True):
        losses = [engine.loss(perturb(plan, weights, z, side), batch) for side in (1, -1)]
        assert vote == np.sign(losses[0] - losses[1])


def test_perturbed_weights_are_clamped() -> None:
    plan, _ = calibrated(MLP, OPTIONS)
    weights = np.full(plan.n_weights, WEIGHT_MAX - 1, np.int16)

    above = perturb(plan, weights, np.ones(plan.n_weights, np.int8), 1)

    assert np.unique(above).tolist() == [WEIGHT_MAX]
    assert clamp(np.array([-40_000, 40_000])).tolist() == [-WEIGHT_MAX, WEIGHT_MAX]


def test_eight_bit_weights_freeze_where_sixteen_bits_move() -> None:
    parts = [integer_batch(MLP, 4, seed) for seed in range(10)]
    moved = []

    for weight_max in (127, WEIGHT_MAX):
        plan, start = calibrated(MLP, FixedPointOptions(n_rounds=50, eta=0.005, weight_max=weight_max))
        replica, engine = IntegerReplica(start, plan, RUN_ID), IntegerEngine(plan, NumpyKernel())
        for _ in range(5):
            vote_round(engine, replica, parts)
        moved.append(replica.weights.tobytes() != start.tobytes())

    assert moved == [False, True]


def test_frozen_layers_stay_as_they_are() -> None:
    plan, start = calibrated(MLP, FixedPointOptions(n_rounds=50, frozen=(0,)))
    replica, engine = IntegerReplica(start, plan, RUN_ID), IntegerEngine(plan, NumpyKernel())

    for _ in range(5):
        vote_round(engine, replica, [integer_batch(MLP, 4)])

    cut = plan.matrices()[0].stop
    assert replica.weights[:cut].tobytes() == start[:cut].tobytes()
    assert replica.weights[cut:].tobytes() != start[cut:].tobytes()


def test_updates_shrink_to_nothing_over_the_run() -> None:
    plan, _ = calibrated(MLP, FixedPointOptions(n_rounds=4, eta=0.05))
    full = plan.layers[0].update

    assert [plan.update_at(0, step) for step in range(6)] == [
        full,
        (full * 49_152 + 32_768) >> 16,
        (full * 32_768 + 32_768) >> 16,
        (full * 16_384 + 32_768) >> 16,
        0,
        0,
    ]


@given(st.lists(st.integers(-1, 1), max_size=40))
def test_votes_come_back_from_a_fifth_of_a_byte_each(votes: list[int]) -> None:
    payload = encode_votes(np.array(votes, np.int8))

    assert len(payload) == (len(votes) + 4) // 5
    assert decode_votes(payload, len(votes)).tolist() == votes


@pytest.mark.parametrize(("payload", "n"), [(b"\xf3", 5), (b"\xff", 5), (b"", 1), (b"\0\0", 5), (b"\x1b", 3)])
def test_payloads_that_are_no_votes_are_refused(payload: bytes, n: int) -> None:
    with pytest.raises(BadPayload):
        decode_votes(payload, n)


@given(st.binary(max_size=80), st.integers(1, 255))
@settings(max_examples=200)
def test_random_bytes_are_no_vote_replay_or_read(data: bytes, n_votes: int) -> None:
    try:
        replay = VoteReplay.from_bytes(data, n_votes=n_votes)
    except BadPayload:
        return
    assert replay.to_bytes() == data


def test_a_vote_replay_survives_the_wire() -> None:
    parts = tuple(
        VotePart(
            round_seed=seed_of(r), round_index=r, n_slots=9, slots=(1, 8), votes=np.array([[1, 0, -1]] * 2, np.int8)
        )
        for r in (3, 4)
    )

    again = VoteReplay.from_bytes(VoteReplay(step=7, parts=parts).to_bytes(), n_votes=3)

    assert again.step == 7
    assert [(p.round_index, p.slots, p.votes.tolist()) for p in again.parts] == [
        (r, (1, 8), [[1, 0, -1]] * 2) for r in (3, 4)
    ]
    swapped = VoteReplay(step=7, parts=parts[::-1]).to_bytes()
    with pytest.raises(BadPayload, match="ascend"):
        VoteReplay.from_bytes(swapped, n_votes=3)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_plan_survives_json(network: Network) -> None:
    plan, _ = calibrated(network, OPTIONS)

    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def _plain(**changes: Any) -> dict[str, Any]:
    return {**calibrated(MLP, OPTIONS)[0].to_dict(), **changes}


def _layer(**changes: Any) -> dict[str, Any]:
    return {"multiplier": 2**14, "shift": 20, "perturbation": 1, "update": 1, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": [_layer()]},
        {"layers": [_layer(), _layer(multiplier=2**15)]},
        {"layers": [_layer(), _layer(shift=0)]},
        {"layers": [_layer(), _layer(shift=63)]},
        {"layers": [_layer(), _layer(perturbation=-1)]},
        {"layers": [_layer(), _layer(update=2**40)]},
        {"layers": [_layer(), _layer(update=1.0)]},
        {"layers": [_layer(), _layer(surplus=1)]},
        {"layers": [_layer(), 3]},
        {"n_rounds": 0},
        {"n_votes": True},
        {"surplus": 1},
        {"network": 5},
        {"network": mlp(2**16, 2, 10).to_dict()},
        {"network": lenet_b().to_dict()},
        {"network": Network(input_shape=(1, 4, 4), layers=(Flatten(), Linear(16, 9), Linear(9, 2))).to_dict()},
        {"network": Network(input_shape=(1, 4, 4), layers=(Conv(1, 1, 4), Flatten())).to_dict()},
        {"network": Network(input_shape=(9,), layers=(Hardswish(), Linear(9, 9))).to_dict()},
    ],
)
def test_plans_that_could_overflow_or_that_nobody_knows_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadPlan):
        Plan.from_dict(_plain(**changes))


@pytest.mark.parametrize("scale", [1.0, 4.6e-5, 0.004, 3.999999, 2**-14.0, 1e-9])
def test_a_scale_is_met_to_fifteen_bits(scale: float) -> None:
    multiplier, shift = multiplier_and_shift(scale)

    assert 2**14 <= multiplier < 2**15
    assert multiplier / 2**shift == pytest.approx(scale, rel=2**-14)


def test_no_float_on_the_device() -> None:
    """Every module but the owner's `calibrate` names no float type, has no float literal and no true division."""
    for path in sorted(Path(package.__file__).parent.glob("*.py")):
        if path.stem == "calibrate":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not isinstance(node, ast.Div), path
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), path
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            assert name not in {"float", "float16", "float32", "float64", "mean", "sqrt", "true_divide"}, (path, name)


def _float_weights(plan: Plan, weights: I16) -> npt.NDArray[np.float32]:
    """The float network that `calibrated` started from has these weights, up to rounding."""
    rng = np.random.default_rng(0)
    from gossamer.algorithms.forward.initialise import initial_weights

    floats = initial_weights(plan.network, rng)
    for parameter in plan.network.parameters():
        if len(parameter.shape) == 1:
            floats[parameter.start : parameter.stop] = 0.1 * rng.standard_normal(parameter.size)
    assert len(weights) == len(floats)
    return floats
