"""Flow control: how far a sender is ahead of what the other end has read."""

from __future__ import annotations

import asyncio
from collections import deque

from .loop import VirtualLoop
from .paths import Route

WINDOW_BYTES = 4 << 20


class Window:
    """Of the chunks that one port sends. News of what was read are counted when room is needed, or somebody waits; how
    long they took is not drawn before."""

    __slots__ = ("_loop", "_news", "_read", "_unread_bytes", "_waiter", "_way_back", "progress_s")

    def __init__(self, loop: VirtualLoop, way_back: Route | None) -> None:
        """Args: way_back: of the news; None within a host."""
        self.progress_s = 0.0
        """When the last of them arrived."""
        self._loop = loop
        self._way_back = way_back
        self._read: deque[tuple[float, int]] = deque()
        """At the other end: when, and how many bytes."""
        self._news: deque[tuple[float, int]] = deque()
        """Of that: when they arrive."""
        self._unread_bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    def count(self, n_bytes: int) -> bool:
        """Send so many bytes more, if there is room."""
        if self._unread_bytes and self._unread_bytes + n_bytes > WINDOW_BYTES:
            self.take_news()
            if self._unread_bytes and self._unread_bytes + n_bytes > WINDOW_BYTES:
                return False
        self._unread_bytes += n_bytes
        return True

    async def wait(self) -> None:
        """Until there is news, or `wake`. There was no room a moment ago."""
        self._waiter = self._loop.create_future()
        for arrives_s, _ in self._news:
            self._loop.post(arrives_s, self.wake)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def was_read(self, n_bytes: int) -> None:
        """The other end has read so much now."""
        self._read.append((self._loop.now_s, n_bytes))
        if self._waiter is not None:
            self._send_news()
            self._loop.post(self._news[-1][0], self.wake)

    def _send_news(self) -> None:
        """In the order in which it was read."""
        read, news, way_back = self._read, self._news, self._way_back
        while read:
            when_s, n_bytes = read.popleft()
            if way_back is not None:
                when_s += way_back.draw_delay_s(0)
            news.append((max(when_s, news[-1][0] if news else self.progress_s), n_bytes))

    def take_news(self) -> None:
        """Count what has been read, as far as the news have arrived; a partition swallows news."""
        self._send_news()
        news, now_s, way_back = self._news, self._loop.now_s, self._way_back
        while news and news[0][0] <= now_s:
            arrived_s, n_bytes = news.popleft()
            if way_back is None or not way_back.was_cut(arrived_s):
                self._unread_bytes -= n_bytes
                self.progress_s = arrived_s
