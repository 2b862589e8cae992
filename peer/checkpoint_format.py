"""What is in a checkpoint's files, and how each of their bytes is checked.

manifest.json        size and SHA-256 of each of the files below
record.json          step, round, names of the tensors in order, the daemon's own record
model.safetensors    likewise shared.safetensors, local.safetensors
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from ..protocol.errors import CorruptCheckpoint

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

_FORMAT = "gossamer-checkpoint-1"
_MANIFEST_BYTES_MAX = 16 << 10
_RECORD_BYTES_MAX = 64 << 20
_TENSOR_FILES = ("model", "shared", "local")
_FILES = ("record.json", *(f"{name}.safetensors" for name in _TENSOR_FILES))


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that a daemon needs in order to go on as if it had not stopped."""

    step: int
    """Updates applied to the model."""
    round_index: int
    """The round that comes next."""
    model: dict[str, torch.Tensor]
    """Parameters. In this and the next two, tensors do not overlap in memory and the order of names is kept."""
    shared: dict[str, torch.Tensor]
    """What all replicas hold alike besides the parameters."""
    local: dict[str, torch.Tensor]
    """What only this replica holds."""
    record: dict[str, JSON] = field(default_factory=dict)
    """What else the daemon must remember (lineage, roster, certificates); opaque here."""


def pack(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Every file of a checkpoint, the manifest last."""
    tensors = {name: getattr(checkpoint, name) for name in _TENSOR_FILES}
    record = {
        "step": checkpoint.step,
        "round_index": checkpoint.round_index,
        "names": {name: list(group) for name, group in tensors.items()},
        "record": checkpoint.record,
    }
    contents = {"record.json": _encode(record)}
    if len(contents["record.json"]) > _RECORD_BYTES_MAX:
        raise ValueError(f"a checkpoint's record is limited to {_RECORD_BYTES_MAX} bytes")
    for name, group in tensors.items():
        packed = {key: tensor.detach().contiguous() for key, tensor in group.items()}
        contents[f"{name}.safetensors"] = safetensors.torch.save(packed)
    contents["manifest.json"] = _encode(_manifest(contents))
    return contents


def unpack(path: Path) -> Checkpoint:
    """Read a checkpoint from its folder, checking every byte of it. Raises CorruptCheckpoint."""
    try:
        manifest = _read_manifest(path)
        record = _read_record(path, manifest)
        tensors = {name: _read_tensors(path, name, manifest, record) for name in _TENSOR_FILES}
    except OSError as error:
        raise _corrupt(path, f"cannot read {Path(error.filename or path).name} ({error.strerror})") from None
    return Checkpoint(step=record["step"], round_index=record["round_index"], record=record["record"], **tensors)


def _manifest(contents: Mapping[str, bytes]) -> dict[str, Any]:
    files = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()}
    return {"format": _FORMAT, "files": files}


def _encode(value: Any) -> bytes:
    """The one way to write a value as JSON, so that a changed byte is a changed value."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def _read_manifest(path: Path) -> dict[str, Any]:
    """{file: {"bytes", "sha256"}} of exactly the files that a checkpoint has."""
    with (path / "manifest.json").open("rb") as file:
        raw = file.read(_MANIFEST_BYTES_MAX + 1)
    manifest = _decode(path, "manifest.json", raw)
    files = manifest.get("files")
    if manifest.get("format") != _FORMAT or not isinstance(files, dict) or sorted(files) != sorted(_FILES):
        raise _corrupt(path, f"manifest.json does not describe a {_FORMAT}")
    for name, entry in files.items():
        if not isinstance(entry, dict) or type(entry.get("bytes")) is not int or entry["bytes"] < 0:
            raise _corrupt(path, f"manifest.json does not say how long {name} is")
    return files


def _read_record(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    record = _decode(path, "record.json", _read(path, "record.json", manifest, bytes_max=_RECORD_BYTES_MAX))
    step, round_index, names = (record.get(key) for key in ("step", "round_index", "names"))
    if type(step) is not int or type(round_index) is not int or min(step, round_index) < 0:
        raise _corrupt(path, "record.json names no step or no round")
    if (
        not isinstance(record.get("record"), dict)
        or not isinstance(names, dict)
        or sorted(names) != sorted(_TENSOR_FILES)
    ):
        raise _corrupt(path, "record.json lacks the names of the tensors or the daemon's record")
    return record


def _read_tensors(
    path: Path, name: str, manifest: Mapping[str, Any], record: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """The tensors of one file, in the order in which they were given."""
    data = _read(path, f"{name}.safetensors", manifest)
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise _corrupt(path, f"{name}.safetensors is not what its name says ({error})") from None
    names = record["names"][name]
    if (
        not isinstance(names, list)
        or not all(isinstance(key, str) for key in names)
        or sorted(names) != sorted(tensors)
    ):
        raise _corrupt(path, f"{name}.safetensors holds other tensors than record.json says")
    return {key: tensors[key] for key in names}


def _read(path: Path, name: str, manifest: Mapping[str, Any], *, bytes_max: int | None = None) -> bytes:
    """A file's bytes, once they are known to be those that were written."""
    file = path / name
    expected, found = manifest[name]["bytes"], file.stat().st_size
    if found != expected or (bytes_max is not None and found > bytes_max):
        raise _corrupt(path, f"{name} has {found} bytes instead of {expected}")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != manifest[name].get("sha256"):
        raise _corrupt(path, f"the bytes of {name} are not those that were written")
    return data


def _decode(path: Path, name: str, raw: bytes) -> dict[str, Any]:
    """A JSON object that is written as `_encode` writes it."""
    try:
        value = json.loads(raw)
        canonical = isinstance(value, dict) and _encode(value) == raw
    except (ValueError, RecursionError):
        canonical = False
    if not canonical:
        raise _corrupt(path, f"{name} is damaged")
    return dict(value)


def _corrupt(path: Path, reason: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(f"the checkpoint {path} does not load: {reason}; remove it, or restore that file")
