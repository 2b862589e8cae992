"""A device's folder: key, gateway, rules, outbox, status."""

from __future__ import annotations

import base64
import binascii
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..algorithms.forward.network import Network
from ..protocol.atomic import write_atomically
from ..protocol.errors import InvalidMessage, StateError, UsageError
from ..protocol.identity import Identity, parse_peer_id
from ..protocol.lock import LOCK
from .engines import Choice
from .network.pinning import Gateway

_OURS = (
    "identity.key",
    "identity.key.next",
    "gateway.json",
    "engine.json",
    "network.json",
    "rules.toml",
    "status.json",
)


def device_folder(path: Path) -> DeviceFolder | None:
    """The one that is there, if any. Raises UsageError if what is there is none."""
    if not path.exists():
        return None
    if not any((path / name).is_file() for name in ("identity.key", "gateway.json")):
        raise UsageError(f"{path} is no device's folder: it has neither identity.key nor gateway.json")
    return DeviceFolder(path)


class DeviceFolder:
    """`path` holds identity.key, gateway.json, rules.toml, outbox, status.json. All of it is the owner's alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def rules(self) -> Path:
        return self.path / "rules.toml"

    @property
    def outbox(self) -> Path:
        return self.path / "outbox"

    @property
    def key(self) -> Path:
        return self.path / "identity.key"

    @property
    def next_key(self) -> Path:
        """A key that is about to take the place of the present one."""
        return self.path / "identity.key.next"

    def remove(self) -> None:
        """Key, state and, if nothing else is in it, the folder; what others have put there stays. Raises OSError."""
        for name in (*_OURS, *(f"{name}.new" for name in _OURS), LOCK):
            (self.path / name).unlink(missing_ok=True)
        if self.outbox.is_dir():
            shutil.rmtree(self.outbox)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def identity(self) -> Identity:
        """The device's key, made here if there is none yet. It never leaves the device."""
        return Identity.load_or_create(self.key)

    def keep_gateway(self, gateway: Gateway) -> None:
        fields = {
            "gateway": gateway.peer,
            "run_id": gateway.run_id,
            "host": gateway.host,
            "port": gateway.port,
            "certificate": base64.b64encode(gateway.certificate).decode(),
        }
        write_atomically(self.path / "gateway.json", json.dumps(fields, indent=1).encode(), mode=0o600)

    def gateway(self) -> Gateway:
        """Raises UsageError if the device was never enrolled, StateError if the file is damaged."""
        path = self.path / "gateway.json"
        if not path.exists():
            raise UsageError(f"{self.path} holds no enrolment: gossamer edge enroll --gateway HOST:PORT --token T")
        try:
            fields = json.loads(path.read_text())
            return Gateway(
                peer=parse_peer_id(str(fields["gateway"])),
                run_id=str(fields["run_id"]),
                host=str(fields["host"]),
                port=int(fields["port"]),
                certificate=base64.b64decode(fields["certificate"], validate=True),
            )
        except (ValueError, KeyError, TypeError, binascii.Error, InvalidMessage) as error:
            raise StateError(f"{path} is damaged ({error}): enrol this device again") from None

    def keep_choice(self, choice: Choice) -> None:
        """What was the quickest here."""
        write_atomically(self.path / "engine.json", json.dumps(asdict(choice), indent=1).encode(), mode=0o600)

    @property
    def has_choice(self) -> bool:
        return (self.path / "engine.json").exists()

    def choice(self) -> Choice:
        """What was measured, or numpy if nothing was. Raises StateError if the file is damaged."""
        path = self.path / "engine.json"
        if not path.exists():
            return Choice()
        try:
            fields = json.loads(path.read_text())
            return Choice(
                floats=str(fields["floats"]),
                budget_bytes=int(fields["budget_bytes"]),
                integers=str(fields["integers"]),
            )
        except (ValueError, KeyError, TypeError, UsageError) as error:
            raise StateError(f"{path} is damaged ({error}): measure again with gossamer edge bench --keep") from None

    def keep_network(self, network: str) -> None:
        """The run's network, for `gossamer edge bench`."""
        path = self.path / "network.json"
        if not path.exists() or path.read_text() != network:
            write_atomically(path, network.encode(), mode=0o600)

    def network(self) -> Network | None:
        """The network of the run, if a daemon has seen it. Raises StateError if the file is damaged."""
        path = self.path / "network.json"
        if not path.exists():
            return None
        try:
            return Network.from_dict(json.loads(path.read_text()))
        except ValueError as error:
            raise StateError(f"{path} is damaged ({error}): remove it and run the daemon") from None

    def write_status(self, status: dict[str, Any]) -> None:
        """For `gossamer edge status`."""
        write_atomically(self.path / "status.json", json.dumps(status, indent=1).encode(), mode=0o600, durable=False)

    def status(self) -> dict[str, Any] | None:
        """What the daemon last wrote; None if it never ran."""
        path = self.path / "status.json"
        try:
            return dict(json.loads(path.read_text())) if path.exists() else None
        except (OSError, ValueError):
            return None
