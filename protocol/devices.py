"""What gateways and devices say to one another: signed, bounded and checked messages.

A submission is named by (run, round, slot, device, base): computing it again after a crash gives the same name, so it
counts once however often it is sent.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from .edge_pb2 import AssignmentBody, DeviceRoster, RunCard, Signed, SubmissionBody
from .errors import InvalidMessage
from .identity import Identity, PeerId, peer_id_of, public_key_of, verify
from .network import MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES, MAX_PUBLIC_BYTES
from .wire import parse

ENROL = "edge/enrol"
ROTATE = "edge/rotate"
CARD = "edge/card"
ATTEND = "edge/attend"
SNAPSHOT = "edge/snapshot"
LONG_ANSWER = "edge/long-answer"
ROSTER = "edge/roster"

DIGEST_BYTES = 32
ROSTER_HASH_BYTES = 16
ROUNDS_MAX = 2**32
SLOTS_MAX = 2**16
SCALARS_BYTES_MAX = MAX_CHUNK_BYTES - 4096
"""Of one submission; with it, a word of a device fits a chunk of its stream. Longer ones travel on a stream apart."""
LONG_BYTES_MAX = 4 * 2**30
"""Of an answer on a stream of its own. What a run takes follows from its model."""
UPLINK_BYTES_MAX = SCALARS_BYTES_MAX + 1024
DOWNLINK_BYTES_MAX = MAX_MESSAGE_BYTES
SNAPSHOT_BYTES_MAX = 5 * 2**30
CARD_BYTES_MAX = MAX_PUBLIC_BYTES

_CARD_DOMAIN = "run-card"
_ASSIGNMENT_DOMAIN = "assignment"
_SUBMISSION_DOMAIN = "submission"
_SIGNED_OVERHEAD_BYTES = 128


@dataclass(frozen=True, kw_only=True)
class Task:
    """A round as one device has to do it."""

    round_index: int
    step: int
    """Updates behind the state to measure at."""
    base: bytes
    """Digest of that state."""
    slot: int
    roster_hash: bytes
    deadline_s: float
    attempt: int = 0
    """Of a secure sum: names the keys that it is made with. 0: none."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What one device measured in one round."""

    round_index: int
    slot: int
    base: bytes
    loss: float
    scalars: bytes = b""
    attempt: int = 0
    digest: bytes = b""
    """Of a long answer: the SHA-256 of its scalars, which travel apart."""
    length: int = 0
    """Of those, in bytes."""

    @property
    def is_long(self) -> bool:
        return self.length > 0


def stream_run_id(run_id: str) -> bytes:
    """The 32 bytes by which the perturbation stream knows a run."""
    return hashlib.sha256(f"gossamer/run/{run_id}".encode()).digest()


def round_seed(run_id: str, gateway: PeerId, round_index: int, base: bytes) -> bytes:
    """The 32-byte seed of a gateway's round. Whoever knows the state that a round starts from can derive it."""
    text = f"gossamer/round-seed/{run_id}/{gateway}/{round_index}/".encode()
    return hashlib.sha256(text + base).digest()


def chosen_samples(n: int, size: int, seed: bytes) -> list[int]:
    """Which of its n samples a device takes in a round, ascending; all, if there are no more than `size`.

    They follow from the round's seed, so that a round computed again, by the device or by an audit, takes the same.
    """
    entropy = random.Random(hashlib.sha256(b"batch" + seed).digest())  # numpy's own takes 2 MB of memory
    return sorted(entropy.sample(range(n), min(size, n)))


def roster_hash(round_index: int, devices: Sequence[PeerId]) -> bytes:
    """The first half of the SHA-256 of a round's devices in the order of their slots."""
    return _hash_of_roster(roster_message(round_index, devices))


def roster_message(round_index: int, devices: Sequence[PeerId]) -> bytes:
    """The DeviceRoster whose hash an assignment carries."""
    keys = [public_key_of(device) for device in devices]
    return DeviceRoster(round=round_index, devices=keys).SerializeToString(deterministic=True)


def read_roster(data: bytes, expected_hash: bytes) -> list[PeerId]:
    """The devices of a round. Raises InvalidMessage if it is not the roster that was signed."""
    message = parse(DeviceRoster, data, bytes_max=MAX_MESSAGE_BYTES, what="a roster of devices")
    if _hash_of_roster(data) != expected_hash or any(len(key) != 32 for key in message.devices):
        raise InvalidMessage("a roster of devices is not the one that was signed: discard it")
    return [peer_id_of(key) for key in message.devices]


# -- the run ---------------------------------------------------------------------------------------


def sign_card(identity: Identity, card: RunCard) -> bytes:
    return _signed(identity, _CARD_DOMAIN, card.SerializeToString(deterministic=True)).SerializeToString()


