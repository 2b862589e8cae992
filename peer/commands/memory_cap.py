"""Ends a daemon that takes more memory than it may, rather than let the machine swap or kill something else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ...protocol.errors import GossamerError
from ..peak_memory import peak_memory_bytes

T = TypeVar("T")
LOOK_EVERY_S = 0.25


async def within(cap: int | None, life: Coroutine[Any, Any, T]) -> T:
    """The result of `life`, which must not take more than `cap` bytes of resident memory; None: any.

    Raises: GossamerError with what was taken.
    """
    if cap is None:
        return await life
    living, watch = asyncio.create_task(life), asyncio.create_task(_above(cap))
    try:
        await asyncio.wait({living, watch}, return_when=asyncio.FIRST_COMPLETED)
        if living.done():
            return await living
        raise GossamerError(
            f"this daemon took {watch.result() / 1e6:,.0f} MB, and --max-memory allows {cap / 1e6:,.0f} MB: give it "
            "more, or use more stages, or fewer samples in a batch"
        )
    finally:
        for task in (living, watch):
            task.cancel()
        await asyncio.gather(living, watch, return_exceptions=True)


async def _above(cap: int) -> int:
    """Bytes, once they are more than `cap`."""
    while (taken := peak_memory_bytes()) <= cap:  # noqa: ASYNC110 - nobody tells when memory is taken
        await asyncio.sleep(LOOK_EVERY_S)
    return taken
