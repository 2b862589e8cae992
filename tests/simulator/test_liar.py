"""What liars send, and what becomes of a run in which one of five peers lies."""

from __future__ import annotations

import functools
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gossamer.algorithms import Method, OptionValue, Schedule, Slots, build_method
from gossamer.simulator.faults import Lie
from gossamer.simulator.liar import Liar, Told
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of

LIAR = 4
HARMFUL = 0.07
"""Nats of held-out loss."""

NOTHING = np.empty(0, np.float32)
PLAIN: dict[str, OptionValue] = {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0}

# ------------------------------------------------------------------------------------------------------ what they send


def _method(name: str = "allreduce", **options: OptionValue) -> Method:
    options = {**(PLAIN if name == "allreduce" else {}), **options}
    return build_method(name, {"p": torch.zeros(4)}, options, Schedule(lr=0.1))


def _lie(method: Method, **lie: Any) -> Told:
    told = Told(fault=Lie.model_validate(lie), key=1)
    Liar.of(method).told.append(told)
    return told


def _sent(method: Method, gradient: tuple[float, ...] = (1.0, 2.0, 0.0, -2.0), n_samples: int = 2) -> list[float]:
    method.accumulate({"p": torch.tensor(gradient)}, n_samples)
    payload = method.encode(NOTHING)
    method.check(payload)
    return _values(payload)


def _values(payload: bytes) -> list[float]:
    return [float(value) for value in np.frombuffer(payload, np.float32)]


