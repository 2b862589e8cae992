"""Who is enrolled at a gateway, on disk.

    <folder>/tokens/<name>.json      outstanding tokens: written by `gossamer gateway token`, removed when redeemed
    <folder>/revoked/<device>        written by `gossamer gateway revoke`
    <folder>/devices.json            who redeemed which token, and which key took whose place: the gateway's alone

Enrolment is closed: without a token of this gateway nobody gets in. A token serves one device; that device may show it
again, as after an answer that was lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...protocol.atomic import write_atomically
from ...protocol.enrolment import Token, check_request, check_rotation
from ...protocol.errors import Expired, InvalidMessage, NotAdmitted, StateError
from ...protocol.identity import PeerId, parse_peer_id

DEVICES_MAX = 100_000
ROTATE_EVERY_S = 86400.0
"""A device may change its key so often: to a round it is another device with each."""
_VERSION = 1


class Book:
    """One gateway's devices. Every change is on disk before it is answered."""

    def __init__(self, folder: Path, *, run_id: str, gateway: PeerId) -> None:
        """Raises StateError if the book cannot be read."""
        self._folder, self._run_id, self._gateway = folder, run_id, gateway
        self._tokens: dict[PeerId, PeerId] = {}
        """Redeemed token -> device."""
        self._successors: dict[PeerId, PeerId] = {}
        """Device's old key -> new key."""
        self._rotated_at_s: dict[PeerId, float] = {}
        """By the new key."""
        self._revoked: frozenset[str] = frozenset()
        self._load()
        self.refresh()

    @property
    def devices(self) -> list[PeerId]:
        """Those that may take part, ordered."""
        return sorted({device for device in self._tokens.values() if device not in self._revoked})

    def is_enrolled(self, peer: PeerId) -> bool:
        return peer in self._enrolled

    def holder(self, device: PeerId) -> PeerId:
        """The key that has taken the place of a device's, or its own."""
        seen = {device}
        while (device := self._successors.get(device, device)) not in seen:
            seen.add(device)
        return device

    def is_revoked(self, peer: PeerId) -> bool:
        return peer in self._revoked

    def refresh(self) -> None:
        """Take note of what was revoked since."""
        revoked = self._folder / "revoked"
        self._revoked = frozenset(path.name for path in revoked.iterdir()) if revoked.is_dir() else frozenset()
        self._enrolled = frozenset(self.devices)

    def enrol(self, request: bytes, *, device: PeerId, now_s: float) -> None:
        """Enrol `device`, whose key is proven, by the token that it shows.

        Raises: NotAdmitted, Expired, BadSignature, InvalidMessage.
        """
        token = check_request(request, run_id=self._run_id, gateway=self._gateway, device=device)
        self.refresh()
        if device in self._revoked:
            raise NotAdmitted(f"{device} was revoked: make a new key (another folder) and ask for a new token")
        owner = self._tokens.get(token)
        if owner == device or (owner is None and self.is_enrolled(device)):
            return  # the answer was lost, or the device is enrolled twice: one device, one place
        if owner is not None:
            raise NotAdmitted("this token was used by another device: ask the gateway's owner for a new one")
        self._redeem(token, now_s)
        if len(self._tokens) >= DEVICES_MAX:
            raise NotAdmitted(f"{DEVICES_MAX} devices are enrolled here: use another gateway")
        self._tokens[token] = device
        self._save()
        (self._folder / "tokens" / f"{token}.json").unlink(missing_ok=True)

    def enter(self, devices: Mapping[PeerId, PeerId]) -> None:
        """Enrol devices whose keys the gateway's owner has, by token name: a crowd with one write instead of many."""
        self._tokens |= devices
        self._save()

    def rotate(self, request: bytes, *, device: PeerId, now_s: float) -> PeerId:
        """Let a new key take the place of `device`; asked again, the same. Raises NotAdmitted, BadSignature."""
        new = check_rotation(request, run_id=self._run_id, gateway=self._gateway, old=device)
        if self._successors.get(device) == new:
            return new
        if not self.is_enrolled(device):
            raise NotAdmitted(f"{device} is not enrolled here: it cannot hand on its place")
        if self.is_enrolled(new) or new in self._revoked or new in self._successors:
            raise NotAdmitted(f"{new} was enrolled or revoked before: make a fresh key")
        if 0 <= now_s - self._rotated_at_s.get(device, -ROTATE_EVERY_S) < ROTATE_EVERY_S:
            raise NotAdmitted(f"{device} took its place less than a day ago: wait, or ask the owner for a new token")
        self._tokens = {token: new if owner == device else owner for token, owner in self._tokens.items()}
        self._successors[device] = new
        self._rotated_at_s.pop(device, None)
        self._rotated_at_s[new] = now_s
        self._save()
        return new

    # -- on disk ---------------------------------------------------------------------------------

    def _redeem(self, token: PeerId, now_s: float) -> None:
        path = self._folder / "tokens" / f"{token}.json"
        try:
            expires_at_s = float(json.loads(path.read_text())["expires_at_s"])
        except OSError:
            raise NotAdmitted("this gateway issued no such token: ask its owner for one") from None
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"{path} is damaged ({error}): remove it and issue a new token") from None
        if expires_at_s <= now_s:
            raise Expired("the enrolment token has expired: ask the gateway's owner for a new one")

    def _load(self) -> None:
        path = self._folder / "devices.json"
        if not path.exists():
            return
        try:
            fields = json.loads(path.read_text())
            if fields["version"] != _VERSION:
                raise ValueError(f"version {fields['version']}, expected {_VERSION}")
            self._tokens = _pairs(fields["tokens"])
            self._successors = _pairs(fields["successors"])
            times = fields.get("rotated_at_s", {})
            self._rotated_at_s = {parse_peer_id(key): float(time_s) for key, time_s in times.items()}
        except (ValueError, KeyError, TypeError, AttributeError, InvalidMessage) as error:
            raise StateError(f"{path} is damaged ({error}): restore it, or enrol the devices anew") from None

    def _save(self) -> None:
        fields = {"version": _VERSION, "tokens": self._tokens, "successors": self._successors}
        fields["rotated_at_s"] = self._rotated_at_s
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / "devices.json", json.dumps(fields, indent=1).encode(), mode=0o600)
        self._enrolled = frozenset(self.devices)


def issue_token(folder: Path, token: Token, *, expires_at_s: float) -> None:
    """Enter a token's public half, so that it can be redeemed once until then. The gateway need not run."""
    home = folder / "tokens"
    home.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"expires_at_s": expires_at_s})
    write_atomically(home / f"{token.name}.json", text.encode(), mode=0o600)


def revoke(folder: Path, device: str) -> None:
    """Shut a device out for good, from the next round on. Raises InvalidMessage for what is no device's name."""
    home = folder / "revoked"
    home.mkdir(parents=True, exist_ok=True)
    write_atomically(home / parse_peer_id(device), b"", mode=0o600)


def _pairs(fields: dict[str, Any]) -> dict[PeerId, PeerId]:
    return {parse_peer_id(key): parse_peer_id(value) for key, value in fields.items()}
