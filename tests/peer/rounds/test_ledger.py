"""The rounds that are kept for who missed them."""

from __future__ import annotations

import hashlib

from gossamer.peer.rounds.decision import Certificate, Decision, Item
from gossamer.peer.rounds.ledger import ITEM_FRAME_BYTES, Committed, Ledger
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.protocol.identity import Identity

ROSTER = Roster.of([Member(Identity(bytes([1]) * 32).peer_id, 1)])


def _append(ledger: Ledger, index: int, payloads: list[bytes]) -> Committed:
    items = tuple(Item.of(payload) for payload in payloads)
    decision = Decision(lineage=b"l" * 16, round_index=index, base=b"b" * 32, contributors=(0,), items=items)
    encoded = decision.encode()
    certificate = Certificate(
        lineage=b"l" * 16, round_index=index, ballot=0, decision_hash=hashlib.sha256(encoded).digest(), votes=()
    )
    committed = Committed(decision=decision, encoded=encoded, certificate=certificate, roster=ROSTER)
    ledger.append(committed, {item.hash: payload for item, payload in zip(items, payloads, strict=True)})
    return committed


def test_payloads_go_along_with_a_log_as_far_as_they_fit() -> None:
    ledger = Ledger()
    rounds = [_append(ledger, index, [bytes([index]) * 100]) for index in range(5)]

    room = 3 * (100 + ITEM_FRAME_BYTES)

    assert list(ledger.payloads(rounds, bytes_max=room)) == [bytes([index]) * 100 for index in range(3)]
    assert len(list(ledger.payloads(rounds, bytes_max=room - 1))) == 2
    assert list(ledger.payloads(rounds, bytes_max=-5)) == []


def test_a_payload_that_is_kept_no_more_ends_the_list() -> None:
    ledger = Ledger()
    kept = _append(ledger, 0, [b"here"])
    elsewhere = _append(Ledger(), 1, [b"gone"])

    assert list(ledger.payloads([kept, elsewhere, kept], bytes_max=1000)) == [b"here"]
