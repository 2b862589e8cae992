"""Which kind of stage a run has."""

from __future__ import annotations

from ...protocol.errors import InvalidManifest
from ...protocol.manifest import Manifest
from ...tasks import Staged
from .asynchronous import SYNCHRONOUS, AsynchronousModel
from .drifting import METHODS, DriftingModel
from .model import StageModel


def stage_model(task: Staged, manifest: Manifest, run_id: bytes) -> StageModel:
    """A stage for this run, not settled yet. Raises InvalidManifest for what does not go together."""
    drifts, waits = manifest.method.name in METHODS, manifest.pipeline.mode == SYNCHRONOUS
    if drifts and not waits:
        raise InvalidManifest(
            f"pipeline.mode = {manifest.pipeline.mode!r} is for methods that exchange gradients, and "
            f"{manifest.method.name!r} makes local steps: leave mode out, or use allreduce, demo or terngrad"
        )
    kind = DriftingModel if drifts else StageModel if waits else AsynchronousModel
    return kind(task, manifest, run_id)
