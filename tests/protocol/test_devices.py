"""Messages between gateways and devices."""

from __future__ import annotations

import dataclasses
import math

import pytest

from gossamer.protocol import devices
from gossamer.protocol.edge_pb2 import RunCard, Signed, SubmissionBody
from gossamer.protocol.errors import BadSignature, InvalidMessage
from gossamer.protocol.identity import Identity

RUN_ID = "0123456789abcdef" * 2
GATEWAY, DEVICE, OTHER = (Identity(name.ljust(32)) for name in (b"gateway", b"device", b"other"))
BASE = bytes(range(32))
TASK = devices.Task(round_index=7, step=6, base=BASE, slot=3, roster_hash=b"r" * 16, deadline_s=2.5)
SUBMISSION = devices.Submission(round_index=7, slot=3, base=BASE, loss=0.5, scalars=bytes(400))


def test_assignment_is_the_gateways_word_to_one_device() -> None:
    signed = devices.sign_task(GATEWAY, RUN_ID, DEVICE.peer_id, TASK)

    assert devices.read_task(signed, run_id=RUN_ID, gateway=GATEWAY.peer_id, device=DEVICE.peer_id) == TASK
    with pytest.raises(BadSignature):
        devices.read_task(signed, run_id=RUN_ID, gateway=GATEWAY.peer_id, device=OTHER.peer_id)
    with pytest.raises(BadSignature):
        devices.read_task(signed, run_id=RUN_ID, gateway=OTHER.peer_id, device=DEVICE.peer_id)


@pytest.mark.parametrize("changes", [{"base": b""}, {"slot": 1 << 16}, {"deadline_s": math.nan}, {"deadline_s": -1.0}])
def test_assignment_out_of_bounds_is_refused(changes: dict[str, object]) -> None:
    task = dataclasses.replace(TASK, **changes)  # type: ignore[arg-type]
    signed = devices.sign_task(GATEWAY, RUN_ID, DEVICE.peer_id, task)

    with pytest.raises(InvalidMessage):
        devices.read_task(signed, run_id=RUN_ID, gateway=GATEWAY.peer_id, device=DEVICE.peer_id)


def test_submission_is_the_devices_own_word() -> None:
    signed = devices.sign_submission(DEVICE, RUN_ID, SUBMISSION)

    assert devices.read_submission(signed, run_id=RUN_ID, device=DEVICE.peer_id) == SUBMISSION
    with pytest.raises(BadSignature):
        devices.read_submission(signed, run_id=RUN_ID, device=OTHER.peer_id)
    with pytest.raises(BadSignature):
        devices.read_submission(signed, run_id="f" * 32, device=DEVICE.peer_id)
    changed = Signed(body=signed.body[:-1] + b"\1", signature=signed.signature)
    with pytest.raises(BadSignature):
        devices.read_submission(changed, run_id=RUN_ID, device=DEVICE.peer_id)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_submission_without_a_loss_is_refused(loss: float) -> None:
    body = SubmissionBody(round=1, slot=1, base=BASE, loss=loss, scalars=b"").SerializeToString()

    with pytest.raises(InvalidMessage):
        devices.read_submission_body(body, DEVICE.peer_id)


def test_submission_is_small_whatever_the_model_is() -> None:
    signed = devices.sign_submission(DEVICE, RUN_ID, SUBMISSION)

    assert signed.ByteSize() <= 4 * 100 + 128


def test_seed_differs_by_everything_that_names_a_round() -> None:
    seeds = {
        devices.round_seed(RUN_ID, GATEWAY.peer_id, 7, BASE),
        devices.round_seed(RUN_ID, GATEWAY.peer_id, 8, BASE),
        devices.round_seed(RUN_ID, OTHER.peer_id, 7, BASE),
        devices.round_seed("f" * 32, GATEWAY.peer_id, 7, BASE),
        devices.round_seed(RUN_ID, GATEWAY.peer_id, 7, bytes(32)),
    }

    assert len(seeds) == 5
    assert {len(seed) for seed in seeds} == {32}


def test_roster_is_the_one_that_was_signed_or_none() -> None:
    roster = [DEVICE.peer_id, OTHER.peer_id]
    data, digest = devices.roster_message(7, roster), devices.roster_hash(7, roster)

    assert devices.read_roster(data, digest) == roster
    with pytest.raises(InvalidMessage):
        devices.read_roster(devices.roster_message(7, roster[::-1]), digest)


def test_card_is_the_gateways_for_the_run_of_the_token() -> None:
    card = RunCard(run_id=RUN_ID, task="digits", network="{}", options="{}", steps=10, heartbeat_s=60.0)
    data = devices.sign_card(GATEWAY, card)

    assert devices.read_card(data, gateway=GATEWAY.peer_id, run_id=RUN_ID) == card
    with pytest.raises(BadSignature):
        devices.read_card(data, gateway=OTHER.peer_id, run_id=RUN_ID)
    with pytest.raises(InvalidMessage):
        devices.read_card(data, gateway=GATEWAY.peer_id, run_id="f" * 32)
