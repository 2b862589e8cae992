"""`gossamer export`: the trained model as safetensors."""

from __future__ import annotations

import sys
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from ...protocol.errors import NoCheckpoint, StateError, UsageError
from ..checkpoints import Loaded, load_newest
from .places import peer_folders


def export(folder: Path, out: Path) -> None:
    """Take the newest good checkpoint below a folder."""
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"cannot write {out}: give the path of a file in a folder that exists")
    loaded = _newest(folder)
    for path, reason in loaded.rejected:
        print(f"checkpoint {path.name} is not used: {reason}", file=sys.stderr)
    model = {name: tensor.contiguous() for name, tensor in loaded.checkpoint.model.items()}
    try:
        safetensors.torch.save_file(model, out, metadata={"step": str(loaded.checkpoint.step)})
    except (OSError, SafetensorError) as error:
        raise StateError(f"cannot write {out}: {error}; make room there, or choose another path") from None
    n_params = sum(tensor.numel() for tensor in model.values())
    print(f"{out}: {len(model)} tensors, {n_params:,} parameters, step {loaded.checkpoint.step}", file=sys.stderr)


def _newest(folder: Path) -> Loaded:
    """Of several daemons' checkpoints the one with the most steps: some may have been killed early."""
    found: list[Loaded] = []
    failure: StateError | None = None
    for home in peer_folders(folder):
        try:
            found.append(load_newest(home))
        except StateError as error:
            failure = error
    if found:
        return max(found, key=lambda loaded: loaded.checkpoint.step)
    if failure is None or isinstance(failure, NoCheckpoint):
        raise NoCheckpoint(f"no daemon in {folder} has kept a checkpoint yet: wait for one, or let it leave (Ctrl-C)")
    raise failure
