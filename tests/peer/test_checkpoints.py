from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gossamer.peer.checkpoints import Checkpoint, list_checkpoints, load, load_newest, save
from gossamer.protocol.errors import CorruptCheckpoint, NoCheckpoint, StateError

_PROCESS = Path(__file__).with_name("checkpoint_process.py")
_FILES = ["manifest.json", "record.json", "model.safetensors", "shared.safetensors", "local.safetensors"]


def checkpoint(step: int = 7) -> Checkpoint:
    return Checkpoint(
        step=step,
        round_index=step + 2,
        model={"z.weight": torch.tensor([[1.5, -2.0]]), "a.bias": torch.tensor([float(step)], dtype=torch.bfloat16)},
        shared={"n_updates": torch.tensor(step), "empty": torch.empty(0, 3)},
        local={"rng": torch.arange(5, dtype=torch.uint8)},
        record={"lineage": "é\u2028", "roster": [["12D3", 1]], "certificate": None},
    )


def flipped(data: bytes, place: int, mask: int) -> bytes:
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def run_process(*arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, str(_PROCESS), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    saved = checkpoint()

    path = save(tmp_path, saved, keep=1)
    loaded = load_newest(tmp_path)

    assert path == loaded.path == tmp_path / "checkpoints" / "00000007"
    assert loaded.rejected == []
    for before, after in [
        (saved.model, loaded.checkpoint.model),
        (saved.shared, loaded.checkpoint.shared),
        (saved.local, loaded.checkpoint.local),
    ]:
        assert list(before) == list(after)
        assert [tensor.dtype for tensor in before.values()] == [tensor.dtype for tensor in after.values()]
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert (loaded.checkpoint.step, loaded.checkpoint.round_index) == (7, 9)
    assert loaded.checkpoint.record == saved.record


def test_views_of_one_buffer_and_transposed_tensors_are_saved(tmp_path: Path) -> None:
    buffer = torch.arange(6.0)
    model = {"left": buffer[:2], "right": buffer[2:].view(2, 2).T}

    save(tmp_path, Checkpoint(step=1, round_index=1, model=model, shared={}, local={}), keep=1)

    assert load_newest(tmp_path).checkpoint.model["right"].tolist() == [[2.0, 4.0], [3.0, 5.0]]


def test_loaded_tensors_can_be_changed_without_touching_the_files(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(), keep=1)

    load_newest(tmp_path).checkpoint.model["z.weight"].zero_()

    assert load_newest(tmp_path).checkpoint.model["z.weight"].tolist() == [[1.5, -2.0]]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, checkpoint(step), keep=2)

    assert names(tmp_path) == ["00000020", "00000030"]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["00000030", "00000020"]


def test_a_step_saved_again_replaces_the_earlier_one(tmp_path: Path) -> None:
    for step in (10, 20, 20, 20):
        save(tmp_path, checkpoint(step), keep=1)

    assert names(tmp_path) == ["00000020.2"]
    assert load_newest(tmp_path).checkpoint.step == 20


def test_later_checkpoints_of_a_history_that_was_given_up_are_removed(tmp_path: Path) -> None:
    for step in (10, 20, 30, 15):
        save(tmp_path, checkpoint(step), keep=3)

    assert names(tmp_path) == ["00000010", "00000015"]


def test_leftovers_are_swept_and_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    for name in (".saving-00000003", ".old-00000002", "notes", "00000001x"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)

    save(tmp_path, checkpoint(10), keep=1)

    assert names(tmp_path) == ["00000001x", "00000010", "notes"]


def test_no_checkpoint_is_told_apart_from_broken_ones(tmp_path: Path) -> None:
    with pytest.raises(NoCheckpoint, match="there is no checkpoint in"):
        load_newest(tmp_path)

    (tmp_path / "checkpoints" / "00000001").mkdir(parents=True)
    with pytest.raises(CorruptCheckpoint, match=r"none of the 1 checkpoints .* cannot read manifest.json"):
        load_newest(tmp_path)


