from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gossamer.peer.events import Ended, EventLog, Left, Started, Warned
from gossamer.peer.report.headlines import facts_of
from gossamer.peer.report.kills import kills_of
from gossamer.peer.report.participation import Part, final_digests, parts_of, rounds_of
from gossamer.peer.report.run import load_run
from gossamer.protocol.errors import StateError

from .synthetic import N_PARAMS, PAYLOAD_BYTES, Story, digest_of, write_run


def started(incarnation: int) -> Started:
    return Started(
        run_id="r", task="digits", method="demo", n_params=5, incarnation=incarnation, address="/ip4/127.0.0.1/tcp/1"
    )


def test_the_lives_of_a_restarted_peer_are_told_apart(tmp_path: Path) -> None:
    for incarnation, start_s in enumerate((100.0, 160.0)):
        log = EventLog(tmp_path / "events.jsonl", peer="p", clock=lambda: 0.0, unix=lambda at_s=start_s: at_s)  # type: ignore[misc]
        log.emit(started(incarnation))
        log.emit(Warned(message="x"))
        log.close()

    run = load_run(tmp_path)

    assert [(life.start_s, life.fate) for life in run.peers[0].lives] == [(0.0, "broke off"), (60.0, "broke off")]


@pytest.mark.parametrize(
    ("events", "fate"),
    [
        ([Ended(outcome="stopped", step=1, round=1)], "stopped"),
        ([Left(reason="asked to"), Ended(outcome="finished", step=1, round=1)], "finished"),
        ([Left(reason="asked to")], "left"),
        ([], "broke off"),
    ],
)
def test_how_a_life_ended(tmp_path: Path, events: list[Ended | Left], fate: str) -> None:
    with EventLog(tmp_path / "events.jsonl", peer="p", clock=lambda: 0.0, unix=lambda: 0.0) as log:
        for event in (started(0), *events):
            log.emit(event)

    assert load_run(tmp_path).peers[0].lives[0].fate == fate


def test_peers_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_run(tmp_path, Story(n_peers=11, n_steps=3, killed=None))

    assert [log.label.split(" · ")[0] for log in load_run(tmp_path).peers] == [str(slot) for slot in range(11)]


def test_who_took_part_in_which_round(tmp_path: Path) -> None:
    write_run(tmp_path, Story(killed=2, kill_step=60, restart_step=None, failed_step=120, left_out=(1, 150)))

    run = load_run(tmp_path)
    rounds = rounds_of(run)
    parts = [parts_of(rounds, log) for log in run.peers]

    assert [view.round for view in rounds] == list(range(1, 201))
    assert {part for part, _ in parts[2][:59]} == {Part.CONTRIBUTED}
    assert {part for part, _ in parts[2][59:]} == {Part.AWAY}
    assert parts[2][59][1] == "no offer before the deadline"
    assert parts[1][149] == (Part.LEFT_OUT, "its bytes came too late")
    assert parts[0][119] == (Part.FAILED, "two members could not reach the others")
    assert {part for place, (part, _) in enumerate(parts[0]) if place != 119} == {Part.CONTRIBUTED}


def test_what_a_kill_cost_is_measured(tmp_path: Path) -> None:
    write_run(tmp_path, Story(kill_step=60, restart_step=85))

    run = load_run(tmp_path)
    (kill,) = kills_of(run, rounds_of(run))

    assert kill.peer is run.peers[2]
    assert kill.step == 59
    assert kill.delay_s == pytest.approx(2.1, abs=0.2)
    assert kill.n_missed == 25
    assert kill.back_after_s == pytest.approx(26 * 0.42 + 2.1, abs=1.5)
    assert kill.resync is not None
    assert kill.resync.to_round == 84


def test_a_killed_peer_that_never_came_back_missed_the_rest(tmp_path: Path) -> None:
    write_run(tmp_path, Story(kill_step=60, restart_step=None, failed_step=None))

    run = load_run(tmp_path)
    (kill,) = kills_of(run, rounds_of(run))

    assert (kill.n_missed, kill.back_after_s, kill.resync) == (141, None, None)


def test_a_run_that_is_still_going_on_has_no_kills(tmp_path: Path) -> None:
    write_run(tmp_path, Story(n_steps=30, killed=None))
    for path in tmp_path.glob("peers/*/events.jsonl"):
        path.write_text(re.sub(r'^.*"kind":"ended".*\n', "", path.read_text(), flags=re.MULTILINE))

    run = load_run(tmp_path)

    assert {life.fate for log in run.peers for life in log.lives} == {"broke off"}
    assert kills_of(run, rounds_of(run)) == []


def test_without_a_summary_the_logs_are_added_up(tmp_path: Path) -> None:
    write_run(tmp_path, Story(n_steps=50, killed=None, failed_step=20))
    (tmp_path / "summary.json").unlink()

    run = load_run(tmp_path)
    facts = facts_of(run, rounds_of(run))

    assert (facts.task, facts.method, facts.n_peers, facts.n_params, facts.steps) == ("chars", "demo", 4, N_PARAMS, 50)
    assert (facts.rounds_ok, facts.rounds_failed) == (49, 1)
    assert facts.dense_bytes_per_step == 6 * N_PARAMS
    assert facts.payload_bytes == PAYLOAD_BYTES
    assert facts.sent_bytes_per_step == 3 * PAYLOAD_BYTES + 1_900 + 240 + 4_000 / 50
    assert facts.loss_start == 4.672
    assert facts.loss_end == pytest.approx(2.993, abs=1e-3)


def test_what_the_summary_says_counts(tmp_path: Path) -> None:
    write_run(tmp_path, Story(n_steps=20, killed=None))
    (tmp_path / "summary.json").write_text(json.dumps({"steps": 19, "eval_loss": 1.5, "anything": {"else": 1}}))

    run = load_run(tmp_path)
    facts = facts_of(run, rounds_of(run))

    assert (facts.steps, facts.loss_end) == (19, 1.5)


def test_the_last_digests_are_those_of_the_last_round(tmp_path: Path) -> None:
    write_run(tmp_path, Story(n_steps=20, killed=None))

    last = final_digests(load_run(tmp_path))

    assert [(number, digest) for _, number, digest in last] == [(20, digest_of(20))] * 4


@pytest.mark.parametrize("text", ["", "[]", '{"steps": "many"}', '{"wall_s": NaN}', "{" * 10_000])
def test_a_summary_of_nonsense_is_a_typed_error(tmp_path: Path, text: str) -> None:
    write_run(tmp_path, Story(n_steps=2, killed=None))
    (tmp_path / "summary.json").write_text(text)

    with pytest.raises(StateError, match=r"cannot use .*summary.json.*remove that file"):
        load_run(tmp_path)


def test_a_folder_without_a_log_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("")

    with pytest.raises(StateError, match="there is no log in"):
        load_run(tmp_path)
