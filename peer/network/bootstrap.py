"""Finding the others, and going on looking: how every peer of one bootstrap list ends in one DHT.

Peers that start at the same instant find each other's addresses dead, and would each found a DHT of its own. So no
address is ever given up: those that have not answered are tried again and again, and when one does, the two routing
tables merge and our records are stored once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...protocol.errors import BootstrapFailed, GossamerError
from ...protocol.identity import PeerId
from .addresses import Address, knock
from .config import BootstrapState

_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 15.0
_CHECK_EVERY_S = 20.0
_KNOCK_TIMEOUT_S = 3.0
_SETTLE_S = 1.0

log = logging.getLogger(__name__)


@dataclass
class _Target:
    address: Address
    answered: bool = False
    error: str = "not tried yet"


class Bootstrap:
    """Keeps trying every bootstrap address but our own."""

    def __init__(
        self,
        own: PeerId,
        addresses: list[Address],
        meet: Callable[[Address], Awaitable[None]],
        merged: Callable[[], Awaitable[None]],
    ) -> None:
        """Args:
        meet: connect to an address and ping the DHT node there; raises GossamerError.
        merged: called after an address answered that had not answered before.
        """
        self._targets = [_Target(address) for address in addresses if address.peer != own]
        self._listed = any(address.peer == own for address in addresses)
        self._meet = meet
        self._merged = merged
        self._tasks: list[asyncio.Task[None]] = []
        self._answer = asyncio.Event()

    def states(self) -> tuple[BootstrapState, ...]:
        return tuple(
            BootstrapState(address=str(target.address), answered=target.answered, error=target.error)
            for target in self._targets
        )

    async def start(self, *, timeout_s: float) -> None:
        """Begin, and return when one address has answered or there is a reason to go on without.

        The reason: no addresses but ours, or ours is among them and all the others were tried once.
        Raises: BootstrapFailed naming every address, when ours is not among them and nobody answers in time.
        """
        tried = [asyncio.Event() for _ in self._targets]
        self._tasks = [
            asyncio.create_task(self._keep_trying(target, event))
            for target, event in zip(self._targets, tried, strict=True)
        ]
        if not self._targets:
            return
        try:
            async with asyncio.timeout(min(timeout_s, _SETTLE_S) if self._listed else timeout_s):
                await self._answer.wait()
        except TimeoutError:
            if not self._listed:
                raise self._failed(timeout_s) from None
            return
        # Somebody answered. Give the others a moment, so that most starts end with the whole list known.
        await _within(_SETTLE_S, [event.wait() for event in tried])

    def again(self) -> None:
        """Forget who answered: our libp2p daemon is a new one."""
        for target in self._targets:
            target.answered = False

    async def try_all(self) -> None:
        """Try every address now, all at once."""
        await asyncio.gather(*(self._try(target) for target in self._targets))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_trying(self, target: _Target, tried: asyncio.Event) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            await self._try(target)
            tried.set()
            if target.answered:
                delay_s = _FIRST_DELAY_S
                await asyncio.sleep(_CHECK_EVERY_S)
            else:
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _try(self, target: _Target) -> None:
        before = target.answered
        target.error = await self._attempt(target.address)
        target.answered = not target.error
        if target.answered and not before:
            self._answer.set()
            try:
                await self._merged()
            except GossamerError as error:
                log.warning("joined through %s, but could not publish there: %s", target.address, error)

    async def _attempt(self, address: Address) -> str:
        refused = await knock(address, timeout_s=_KNOCK_TIMEOUT_S)
        if refused:
            return refused
        try:
            await self._meet(address)
        except GossamerError as error:
            return str(error)
        return ""

    def _failed(self, timeout_s: float) -> BootstrapFailed:
        tried = "; ".join(f"{target.address}: {target.error}" for target in self._targets)
        return BootstrapFailed(
            f"none of {len(self._targets)} bootstrap addresses answered within {timeout_s:g} s ({tried}): start one of "
            "these peers, or use the addresses of one that runs"
        )


async def _within(timeout_s: float, waits: list[Awaitable[object]]) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*waits)
    except TimeoutError:
        return
