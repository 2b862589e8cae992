from __future__ import annotations

from gossamer.protocol.identity import PeerId
from gossamer.protocol.records import CheckedRecord
from gossamer.simulator.shelf import Shelf, Version

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def _record(signer: PeerId, *, sequence: int = 1, expires_at_s: float = 100.0) -> CheckedRecord:
    return CheckedRecord(
        key="key", signer=signer, value=b"", expires_at_s=expires_at_s, sequence=sequence, signature=b""
    )


def _version(record: CheckedRecord, *, visible_at_s: float = 0.0, withheld: dict[str, float] | None = None) -> Version:
    return Version(record=record, publisher="publisher", holders=(), visible_at_s=visible_at_s, withheld=withheld or {})


def _found(shelf: Shelf, *, viewer: str = "viewer", now_s: float = 1.0, now_unix_s: float = 1.0) -> list[object]:
    """What a host finds of records whose holders all live."""

    def look(versions: list[Version]) -> Version | None:
        return next((one for one in reversed(versions) if one.is_visible(viewer, now_s)), None)

    return [*shelf.find(look, lambda version: version.is_visible_to_all(now_s), now_unix_s=now_unix_s)]


def test_signers_are_found_in_order_whenever_they_came() -> None:
    shelf = Shelf("key")
    records = [_record(signer) for signer in (A, B, C)]

    for record in (records[1], records[2], records[0]):
        shelf.add(_version(record), 0.0)

    assert _found(shelf) == records
    assert _found(shelf) == records  # from what is known to be seen by everybody


def test_a_new_version_is_found_by_its_publisher_first_and_by_others_when_it_has_spread() -> None:
    shelf, old, new = Shelf("key"), _record(A), _record(A, sequence=2)
    shelf.add(_version(old), 0.0)
    assert _found(shelf) == [old]

    shelf.add(_version(new, visible_at_s=5.0), 1.0)

    assert _found(shelf, viewer="publisher") == [new]
    assert _found(shelf) == [old]
    assert _found(shelf, now_s=5.0) == [new]


def test_what_is_withheld_from_one_host_is_found_by_the_others() -> None:
    shelf, record = Shelf("key"), _record(A)

    shelf.add(_version(record, withheld={"cut off": 9.0}), 0.0)

    assert _found(shelf, viewer="cut off") == []
    assert _found(shelf) == [record]
    assert _found(shelf, viewer="cut off", now_s=9.0) == [record]


def test_only_newer_records_replace_one() -> None:
    shelf = Shelf("key")
    shelf.add(_version(_record(A, sequence=2)), 0.0)

    assert shelf.has_newer(_record(A, sequence=1))
    assert shelf.has_newer(_record(A, sequence=2))
    assert not shelf.has_newer(_record(A, sequence=3))
    assert not shelf.has_newer(_record(B))


def test_a_record_is_over_by_the_clock_of_whoever_looks() -> None:
    shelf, short, long = Shelf("key"), _record(A, expires_at_s=50.0), _record(B)
    for record in (short, long):
        shelf.add(_version(record), 0.0)

    assert _found(shelf, now_unix_s=49.0) == [short, long]
    assert _found(shelf, now_unix_s=50.0) == [long]
    assert _found(shelf, now_unix_s=49.0) == [short, long]  # a clock that is behind
    assert _found(shelf, now_unix_s=50.0) == [long]


def test_after_nodes_are_gone_everything_is_looked_at_again() -> None:
    shelf, record = Shelf("key"), _record(A)
    shelf.add(_version(record), 0.0)
    assert _found(shelf) == [record]

    shelf.unsettle()

    assert shelf.find(lambda versions: None, lambda version: False, now_unix_s=1.0) == []
