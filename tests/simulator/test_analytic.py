"""Runs of sizes only: what is held in part weighs what the whole would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossamer.protocol.errors import UsageError
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of

SIZES: dict[str, Any] = {"n_params": 10_000_000, "flops_per_sample": 1e9, "payload_bytes": 8_000_000}


def _summary(folder: Path, *, pipeline: dict[str, Any] | None = None, **sizes: Any) -> dict[str, Any]:
    tables = {
        "name": "sizes",
        "duration_s": 3600,
        "run": {"compute": "analytic", "steps": 3, "strict": True, "evaluate_every": 1000, "sizes": SIZES | sizes},
        "pipeline": pipeline or {},
        "fleet": {"peers": 3, "up_mbit_s": 20},
        "expect": {"steps_min": 3, "finished_min": 3},
    }
    played = play(scenario_of(tables), folder)
    assert played.violations == ()
    return played.summary


@pytest.mark.parametrize("exchange", ["gather", "reduce"])
def test_a_run_that_is_held_in_part_takes_as_long_and_sends_as_much(tmp_path: Path, exchange: str) -> None:
    whole = _summary(tmp_path / "whole", exchange=exchange)
    part = _summary(tmp_path / "part", exchange=exchange, grain=16)

    assert part["round_s_p50"] == pytest.approx(whole["round_s_p50"], rel=0.05)
    assert part["bytes_sent"] == pytest.approx(whole["bytes_sent"], rel=0.01)


def test_activations_weigh_what_a_model_of_their_size_would_pass(tmp_path: Path) -> None:
    summary = _summary(
        tmp_path,
        pipeline={"stages": 3, "microbatches": 6, "activations": "fp16"},
        n_layers=6,
        activation_elements=64_000,
        grain=16,
    )

    # Each sample forward out of two stages and into two, and back: the input again and a gradient into two, one out of
    # two. A trainer asks its own stage without a line.
    samples, passed = summary["samples"], summary["bytes_sent_by_purpose"]["stage/pass-stream"]
    assert passed == pytest.approx(samples * 2 * 64_000 * 10 * 2 / 3, rel=0.1)


def _sized(sizes: dict[str, Any], **tables: Any) -> dict[str, Any]:
    return {"name": "coarse", "run": {"compute": "analytic", "sizes": sizes}, **tables}


def test_headers_of_the_coarsest_grain_are_negligible(tmp_path: Path) -> None:
    offers = []
    for grain in (1, 4):
        tables = _sized({"n_params": 1000, "payload_bytes": 66_000, "grain": grain}, fleet={"peers": 2})
        tables["run"] |= {"steps": 4, "strict": True}
        offers.append(play(scenario_of(tables), tmp_path).summary["bytes_sent_by_purpose"]["round/offer"])

    assert offers[1] == pytest.approx(offers[0], rel=0.02)


@pytest.mark.parametrize(
    ("sizes", "tables", "most"),
    [
        ({"payload_bytes": 94_000, "grain": 6}, {}, 5),
        ({"payload_bytes": 1000, "grain": 2}, {}, 1),
        ({"payload_bytes": 1 << 20, "grain": 17, "exchange": "reduce"}, {"fleet": {"peers": 4}}, 16),
        ({"payload_bytes": 1 << 20, "grain": 33, "n_layers": 2, "activation_elements": 1 << 20},
         {"pipeline": {"stages": 2}}, 32),
        ({"payload_bytes": 1 << 30, "grain": 9, "n_layers": 2, "activation_elements": 1 << 13},
         {"pipeline": {"stages": 2, "activations": "fp16"}}, 8),
    ],
)  # fmt: skip
def test_a_grain_whose_headers_would_count_is_refused_with_the_largest_that_is_fine(
    sizes: dict[str, Any], tables: dict[str, Any], most: int
) -> None:
    with pytest.raises(UsageError, match=f"grain = {sizes['grain']} .*: set it to {most} at most"):
        scenario_of(_sized(sizes, **tables))

    scenario_of(_sized(sizes | {"grain": most}, **tables))


def test_payloads_that_no_memory_holds_need_a_grain() -> None:
    with pytest.raises(UsageError, match="grain"):
        scenario_of({"name": "large", "run": {"compute": "analytic", "sizes": {"payload_bytes": 4 << 30}}})
