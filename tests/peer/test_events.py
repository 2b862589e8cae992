from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from gossamer.peer.events import (
    KINDS,
    Ended,
    Entry,
    Evaluated,
    Event,
    EventLog,
    Forked,
    Joined,
    Memory,
    Resynced,
    RoundEnded,
    Sampled,
    Started,
    Traffic,
    Trained,
    Warned,
    read_events,
    short_id,
)
from gossamer.protocol.errors import StateError

_PEER = "12D3KooWQ2bXh3kRt8LqVnYcSg5Wd7Jm4Ep6Tz9Nf1Au3BaKdPeL"
_EVENTS: list[Event] = [
    Started(run_id="ab12", task="chars", method="demo", n_params=10, incarnation=1, address="/ip4/127.0.0.1/tcp/1"),
    Joined(round=3, roster=("a", "b"), lineage="00"),
    Trained(step=1, loss=4.5, samples=8, seconds=0.25),
    RoundEnded(
        round=3,
        step=1,
        outcome="committed",
        contributors=("a",),
        excluded={"b": "its bytes came too late"},
        payload_bytes=100,
        duration_s=0.5,
        overhead_s=0.02,
        ballots=1,
        leader="a",
        digest="ff",
    ),
    Evaluated(step=1, loss=4.25, accuracy=None),
    Sampled(step=1, text="line\nbreak \u2028 <b>"),
    Traffic(sent={"rounds/offer": 5, "dht": 2}, received={}),
    Resynced(from_round=1, to_round=3, bytes=9, donors=("a",), seconds=1, how="certificate"),
    Forked(round=4, from_lineage="00", to_lineage="01", roster=("b",)),
    Memory(rss_bytes=1 << 30, parts={"torch": 5}),
    Ended(outcome="finished", step=1, round=4, digest="ff"),
]


class Clock:
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def open_log(path: Path, clock: Clock | None = None) -> EventLog:
    return EventLog(path, peer=_PEER, clock=clock or Clock(0.0), unix=Clock(1.7e9))


def line(**changes: object) -> str:
    return json.dumps({"v": 1, "t_s": 0, "unix_s": 0, "peer": "a", "kind": "warned", "message": "x", **changes}) + "\n"


def messages(path: Path) -> list[str]:
    return [entry.event.message for entry in read_events(path) if isinstance(entry.event, Warned)]


def test_what_was_emitted_is_read(tmp_path: Path) -> None:
    clock = Clock(100.0)

    with open_log(tmp_path / "a" / "events.jsonl", clock) as log:
        for event in _EVENTS:
            clock.now_s += 0.5
            log.emit(event)

    entries = read_events(tmp_path / "a" / "events.jsonl")
    assert [entry.event for entry in entries] == _EVENTS
    assert [entry.t_s for entry in entries] == [0.5 * (place + 1) for place in range(len(_EVENTS))]
    assert {(entry.peer, entry.unix_s) for entry in entries} == {("3BaKdPeL", 1.7e9)}