@pytest.mark.parametrize(
    ("lie", "sent"),
    [
        ({"attack": "sign_flip"}, [-2, -4, 0, 4, 2]),
        ({"attack": "scale", "factor": 1000}, [2000, 4000, 0, -4000, 2]),
        ({"attack": "scale", "factor": -1000}, [-2000, -4000, 0, 4000, 2]),
        ({"attack": "zero"}, [0, 0, 0, 0, 2]),
        ({"attack": "constant", "value": -50}, [-50, -50, -50, -50, 2]),
        ({"attack": "constant", "value": 2.0**99}, [2.0**99] * 4 + [2]),
        ({"attack": "claim", "factor": 1000}, [2000, 4000, 0, -4000, 2000]),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_dense_contribution_is_altered_as_it_is_sent(lie: dict[str, Any], sent: list[float]) -> None:
    method = _method()

    _lie(method, **lie)

    assert _sent(method) == sent


def test_noise_is_as_long_as_what_it_stands_for() -> None:
    method = _method()

    _lie(method, attack="noise")
    *noise, n_samples = _sent(method)

    assert math.hypot(*noise) == pytest.approx(6.0)
    assert (noise == [2, 4, 0, -4], n_samples) == (False, 2)
    assert _values(method.encode(NOTHING)) == [*noise, n_samples]
    method.accumulate({"p": torch.ones(4)}, 1)
    assert _values(method.encode(NOTHING))[0] != noise[0]


def test_a_peer_may_tell_several_lies_and_stop_them_in_any_order() -> None:
    method = _method()

    flip, claim = _lie(method, attack="sign_flip"), _lie(method, attack="claim", factor=10)
    both = _sent(method)
    Liar.of(method).stop(flip)
    one = _values(method.encode(NOTHING))
    Liar.of(method).stop(claim)

    assert both == [-20, -40, 0, 40, 20]
    assert one == [20, 40, 0, -40, 20]
    assert _values(method.encode(NOTHING)) == [2, 4, 0, -4, 2]


def test_the_books_of_what_a_codec_dropped_stay_honest() -> None:
    liar, honest = _method(codec="int8"), _method(codec="int8")

    _lie(liar, attack="scale", factor=1000)
    for method in (liar, honest):
        method.accumulate({"p": torch.tensor([1.0, 0.003, 0.0, -0.5])}, 2)
        method.combine([honest.encode(NOTHING)], mine=0, step=0, slots=Slots.everybody(1))

    assert torch.equal(liar.local_state()["pending"], honest.local_state()["pending"])


@pytest.mark.parametrize(("lie", "times"), [({"factor": 1000}, 1000), ({"factor": -1000}, -1000)])
def test_a_sparse_contribution_is_scaled_after_the_clip(lie: dict[str, Any], times: int) -> None:
    methods = [_method("demo", value_bits=32) for _ in range(2)]

    _lie(methods[0], attack="scale", **lie)
    for method in methods:
        method.accumulate({"p": torch.tensor([30.0, 40.0, 0.0, 0.0])}, 8)

    liar, honest = (method.local_state()["momentum"] for method in methods)
    assert float(honest.norm()) == pytest.approx(0.1)  # the rate times the clipped norm
    assert torch.allclose(liar, times * honest)


def test_constants_that_no_gradient_has_are_sent_by_sparse_methods_too() -> None:
    method = _method("demo")

    _lie(method, attack="constant", value=-1e30)
    method.accumulate({"p": torch.ones(4)}, 8)

    method.check(method.encode(NOTHING))
    assert float(method.local_state()["momentum"].min()) < -1e22


# ------------------------------------------------------------------------------------------------- what becomes of it


@functools.cache
def _ending(method: str, rule: str, *lies: tuple[str, float]) -> tuple[float, str]:
    """The held-out loss in the end, and the state's digest."""
    told = [{"attack": attack, **_size(attack, size)} for attack, size in lies]
    run: dict[str, Any] = {"method": method, "method_options": {"combine": rule}, "steps": 30}
    if method == "allreduce":
        run.update(method_options={**PLAIN, "clip": 1.0, "aggregate": rule}, steps=20, lr=0.5, batch=32)
    tables = {
        "name": "test",
        "seed": 1,
        "run": {**run, "evaluate_every": run["steps"]},
        "fleet": {"peers": LIAR + 1, "flops_per_s": 1e7},
        "faults": [{"kind": "lie", "peers": [LIAR], **lie} for lie in told],
        "expect": {"steps_min": run["steps"], "finished_min": LIAR + 1},
    }
    with tempfile.TemporaryDirectory() as folder:
        played = play(scenario_of(tables), Path(folder))
    assert played.violations == ()
    (digest,) = played.summary["state_digests"]
    return float(played.summary["eval_loss"]), str(digest)


def _size(attack: str, size: float) -> dict[str, float]:
    return {"scale": {"factor": size}, "claim": {"factor": size}, "constant": {"value": size}}.get(attack, {})


@pytest.mark.scenario
@pytest.mark.parametrize(
    ("method", "attack", "size", "rule"),
    [
        ("allreduce", "sign_flip", 0, "multikrum"),
        ("allreduce", "scale", 1000, "trimmed"),
        ("allreduce", "scale", -1000, "multikrum"),
        ("allreduce", "noise", 0, "clip"),
        ("allreduce", "zero", 0, "clip"),
        ("allreduce", "constant", -50, "median"),
        ("allreduce", "constant", 1e30, "multikrum"),
        ("allreduce", "claim", 1024, "median"),
        ("demo", "sign_flip", 0, "reject"),
        ("demo", "scale", 1000, "normclip"),
        ("demo", "scale", -1000, "reject"),
        ("demo", "constant", -50, "vote"),
        ("demo", "constant", 1e30, "vote"),
    ],
)
def test_a_lie_that_harms_the_mean_does_little_to_a_robust_rule(
    method: str, attack: str, size: float, rule: str
) -> None:
    plain = "mean" if method == "allreduce" else "senders"
    honest_plain, honest_digest = _ending(method, plain)
    honest_robust, _ = _ending(method, rule)

    told_plain, digest = _ending(method, plain, (attack, size))
    told_robust, _ = _ending(method, rule, (attack, size))

    assert digest != honest_digest
    assert told_plain - honest_plain > HARMFUL
    assert told_robust - honest_robust < (told_plain - honest_plain) / 2


@pytest.mark.scenario
def test_claiming_many_samples_buys_no_weight_under_a_robust_rule() -> None:
    assert _ending("allreduce", "median", ("claim", 1024)) == _ending("allreduce", "median")


@pytest.mark.scenario
def test_a_claim_gives_weight_to_another_lie() -> None:
    flipped, _ = _ending("allreduce", "mean", ("sign_flip", 0))

    claimed, _ = _ending("allreduce", "mean", ("sign_flip", 0), ("claim", 1024))

    assert claimed > flipped + 1


@pytest.mark.scenario
def test_how_long_a_sparse_lie_is_makes_a_difference() -> None:
    endings = {_ending("demo", "senders", *lies) for lies in ((), (("sign_flip", 0),), (("scale", -1000),))}

    assert len(endings) == 3
