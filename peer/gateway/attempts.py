"""One try at a secure sum, as the gateway sees it: who published keys, sealed shares, uploaded, and revealed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...algorithms.errors import BadPayload
from ...algorithms.forward.residues import from_bytes
from ...algorithms.forward.secure_sum import PublicKeys, Reveal
from ...protocol import sums
from ...protocol.devices import Submission
from ...protocol.edge_pb2 import SumKeys, SumReveal, SumShares, Uplink
from ...protocol.errors import InvalidMessage
from ...protocol.identity import PeerId
from .answers import DeviceRound

U32 = npt.NDArray[np.uint32]


@dataclass(kw_only=True)
class Attempt:
    """By slot. What no honest device sends raises InvalidMessage, BadSignature; what comes twice counts once."""

    number: int
    run_id: str
    round_: DeviceRound
    devices: dict[int, PeerId]
    keys: dict[int, SumKeys] = field(default_factory=dict)
    shares: dict[int, Mapping[int, bytes]] = field(default_factory=dict)
    uploads: dict[int, U32] = field(default_factory=dict)
    reveals: dict[int, Reveal] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    """Those who gave up or left."""

    def slot_of(self, device: PeerId) -> int | None:
        return next((slot for slot, one in self.devices.items() if one == device), None)

    def public_keys(self) -> dict[int, PublicKeys]:
        """Of all who published some."""
        return {
            slot: PublicKeys(channel=keys.channel, mask=keys.mask, seed_digest=keys.seed_digest)
            for slot, keys in self.keys.items()
        }

    def hear(self, slot: int, word: Uplink) -> None:
        """Keys, shares and reveals."""
        match word.WhichOneof("kind"):
            case "sum_keys" if slot not in self.keys:
                self._hear_keys(slot, word.sum_keys)
            case "sum_shares" if slot in self.keys and slot not in self.shares:
                self._hear_shares(slot, word.sum_shares)
            case "sum_reveal" if slot in self.uploads and slot not in self.reveals:
                self._hear_reveal(slot, word.sum_reveal)

    def take_upload(self, slot: int, submission: Submission, n: int) -> None:
        """Args: n: residues of an upload."""
        device = self.devices[slot]
        if submission.slot != slot or submission.base != self.round_.base or slot not in self.shares:
            raise InvalidMessage(f"{device} uploads for another slot or state: discard it")
        try:
            upload = from_bytes(submission.scalars, n)
        except BadPayload as error:
            raise InvalidMessage(f"{device} uploads what is no sum: {error}") from None
        self.uploads.setdefault(slot, upload)

    def _hear_keys(self, slot: int, keys: SumKeys) -> None:
        device = self.devices[slot]
        sums.check_keys(keys, run_id=self.run_id, base=self.round_.base, device=device, attempt=self.number)
        if keys.slot != slot:
            raise InvalidMessage(f"{device} publishes keys for another's slot")
        self.keys[slot] = keys

    def _hear_shares(self, slot: int, shares: SumShares) -> None:
        sealed = sums.slots_from_wire(shares.sealed)
        if set(sealed) != set(self.keys) - {slot}:
            raise InvalidMessage(f"{self.devices[slot]} does not seal a share for each of the roster")
        self.shares[slot] = sealed

    def _hear_reveal(self, slot: int, reveal: SumReveal) -> None:
        seeds, keys = sums.slots_from_wire(reveal.seeds), sums.slots_from_wire(reveal.keys)
        self.reveals[slot] = Reveal(seeds=seeds, keys=keys)