def test_every_event_is_one_flat_json_object_on_a_line(tmp_path: Path) -> None:
    with open_log(tmp_path / "events.jsonl") as log:
        for event in _EVENTS:
            log.emit(event)

    lines = (tmp_path / "events.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(one)["kind"] for one in lines] == [event.kind for event in _EVENTS]
    assert all(json.loads(one)["v"] == 1 for one in lines)


def test_an_event_is_on_the_disk_as_soon_as_it_was_emitted(tmp_path: Path) -> None:
    with open_log(tmp_path / "events.jsonl") as log:
        log.emit(Warned(message="now"))

        assert messages(tmp_path / "events.jsonl") == ["now"]


def test_listeners_hear_events_in_order(tmp_path: Path) -> None:
    heard: list[Entry] = []

    with open_log(tmp_path / "events.jsonl") as log:
        log.emit(Warned(message="before"))
        log.listen(heard.append)
        log.emit(Warned(message="one"))
        log.emit(Warned(message="two"))

    assert [entry.event for entry in heard] == [Warned(message="one"), Warned(message="two")]


def test_half_a_line_of_a_killed_process_is_passed_over_and_then_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    whole = line(message="kept")
    for n_bytes in range(len(whole) - 1):
        path.write_text(whole + whole[:n_bytes])
        assert messages(path) == ["kept"]

        with open_log(path) as log:
            log.emit(Warned(message="appended"))

        assert messages(path) == ["kept", "appended"]


def test_a_log_that_holds_nothing_but_half_a_line_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"v":1')

    with open_log(path) as log:
        log.emit(Warned(message="first"))

    assert messages(path) == ["first"]


def test_a_loss_that_is_not_finite_is_read_as_none(tmp_path: Path) -> None:
    with open_log(tmp_path / "events.jsonl") as log:
        log.emit(Trained(step=1, loss=float("nan"), samples=1, seconds=0.0))
        log.emit(Evaluated(step=1, loss=float("inf")))

    events = [entry.event for entry in read_events(tmp_path / "events.jsonl")]
    assert events == [Trained(step=1, loss=None, samples=1, seconds=0.0), Evaluated(step=1, loss=None)]


def test_texts_from_outside_cannot_break_or_swell_the_log(tmp_path: Path) -> None:
    with open_log(tmp_path / "events.jsonl") as log:
        log.emit(Warned(message='\n{"v":1}\n\ud800\0'))
        log.emit(Warned(message="x" * 10_000_000))

    assert messages(tmp_path / "events.jsonl") == ['\n{"v":1}\n?\0', "x" * 10_000]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n", "it is not JSON"),
        ("[" * 100_000 + "\n", "it is not JSON"),
        ("\xff\n", "it is not JSON"),
        ("[]\n", "it is not an event of version 1"),
        (line(v=2), "it is not an event of version 1"),
        (line(kind="wraned"), "there is no kind 'wraned'"),
        (line(kind=["warned"]), "there is no kind"),
        (line(colour="red"), "warned has no field 'colour'"),
        (line(message=5), "warned: message: input should be a valid string"),
        (line(t_s="0"), "it does not say who told it when"),
        (line(t_s=float("inf")), "it is not JSON"),
        (line(t_s=0).replace(": 0,", ": 1e999,"), "it is not JSON"),
        (line(kind="evaluated").replace('"message"', '"loss"'), "evaluated: step: field required"),
    ],
)
def test_a_line_that_is_no_event_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes((line() + text + line()).encode("latin-1"))

    with pytest.raises(StateError, match=r"events.jsonl, line 2 cannot be read: " + re.escape(reason)):
        read_events(path)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with path.open("wb") as file:
        file.truncate(64 << 20)

    with pytest.raises(StateError, match="line 1 is longer than any event"):
        read_events(path)


def test_a_log_that_is_missing_or_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"cannot read the log .* No such file"):
        read_events(tmp_path / "events.jsonl")

    (tmp_path / "taken").write_text("")
    with pytest.raises(StateError, match=r"cannot write the log .*--dir"):
        open_log(tmp_path / "taken" / "events.jsonl")


def test_a_full_disk_warns_once_loses_events_and_says_so_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    process = Path(__file__).with_name("event_process.py")

    result = subprocess.run(
        [sys.executable, str(process), str(path), "200"], capture_output=True, text=True, timeout=50, check=False
    )

    assert result.returncode == 0, result.stderr
    assert messages(path) == [
        "number 0",
        "number 1",
        "4 events are missing here: there was no room on the disk",
        "there is room again",
    ]
    assert result.stdout.count("the run goes on, make room on that disk") == 1
    assert result.stdout.count("number") == 6


def test_short_ids_are_the_ends_of_peer_ids() -> None:
    assert short_id(_PEER) == short_id("3BaKdPeL") == "3BaKdPeL"
    assert short_id("a") == "a"


def test_the_documentation_names_every_kind_and_field() -> None:
    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text()

    missing = [
        f"{kind}.{field.name}"
        for kind, cls in KINDS.items()
        for field in fields(cls)
        if not re.search(rf"^\| `{kind}` \|.*`{field.name}`", text, re.MULTILINE)
    ]

    assert missing == []
