"""What a run's manifest means on this machine: its task checked, its replica built, the rules of its rounds."""

from __future__ import annotations

from ..protocol.devices import stream_run_id
from ..protocol.errors import InvalidManifest
from ..protocol.manifest import SignedManifest
from ..tasks import Task
from .replica import Replica
from .rounds.place import Rules


def build_replica(manifest: SignedManifest, task: Task, kind: type[Replica] = Replica) -> Replica:
    """Raises InvalidManifest for a method or options that do not exist."""
    try:
        replica = kind(task, manifest.manifest)
    except ValueError as error:
        raise InvalidManifest(f"[method] of the manifest: {error}") from None
    replica.method.begin(stream_run_id(manifest.run_id))
    return replica


def check_task(manifest: SignedManifest, task: Task) -> None:
    """Raises InvalidManifest if this machine's task or data is not the one that the manifest pins."""
    pinned, ours = manifest.manifest.task.fingerprint, task.fingerprint()
    if pinned != ours:
        raise InvalidManifest(
            f"task {manifest.manifest.task.name!r} is pinned to {pinned[:12]}, this machine's is {ours[:12]}: "
            "install the version of the task and the data that the run's owner uses"
        )


def rules_of(manifest: SignedManifest, replica: Replica) -> Rules:
    """The rules of the group's rounds."""
    chosen = manifest.manifest.group
    return Rules(
        payload_bytes_max=min(manifest.manifest.limits.max_payload_bytes, replica.method.payload_bytes_max()),
        quorum_fraction=chosen.quorum_fraction,
        strict=chosen.strict,
        backup=chosen.backup,
        n_backup=chosen.n_backup,
        fork=None if chosen.on_split == "auto" else chosen.on_split == "fork",
    )