@pytest.mark.parametrize("name", _FILES)
def test_any_changed_byte_is_noticed(tmp_path: Path, name: str) -> None:
    file = save(tmp_path, checkpoint(), keep=1) / name
    data = file.read_bytes()

    unnoticed = []
    for place in range(len(data)):
        for mask in (0x01, 0x20, 0x80):
            file.write_bytes(flipped(data, place, mask))
            try:
                load(file.parent)
            except CorruptCheckpoint:
                continue
            unnoticed.append((place, mask))

    assert unnoticed == []


@pytest.mark.parametrize("name", _FILES)
def test_a_file_cut_short_lengthened_or_missing_is_noticed(tmp_path: Path, name: str) -> None:
    file = save(tmp_path, checkpoint(), keep=1) / name
    data = file.read_bytes()

    for damaged in [b"", data[:1], data[: len(data) // 2], data[:-1], data + b"\0", data + b" ", data + data]:
        file.write_bytes(damaged)
        with pytest.raises(CorruptCheckpoint):
            load(file.parent)

    file.unlink()
    with pytest.raises(CorruptCheckpoint, match=f"cannot read {name}"):
        load(file.parent)


def test_the_one_before_serves_when_the_newest_is_damaged(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(10), keep=3)
    newer = [save(tmp_path, checkpoint(step), keep=3) for step in (20, 30)]
    (newer[0] / "model.safetensors").unlink()
    (newer[1] / "local.safetensors").write_bytes(b"")

    loaded = load_newest(tmp_path)

    assert loaded.checkpoint.step == 10
    assert [path for path, _ in loaded.rejected] == newer[::-1]
    assert "local.safetensors has 0 bytes instead of" in loaded.rejected[0][1]


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "null", "[" * 5000, '{"format":NaN}', "9" * 5000, '{"files":{},"format":"gossamer-checkpoint-1"}'],
)
def test_a_manifest_of_nonsense_is_refused(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, checkpoint(), keep=1)
    (path / "manifest.json").write_text(text)

    with pytest.raises(CorruptCheckpoint):
        load(path)


@pytest.mark.parametrize("change", [{"bytes": -1}, {"bytes": True}, {"bytes": 10**30}, {"sha256": None}])
def test_a_manifest_with_nonsense_about_a_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = save(tmp_path, checkpoint(), keep=1)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["model.safetensors"].update(change)
    (path / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":"), sort_keys=True))

    with pytest.raises(CorruptCheckpoint):
        load(path)


def test_a_checkpoint_under_another_steps_name_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, checkpoint(7), keep=1)

    with pytest.raises(CorruptCheckpoint, match="is that of step 7"):
        load(path.rename(path.with_name("00000008")))


def test_a_folder_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("not a folder")

    with pytest.raises(StateError, match="cannot write the checkpoint of step 7"):
        save(tmp_path, checkpoint(), keep=1)


def test_kill_9_at_random_instants_leaves_a_checkpoint_that_loads(tmp_path: Path) -> None:
    result = run_process("killed-at-random", tmp_path, 7)

    assert result.stdout == "ok\n", result.stdout + result.stderr


def test_kill_9_at_every_file_system_call_leaves_a_checkpoint_that_loads(tmp_path: Path) -> None:
    result = run_process("killed-at-every-call", tmp_path)

    assert result.stdout.startswith("ok"), result.stdout + result.stderr
    assert int(result.stdout.split()[1]) > 15


def test_a_file_size_limit_is_reported_as_no_room_and_spares_the_earlier_checkpoint(tmp_path: Path) -> None:
    result = run_process("disk-full", tmp_path, 100_000)

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("cannot write the checkpoint of step 2 to ")
    assert "make room there, or name another folder" in result.stdout
    assert names(tmp_path) == ["00000001", "00000003"]


def test_a_full_disk_is_reported_and_spares_the_earlier_checkpoint(tmp_path: Path) -> None:
    mount = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"', str(tmp_path))
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True, timeout=20).returncode:
        pytest.skip("needs the right to mount a small file system")

    result = run_process("disk-full", tmp_path, prefix=mount)

    assert result.returncode == 0, result.stderr
    assert "No space left on device: it needs 16,0" in result.stdout
