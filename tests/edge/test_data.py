"""A device's own samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossamer.algorithms.forward import mlp
from gossamer.edge.data import DeviceData, load_data
from gossamer.protocol.errors import UsageError

INPUTS = np.arange(24, dtype=np.float32).reshape(6, 4)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_folder_and_file_hold_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", INPUTS)
    np.save(tmp_path / "labels.npy", LABELS.astype(np.uint8))
    np.savez(tmp_path / "data.npz", inputs=INPUTS, labels=LABELS)

    folder, file = load_data(str(tmp_path)), load_data(str(tmp_path / "data.npz"))

    assert isinstance(folder.inputs, np.memmap)
    for data in (folder, file):
        assert data.inputs.tolist() == INPUTS.tolist()
        assert data.labels.tolist() == LABELS.tolist()
        assert data.labels.dtype == np.int64


def loader() -> tuple[object, object]:
    return INPUTS, LABELS


def test_loader_of_ones_own_is_called() -> None:
    assert len(load_data(f"{__name__}:loader")) == 6


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (INPUTS.astype(float), LABELS),
        (INPUTS, LABELS[:5]),
        (INPUTS, LABELS - 1),
        (INPUTS, LABELS * 0.5),
        (INPUTS[:0], []),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, inputs: object, labels: object) -> None:
    np.savez(tmp_path / "data.npz", inputs=np.asarray(inputs), labels=np.asarray(labels))

    with pytest.raises(UsageError):
        load_data(str(tmp_path / "data.npz"))


@pytest.mark.parametrize("bad", [0, 3, 699_999])
def test_a_sample_that_is_not_finite_is_named(tmp_path: Path, bad: int) -> None:
    inputs = np.zeros((700_000, 1, 2), np.float32)
    inputs[bad, 0, 1] = np.nan if bad else np.inf
    np.save(tmp_path / "inputs.npy", inputs)
    np.save(tmp_path / "labels.npy", np.zeros(700_000, np.uint8))

    with pytest.raises(UsageError, match=f"sample {bad} holds a value that is not finite"):
        load_data(str(tmp_path))


def test_pickles_are_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", inputs=np.array([object()]), labels=np.array([0]))

    with pytest.raises(UsageError, match="cannot be read"):
        load_data(str(tmp_path / "data.npz"))


def test_nothing_there_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.npz"):
        load_data(str(tmp_path / "nowhere.npz"))


def test_batch_follows_from_the_seed() -> None:
    data = DeviceData(inputs=INPUTS, labels=LABELS)

    one, same, other = (data.batch(3, seed=seed) for seed in (b"a", b"a", b"b"))

    assert one.inputs.tolist() == same.inputs.tolist() != other.inputs.tolist()
    assert len({tuple(row) for row in one.inputs}) == 3
    assert len(data.batch(100, seed=b"a")) == 6


def test_bytes_stand_for_fractions_of_one() -> None:
    pixels = np.array([[0, 51, 255], [255, 102, 0]], np.uint8)

    batch = DeviceData(inputs=pixels, labels=LABELS[:2]).batch(2, seed=b"a")

    assert batch.inputs.dtype == np.float32
    assert batch.inputs.tobytes() == (pixels.astype(np.float32) / np.float32(255)).tobytes()


def test_samples_of_another_task_are_refused() -> None:
    data = DeviceData(inputs=INPUTS, labels=LABELS)

    data.check_fits(mlp(4, 3))
    with pytest.raises(UsageError, match="shape"):
        data.check_fits(mlp(5, 3))
    with pytest.raises(UsageError, match="label 2"):
        data.check_fits(mlp(4, 2))
