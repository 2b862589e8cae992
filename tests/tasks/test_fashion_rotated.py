"""The task `fashion-rotated`, on small files of the data's format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from gossamer.peer.gateway.describe import describe
from gossamer.tasks import build_task
from gossamer.tasks.fashion import Fashion
from gossamer.tasks.fashion_rotated import FashionRotated, turn_and_halve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures whose class is the row that is lit."""
    for split, n in (("train", 60), ("t10k", 40)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = np.zeros((n, 28, 28), np.uint8)
        images[np.arange(n), 2 * labels + 4] = 255
        for name, array in ((f"{split}-images-idx3-ubyte", images), (f"{split}-labels-idx1-ubyte", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (tmp_path / name).write_bytes(head + array.tobytes())
    return tmp_path


def task_of(folder: Path, **options: str | int | float) -> FashionRotated:
    task = build_task("fashion-rotated", options, data=folder)
    assert isinstance(task, FashionRotated)
    return task


def test_pictures_that_are_not_turned_are_those_of_the_task_fashion(folder: Path) -> None:
    fashion = build_task("fashion", Fashion.for_devices, data=folder)
    assert isinstance(fashion, Fashion)

    assert torch.equal(task_of(folder, degrees=0.0).train.inputs, fashion.train.inputs)


@pytest.mark.parametrize(("degrees", "quarters"), [(90.0, 1), (180.0, 2), (-90.0, 3)])
def test_quarter_turns_are_exact(degrees: float, quarters: int) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)

    turned = turn_and_halve(pictures, degrees).reshape(5, 14, 14)

    upright = turn_and_halve(pictures, 0.0).reshape(5, 14, 14)
    assert np.array_equal(turned, np.rot90(upright, quarters, axes=(1, 2)))


def test_a_turn_by_twenty_degrees_is_bilinear_with_black_outside() -> None:
    pictures = np.full((1, 28, 28), 255, np.uint8)

    turned = turn_and_halve(pictures, 20.0).reshape(14, 14)

    assert (turned[4:10, 4:10] == 255).all()
    assert turned[0, 0] == turned[0, -1] == turned[-1, 0] == turned[-1, -1] == 0
    assert np.array_equal(turned, turned[::-1, ::-1])


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_start_knows_upright_pictures_and_follows_from_the_seed(folder: Path, network: str) -> None:
    turned = task_of(folder, network=network, pretraining_steps=250, hidden=16)
    upright = task_of(folder, network=network, pretraining_steps=250, hidden=16, degrees=0.0)

    model = turned.build_model(3)

    states = [build.build_model(3).state_dict() for build in (turned, upright)]
    for name, tensor in model.state_dict().items():
        assert all(torch.equal(tensor, state[name]) for state in states)
        assert torch.equal(tensor, (tensor * 1024).round() / 1024)
    accuracies = [task.evaluate(model).accuracy or 0.0 for task in (upright, turned)]
    assert accuracies[0] > 0.9 > accuracies[1]
    fresh = task_of(folder, network=network, pretraining_steps=0, hidden=16, degrees=0.0)
    assert (fresh.evaluate(fresh.build_model(3)).accuracy or 0.0) < 0.5


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_devices_can_build_its_networks(folder: Path, network: str) -> None:
    task = task_of(folder, network=network, pretraining_steps=0)

    described = describe(task, task.build_model(0))

    assert described.input_shape == tuple(task.train.inputs.shape[1:])
    assert described.n_parameters == {"mlp": 13_258, "conv": 5_258}[network]


def test_fingerprints_tell_angles_and_starts_apart(folder: Path) -> None:
    options: list[dict[str, float | int]] = [{}, {"degrees": 30.0}, {"pretraining_steps": 5}]

    assert len({task_of(folder, **chosen).fingerprint() for chosen in options}) == 3
