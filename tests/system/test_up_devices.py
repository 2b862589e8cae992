"""Real gateways, peers and devices on this machine, over TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch

from gossamer.tasks.digits import Digits

from .swarms import gossamer, up

pytestmark = pytest.mark.system


@pytest.mark.timeout(170)
def test_gateway_and_a_device_killed_in_mid_run_go_on_and_lose_nothing(tmp_path: Path) -> None:
    arguments = ("--task", "digits", "--devices", "3", "--method", "baffle", "--K", "20", "--rounds", "60")

    kills = ("--kill", "0@15:restart", "--kill", "device:1@35:restart")

    summary = up(*arguments, *kills, out=tmp_path / "run")

    assert summary["killed"] == {"0": 1}
    assert summary["killed_devices"] == {"1": 1}
    assert summary["steps"] == 60
    assert len(summary["model_hashes"]) == 1
    assert summary["n_model_hashes_from"] == 4
    first, killed, last = summary["rounds_counted_by_device"]  # in this life of each
    assert first == last == 60
    assert 0 < killed < 60
    assert summary["eval_loss"] < 0.9 * summary["eval_loss_start"]
    assert summary["uplink_bytes_per_device_per_round"] <= 4 * 20 + 256
    # Greetings after the gateway's death, and what a device missed, come on top of 4 K bytes for each of three devices.
    assert summary["downlink_bytes_per_device_per_round"] <= 4 * 20 * 3 + 320
    exported = gossamer("export", str(tmp_path / "run"), str(tmp_path / "model.safetensors"))
    assert exported.returncode == 0, exported.stderr
    task, model = Digits(options={}), Digits(options={}).build_model(0)
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    assert task.evaluate(model).loss == pytest.approx(summary["eval_loss"], rel=1e-5)


@pytest.mark.timeout(170)
def test_peer_that_backpropagates_and_devices_that_cannot_train_one_model(tmp_path: Path) -> None:
    arguments = ("--task", "digits", "--peers", "1", "--devices", "2", "--method", "baffle", "--K", "20")

    summary = up(*arguments, "--rounds", "12", out=tmp_path / "run")

    assert summary["steps"] == 12
    assert len({*summary["state_digests"].values()}) == 1
    assert len(summary["model_hashes"]) == 1
    assert 0 < summary["shares"]["devices"] < summary["shares"]["peers"]


def test_devices_need_a_method_that_has_a_use_for_them(tmp_path: Path) -> None:
    done = gossamer("up", "--devices", "2", "--method", "demo", "--out", str(tmp_path / "run"))

    assert done.returncode == 2
    assert "choose one of baffle, federated, fixedpoint" in done.stderr


def test_more_devices_that_backpropagate_than_there_are_are_refused(tmp_path: Path) -> None:
    options = ("--devices", "2", "--method", "federated", "--backprop", "5")
    done = gossamer("up", *options, "--out", str(tmp_path / "run"))

    assert (done.returncode, done.stderr) == (
        2,
        "gossamer: usage: --backprop 5 of --devices 2: there are not so many\n",
    )


def test_a_run_whose_state_is_rounded_for_newcomers_takes_no_devices(tmp_path: Path) -> None:
    options = ("--devices", "2", "--method", "baffle", "--set", "group.snapshot_codec=int8")
    done = gossamer("up", *options, "--out", str(tmp_path / "run"))

    assert done.returncode == 2
    assert "group.snapshot_codec must be fp32" in done.stderr
    assert not (tmp_path / "run").exists()
