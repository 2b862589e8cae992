"""`gossamer export`: the trained model as safetensors."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from ...algorithms import METHODS
from ...protocol.errors import NoCheckpoint, StateError, UsageError
from ..checkpoints import Loaded, load_newest
from ..folder import PeerFolder
from ..rounds.roster import NO_STAGE
from .places import peer_folders


def export(folder: Path, out: Path) -> None:
    """Take the newest good checkpoint below a folder."""
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"cannot write {out}: give the path of a file in a folder that exists")
    found = _found(folder)
    newest = max(found, key=lambda loaded: loaded.checkpoint.step)
    pipeline = newest.checkpoint.record.get("pipeline")
    used = stages_of(found, pipeline) if isinstance(pipeline, dict) else [newest]
    for loaded in used:
        for path, reason in loaded.rejected:
            print(f"checkpoint {path.name} is not used: {reason}", file=sys.stderr)
    step = used[0].checkpoint.step
    model = {name: tensor.contiguous() for one in used for name, tensor in _served(one).items()}
    try:
        safetensors.torch.save_file(model, out, metadata={"step": str(step)})
    except (OSError, SafetensorError) as error:
        raise StateError(f"cannot write {out}: {error}; make room there, or choose another path") from None
    n_params = sum(tensor.numel() for tensor in model.values())
    print(f"{out}: {len(model)} tensors, {n_params:,} parameters, step {step}", file=sys.stderr)


def _served(loaded: Loaded) -> Mapping[str, torch.Tensor]:
    """The model that the run's evaluations are of. A user's own method is not imported: its parameters are taken."""
    kept, checkpoint = PeerFolder(loaded.path.parents[1]).manifest(), loaded.checkpoint
    if kept is None or kept.manifest.method.name not in METHODS:
        return checkpoint.model
    shared = {name.removeprefix("shared/"): tensor for name, tensor in checkpoint.shared.items()}
    return METHODS[kept.manifest.method.name].served(checkpoint.model, shared)


def stages_of(found: Sequence[Loaded], pipeline: Mapping[str, Any]) -> list[Loaded]:
    """One checkpoint of each stage, all of the newest step of which there are all. Raises NoCheckpoint."""
    by_step: dict[int, dict[int, Loaded]] = {}
    for loaded in found:
        told = loaded.checkpoint.record.get("pipeline")
        if isinstance(told, dict) and told.get("owned") == pipeline["owned"]:
            stage = told["stage"]
            assert isinstance(stage, int)
            if stage == NO_STAGE:
                continue
            by_step.setdefault(loaded.checkpoint.step, {})[stage] = loaded
    n_stages = int(pipeline["n_stages"])
    whole = [step for step, stages in by_step.items() if len(stages) == n_stages]
    if not whole:
        missing = sorted(set(range(n_stages)) - {stage for stages in by_step.values() for stage in stages})
        lacks = f"none is of stage {missing[0]}" if missing else "no step has all of them"
        raise NoCheckpoint(
            f"the checkpoints here are of stages, and {lacks}: give a folder with those of all {n_stages} stages"
        )
    stages = by_step[max(whole)]
    return [stages[stage] for stage in range(n_stages)]


def _found(folder: Path) -> list[Loaded]:
    """The newest good checkpoint of each daemon: some may have been killed early."""
    found: list[Loaded] = []
    failure: StateError | None = None
    for home in peer_folders(folder):
        try:
            found.append(load_newest(home))
        except StateError as error:
            failure = error
    if found:
        return found
    if failure is None or isinstance(failure, NoCheckpoint):
        raise NoCheckpoint(f"no daemon in {folder} has kept a checkpoint yet: wait for one, or let it leave (Ctrl-C)")
    raise failure
