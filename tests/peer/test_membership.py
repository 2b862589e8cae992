from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gossamer.peer.membership import PEERS_KEY, TTL_S, Announcement, InviteDesk, Membership
from gossamer.peer.rounds.roster import Member
from gossamer.protocol import rounds_pb2 as pb
from gossamer.protocol.admission import Admission, Ticket, issue_ticket
from gossamer.protocol.errors import StateError
from gossamer.protocol.identity import Identity, PeerId
from gossamer.simulator.host import Host
from gossamer.simulator.world import EPOCH_UNIX_S, Simulation

OWNER = Identity(bytes(32))
RUN = "ab" * 16


class Side:
    """One peer's membership, and what came of it. It always says the same."""

    def __init__(self, host: Host, *, ticket_for_s: float = math.inf) -> None:
        self.warnings: list[str] = []
        self.views: list[set[PeerId]] = []
        self.host = host
        expires_at_s = EPOCH_UNIX_S + min(ticket_for_s, 1e6)
        ticket = Ticket(run_id=RUN, peer=host.peer_id, role="peer", expires_at_s=expires_at_s, serial=1)
        self.membership = Membership(
            host.network,
            admission=Admission("ticket", OWNER.peer_id, RUN),
            ticket=issue_ticket(OWNER, ticket),
            say=lambda: pb.Status(member=Member(host.peer_id, 1).to_wire()),
            on_view=self._note,
            warn=self.warnings.append,
        )
        self.membership.eager = False

    @property
    def n_greeted_bytes(self) -> int:
        """That it has sent in greetings."""
        return self.host.network.traffic.sent["member/hello"]

    def _note(self, view: object) -> None:
        self.views.append(set(self.membership.view))


def _play(story: Callable[[Side, Side], Awaitable[None]], *, ticket_for_s: float = math.inf) -> None:
    """Two peers find each other, and then the story goes on. The second one's ticket may run out."""
    sim = Simulation(seed=1)
    hosts = [sim.host("a"), sim.host("b")]
    a, b = Side(hosts[0]), Side(hosts[1], ticket_for_s=ticket_for_s)

    async def main() -> None:
        for side in (a, b):
            side.host.spawn(side.membership.run())
        await asyncio.sleep(15.0)
        assert set(a.membership.view) == {b.host.peer_id}
        assert set(b.membership.view) == {a.host.peer_id}
        await story(a, b)

    sim.run(main())


def test_announcements_that_say_the_same_are_not_read_again() -> None:
    async def story(a: Side, b: Side) -> None:
        before: dict[PeerId, Announcement] = dict(a.membership.view)

        await asyncio.sleep(3 * TTL_S)

        assert a.membership.view[b.host.peer_id] is before[b.host.peer_id]
        assert len(a.views) > 15  # whoever follows the view was told at each look

    _play(story)


def test_whoever_says_the_same_with_a_ticket_that_ran_out_is_out_of_the_view() -> None:
    async def story(a: Side, b: Side) -> None:
        await asyncio.sleep(90.0)

        assert b.host.peer_id not in a.membership.view
        assert not a.membership.is_admitted(b.host.peer_id)
        assert any("ignored" in warning for warning in a.warnings)

    _play(story, ticket_for_s=60.0)


def test_whoever_forgot_our_ticket_is_greeted_anew() -> None:
    async def story(a: Side, b: Side) -> None:
        before = a.n_greeted_bytes
        await asyncio.sleep(60.0)
        assert a.n_greeted_bytes == before > 0  # once is enough

        a.membership.greet_anew(b.host.peer_id)
        await asyncio.sleep(5.0)

        assert a.n_greeted_bytes > before

    _play(story)


def test_a_greeting_that_failed_is_repeated_and_told_once() -> None:
    async def story(a: Side, b: Side) -> None:
        before = a.n_greeted_bytes
        b.host.kill(silent=True)
        a.membership.greet_anew(b.host.peer_id)

        await asyncio.sleep(40.0)

        assert a.n_greeted_bytes > 2 * before
        assert sum("did not answer our greeting" in warning for warning in a.warnings) == 1

    _play(story)


def test_an_announcement_that_stays_wrong_is_told_once() -> None:
    sim = Simulation(seed=2)
    a, b = Side(sim.host("a")), sim.host("b")

    async def main() -> None:
        a.host.spawn(a.membership.run())
        await b.network.publish(PEERS_KEY, b"nonsense", ttl_s=600.0)
        await asyncio.sleep(60.0)

    sim.run(main())

    assert len(a.views) > 3
    assert sum("ignored" in warning for warning in a.warnings) == 1


def test_who_is_silent_for_long_is_out_of_the_view() -> None:
    async def story(a: Side, b: Side) -> None:
        b.host.kill()

        await asyncio.sleep(TTL_S + 15.0)

        assert a.membership.view == {}

    _play(story)


def test_an_owner_is_told_that_the_book_of_invites_is_damaged(tmp_path: Path) -> None:
    sim, warnings = Simulation(seed=1), list[str]()
    owner, newcomer = sim.host("owner", identity=OWNER), sim.host("newcomer")
    book = tmp_path / "invites.json"
    book.write_text("{}")
    InviteDesk(owner.network, OWNER, RUN, book, warn=warnings.append)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{book}: the book of invites is damaged")

    async def main() -> None:
        with pytest.raises(StateError, match="the book of invites is damaged"):
            await newcomer.network.call(OWNER.peer_id, "member/redeem", b"", timeout_s=5)

    sim.run(main())
    assert len(warnings) == 2
