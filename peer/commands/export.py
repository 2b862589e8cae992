"""`gossamer export`: the trained model as safetensors."""

from __future__ import annotations

import sys
from pathlib import Path

import safetensors.torch

from ...protocol.errors import UsageError
from ..checkpoints import load_newest


def export(folder: Path, out: Path) -> None:
    """Take the newest good checkpoint of a peer's folder (or of the first peer of `gossamer up`)."""
    home = folder / "peers" / "0" if (folder / "peers" / "0").is_dir() else folder
    loaded = load_newest(home)
    for path, reason in loaded.rejected:
        print(f"checkpoint {path.name} is not used: {reason}", file=sys.stderr)
    model = {name: tensor.contiguous() for name, tensor in loaded.checkpoint.model.items()}
    try:
        safetensors.torch.save_file(model, out, metadata={"step": str(loaded.checkpoint.step)})
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error}; choose another path") from None
    print(f"{out}: {len(model)} tensors of step {loaded.checkpoint.step}", file=sys.stderr)
