"""The task `fashion`, on small files of the same format."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from gossamer.tasks import BadData, MissingData, build_task, shard
from gossamer.tasks.fashion import DEBIAN_DIR, Fashion
from gossamer.tasks.idx import read_idx


def _idx(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def _write_data(folder: Path, *, compressed: bool, n_train: int = 40, n_test: int = 20) -> None:
    """Pictures whose class is the row that is lit."""
    for split, n in (("train", n_train), ("t10k", n_test)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = np.zeros((n, 28, 28), np.uint8)
        images[np.arange(n), 2 * labels + 4] = 255
        for name, array in ((f"{split}-images-idx3-ubyte", images), (f"{split}-labels-idx1-ubyte", labels)):
            content = _idx(array)
            path = folder / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(content) if compressed else content)


@pytest.mark.parametrize("compressed", [True, False])
def test_it_learns_from_a_folder_of_idx_files(tmp_path: Path, compressed: bool) -> None:
    _write_data(tmp_path, compressed=compressed)
    task = build_task("fashion", {"channels": 2}, data=tmp_path)
    model = task.build_model(0)
    batch = shard(seed=0, round_index=0, n_members=2, slot=1, batch_size=8, n_train=task.n_train)

    loss = task.loss(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]

    assert task.n_train == 40
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    accuracy = task.evaluate(model).accuracy
    assert accuracy is not None
    assert 0 <= accuracy <= 1


def test_mlp_sees_rounded_means_of_two_by_two_pixels(tmp_path: Path) -> None:
    _write_data(tmp_path, compressed=False)
    images = np.zeros((10, 28, 28), np.uint8)
    images[:, :2, :2] = [[10, 11], [11, 11]]  # 10.75
    images[:, 27, 26:] = [1, 1]  # a half, upwards
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(_idx(images))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(_idx(np.arange(10, dtype=np.uint8)))

    task = build_task("fashion", Fashion.for_devices, data=tmp_path)
    assert isinstance(task, Fashion)

    picture = task.held_out.inputs[3]
    assert [int(picture[place]) for place in (0, 1, 195)] == [11, 0, 1]
    assert sum(p.numel() for p in task.build_model(0).parameters()) == 196 * 32 + 32 + 32 * 10 + 10


def test_compressed_or_not_the_fingerprint_is_the_same(tmp_path: Path) -> None:
    prints = []
    for compressed in (True, False):
        folder = tmp_path / str(compressed)
        folder.mkdir()
        _write_data(folder, compressed=compressed)
        prints.append(build_task("fashion", {}, data=folder).fingerprint())

    assert prints[0] == prints[1]


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    _write_data(tmp_path, compressed=True)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()

    with pytest.raises(MissingData, match=r"t10k-labels.*apt-get install.*--data DIR"):
        build_task("fashion", {}, data=tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (np.zeros((3, 28, 27), np.uint8), np.zeros(3, np.uint8), "expected"),
        (np.zeros((3, 28, 28), np.uint8), np.zeros(2, np.uint8), "expected"),
        (np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8), "expected"),
        (np.zeros((3, 28, 28), np.uint8), np.full(3, 10, np.uint8), "label 10"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    tmp_path: Path,
    images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    labels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    reason: str,
) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(_idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(_idx(labels))

    with pytest.raises(BadData, match=reason):
        build_task("fashion", {}, data=tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x0d\x01\0\0\0\x01\0",
        b"\0\0\x08\x00",
        b"\0\0\x08\x05" + bytes(40),
        b"\0\0\x08\x02\0\0\0\x01",
        b"\0\0\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\x08\x01\0\0\0\x02\0",
        b"\0\0\x08\x01\0\0\0\x02\0\0\0",
    ],
)
def test_bytes_that_are_no_idx_file_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    with pytest.raises(BadData, match="file"):
        read_idx(path)


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(_idx(np.arange(200, dtype=np.uint8)))
    path = tmp_path / "file.gz"

    for damaged in (whole[:-9], b"plain", whole[:20] + b"\xff\xff" + whole[22:]):
        path.write_bytes(damaged)
        with pytest.raises(BadData, match="fetch it again"):
            read_idx(path)


@pytest.mark.skipif(not DEBIAN_DIR.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_it_learns_from_the_files_of_the_debian_package() -> None:
    task = build_task("fashion", {"channels": 4})
    model = task.build_model(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = task.evaluate(model)

    for round_index in range(30):
        batch = shard(seed=0, round_index=round_index, n_members=1, slot=0, batch_size=32, n_train=task.n_train)
        optimizer.zero_grad()
        task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = task.evaluate(model)

    assert task.n_train == 60_000
    assert before.accuracy is not None
    assert after.accuracy is not None
    assert after.accuracy > 0.4 > before.accuracy