def read_card(data: bytes, *, gateway: PeerId, run_id: str) -> RunCard:
    """Raises InvalidMessage, BadSignature."""
    message = parse(Signed, data, bytes_max=CARD_BYTES_MAX, what="a run's card")
    verify(gateway, _CARD_DOMAIN, message.body, message.signature)
    card = parse(RunCard, message.body, bytes_max=CARD_BYTES_MAX, what="a run's card")
    if card.run_id != run_id:
        raise InvalidMessage(f"{gateway} hands out the card of run {card.run_id[:64]!r}, expected {run_id}")
    if not 0.01 <= card.heartbeat_s <= 3600 or not card.steps >= 1:
        raise InvalidMessage(f"the card of run {run_id} has a heartbeat of {card.heartbeat_s} s: expected 0.01 to 3600")
    return card


# -- rounds ----------------------------------------------------------------------------------------


def sign_task(identity: Identity, run_id: str, device: PeerId, task: Task) -> Signed:
    body = AssignmentBody(
        round=task.round_index,
        step=task.step,
        base=task.base,
        slot=task.slot,
        roster_hash=task.roster_hash,
        deadline_s=task.deadline_s,
        attempt=task.attempt,
    ).SerializeToString(deterministic=True)
    signature = identity.sign(_ASSIGNMENT_DOMAIN, _addressed(run_id, device, body))
    return Signed(body=body, signature=signature)


def read_task(signed: Signed, *, run_id: str, gateway: PeerId, device: PeerId) -> Task:
    """What the gateway wants `device` to do. Raises InvalidMessage, BadSignature."""
    verify(gateway, _ASSIGNMENT_DOMAIN, _addressed(run_id, device, signed.body), signed.signature)
    message = parse(AssignmentBody, signed.body, bytes_max=1024, what="an assignment")
    if (len(message.base), len(message.roster_hash)) != (DIGEST_BYTES, ROSTER_HASH_BYTES):
        raise InvalidMessage(f"{gateway} assigns a round without a base or a roster: discard it")
    if message.slot >= SLOTS_MAX or not 0 < message.deadline_s <= 1e6:
        raise InvalidMessage(f"{gateway} assigns slot {message.slot} until {message.deadline_s} s: discard it")
    return Task(
        round_index=message.round,
        step=message.step,
        base=message.base,
        slot=message.slot,
        roster_hash=message.roster_hash,
        deadline_s=message.deadline_s,
        attempt=message.attempt,
    )


def sign_submission(identity: Identity, run_id: str, submission: Submission) -> Signed:
    body = SubmissionBody(
        round=submission.round_index,
        slot=submission.slot,
        base=submission.base,
        loss=submission.loss,
        scalars=submission.scalars,
        attempt=submission.attempt,
        digest=submission.digest,
        length=submission.length,
    ).SerializeToString(deterministic=True)
    signature = identity.sign(_SUBMISSION_DOMAIN, _addressed(run_id, identity.peer_id, body))
    return Signed(body=body, signature=signature)


def read_submission(signed: Signed, *, run_id: str, device: PeerId) -> Submission:
    """What `device` measured; whether it was asked to is for the caller. Raises InvalidMessage, BadSignature."""
    if len(signed.body) > UPLINK_BYTES_MAX:
        raise InvalidMessage(f"a submission of {len(signed.body)} bytes: at most {UPLINK_BYTES_MAX} are allowed")
    verify(device, _SUBMISSION_DOMAIN, _addressed(run_id, device, signed.body), signed.signature)
    return read_submission_body(signed.body, device)


def read_submission_body(body: bytes, device: PeerId) -> Submission:
    """What stands in a submission whose signature was checked. Raises InvalidMessage."""
    message = parse(SubmissionBody, body, bytes_max=UPLINK_BYTES_MAX, what="a submission")
    if len(message.base) != DIGEST_BYTES or message.slot >= SLOTS_MAX or not math.isfinite(message.loss):
        raise InvalidMessage(f"{device} submits for slot {message.slot} with a loss of {message.loss}: discard it")
    if message.length > LONG_BYTES_MAX or len(message.digest) != (DIGEST_BYTES if message.length else 0):
        raise InvalidMessage(f"{device} announces {message.length} bytes that have no digest, or are too many")
    return Submission(
        round_index=message.round,
        slot=message.slot,
        base=message.base,
        loss=message.loss,
        scalars=message.scalars,
        attempt=message.attempt,
        digest=message.digest,
        length=message.length,
    )


def _hash_of_roster(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:ROSTER_HASH_BYTES]


def _signed(identity: Identity, domain: str, body: bytes) -> Signed:
    return Signed(body=body, signature=identity.sign(domain, body))


def _addressed(run_id: str, device: PeerId, body: bytes) -> bytes:
    return f"{run_id}/{device}/".encode() + body
