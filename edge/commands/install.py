"""`gossamer edge install` and `uninstall`: a systemd unit that gives the daemon no more than it needs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ...protocol.errors import StateError
from ...protocol.lock import held
from ..folder import DeviceFolder, device_folder

UNIT = "gossamer-edge.service"

_TEMPLATE = """\
[Unit]
Description=Gossamer edge: trains with forward passes
Documentation=https://pypi.org/project/gossamer/
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={command}
Restart=on-failure
RestartSec=30
Nice=15
IOSchedulingClass=idle
MemoryMax={memory_mb}M
TasksMax=64
LimitCORE=0
{user}
NoNewPrivileges=yes
UMask=0077
ProtectSystem=strict
ProtectHome={home}
ReadWritePaths={folder}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy={target}
"""


def unit_text(folder: DeviceFolder, *, data: str | None, user: bool, uid: int) -> str:
    """The unit that runs the daemon of a folder."""
    from ..rules import load_rules

    command = f"{sys.executable} -m gossamer.cli edge run --folder {folder.path.resolve()}"
    if data is not None:
        command += f" --data {Path(data).resolve() if Path(data).exists() else data}"
    return _TEMPLATE.format(
        command=command,
        memory_mb=int(load_rules(folder.rules).memory_mb) + 64,  # the rule rests before the kernel kills
        user="" if user else f"User={uid}",
        home="read-only",
        folder=folder.path.resolve(),
        target="default.target" if user else "multi-user.target",
    )


def install(folder: Path, *, data: str | None, root: Path, user: bool) -> None:
    """Write the unit; starting it is left to the owner. Raises UsageError if it is not enrolled, StateError."""
    home = DeviceFolder(folder)
    home.gateway()
    path = _unit_path(root, user=user)
    text = unit_text(home, data=data, user=user, uid=home.path.stat().st_uid)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise StateError(
            f"cannot write {path} ({error.strerror}): use sudo, or --user for a unit of your own"
        ) from None
    scope = " --user" if user else ""
    print(f"wrote {path}; now: systemctl{scope} daemon-reload && systemctl{scope} enable --now {UNIT}", file=sys.stderr)


def uninstall(folder: Path, *, root: Path, user: bool, keep_data: bool) -> None:
    """Stop the daemon and remove the unit and, unless told otherwise, key and state. Samples stay.

    Raises: UsageError if this is no device's folder, FolderInUse if a daemon runs there all the same, StateError.
    """
    home = None if keep_data else device_folder(folder)
    path = _unit_path(root, user=user)
    wants = path.parent / ("default.target.wants" if user else "multi-user.target.wants")
    if path.exists() and root == Path("/"):
        _stop(user=user)
    try:
        with held(folder) if home is not None else contextlib.nullcontext():  # before anything is removed
            (wants / UNIT).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            if user:  # the system's folders are the system's
                _remove_empty(wants, path.parent, path.parent.parent)
            if home is not None:
                home.remove()
    except OSError as error:
        raise StateError(f"cannot remove {error.filename} ({error.strerror}): use sudo") from None
    control = "systemctl --user" if user else "systemctl"
    removed = path if keep_data else f"{path} and {folder}"
    left = (
        f", but for what is not ours: {', '.join(sorted(path.name for path in folder.iterdir()))}"
        if home and folder.exists()
        else ""
    )
    print(f"removed {removed}{left}; now: {control} daemon-reload", file=sys.stderr)


def _stop(*, user: bool) -> None:
    """A daemon that runs would write its folder anew. Where there is no systemd, it does not run by it."""
    systemctl = shutil.which("systemctl")
    if systemctl is not None:
        scope = ["--user"] if user else []
        subprocess.run([systemctl, *scope, "disable", "--now", UNIT], capture_output=True, timeout=60, check=False)


def _remove_empty(*folders: Path) -> None:
    """Those that nothing else is in, innermost first."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _unit_path(root: Path, *, user: bool) -> Path:
    if user:
        config = os.environ.get("XDG_CONFIG_HOME")
        return (Path(config) if config else Path.home() / ".config") / "systemd" / "user" / UNIT
    return root / "etc" / "systemd" / "system" / UNIT
